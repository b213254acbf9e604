r"""Freeze-out sizes and times measured in a result, with intervals, and their predicted counterparts.

Definition.  The relative gain of direction ``i`` is :math:`\rho_i = g_i / g_i^{\rm ref}`, the mean over
training sets and points over the gain of infinite data; the direction is *frozen* where :math:`\rho_i <
1/2`.  Its freeze-out size :math:`N_i^*(t)` is the size above which it stays free; its freeze-out time
:math:`t_i^*(N)` is the noise variance above which it stays free.  Both are therefore the **largest** crossing
of 1/2, however often :math:`\rho_i` crosses.  Between grid values :math:`\rho_i` is interpolated linearly in
``log N`` or ``log t``; outside the grid nothing is extrapolated: ``-inf`` means below it (free everywhere on
it), ``+inf`` above it.

Directions of equal variance share one number.  Zero variance has no relative gain and is left out.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

import theory
from geomem_jax.errors import InputError
from geomem_jax.gains import (
    DistinctVariances,
    Statistic,
    distinct_variances,
    grid_position,
    is_complete,
    is_solved,
    predicted_relative_gain,
    relative_gain,
)
from geomem_jax.laws import data_log_size, law_size
from geomem_jax.statistics import (
    Bootstrap,
    concordance,
    expanded_bootstrap,
    expanded_percentile,
    percentile_interval,
)

FROZEN_BELOW = 0.5
RESOLVED = 0.1
"""Difference of log sizes, 10 % in size, below which an order is not worth comparing."""


class FreezeOut(NamedTuple):
    """Measured freeze-out sizes or times per distinct variance; natural logarithms throughout.

    Attributes:
      variance: ``(g,)`` distinct variances, descending.
      multiplicity: ``(g,)`` directions of each.
      log_value: ``(g,)`` log size or log noise variance; ``-inf`` below the grid, ``+inf`` above it.
      log_lower: ``(g,)`` lower end of the 95 % interval over seeds, censored likewise; nan with one seed,
        and with two, as of networks, their range.
      log_upper: ``(g,)`` upper end.
      replicates: ``(R, g)`` bootstrap replicates of ``log_value``.
      grid: smallest and largest size or noise variance in use.
      num_seeds: training sets in use.
    """

    variance: np.ndarray
    multiplicity: np.ndarray
    log_value: np.ndarray
    log_lower: np.ndarray
    log_upper: np.ndarray
    replicates: np.ndarray
    grid: tuple[float, float]
    num_seeds: int


class SizeErrors(NamedTuple):
    """Measured against predicted log freeze-out sizes of one rung at one noise variance.

    Attributes:
      measured: the measured sizes.
      predicted: ``(g,)`` predicted log sizes.
      error: ``(g,)`` measured less predicted; infinite or nan where the measured size is censored.
      lower: ``(g,)`` lower end of its interval over seeds.
      upper: ``(g,)`` upper end.
      tau: Kendall's tau over distinct variances.
    """

    measured: FreezeOut
    predicted: np.ndarray
    error: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    tau: Bootstrap


def largest_crossing(abscissa: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """Where ``rho`` last rises through 1/2.

    Args:
      abscissa: ``(k,)``, ascending.
      rho: ``(..., k)``.

    Returns:
      ``(...)``: ``-inf`` where ``rho`` is nowhere below 1/2, ``+inf`` where its last value is, nan where
      any value is nan.
    """
    frozen = rho < FROZEN_BELOW
    last = len(abscissa) - 1
    below = last - np.argmax(frozen[..., ::-1], axis=-1)  # the last frozen grid value, where there is one
    left, right = np.minimum(below, last - 1) if last else below, np.minimum(below + 1, last)
    at = [np.take_along_axis(rho, index[..., None], axis=-1)[..., 0] for index in (left, right)]
    crossing = frozen.any(axis=-1) & ~frozen[..., -1]
    rise = np.where(crossing, at[1] - at[0], 1.0)
    inside = abscissa[left] + (FROZEN_BELOW - at[0]) / rise * (abscissa[right] - abscissa[left])
    censored = np.where(np.isnan(rho).any(axis=-1), np.nan, np.where(frozen[..., -1], np.inf, -np.inf))
    return np.where(crossing & ~np.isnan(censored), inside, censored)


def _measured_block(dataset: xr.Dataset, rung: str, point: str, statistic: Statistic) -> tuple[np.ndarray, np.ndarray]:
    """The largest block of sizes and seeds that is measured throughout.

    An interrupted run is complete for all sizes of some seeds, or all seeds of some sizes; either is found by
    adding seeds one by one, those with most sizes first.

    Returns:
      Ascending sizes ``(k,)`` and relative gains ``(k, S, noise_variance, g)``.
    """
    complete = is_complete(dataset, rung)
    if not complete.any():
        raise InputError(f"no training set of this result is measured for the {rung} rung; let the run finish")
    order = np.argsort(-complete.sum(axis=0), kind="stable")
    nested = [order[:count] for count in range(1, 1 + len(order))]
    blocks = [(np.flatnonzero(complete[:, seeds].all(axis=1)), seeds) for seeds in nested]
    sizes, seeds = max(blocks, key=lambda block: len(block[0]) * len(block[1]))
    sizes = sizes[np.argsort(dataset["dataset_size"].values[sizes])]
    rho = relative_gain(dataset, rung, point, statistic).values[sizes][:, :, seeds].swapaxes(1, 2)
    return dataset["dataset_size"].values[sizes].astype(float), rho


def _freeze_out(groups: DistinctVariances, grid: np.ndarray, rho: np.ndarray, bootstrap_seed: int) -> FreezeOut:
    """Crossings of ``rho`` ``(S, k, g)`` along ``grid`` ``(k,)``, in any order."""
    ascending = np.argsort(grid)
    abscissa = np.log(grid[ascending])
    rho = rho[:, ascending].swapaxes(1, 2)
    bootstrap = expanded_bootstrap(rho, lambda means: largest_crossing(abscissa, means), bootstrap_seed)
    return FreezeOut(groups.variance, groups.multiplicity, *bootstrap, (float(grid.min()), float(grid.max())), len(rho))


def freeze_out_sizes(
    dataset: xr.Dataset,
    rung: str,
    point: str,
    t: float,
    statistic: Statistic = "mean",
    *,
    bootstrap_seed: int = 0,
) -> FreezeOut:
    """Measured log freeze-out size of every distinct variance.

    Seeds and sizes are the largest block that is complete.  With ``"median"`` the gain is the median over the
    points of one training set; over training sets it is averaged in either case, as they are the unit of
    error.

    Args:
      dataset: a result.
      rung: the score model.
      point: point class.
      t: noise variance, one of the grid.
      statistic: over the points of one training set.
      bootstrap_seed: seed of the resampling.

    Returns:
      A :class:`FreezeOut` in log sizes.

    Raises:
      InputError: if rung, point class or noise variance is not in the result, or nothing is measured.
    """
    position = grid_position(dataset, "noise_variance", t)
    grid, rho = _measured_block(dataset, rung, point, statistic)
    return _freeze_out(distinct_variances(dataset), grid, rho[:, :, position].swapaxes(0, 1), bootstrap_seed)


def freeze_out_times(
    dataset: xr.Dataset,
    rung: str,
    point: str,
    n: int,
    statistic: Statistic = "mean",
    *,
    bootstrap_seed: int = 0,
) -> FreezeOut:
    """Measured log freeze-out time (a noise variance) of every distinct variance at dataset size ``n``.

    ``-inf`` means free at every noise variance of the grid: the time is below it, or 0 (never frozen).
    Arguments, result and errors otherwise as in :func:`freeze_out_sizes`.
    """
    position = grid_position(dataset, "dataset_size", n)
    seeds = np.flatnonzero(is_complete(dataset, rung)[position])
    if not len(seeds):
        raise InputError(f"no training set of size {n} is measured in this result; let the run finish")
    rho = relative_gain(dataset, rung, point, statistic).values[position][:, seeds]
    return _freeze_out(
        distinct_variances(dataset), dataset["noise_variance"].values, rho.swapaxes(0, 1), bootstrap_seed
    )


def _per_variance(dataset: xr.Dataset, per_direction: object) -> np.ndarray:
    """The value of the first direction of every distinct variance: ``(d,)`` to ``(g,)``."""
    return np.asarray(per_direction, np.float64)[np.argmax(distinct_variances(dataset).weights > 0, axis=0)]


def predicted_crossings(grid: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """Log crossings of stored relative gains ``(k, g)``, interpolated and censored as measured ones are."""
    ascending = np.argsort(grid)
    return largest_crossing(np.log(grid[ascending].astype(float)), rho[ascending].T)


def predicted_sizes(dataset: xr.Dataset, t: float, law: str) -> np.ndarray:
    """Predicted log freeze-out size of every distinct variance, ``(g,)``, at noise variance ``t``.

    Where the data were centred the linear law holds with ``N - 1`` for ``N``, so that its size is one larger.  Exact
    averages are stored at the sizes of the grid alone: their sizes are interpolated and censored as measured ones.
    """
    if law == "finite_size":
        rho = predicted_relative_gain(dataset, law)[:, grid_position(dataset, "noise_variance", t)]
        return predicted_crossings(dataset["dataset_size"].values, rho)
    log_sizes = _per_variance(dataset, theory.freeze_out_sizes(dataset["variance"].values, t, law))
    return data_log_size(law, log_sizes, centred=bool(dataset.attrs["centred"]))


def predicted_times(dataset: xr.Dataset, n: int, law: str) -> np.ndarray:
    """Predicted log freeze-out time of every distinct variance, ``(g,)``, at size ``n``.

    ``-inf`` if never frozen; the linear law with ``N - 1``, exact averages interpolated, as in :func:`predicted_sizes`.
    """
    if law == "finite_size":
        rho = predicted_relative_gain(dataset, law)[grid_position(dataset, "dataset_size", n)]
        return predicted_crossings(dataset["noise_variance"].values, rho)
    size = law_size(law, n, centred=bool(dataset.attrs["centred"]))
    if size < 1:  # one centred point has no variance: frozen at every noise
        return np.full(len(distinct_variances(dataset).variance), np.inf)
    times = _per_variance(dataset, theory.freeze_out_times(dataset["variance"].values, size, law))
    with np.errstate(divide="ignore"):
        return np.log(times)


def laws(dataset: xr.Dataset) -> list[str]:
    """Laws of gains that predicted this result, in the order of :data:`theory.LAWS`."""
    return [law for law in theory.LAWS if law in dataset["law"].values]


def best_resolved(dataset: xr.Dataset, names: Sequence[str]) -> float:
    """The noise variance at which the grid of sizes can best tell the order that the laws ``names`` predict.

    It has the most pairs of distinct variances whose predicted sizes, clipped to the measured grid, differ by
    more than :data:`RESOLVED`.  Of equals it is the largest, whose sizes are farthest from the upper end.  Measured
    gains have no say, so that the choice favours neither agreement nor its opposite.
    """
    measured = dataset["dataset_size"].values[is_solved(dataset).any(axis=1)]
    pairs = []
    for t in dataset["noise_variance"].values:
        clipped = [
            np.sort(np.clip(predicted_sizes(dataset, t, law), *np.log([measured.min(), measured.max()])))
            for law in names
        ]
        pairs.append(sum(int(np.sum(len(row) - np.searchsorted(row, row + RESOLVED))) for row in clipped))
    last_best = len(pairs) - 1 - int(np.argmax(pairs[::-1]))
    return float(dataset["noise_variance"].values[last_best])


def comparison_noise(dataset: xr.Dataset) -> float:
    """The noise variance at which freeze-out sizes are compared: the best resolved by the asymptotic laws."""
    return best_resolved(dataset, [law for law in laws(dataset) if not theory.SCOPES[law].exact])


def kendall_tau(measured: FreezeOut, predicted: np.ndarray, least: int = 3) -> Bootstrap:
    """Kendall's tau of measured against predicted freeze-out, with its interval over seeds.

    Pairs whose order is unknown (both censored on the same side) or not predicted (equal) are left out, see
    :func:`geomem_jax.statistics.concordance`.  The interval is taken over the replicates in which ``tau`` is defined.

    Args:
      measured: sizes or times.
      predicted: ``(g,)``, their predicted counterparts.
      least: sizes to be told apart; nan with fewer.
    """
    estimate = concordance(measured.log_value[None], predicted, least=least)[0]
    replicates = concordance(measured.replicates, predicted, least=least)
    defined = replicates[~np.isnan(replicates)]
    if measured.num_seeds < 2 or not len(defined) or np.isnan(estimate):
        return Bootstrap(estimate, np.array(np.nan), np.array(np.nan), replicates)
    return Bootstrap(estimate, *percentile_interval(defined, expanded_percentile(measured.num_seeds)), replicates)


def first_to_freeze(tau: Bootstrap) -> str:
    """Say which directions freeze first as data get scarce, as far as an interval allows.

    Args:
      tau: Kendall's tau of freeze-out sizes or times with *minus* the variance, and its interval.

    Returns:
      ``"fine first"``, small variances; ``"salient first"``, large ones; ``"undecided"``; ``"no order"``, if no pair
      can be told apart.
    """
    if np.isnan(tau.estimate):
        return "no order"
    if tau.lower > 0:
        return "fine first"
    return "salient first" if tau.upper < 0 else "undecided"


def size_errors(
    dataset: xr.Dataset, rung: str, point: str, t: float, law: str, *, bootstrap_seed: int = 0
) -> SizeErrors:
    """Measured freeze-out sizes of a rung against a law; errors as :func:`freeze_out_sizes`."""
    measured = freeze_out_sizes(dataset, rung, point, t, bootstrap_seed=bootstrap_seed)
    return errors_of(measured, predicted_sizes(dataset, t, law))


def errors_of(measured: FreezeOut, predicted: np.ndarray) -> SizeErrors:
    """Measured against predicted log sizes ``(g,)``."""
    ends = np.stack([measured.log_value, measured.log_lower, measured.log_upper])
    with np.errstate(invalid="ignore"):  # both infinite: no error to speak of
        error, lower, upper = ends - predicted
    return SizeErrors(measured, predicted, error, lower, upper, kendall_tau(measured, predicted))
