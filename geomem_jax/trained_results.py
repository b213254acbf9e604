"""The labelled result of training: one netCDF file, ``trained.nc``, that plain ``xarray.open_dataset`` reads.

Dimensions: ``point``, ``training_step``, ``dataset_size``, ``noise_variance``, ``seed``, ``direction``, ``law``.

===========================  ===================================================================  ======================
variable                     dimensions                                                           meaning
===========================  ===================================================================  ======================
``gain``                     point, training_step, dataset_size, noise_variance, seed, direction  mean over points
``gain_sem``                 the same                                                             its standard error
                                                                                                  (points)
``gain_median``              the same                                                             median over points
``error``                    the same                                                             mean squared error;
                                                                                                  nan at the origin
``loss``                     training_step, dataset_size, seed                                    running training loss
``complete``                 the same                                                             1 where measured,
                                                                                                  else 0
``copied``                   the same                                                             fraction of samples
                                                                                                  that are copies of
                                                                                                  training points
``held_out_copied``          dataset_size, seed                                                   the same of held-out
                                                                                                  points: chance
``failed``                   dataset_size, seed                                                   finite steps of what
                                                                                                  then failed, or -1
``empirical_gain``           point, dataset_size, noise_variance, seed, direction                 mean gain of the exact
                                                                                                  empirical score at the
                                                                                                  same noised points
``predicted_gain``           law, dataset_size, noise_variance, direction                         gain by each law
``predicted_training_gain``  training_step, dataset_size, noise_variance, direction               gain by gradient flow;
                                                                                                  nan unless linear
``training_time``            training_step                                                        learning rate (of the
                                                                                                  summed loss) times
                                                                                                  steps; nan as above
``reference_gain``           noise_variance, direction                                            gain of infinite data
===========================  ===================================================================  ======================

``copied`` is of as many samples of each network as the attribute ``samples`` says, drawn as in
:mod:`geomem_jax.copying`, and ``held_out_copied`` of ``held_out`` points.  Both are nan, and ``samples`` is 0, of
linear denoisers: trained at one noise variance, they know no way from noise to a sample.

Coordinates carry the numbers (``variance`` runs along ``direction``); ``noise_variance`` is a variance.  Everything
measured of networks is of their averaged parameters.  A network that fails keeps its last finite state, so what is
measured of it later is of the step at which it failed.

``predicted_training_gain`` is :func:`theory.mean_gradient_flow_gain` at ``N`` points, an average over training sets of
Gaussian data whose mean is known.  Real data are centred once, by the mean of all their points, and a linear denoiser
subtracts no other: so ``N`` counts in full, where ``predicted_gain`` by the linear law, which is of the rung that
subtracts the mean of its training points, has ``N - 1``.  For real data the prediction is Gaussian-relative, as all
are, and takes the points for independent, which a large part of all points, drawn without repetition, is not.
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
    "copied": PER_NETWORK,
    "held_out_copied": ("dataset_size", "seed"),
    "failed": ("dataset_size", "seed"),
    "empirical_gain": ("point", "dataset_size", "noise_variance", "seed", "direction"),
    "predicted_gain": ("law", "dataset_size", "noise_variance", "direction"),
    "predicted_training_gain": ("training_step", "dataset_size", "noise_variance", "direction"),
    "training_time": ("training_step",),
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


def is_predicted(dataset: xr.Dataset) -> bool:
    """Whether theory predicts the gains while training: of linear denoisers."""
    return bool(np.isfinite(dataset["training_time"].values).all())


def step_time(dataset: xr.Dataset) -> float:
    """Training time of a step; nan unless theory predicts the gains while training."""
    return float(dataset["training_time"].values[-1] / dataset["training_step"].values[-1])


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
