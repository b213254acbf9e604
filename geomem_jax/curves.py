r"""The numbers that figures show: measured means with intervals, and laws on dense grids.

Intervals are :math:`\bar x \pm t_{0.975, S - 1}\, s / \sqrt S` over the ``S`` complete training sets of a dataset
size; what was measured inside one of them is averaged first.  Of networks, of which there are too few for an interval,
they are the range over training sets.  Laws are evaluated by :mod:`theory` from the variances;
where the data were centred the linear law holds with ``N - 1`` for ``N``.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy import optimize

import theory
from geomem_jax.gains import distinct_variances, is_complete, is_solved, relative_gain
from geomem_jax.laws import law_size
from geomem_jax.results import NETWORK
from geomem_jax.statistics import critical_t
from geomem_jax.trained_results import step_time

POINT = "held_out"  # where rungs are held against their laws


class Interval(NamedTuple):
    """A mean over training sets with its 95 % interval, of networks with their range; ends are nan with one set."""

    mean: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def over_seeds(values: xr.DataArray, complete: xr.DataArray) -> Interval:
    """Average over the complete training sets.

    Args:
      values: dimensions ``dataset_size``, ``noise_variance``, ``seed``, then any.
      complete: dimensions ``dataset_size``, ``seed``; 1 where measured.

    Returns:
      An :class:`Interval` of shape ``(dataset_size, noise_variance, ...)``; nan where nothing is measured.  A value
      that is not finite in a complete training set makes its mean nan: it must show.
    """
    numbers, done = _seeds_last(values, complete)
    counts = done.sum(axis=-1).astype(float)
    mean = np.sum(numbers, axis=-1, where=done) / np.where(counts > 0, counts, np.nan)
    degrees = np.where(counts > 1, counts - 1, np.nan)
    squares = np.sum((numbers - mean[..., None]) ** 2, axis=-1, where=done)
    half_width = critical_t(0.05, 1, degrees) * np.sqrt(squares / degrees / np.where(counts > 0, counts, np.nan))
    return Interval(mean, mean - half_width, mean + half_width)


def _seeds_last(values: xr.DataArray, complete: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.moveaxis(values.values.astype(np.float64), 2, -1)
    return numbers, np.expand_dims(complete.values == 1, tuple(range(1, numbers.ndim - 1)))


def interval(dataset: xr.Dataset, rung: str, values: xr.DataArray) -> Interval:
    """Average over the complete training sets of a rung, with the interval that its number of them allows."""
    complete = dataset["complete"].sel(rung=rung)
    found = over_seeds(values, complete)
    if rung != NETWORK:
        return found
    numbers, done = _seeds_last(values, complete)
    several = done.sum(axis=-1) > 1
    ends = (
        np.where(several & np.isfinite(found.mean), extreme(numbers, axis=-1, where=done, initial=outside), np.nan)
        for extreme, outside in ((np.min, np.inf), (np.max, -np.inf))
    )
    return Interval(found.mean, *ends)


def measured_relative_gain(dataset: xr.Dataset, rung: str, point: str = POINT) -> Interval:
    """Relative gain of a rung at a point class, ``(dataset_size, noise_variance, g)`` for ``g`` distinct variances."""
    return interval(dataset, rung, relative_gain(dataset, rung, point))


def training_relative_gain(dataset: xr.Dataset, n: int, at_noise: int, steps: np.ndarray) -> np.ndarray:
    """Relative gain by gradient flow of a linear denoiser of ``n`` points after training steps, ``(steps, g)``.

    Args:
      dataset: of :mod:`geomem_jax.trained_results`, with a training time.
      n: dataset size.
      at_noise: position of the noise variance.
      steps: ``(steps,)``, of any size ``> 0``.
    """
    t, time = float(dataset["noise_variance"].values[at_noise]), step_time(dataset) * steps
    gain = np.asarray(theory.mean_gradient_flow_gain(dataset["variance"].values, n, t, time), np.float64)
    weights = distinct_variances(dataset).weights
    return gain @ weights / (dataset["reference_gain"].values[at_noise].astype(np.float64) @ weights)


def learning_steps(dataset: xr.Dataset, at_noise: int) -> np.ndarray:
    """Training steps after which infinite data would have taught half of the final gain, ``(g,)``."""
    t = float(dataset["noise_variance"].values[at_noise])
    return np.asarray(theory.learning_time(distinct_variances(dataset).variance, t), np.float64) / step_time(dataset)


def measured(dataset: xr.Dataset, variable: str, rung: str, point: str = POINT) -> Interval:
    """``"soft_dimension"`` or ``"participation"`` of a rung, ``(dataset_size, noise_variance)``."""
    values = dataset[variable].sel(rung=rung, point=point)
    return interval(dataset, rung, values.transpose("dataset_size", "noise_variance", "seed"))


def noise_of_dimension(variances: np.ndarray, dimension: float) -> float:
    r"""Effective noise :math:`\kappa` with :math:`\sum_i \sigma_i^2 / (\sigma_i^2 + \kappa)` = ``dimension``.

    Args:
      variances: ``(d,)``.
      dimension: soft dimension.

    Returns:
      A noise variance; ``inf`` for a dimension of 0 or less, nan where it is not below the number of positive
      variances, or not finite.
    """
    positive = variances[variances > 0]
    if not (np.isfinite(dimension) and dimension < len(positive)):
        return np.nan
    if dimension <= 0:
        return np.inf
    # Every term lies between those of the smallest and of the largest variance, and so does the root.
    odds = len(positive) / dimension - 1
    ends = np.log(odds * positive.min()) - 1e-9, np.log(odds * positive.max()) + 1e-9
    root = optimize.brentq(lambda u: np.sum(positive / (positive + np.exp(u))) - dimension, *ends, rtol=1e-12)
    return float(np.exp(root))


def measured_noise(dataset: xr.Dataset, rung: str) -> Interval:
    """Effective noise of a rung from its mean soft dimension, ``(dataset_size, noise_variance)``.

    The effective noise falls with the soft dimension, so that the interval of the one is the interval of the other,
    turned around; no linearization is needed.
    """
    variances = dataset["variance"].values
    dimension = measured(dataset, "soft_dimension", rung)
    mean, upper, lower = (
        np.array([noise_of_dimension(variances, float(value)) for value in ends.ravel()]).reshape(ends.shape)
        for ends in dimension
    )
    return Interval(mean, lower, upper)


def _law_size(dataset: xr.Dataset, law: str, n: np.ndarray | float) -> np.ndarray:
    return law_size(law, n, centred=bool(dataset.attrs["centred"]))


def law_relative_gain(dataset: xr.Dataset, law: str, n: np.ndarray | float, t: np.ndarray | float) -> np.ndarray:
    """Gain of a law over its gain of infinite data (Wiener), ``s + (g,)`` for ``n`` and ``t`` of shape ``s``."""
    variances, weights = dataset["variance"].values, distinct_variances(dataset).weights
    n, t = np.broadcast_arrays(n, t)  # curves along either are one program
    gain = np.asarray(theory.gain(variances, _law_size(dataset, law, n), t, law), np.float64)
    return (gain @ weights) / (np.asarray(theory.wiener_gain(variances, t), np.float64) @ weights)


def stored_dimension(dataset: xr.Dataset, law: str) -> np.ndarray:
    """Soft dimension of a law at the grid of the result, ``(dataset_size, noise_variance)``."""
    gain = dataset["predicted_gain"].sel(law=law).transpose("dataset_size", "noise_variance", "direction")
    return gain.values.astype(np.float64).sum(axis=-1)


def stored_noise(dataset: xr.Dataset, law: str) -> np.ndarray:
    """Effective noise of a law from its soft dimension at the grid of the result, as measured ones are found."""
    variances, dimension = dataset["variance"].values, stored_dimension(dataset, law)
    noise = [noise_of_dimension(variances, float(value)) for value in dimension.ravel()]
    return np.array(noise).reshape(dimension.shape)


def law_noise(dataset: xr.Dataset, law: str, n: np.ndarray | float, t: np.ndarray | float) -> np.ndarray:
    """Effective noise of a law, of the shape of ``n`` and ``t``."""
    return np.asarray(theory.effective_noise(dataset["variance"].values, _law_size(dataset, law, n), t, law))


def law_dimension(dataset: xr.Dataset, law: str, n: np.ndarray | float, t: np.ndarray | float) -> np.ndarray:
    """Soft dimension of a law, of the shape of ``n`` and ``t``."""
    n, t = np.broadcast_arrays(n, t)  # as above
    return np.asarray(theory.soft_dimension(dataset["variance"].values, _law_size(dataset, law, n), t, law))


def comparison_size(dataset: xr.Dataset, rung: str | None = None) -> int:
    """Position of the size nearest the geometric middle of those measured: of one rung, or of all that have a law."""
    done = is_solved(dataset) if rung is None else is_complete(dataset, rung)
    logs = np.log(dataset["dataset_size"].values)
    logs = np.where(done.any(axis=1), logs, np.nan)
    return int(np.nanargmin(np.abs(logs - (np.nanmin(logs) + np.nanmax(logs)) / 2)))
