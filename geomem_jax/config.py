"""What a run is made of: the frozen dataclasses from which the command line is generated."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from geomem_jax.errors import InputError

LARGEST_SEED = 2**32 - 1  # of more bits a key of random numbers would use the lowest 32
LARGEST_STEP = 2**31 - 1  # steps are counted in 32 bits
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
    network_steps: int | None = None
    """Training steps of the network rung (default: 4000 where there are up to 256 directions); 0: no networks."""
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
        if self.network_steps is not None and not 0 <= self.network_steps <= LARGEST_STEP:
            raise InputError(f"--network-steps is {self.network_steps}; give 0 (no networks) to {LARGEST_STEP}")
        if self.seed > LARGEST_SEED:
            raise InputError(f"--seed is {self.seed}; give at most {LARGEST_SEED}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SweepOptions(OverlayOptions):
    """Predict and measure as overlay does, and write the numbers alone; geomem overlay --resume adds the figures."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """Write the full report of a finished run of geomem overlay: with its networks calibrated, and ablations."""

    run: Path
    """Folder of the run."""
    ablations: Path | None = None
    """Folder of a run of geomem ablate."""
    calibration: bool = True
    """Calibrate the networks of the run, if it has any, which takes a minute or two."""
    seed: int = 0
    """Seed of the calibration."""
    out: Path | None = None
    """The new file (default: full_report.html in the folder of the run)."""


ABLATIONS = ("a", "b", "c", "d", "e", "f", "g", "h", "paper")
"""Experiments of :class:`AblateOptions`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AblateOptions:
    """Ask which definition or condition decides the order in which directions freeze, one experiment for each."""

    preset: Literal["quick", "full"] = "full"
    """Everything in a minute with few training sets, or with intervals worth having in less than an hour."""
    only: str | None = None
    """Experiments, such as a,f,paper: a N, b swapped variances, c directions per group, d normalized or not, e point
    and probe norm, f definition of frozen, g networks, h estimator, paper the paper's own figure, of the exact score
    and of its networks (default: all)."""
    seeds: int | None = None
    """Independent training sets, the unit of every error bar (default: 24; quick: 8; of networks at most 6 and
    2, of the paper's own 2 and 1)."""
    seed: int = 0
    """Seed of all random numbers."""
    out: Path | None = None
    """The run's own, new folder (default: runs/ablate)."""
    resume: Path | None = None
    """Folder of an interrupted run, to be finished with its own options."""

    def letters(self) -> tuple[str, ...]:
        """Return the experiments that are wanted."""
        return ABLATIONS if self.only is None else tuple(entry.strip() for entry in self.only.split(","))

    def check(self) -> None:
        """Refuse numbers out of range and experiments that there are not."""
        for letter in self.letters():
            if letter not in ABLATIONS:
                raise InputError(f"--only has {letter!r}; give some of {','.join(ABLATIONS)}")
        if len(set(self.letters())) < len(self.letters()):
            raise InputError(f"--only {self.only} names an experiment twice; give each once")
        if self.seeds is not None and self.seeds < 1:
            raise InputError(f"--seeds is {self.seeds}; give at least 1")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise InputError(f"--seed is {self.seed}; give 0 to {LARGEST_SEED}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions(SpectrumOptions):
    """Train networks on growing subsets of the data and measure their gains while they train."""

    preset: Literal["ladder", "paper-toy"] | None = None
    """Options to start from; those that are given win."""
    sizes: str | None = None
    """Dataset sizes, one network per size and seed (default: 16 to 4096, or to what the data hold)."""
    seeds: int | None = None
    """Independent training sets, the unit of every error bar (default: 3)."""
    steps: int | None = None
    """Training steps (default: 10000; of the linear denoiser 20000)."""
    snapshots: int | None = None
    """How many times to measure, evenly in the logarithm, from a hundredth of the steps on (default: 7)."""
    network: Literal["mlp", "toy", "linear"] | None = None
    """A multilayer perceptron, the toy network of arXiv:2410.08727, or the linear denoiser at one noise variance, by
    plain stochastic gradient descent, whose training theory predicts (default: mlp)."""
    width: int | None = None
    """Units of each hidden layer of the perceptron (default: 128)."""
    depth: int | None = None
    """Hidden layers of the perceptron (default: 3)."""
    bfloat16: bool = False
    """Compute the perceptron in bfloat16; parameters stay in single precision."""
    batch: int | None = None
    """Points per step (default: 128)."""
    optimizer: Literal["adam", "radam"] | None = None
    """Optimizer (default: adam, its learning rate risen to over a hundred steps)."""
    learning_rate: float | None = None
    """Learning rate, constant: training time is an axis (default: 0.001; of the linear denoiser what is stable)."""
    ema_decay: float | None = None
    """Decay per step of the averaged parameters, which are what is measured (default: 0.999)."""
    noise_range: str | None = None
    """Smallest and largest noise *standard deviation* trained at, log-uniform between (default: 0.02,3)."""
    t: str | None = None
    """Noise variances to measure at (default: 0.01,0.1; of the linear denoiser one, at which it is trained: 0.1)."""
    points: int | None = None
    """Points at which gains are measured, per network and point class (default: 256)."""
    seed: int = 0
    """Seed of all random numbers."""
    out: Path | None = None
    """The run's own, new folder (default: runs/NAME-trained)."""
    resume: Path | None = None
    """Folder of an interrupted run, to be finished with its own options."""
    coordinator: str | None = None
    """Of a run on several hosts: address of the first process, host:port, or auto."""
    process_id: int | None = None
    """Of a run on several hosts: which process this is."""
    num_processes: int | None = None
    """Of a run on several hosts: how many processes there are."""

    def check(self) -> None:
        """Refuse numbers out of range."""
        SpectrumOptions.check(self)
        least = {"seeds": 1, "steps": 1, "snapshots": 1, "width": 1, "depth": 1, "batch": 1, "points": 2, "seed": 0}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise InputError(f"--{name.replace('_', '-')} is {value}; give at least {bound}")
        for name, most in (("steps", LARGEST_STEP), ("seed", LARGEST_SEED)):
            value = getattr(self, name)
            if value is not None and value > most:
                raise InputError(f"--{name} is {value}; give at most {most}")
        if self.learning_rate is not None and not 0 < self.learning_rate < float("inf"):
            raise InputError(f"--learning-rate is {self.learning_rate:g}; give a positive number such as 0.001")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise InputError(f"--ema-decay is {self.ema_decay:g}; give a number from 0 to below 1, such as 0.999")
        if self.coordinator is not None and self.out is None and self.resume is None:
            raise InputError("--coordinator needs --out, the same folder in every process")

    def resolved(self) -> "TrainOptions":
        """Fill in what is not given: from the preset, then from the defaults.

        Raises:
          InputError: if an option of the perceptron is given with another network, or one of training at several noise
            levels by an adaptive optimizer with the linear denoiser.
        """
        given = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        preset = dict(PRESETS[self.preset]) if self.preset is not None else {}
        if any(name in given for name in ("data", "variances", "two_level", "power_law")):
            preset.pop("data", None)
            preset.pop("two_level", None)
        elif self.normalized or self.embedding is not None:
            preset.pop("data", None)  # the ladder is what a spectrum is by default
        filled = {**TRAIN_DEFAULTS, **preset, **given}
        if filled["network"] == "linear":
            for name in ADAPTIVE:
                if name in given:
                    raise InputError(
                        f"--{name.replace('_', '-')} is not for --network linear, which plain stochastic gradient "
                        "descent trains at the one noise variance --t; leave it out"
                    )
            # Presets and defaults are of the other networks; the learning rate depends on the data.
            left_out = {*ADAPTIVE, "learning_rate"}
            filled = {name: value for name, value in filled.items() if name not in left_out}
            filled |= {name: preset.get(name, value) for name, value in LINEAR_DEFAULTS.items()} | given
        if filled["network"] == "mlp":
            filled = {"width": 128, "depth": 3} | filled
        elif self.width is not None or self.depth is not None or self.bfloat16:
            raise InputError("--width, --depth and --bfloat16 are of the mlp; leave them out, or give --network mlp")
        return TrainOptions(**filled)


TRAIN_DEFAULTS: Mapping[str, object] = MappingProxyType(
    {
        "seeds": 3,
        "steps": 10_000,
        "snapshots": 7,
        "network": "mlp",
        "batch": 128,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "ema_decay": 0.999,
        "noise_range": "0.02,3",
        "t": "0.01,0.1",
        "points": 256,
    }
)
"""What :meth:`TrainOptions.resolved` fills in; sizes depend on the data, width and depth on the network."""

LINEAR_DEFAULTS: Mapping[str, object] = MappingProxyType({"steps": 20_000, "t": "0.1"})
"""Defaults of the linear denoiser where they are others."""

ADAPTIVE = ("optimizer", "ema_decay", "noise_range")
"""Options without a meaning for the linear denoiser."""

PRESETS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "ladder": {"data": "ladder", "sizes": "20,40,80,160,320,640,1280,20000", "steps": 48_000},
        # As in the paper and the authors' code; two million steps take a day on a CPU.
        "paper-toy": {
            "two_level": "2:1,5:0.09,23:0.0001",
            "sizes": "100,200,500,1000,2000,5000,10000,20000",
            "steps": 2_000_000,
            "network": "toy",
            "optimizer": "radam",
            "learning_rate": 1e-4,
            "ema_decay": 0.9999,
            "noise_range": "0.01,50",
        },
    }
)
"""Options that a preset replaces."""


def parse_noise_range(text: str) -> tuple[float, float]:
    """Read the smallest and the largest noise standard deviation, such as ``0.02,3``.

    Raises:
      InputError: unless these are two ascending numbers of which single precision knows the squares.
    """
    try:
        low, high = (float(entry) for entry in text.split(","))
    except ValueError:
        raise InputError(f"--noise-range is {text!r}; give two standard deviations such as 0.02,3") from None
    if not 1e-15 <= low < high <= 1e15:
        raise InputError(f"--noise-range is {text}; give two ascending standard deviations between 1e-15 and 1e15")
    return low, high


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
