r"""The labelled result of a sweep: one netCDF file that plain ``xarray.open_dataset`` reads.

Dimensions: ``rung``, ``point``, ``dataset_size``, ``noise_variance``, ``seed``, ``direction``, ``order``, ``law``.

========================  ==============================================================  ===========================
variable                  dimensions                                                      meaning
========================  ==============================================================  ===========================
``gain``                  rung, point, dataset_size, noise_variance, seed, direction      mean over points
``gain_sem``              the same                                                        its standard error (points)
``gain_median``           the same                                                        median over points
``participation``         rung, point, dataset_size, noise_variance, seed                 mean of the weights' sum of
                                                                                          squares; nan without weights
``soft_dimension``        the same                                                        mean over points of sum g
``singular_value``        rung, point, dataset_size, noise_variance, seed, order          of the score Jacobian, mean
                                                                                          over points, descending; none
                                                                                          of many directions
``gap_dimension``         rung, point, dataset_size, noise_variance, seed                 directions within the total
                                                                                          gap; nan: no gap
``predicted_gain``        law, dataset_size, noise_variance, direction                    each law at the same numbers
``predicted_gain_error``  the same                                                        its numerical error (or 0)
``reference_gain``        noise_variance, direction                                       gain of infinite data
``complete``              rung, dataset_size, seed                                        1 where measured, -1 where
                                                                                          a network became
                                                                                          non-finite, else 0
========================  ==============================================================  ===========================

Coordinates carry the numbers (``variance`` runs along ``direction``); ``noise_variance`` is a variance.  Singular
values are in units of a frozen direction, those of :math:`t\,\nabla s`; see :mod:`geomem_jax.sweep_spectra`.  Points of
one seed share a training set, so ``gain_sem`` is *not* the error of the theory: that comes from the spread over
seeds, the independent training sets (:mod:`geomem_jax.compare`).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from geomem_jax import sweep_spectra
from geomem_jax.atomic import replacing
from geomem_jax.errors import InputError

NETWORK = "network"
"""The trained rung: measured at few dataset sizes and on few training sets, and with no law that predicts it."""

FAILED = -1  # complete as it can be: training became non-finite
POINT_CLASSES = ("train", "held_out", "origin")
PER_DIRECTION = ("rung", "point", "dataset_size", "noise_variance", "seed", "direction")
PER_POINT_CLASS = PER_DIRECTION[:-1]
DIMENSIONS = {
    "gain": PER_DIRECTION,
    "gain_sem": PER_DIRECTION,
    "gain_median": PER_DIRECTION,
    "participation": PER_POINT_CLASS,
    "soft_dimension": PER_POINT_CLASS,
    "singular_value": (*PER_POINT_CLASS, "order"),
    "gap_dimension": PER_POINT_CLASS,
    "predicted_gain": ("law", "dataset_size", "noise_variance", "direction"),
    "predicted_gain_error": ("law", "dataset_size", "noise_variance", "direction"),
    "reference_gain": ("noise_variance", "direction"),
    "complete": ("rung", "dataset_size", "seed"),
}
STARTS: dict[str, tuple[float, type]] = {"complete": (0, np.int8), "predicted_gain_error": (0, np.float32)}


def empty(
    *,
    rungs: Sequence[str],
    laws: Sequence[str],
    dataset_sizes: Sequence[int],
    noise_variances: Sequence[float],
    seeds: Sequence[int],
    variances: np.ndarray,
    attributes: Mapping[str, object],
) -> xr.Dataset:
    """Build a result in which nothing is predicted or measured yet (nan, ``complete`` and errors of laws all 0)."""
    coordinates: dict[str, Sequence[object] | np.ndarray] = {
        "rung": list(rungs),
        "point": list(POINT_CLASSES),
        "dataset_size": np.asarray(dataset_sizes, np.int64),
        "noise_variance": np.asarray(noise_variances, np.float64),
        "seed": np.asarray(seeds, np.int64),
        "direction": np.arange(len(variances)),
        "order": np.arange(len(variances) if sweep_spectra.measured(len(variances)) else 0),
        "law": list(laws),
    }
    return blank(DIMENSIONS, STARTS, coordinates, variances, attributes)


def blank(
    dimensions: Mapping[str, tuple[str, ...]],
    starts: Mapping[str, tuple[float, type]],
    coordinates: Mapping[str, Sequence[object] | np.ndarray],
    variances: np.ndarray,
    attributes: Mapping[str, object],
) -> xr.Dataset:
    """Build a dataset of variables of the given dimensions, filled with their starts or with nan (float32)."""
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for name, dims in dimensions.items():
        start, dtype = starts.get(name, (np.nan, np.float32))
        variables[name] = (dims, np.full([len(coordinates[dim]) for dim in dims], start, dtype))
    dataset = xr.Dataset(variables, coordinates, attrs=dict(attributes))
    return dataset.assign_coords(variance=("direction", np.asarray(variances, np.float64)))


def save(dataset: xr.Dataset, path: Path) -> None:
    """Write atomically: a reader sees the old file or the new one, never a part."""
    # Encoded in memory, because HDF5 crashes where it meets a full disk itself.
    encoded = dataset.to_netcdf(engine="h5netcdf")
    with replacing(path) as partial:
        partial.write_bytes(encoded)


def load(path: Path, variables: Mapping[str, tuple[str, ...]] = DIMENSIONS) -> xr.Dataset:
    """Read a result into memory.

    Args:
      path: the file.
      variables: dimensions of the variables that it must hold.

    Raises:
      InputError: if the file is missing, is not netCDF, or is not a result of this package.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the {path.name} of an earlier run")
    try:
        with h5py.File(path) as opened:
            list(opened.values())  # first of all: where this fails, h5netcdf prints a traceback when it is collected
        with xr.open_dataset(path, engine="h5netcdf") as result:
            dataset = result.load()
    except Exception as error:  # a damaged file can make the parser raise anything
        raise InputError(f"{path}: not a readable netCDF file ({type(error).__name__})") from error
    coordinates = {name: (name,) for dims in variables.values() for name in dims}
    if "direction" in coordinates:
        coordinates["variance"] = ("direction",)
    missing = [
        name
        for name, dims in (dict(variables) | coordinates).items()
        if name not in dataset.variables or set(dataset[name].dims) != set(dims)
    ]
    if missing:
        raise InputError(f"{path}: not a result of geomem, {missing[0]!r} is missing or has other dimensions")
    return dataset.assign({name: dataset[name].transpose(*dims) for name, dims in variables.items()})


def configuration(dataset: xr.Dataset) -> dict[str, object]:
    """Return the configuration that made this result."""
    decoded: dict[str, object] = json.loads(dataset.attrs["configuration"])
    return decoded
