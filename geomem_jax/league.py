r"""The league table: which theory predicts the gains, and so the order in which directions freeze out?

Every law that speaks of a point class (:data:`theory.SCOPES`) is held against every rung there, at every noise variance
and, of networks, training step: a :class:`Row` each, with a *cell* for every dataset size and distinct variance.  A
rung whose gains are the same at all points has rows at point ``"any"``.

*Score of a cell.*  The mean :math:`\bar g` over ``S`` training sets against the law ``g``, in standard errors
(:func:`geomem_jax.statistics.gain_score`; the plain difference where a gain is not positive):

.. math:: \epsilon^2 = \epsilon_S^2 + \epsilon_e^2 + d\,\epsilon_{32}^2, \quad
          \epsilon_S = \frac s{\sqrt S\,\bar g}, \quad \epsilon_e = \frac eg, \qquad
          \nu = \frac{(\epsilon_S^2 + \epsilon_e^2)^2}{\epsilon_S^4 / (S - 1) + \epsilon_e^4 / 7} \tag{1}

with the numerical error ``e`` of the law (of 8 blocks, so with 7 degrees of freedom) and the rounding of sums of ``d``
float32 numbers.  A cell *rejects* a law if its score against the range of the law (:mod:`geomem_jax.contenders`) is
beyond the Student threshold of :math:`\nu` at the family-wise level ``alpha``, which all cells of all rows share
(Bonferroni): true laws are rejected in any cell of a league with a probability of at most ``alpha``.

*Verdict of a row.*  Two laws *differ* in a cell if their ranges are more than :data:`DECIDABLE` standard errors apart.
The exact average and the laws it tends to are one theory, no rivals.

* ``rejected``: a cell rejects the law.  If it is asymptotic, and one of this rung, this is a finite-size deviation.
* ``agrees``: no cell does, and all rivals are rejected; of a law without rivals, its median cell is tested to 50 %.
* ``indistinguishable``: no cell does, nor for some rivals, from which the law differs in no cell.
* ``undecided``: no cell does, nor for a rival from which it differs; or nothing is tested.

Scope.  Scores trust the spread over training sets, the skewness of samples up to that of a Gamma distribution as wide.
Source.  Derived here; the degrees of freedom are Welch's (1947).
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy import stats

import theory
from geomem_jax.contenders import Contender, contenders
from geomem_jax.errors import InputError
from geomem_jax.freeze_out import SizeErrors, errors_of, freeze_out_sizes
from geomem_jax.gains import distinct_variances, group_means, is_complete
from geomem_jax.laws import LAWS_OF
from geomem_jax.results import POINT_CLASSES
from geomem_jax.statistics import Estimate, critical_t, detectable_shift, gain_score
from geomem_jax.trained_results import at_step, measured_steps
from geomem_jax.verdict import ALPHA, LOW_POWER, POWER

DECIDABLE = 4.0
ONE_THEORY = frozenset((*LAWS_OF["empirical"], "planted"))
FREEDOM_OF_LAW = 7
CERTAIN = 1e9  # degrees of freedom where all errors are known
SEEDS = np.unique(np.geomspace(2, 1e6, 150).round())  # among which those are sought that would decide

Outcome = Literal["agrees", "rejected", "indistinguishable", "undecided"]


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


class Row(NamedTuple):
    """One law against one rung at one point class and noise variance.

    Attributes:
      rung, point, noise_variance, law: which.
      step: training step of the networks; ``None`` without.
      claimed: whether the law is one of this rung, so that it ought to agree.
      exact: whether it is taken at its word.
      outcome: the verdict.
      unrejected: rivals that are not rejected either.
      cells: the numbers behind.
      tested: how many cells are.
      decidable: fraction of these in which the law and some rival differ.
      deviating: fraction of these that deviate significantly from the law at its word.
      median_relative: median deviation of those, relative and absolute; nan without any.
      sizes: error of the log freeze-out sizes, and Kendall's tau over distinct variances, with intervals.
      log_detectable: ``(g,)`` logarithm of the factor in a freeze-out size that a cell of its variance would have found
        with probability ``POWER``; infinite where the law does not depend on the size.
      log_score: log density of the measured means if the law holds at its word, mean over cells, in nats; only
        differences between laws of the same measurement mean something.
      dimension_error: measured less predicted soft dimension at the dataset size where that is largest, with an
        interval that covers all sizes together with 95 %.
      dimension_at: that dataset size.
      num_seeds: training sets at the best-measured dataset size.
      seeds_needed: training sets that would decide with probability ``POWER``; infinite if a million would not; nan if
        nothing is left to decide or there is no spread to tell from.
    """

    rung: str
    point: str
    noise_variance: float
    law: str
    step: int | None
    claimed: bool
    exact: bool
    outcome: Outcome
    unrejected: tuple[str, ...]
    cells: Cells
    tested: int
    decidable: float
    deviating: float
    median_relative: float
    sizes: SizeErrors
    log_detectable: np.ndarray
    log_score: float
    dimension_error: Estimate
    dimension_at: int
    num_seeds: int
    seeds_needed: float


class League(NamedTuple):
    """The table.

    Attributes:
      rows: by training step, rung, point class, noise variance and law.
      dataset_size: ``(k,)`` of all cells.
      variance: ``(g,)`` of all cells, descending.
      alpha: family-wise level of all rejections.
      comparisons: cells that share it.
    """

    rows: tuple[Row, ...]
    dataset_size: np.ndarray
    variance: np.ndarray
    alpha: float
    comparisons: int


class _Measured(NamedTuple):
    """A rung at a point class: group means ``(k, j, s, g)``, their sum over directions ``(k, j, s)``, done ``(k, s)``."""

    view: xr.Dataset
    rung: str
    point: str
    step: int | None
    gain: np.ndarray
    dimension: np.ndarray
    done: np.ndarray


def _of_rung(view: xr.Dataset, rung: str, step: int | None) -> Iterator[_Measured]:
    gains = view["gain"].sel(rung=rung).transpose("point", "dataset_size", "noise_variance", "seed", "direction")
    first, *rest = (gains.sel(point=point).values for point in POINT_CLASSES)
    same = all(np.array_equal(first, other, equal_nan=True) for other in rest)
    for point in POINT_CLASSES[: 1 if same else None]:
        found = group_means(view, rung, point)
        if np.isfinite(found).any():
            dimension = gains.sel(point=point).values.astype(np.float64).sum(axis=-1)
            yield _Measured(view, rung, "any" if same else point, step, found, dimension, is_complete(view, rung))


def _measurements(dataset: xr.Dataset) -> Iterator[_Measured]:
    """Whatever is measured: every rung at every point class, and networks at every training step."""
    if "training_step" not in dataset.dims:
        for rung in dataset["rung"].values:
            yield from _of_rung(dataset, str(rung), None)
        return
    steps = [int(step) for step in measured_steps(dataset)]
    for step in steps:
        yield from _of_rung(at_step(dataset, step), "trained", step)
    if steps:  # the same at every step
        yield from _of_rung(at_step(dataset, steps[-1]), "empirical", None)


def _over_seeds(values: np.ndarray, done: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def _cells(found: _Measured, at: int, law: Contender) -> Cells:
    """Hold a law against what is measured at noise variance number ``at``; eq. (1)."""
    gains = found.gain[:, at]
    mean, spread, seeds = _over_seeds(gains, found.done)
    predicted, error, lower, upper = (part[:, at] for part in (law.gain, law.error, law.lower, law.upper))
    done = found.done[:, :, None]
    plain = (np.min(gains, axis=1, where=done, initial=0) < 0) | (lower <= 0)
    # Gains too small for a float say only that none of the seeds is larger: as wide a spread as there can be.
    vanished = (mean == 0) & ~plain
    mean = np.where(vanished, np.finfo(np.float32).tiny, mean)
    spread = np.where(vanished & np.isfinite(spread), mean, spread)
    freedom = np.where(seeds > 1, seeds - 1.0, np.nan)
    if found.rung == "population":  # made of no training points: nothing to sample
        spread, freedom = np.zeros_like(mean), np.where(seeds > 0, np.inf, np.nan)
    unit = np.where(plain, 1.0, mean), np.where(plain, 1.0, predicted)
    sampling, numerical = spread / unit[0], error / unit[1]
    rounding = np.sqrt(found.view.sizes["direction"]) * np.finfo(np.float32).eps * np.abs(predicted) / unit[1]
    fixed = np.hypot(numerical, rounding)
    total = np.maximum(np.hypot(sampling, fixed), np.finfo(np.float32).tiny)
    share = (sampling / total) ** 2, (numerical / total) ** 2
    # Where rounding is all there is, errors are known.
    degrees = (share[0] + share[1]) ** 2 / np.maximum(share[0] ** 2 / freedom + share[1] ** 2 / FREEDOM_OF_LAW, 1e-30)
    degrees = np.where(share[0] + share[1] > 1e-6, degrees, CERTAIN)
    with np.errstate(invalid="ignore"):  # a gain that is not finite is not tested
        scores = [_score(mean, plain, total, expected) for expected in (predicted, np.clip(mean, lower, upper))]
    degrees = np.where(np.isfinite(scores[0]) & ~np.isnan(freedom), np.minimum(degrees, CERTAIN), np.nan)
    return Cells(mean, predicted, lower, upper, seeds, plain, sampling, fixed, degrees, *scores)




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


def _spread(cells: Cells) -> np.ndarray:
    """Best estimate of the error of a difference: the estimated spread is low by the median of chi over its root."""
    freedom = np.maximum(cells.seeds - 1.0, 1.0)
    return _absolute_error(cells, stats.chi2.median(freedom) / freedom)


def _log_detectable(cells: Cells, log_n: np.ndarray, comparisons: int) -> np.ndarray:
    """Change of the log size at which a cell of each variance would reject the law with probability ``POWER``."""
    if len(log_n) < 2:
        return np.full(cells.measured.shape[1], np.inf)
    order = np.argsort(log_n)
    slope = np.empty_like(cells.predicted)
    slope[order] = np.abs(np.gradient(cells.predicted[order], log_n[order], axis=0))
    shift = detectable_shift(ALPHA, max(comparisons, 1), cells.degrees, POWER) * _spread(cells)
    needed = np.divide(shift + cells.upper - cells.lower, slope, out=np.full_like(slope, np.inf), where=slope > 0)
    return np.min(np.where(np.isnan(needed), np.inf, needed), axis=0)


def _log_score(cells: Cells) -> float:
    tested = ~np.isnan(cells.degrees)
    if not tested.any():
        return float("nan")
    density = -0.5 * cells.face_score**2 - np.log(np.sqrt(2 * np.pi) * _absolute_error(cells))
    return float(density[tested].mean())


def _dimension_error(found: _Measured, at: int, law: Contender) -> tuple[Estimate, int]:
    mean, spread, seeds = _over_seeds(found.dimension[:, at], found.done)
    if found.rung == "population":
        spread = np.zeros_like(mean)
    error = mean - law.dimension[:, at]
    if np.isnan(error).all():
        return Estimate(*[float("nan")] * 3), 0
    worst = int(np.nanargmax(np.abs(error)))
    half = critical_t(0.05, len(error), seeds - 1.0)[worst] * spread[worst] if spread[worst] else 0.0
    ends = (float(error[worst] + side * half) for side in (0, -1, 1))
    return Estimate(*ends), int(found.view["dataset_size"].values[worst])


@functools.cache
def _detectable_with(comparisons: int) -> np.ndarray:
    return detectable_shift(ALPHA, max(comparisons, 1), SEEDS - 1, POWER)


def _seeds_needed(cells: Cells, rivals: Sequence[Cells], comparisons: int) -> float:
    """Training sets with which some cell would tell a law from each of its ``rivals``, with probability ``POWER``."""
    if np.isnan(cells.degrees).all():
        return float("nan")
    shift = _detectable_with(comparisons)
    more = SEEDS[:, None, None] / np.maximum(cells.seeds, 1)
    enough = [
        (separation(cells, rival, more) > shift[:, None, None]).any(axis=(1, 2)) & (SEEDS > cells.seeds.max())
        for rival in rivals
    ]
    return max((float(SEEDS[np.argmax(found)]) if found.any() else np.inf for found in enough), default=float("nan"))


def _outcome(name: str, cells: Mapping[str, Cells], comparisons: int) -> tuple[Outcome, tuple[str, ...], float]:
    """The verdict on a law among those held against the same measurement, its rivals left, and the seeds it takes."""
    own = cells[name]
    tested = ~np.isnan(own.degrees)
    if rejects(own, comparisons).any():
        return "rejected", (), float("nan")
    rivals = [other for other in cells if other != name and not {name, other} <= ONE_THEORY]
    left = tuple(other for other in rivals if not rejects(cells[other], comparisons).any())
    if not tested.any():
        return "undecided", left, float("nan")
    if not rivals:
        shift = detectable_shift(ALPHA, max(comparisons, 1), own.degrees, POWER)
        power = np.median((shift * _spread(own) / np.abs(own.predicted))[tested])
        return ("agrees" if power <= LOW_POWER else "undecided"), (), float("nan")
    if not left:
        return "agrees", (), float("nan")
    differ = any((separation(own, cells[other]) > DECIDABLE).any() for other in left)
    needed = _seeds_needed(own, [cells[other] for other in left], comparisons)
    return ("undecided" if differ else "indistinguishable"), left, needed


def _row(
    found: _Measured,
    at: int,
    law: Contender,
    cells: Mapping[str, Cells],
    sizes: SizeErrors,
    comparisons: int,
) -> Row:
    own = cells[law.name]
    tested = ~np.isnan(own.degrees)
    rivals = [other for name, other in cells.items() if not {name, law.name} <= ONE_THEORY and name != law.name]
    differs = np.any([separation(own, other) > DECIDABLE for other in rivals], axis=0) if rivals else tested & False
    deviates = np.abs(own.face_score) > critical_t(ALPHA, max(comparisons, 1), own.degrees)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.abs(own.measured / own.predicted - 1)[deviates]
    outcome, left, needed = _outcome(law.name, cells, comparisons)
    count = max(int(tested.sum()), 1)
    return Row(
        found.rung,
        found.point,
        float(found.view["noise_variance"].values[at]),
        law.name,
        found.step,
        _claimed(law.name, found.rung),
        law.exact,
        outcome,
        left,
        own,
        int(tested.sum()),
        float(differs.sum() / count),
        float(deviates.sum() / count),
        float(np.median(relative)) if deviates.any() else float("nan"),
        sizes,
        _log_detectable(own, np.log(found.view["dataset_size"].values), comparisons),
        _log_score(own),
        *_dimension_error(found, at, law),
        int(found.done.sum(axis=1).max()),
        needed,
    )


def _claimed(law: str, rung: str) -> bool:
    """Whether a law that speaks of a point class is one of this rung: the planted law is, of the empirical score."""
    return law in LAWS_OF.get(rung, ()) or (rung == "empirical" and law == "planted")


def league(
    dataset: xr.Dataset,
    *,
    laws: Sequence[str] | None = None,
    others: Mapping[str, theory.Law] | None = None,
    bootstrap_seed: int = 0,
) -> League:
    """Hold every law against every rung, at every point class and noise variance.

    Args:
      dataset: a result of a sweep or of training, possibly incomplete.
      laws: names of :data:`theory.LAWS`, or under which the result stores a prediction; by default the closed forms of
        means, and the exact averages if the result has them.  What is not stored is evaluated, an exact average in
        about 0.1 s for each dataset size and noise variance.
      others: more laws by name, functions ``(variances, log_n, t) -> gains`` that jax can trace; they speak of every
        point class and are taken at their word.
      bootstrap_seed: seed of the resampling.

    Returns:
      A :class:`League`; without rows if nothing is measured.

    Raises:
      InputError: for an unknown law, one of medians, a name that is taken, or gains that are not finite or not one for
        each direction.
    """
    others = dict(others or {})
    for name in others:
        if name in theory.LAWS or name in dataset["law"].values:
            raise InputError(f"law {name!r} is a name of this package or result; choose another for yours")
    found = list(_measurements(dataset))
    held: dict[str, list[Contender]] = {}
    for measured in found:
        if measured.point not in held:
            point = "held_out" if measured.point == "any" else measured.point
            held[measured.point] = contenders(measured.view, point, laws, others)
    grid = range(dataset.sizes["noise_variance"])
    cells = [
        {law.name: _cells(measured, at, law) for law in held[measured.point]} for measured in found for at in grid
    ]
    comparisons = sum(int(np.sum(~np.isnan(own.degrees))) for group in cells for own in group.values())
    rows = []
    for (measured, at), group in zip(((one, at) for one in found for at in grid), cells, strict=True):
        t = float(dataset["noise_variance"].values[at])
        point = POINT_CLASSES[0] if measured.point == "any" else measured.point
        sizes = freeze_out_sizes(measured.view, measured.rung, point, t, bootstrap_seed=bootstrap_seed)
        for law in held[measured.point]:
            errors = errors_of(sizes, law.log_sizes[at])
            rows.append(_row(measured, at, law, group, errors, comparisons))
    variance = distinct_variances(dataset).variance
    return League(tuple(rows), dataset["dataset_size"].values, variance, ALPHA, comparisons)
