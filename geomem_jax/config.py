"""What a run is made of: the frozen dataclasses from which the command line is generated."""

import dataclasses
from pathlib import Path

from geomem_jax.errors import InputError

LARGEST_SEED = 2**32 - 1  # of more bits a key of random numbers would use the lowest 32
LARGEST_SIZE = 2**53  # double precision counts no further


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SpectrumOptions:
    """The data, one of four ways (the default is the bundled ladder of six variances)."""

    data: str | None = None
    """A bundled name (ladder, toy, digits, mnist) or a path to an array of points, .npz or .npy."""
    variances: str | None = None
    """Variances along the directions of a Gaussian linear manifold: 1,1,0.09"""
    two_level: str | None = None
    """The same as count:variance, of as many levels as you like: 8:1,8:0.09"""
    power_law: str | None = None
    """The same as count:exponent or count:exponent:largest: 64:1.5 has variances k^-1.5."""
    normalized: bool = False
    """Divide every point of a linear manifold by its norm (unit sphere)."""
    embedding: int | None = None
    """Rotate a linear manifold at random into a space of this many dimensions."""

    def check(self) -> None:
        """Refuse two spectra at once, and manifold options on data that are no manifold.

        Not on construction: the parser of the command line would swallow the error and print one of its own.
        """
        given = [name for name in ("data", "variances", "two_level", "power_law") if getattr(self, name) is not None]
        flags = [f"--{name.replace('_', '-')}" for name in given]
        if len(given) > 1:
            raise InputError(f"{' and '.join(flags)} both name the data; give one of them")
        if self.data is not None and (self.normalized or self.embedding is not None):
            raise InputError(f"--normalized and --embedding need a spectrum, not --data {self.data}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions(SpectrumOptions):
    """Predict freeze-out sizes, condensation and onset times and soft dimensions; no simulation."""

    t: float | None = None
    """Noise variance of the freeze-out sizes (default: the condensation time of 1000 points)."""
    n: str = "10,100,1000,10000,100000"
    """Dataset sizes of the times and soft dimensions."""
    json: bool = False
    """Print JSON, for programs."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OverlayOptions(SpectrumOptions):
    """Predict, measure and overlay which directions freeze out at which dataset size: the main job."""

    sizes: str | None = None
    """Dataset sizes (default: 2 to 16384, or to what the data hold)."""
    t: str | None = None
    """Noise variances (default: nine around the condensation times of those sizes)."""
    seeds: int = 16
    """Independent training sets, the unit of every error bar."""
    points: int = 256
    """Points at which gains are measured, per training set and point class."""
    seed: int = 0
    """Seed of all random numbers."""
    out: Path | None = None
    """The run's own, new folder (default: runs/NAME)."""
    resume: Path | None = None
    """Folder of an interrupted run, to be finished with its own options."""

    def check(self) -> None:
        """Refuse numbers out of range."""
        # Spelled out: the zero-argument form does not survive the class that slots=True makes.
        SpectrumOptions.check(self)
        for name, least in (("seeds", 1), ("points", 2), ("seed", 0)):
            value = getattr(self, name)
            if value < least:
                raise InputError(f"--{name} is {value}; give at least {least}")
        if self.seed > LARGEST_SEED:
            raise InputError(f"--seed is {self.seed}; give at most {LARGEST_SEED}")


def parse_sizes(text: str, option: str, least: int) -> tuple[int, ...]:
    """Read an ascending list of dataset sizes such as ``2,4,8``.

    Raises:
      InputError: if an entry is not a whole number between ``least`` and 2^53, or appears twice.
    """
    sizes = []
    for entry in text.split(","):
        try:
            value = float(entry)
        except ValueError:
            raise InputError(f"{option} has {entry!r}; give whole numbers such as 10,100,1000") from None
        if not (least <= value <= LARGEST_SIZE and value.is_integer()):
            raise InputError(f"{option} has {entry.strip()}; give whole numbers from {least} to {LARGEST_SIZE:.0e}")
        sizes.append(int(value))
    if len(set(sizes)) < len(sizes):
        raise InputError(f"{option} {text} names a size twice; give each once")
    return tuple(sorted(sizes))


def parse_noise_variances(text: str, option: str) -> tuple[float, ...]:
    """Read an ascending list of noise variances such as ``0.01,0.1``.

    Raises:
      InputError: if an entry is not a positive finite number, or appears twice.
    """
    values = []
    for entry in text.split(","):
        try:
            value = float(entry)
        except ValueError:
            raise InputError(f"{option} has {entry!r}; give noise variances such as 0.01,0.1") from None
        check_noise_variance(value, option)
        values.append(value)
    if len(set(values)) < len(values):
        raise InputError(f"{option} {text} names a noise variance twice; give each once")
    return tuple(sorted(values))


def check_noise_variance(value: float, option: str) -> None:
    """Refuse a noise variance that single precision cannot square or invert."""
    if not 1e-30 <= value <= 1e30:
        raise InputError(f"{option} is {value:g}; give a noise variance between 1e-30 and 1e30")
