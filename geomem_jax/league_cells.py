r"""Means over training sets against laws, in error bars: the cells of the verdict and of the league table.

*Score.*  The mean :math:`\bar g` of a gain over ``S`` training sets against the gain ``g`` by a law
(:func:`geomem_jax.statistics.gain_score`; the plain difference where a gain is not positive), with

.. math:: \epsilon^2 = \epsilon_S^2 + \epsilon_e^2 + d\,\epsilon_{32}^2, \quad
          \epsilon_S = \frac s{\sqrt S\,\bar g}, \quad \epsilon_e = \frac eg, \qquad
          \nu = \frac{(\epsilon_S^2 + \epsilon_e^2)^2}{\epsilon_S^4 / (S - 1) + \epsilon_e^4 / 7} \tag{1}

from the numerical error ``e`` of the law (of 8 blocks, so with 7 degrees of freedom) and the rounding of sums of ``d``
float32 numbers.  A cell *rejects* a law if its score against the range of the law (:mod:`geomem_jax.contenders`) is
beyond the Student threshold of :math:`\nu` at a family-wise level that all cells share (Bonferroni).  Once a cell
rejects a law, all that *contradict* it are sought at the same level among the cells of its row alone: a right law is
contradicted only if it is rejected first, so with the same probability at most (a gatekeeper).

Not tested, because their spread cannot be trusted, are cells whose mean is carried by fewer than half of the training
sets (their standard deviation exceeds :data:`MOST_SPREAD` means), as deep in the frozen phase.

Scope.  Scores trust the spread of what is tested, and its skewness up to that of a Gamma distribution as wide.
Source.  Derived here; the degrees of freedom are Welch's (1947).
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy import stats

from geomem_jax.contenders import Contender
from geomem_jax.gains import group_means, is_complete
from geomem_jax.statistics import critical_t, detectable_shift, gain_score

ALPHA = 0.05
POWER = 0.9
FREEDOM_OF_LAW = 7
MOST_SPREAD = 1.0  # standard deviation over mean of training sets; beyond, fewer than half of them carry the mean
APART = 4.0  # standard errors that chance bridges with a probability of 3e-5
CERTAIN = 1e9  # degrees of freedom where all errors are known
SEEDS = np.unique(np.geomspace(2, 1e6, 150).round())  # among which those are sought that would decide


class Measured(NamedTuple):
    """A rung at a point class: gain ``(k, j, s, g)``, sum over directions ``(k, j, s)``, where complete ``(k, s)``."""

    view: xr.Dataset
    rung: str
    point: str
    step: int | None
    gain: np.ndarray
    dimension: np.ndarray
    done: np.ndarray


def measure(view: xr.Dataset, rung: str, point: str) -> Measured:
    """Collect what is measured of a rung at a point class.

    Raises:
      InputError: if the result has no such rung or point class.
    """
    means = group_means(view, rung, point)
    gain = view["gain"].sel(rung=rung, point=point).transpose("dataset_size", "noise_variance", "seed", "direction")
    dimension = gain.values.astype(np.float64).sum(axis=-1)
    return Measured(view, rung, point, None, means, dimension, is_complete(view, rung))


class Cells(NamedTuple):
    """What is measured in a row and what its law says, all ``(k, g)``: dataset size and distinct variance.

    Attributes:
      measured: mean gain over training sets.
      predicted: gain by the law.
      lower, upper: range of the law.
      seeds: ``(k, 1)``, training sets.
      plain: where a gain is not positive, so that errors are absolute.
      sampling: standard error of the mean over training sets, relative unless ``plain``.
      fixed: numerical error of the law and rounding, likewise.
      degrees: degrees of freedom, eq. (1); nan where nothing is tested.
      face_score: score against ``predicted``.
      score: score against the range; 0 within.
    """

    measured: np.ndarray
    predicted: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    seeds: np.ndarray
    plain: np.ndarray
    sampling: np.ndarray
    fixed: np.ndarray
    degrees: np.ndarray
    face_score: np.ndarray
    score: np.ndarray


def over_seeds(values: np.ndarray, done: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of ``(k, s, ...)`` over complete seeds, its standard error, and their number, ``(k, 1...)``."""
    done = done.reshape(done.shape + (1,) * (values.ndim - 2))
    seeds = done.sum(axis=1)
    counts, freedom = np.where(seeds > 0, seeds, np.nan), np.where(seeds > 1, seeds - 1, np.nan)
    mean = np.sum(values, axis=1, where=done) / counts
    squares = np.sum((values - mean[:, None]) ** 2, axis=1, where=done)
    return mean, np.sqrt(squares / freedom / counts), seeds


def _score(mean: np.ndarray, plain: np.ndarray, error: np.ndarray, expected: np.ndarray) -> np.ndarray:
    one = np.ones_like(mean)
    skewed = gain_score(np.where(plain, one, mean), error, np.where(plain, one, expected))
    return np.where(plain, (mean - expected) / error, skewed)


def hold(found: Measured, at: int, law: Contender) -> Cells:
    """Hold a law against what is measured at noise variance number ``at``; eq. (1)."""
    gains = found.gain[:, at]
    mean, spread, seeds = over_seeds(gains, found.done)
    predicted, error, lower, upper = (part[:, at] for part in (law.gain, law.error, law.lower, law.upper))
    done = found.done[:, :, None]
    plain = (np.min(gains, axis=1, where=done, initial=0) < 0) | (predicted <= 0)
    freedom = np.where(seeds > 1, seeds - 1.0, np.nan)
    if found.rung == "population":  # made of no training points: nothing to sample
        spread, freedom = np.zeros_like(mean), np.where(seeds > 0, np.inf, np.nan)
    # A mean of 0 is too small for a float, and has no spread to tell how small.
    unit = np.where(plain, 1.0, np.where(mean == 0, np.nan, mean)), np.where(plain, 1.0, predicted)
    sampling, numerical = spread / unit[0], error / unit[1]
    rounding = np.sqrt(found.view.sizes["direction"]) * np.finfo(np.float32).eps * np.abs(predicted) / unit[1]
    fixed = np.hypot(numerical, rounding)
    total = np.maximum(np.hypot(sampling, fixed), np.finfo(np.float32).tiny)
    share = (sampling / total) ** 2, (numerical / total) ** 2
    # Where rounding is all there is, errors are known.
    degrees = (share[0] + share[1]) ** 2 / np.maximum(share[0] ** 2 / freedom + share[1] ** 2 / FREEDOM_OF_LAW, 1e-30)
    degrees = np.where(share[0] + share[1] > 1e-6, degrees, CERTAIN)
    with np.errstate(divide="ignore", invalid="ignore"):  # a gain that is 0 or not finite is not tested
        scores = [_score(mean, plain, total, expected) for expected in (predicted, np.clip(mean, lower, upper))]
    carried = plain | (sampling**2 * seeds <= MOST_SPREAD**2)
    tested = np.isfinite(scores[0]) & ~np.isnan(freedom) & carried
    degrees = np.where(tested, np.minimum(degrees, CERTAIN), np.nan)
    return Cells(mean, predicted, lower, upper, seeds, plain, sampling, fixed, degrees, *scores)


def hold_all(found: Measured, law: Contender) -> Cells:
    """Hold a law at every noise variance: :class:`Cells` of ``(k, j, g)``."""
    held = [hold(found, at, law) for at in range(found.gain.shape[1])]
    return Cells(*(np.stack(parts, axis=1) for parts in zip(*held, strict=True)))


def _absolute_error(cells: Cells, more: ArrayLike = 1.0) -> np.ndarray:
    """Standard error of a difference, with ``more`` times the training sets."""
    sampling = cells.sampling / np.sqrt(more) * np.where(cells.plain, 1.0, cells.measured)
    return np.hypot(sampling, cells.fixed * np.where(cells.plain, 1.0, cells.predicted))


def separation(cells: Cells, other: Cells, more: ArrayLike = 1.0) -> np.ndarray:
    """How many standard errors the ranges of two laws against the same measurement are apart.

    Args:
      cells: with one law.
      other: with the other.
      more: training sets in units of those that there are, broadcast with ``(k, g)``.

    Returns:
      The smaller of the scores of either law against the other, ``(k, g)`` or what ``more`` makes of it; 0 where the
      ranges meet, nan where nothing is tested.
    """
    low, high = np.minimum(cells.upper, other.upper), np.maximum(cells.lower, other.lower)
    apart, plain = low < high, cells.plain | other.plain
    a, b = (np.where(apart & ~plain, end, 1.0) for end in (low, high))
    error = np.hypot(cells.sampling / np.sqrt(more), np.maximum(cells.fixed, other.fixed))
    skewed = np.minimum(np.abs(gain_score(a, error, b)), np.abs(gain_score(b, error, a)))
    absolute = np.maximum(_absolute_error(cells, more), _absolute_error(other, more))
    found = np.where(apart, np.where(plain, (high - low) / absolute, skewed), 0.0)
    return np.where(np.isnan(cells.degrees), np.nan, found)


def rejects(cells: Cells, comparisons: int) -> np.ndarray:
    """Which cells reject their law at the family-wise level that ``comparisons`` of them share."""
    return np.abs(cells.score) > critical_t(ALPHA, max(comparisons, 1), cells.degrees)


def threshold(cells: Cells, comparisons: int) -> np.ndarray:
    """Score beyond which a cell contradicts its law: at the level of all cells or, once one rejects, of the row."""
    return _within_row(cells) if rejects(cells, comparisons).any() else critical_t(ALPHA, comparisons, cells.degrees)


def contradicts(cells: Cells, comparisons: int) -> np.ndarray:
    """Which cells contradict their law: none of a law that no cell rejects."""
    return np.abs(cells.score) > threshold(cells, comparisons)


def decides(cells: Cells, other: Cells, comparisons: int) -> np.ndarray:
    """In which cells the wrong one of two laws is contradicted, but for a chance of 3e-5.

    The laws are apart there by what contradicts and :data:`APART` standard errors more, and somewhere in the row by
    what rejects and as much more.
    """
    apart = separation(cells, other)
    rejected = apart > critical_t(ALPHA, max(comparisons, 1), np.fmin(cells.degrees, other.degrees)) + APART
    return rejected.any() & (apart > np.fmax(_within_row(cells), _within_row(other)) + APART)


def _within_row(cells: Cells) -> np.ndarray:
    """Thresholds at the family-wise level that the cells of one row share."""
    return critical_t(ALPHA, max(int(np.sum(~np.isnan(cells.degrees))), 1), cells.degrees)


def spread_of(cells: Cells) -> np.ndarray:
    """Best estimate of the error of a difference: the estimated spread is low by the median of chi over its root."""
    freedom = np.maximum(cells.seeds - 1.0, 1.0)
    return _absolute_error(cells, stats.chi2.median(freedom) / freedom)


def detectable(cells: Cells, comparisons: int) -> np.ndarray:
    """Relative deviation that a cell would find with probability ``POWER``; nan where nothing is tested."""
    shift = detectable_shift(ALPHA, max(comparisons, 1), cells.degrees, POWER)
    return shift * spread_of(cells) / np.abs(np.where(cells.predicted == 0, np.nan, cells.predicted))


def log_detectable(cells: Cells, log_n: np.ndarray, comparisons: int) -> np.ndarray:
    """Change of the log size at which a cell of each variance would reject the law with probability ``POWER``."""
    if len(log_n) < 2:
        return np.full(cells.measured.shape[1], np.inf)
    order = np.argsort(log_n)
    slope = np.empty_like(cells.predicted)
    slope[order] = np.abs(np.gradient(cells.predicted[order], log_n[order], axis=0))
    shift = detectable_shift(ALPHA, max(comparisons, 1), cells.degrees, POWER) * spread_of(cells)
    flat = 1e-6 * np.abs(cells.predicted)  # rounding
    needed = np.divide(shift + cells.upper - cells.lower, slope, out=np.full_like(slope, np.inf), where=slope > flat)
    return np.min(np.where(np.isnan(needed), np.inf, needed), axis=0)


def log_score(cells: Cells) -> float:
    """Log density of the measured means if the law holds at its word, mean over tested cells, in nats.

    Of three training sets or more: the difference of two says too little of their spread, which is the unit here.
    """
    tested = ~np.isnan(cells.degrees) & (cells.seeds > 2)
    if not tested.any():
        return float("nan")
    density = -0.5 * cells.face_score**2 - np.log(np.sqrt(2 * np.pi) * _absolute_error(cells))
    return float(density[tested].mean())


@functools.cache
def _detectable_with(comparisons: int) -> np.ndarray:
    return detectable_shift(ALPHA, max(comparisons, 1), SEEDS - 1, POWER)


def seeds_needed(cells: Cells, rivals: Sequence[Cells], comparisons: int) -> float:
    """Training sets with which some cell would tell a law from each of its ``rivals``, with probability ``POWER``."""
    if np.isnan(cells.degrees).all():
        return float("nan")
    shift = _detectable_with(comparisons)
    more = SEEDS[:, None, None] / np.maximum(cells.seeds, 1)
    enough = [
        (separation(cells, rival, more) > shift[:, None, None]).any(axis=(1, 2)) & (cells.seeds.max() < SEEDS)
        for rival in rivals
    ]
    return max((float(SEEDS[np.argmax(found)]) if found.any() else np.inf for found in enough), default=float("nan"))
