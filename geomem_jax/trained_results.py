"""The labelled result of training: one netCDF file, ``trained.nc``, that plain ``xarray.open_dataset`` reads.

Dimensions: ``point``, ``training_step``, ``dataset_size``, ``noise_variance``, ``seed``, ``direction``, ``law``.

==================  ===================================================================  ==============================
variable            dimensions                                                           meaning
==================  ===================================================================  ==============================
``gain``            point, training_step, dataset_size, noise_variance, seed, direction  mean over points
``gain_sem``        the same                                                             its standard error (points)
``gain_median``     the same                                                             median over points
``error``           the same                                                             mean squared denoising
                                                                                         error; nan at the origin
``loss``            training_step, dataset_size, seed                                    running training loss
``complete``        the same                                                             1 where measured, else 0
``failed``          dataset_size, seed                                                   finite steps of a network that
                                                                                         then failed, or -1
``empirical_gain``  point, dataset_size, noise_variance, seed, direction                 mean gain of the exact
                                                                                         empirical score at the same
                                                                                         noised points
``predicted_gain``  law, dataset_size, noise_variance, direction                         gain by each law
``reference_gain``  noise_variance, direction                                            gain of infinite data
==================  ===================================================================  ==============================

Coordinates carry the numbers (``variance`` runs along ``direction``); ``noise_variance`` is a variance.  Everything
measured of networks is of their averaged parameters.  A network that fails keeps its last finite state, so what is
measured of it later is of the step at which it failed.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from geomem_jax import results
from geomem_jax.gains import grid_position

PER_DIRECTION = ("point", "training_step", "dataset_size", "noise_variance", "seed", "direction")
PER_NETWORK = ("training_step", "dataset_size", "seed")
DIMENSIONS: dict[str, tuple[str, ...]] = {
    "gain": PER_DIRECTION,
    "gain_sem": PER_DIRECTION,
    "gain_median": PER_DIRECTION,
    "error": PER_DIRECTION,
    "loss": PER_NETWORK,
    "complete": PER_NETWORK,
    "failed": ("dataset_size", "seed"),
    "empirical_gain": ("point", "dataset_size", "noise_variance", "seed", "direction"),
    "predicted_gain": ("law", "dataset_size", "noise_variance", "direction"),
    "reference_gain": ("noise_variance", "direction"),
}
STARTS: dict[str, tuple[float, type]] = {"complete": (0, np.int8), "failed": (-1, np.int64)}
LAWS = ("linear", "empirical")


def empty(
    *,
    training_steps: Sequence[int],
    dataset_sizes: Sequence[int],
    noise_variances: Sequence[float],
    seeds: int,
    variances: np.ndarray,
    attributes: Mapping[str, object],
) -> xr.Dataset:
    """Build a result in which nothing is predicted or measured yet."""
    coordinates: dict[str, Sequence[object] | np.ndarray] = {
        "point": list(results.POINT_CLASSES),
        "training_step": np.asarray(training_steps, np.int64),
        "dataset_size": np.asarray(dataset_sizes, np.int64),
        "noise_variance": np.asarray(noise_variances, np.float64),
        "seed": np.arange(seeds, dtype=np.int64),
        "direction": np.arange(len(variances)),
        "law": list(LAWS),
    }
    return results.blank(DIMENSIONS, STARTS, coordinates, variances, attributes)


def measured_steps(dataset: xr.Dataset) -> np.ndarray:
    """Training steps at which anything is measured."""
    return dataset["training_step"].values[(dataset["complete"].values == 1).any(axis=(1, 2))]


def at_step(dataset: xr.Dataset, step: int) -> xr.Dataset:
    """View one training step as a result of :mod:`geomem_jax.results`, of the rungs ``trained`` and ``empirical``.

    So all that compares rungs with laws applies to networks.  Networks that had failed by then count as not complete,
    and the empirical score of their training set is left out with them.

    Raises:
      InputError: if the result has no such step.
    """
    now = dataset.isel(training_step=grid_position(dataset, "training_step", step), drop=True)
    gain = xr.concat([now["gain"], now["empirical_gain"]], xr.Variable("rung", ["trained", "empirical"]))
    alive = (now["failed"] < 0) | (now["failed"] >= step)
    complete = (now["complete"] * alive).expand_dims(rung=gain["rung"].values)
    return xr.Dataset(
        {
            "gain": gain.transpose(*results.DIMENSIONS["gain"]),
            "complete": complete.transpose(*results.DIMENSIONS["complete"]),
            "predicted_gain": now["predicted_gain"],
            "reference_gain": now["reference_gain"],
        },
        attrs=dataset.attrs,
    ).assign_coords(variance=dataset["variance"])
