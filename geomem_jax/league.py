r"""The league table: which theory predicts the gains, and so the order in which directions freeze out?

Every law that speaks of a point class (:data:`theory.SCOPES`) is held against every rung there, at every noise variance
and, of networks, training step: a :class:`Row` each, with a *cell* for every dataset size and distinct variance.  A
rung whose gains are the same at all points has rows at point ``"any"``.

A cell rejects a law that its mean over training sets excludes (:mod:`geomem_jax.league_cells`), at the family-wise
level ``alpha`` of all cells of all rows: true laws are rejected anywhere in a league with a probability of at most
``alpha``.  Which cells contradict a rejected law is asked at the same level in its row alone.

*Verdict of a row.*  Two laws *differ* in a cell if their ranges are more than :data:`~geomem_jax.league_cells.APART`
standard errors apart, and the cell *decides* between them if so much farther than what contradicts.  The exact average
and the laws it tends to are one theory, no rivals.

* ``rejected``: a cell rejects the law.  If it is asymptotic, and one of this rung, this is a finite-size deviation.
* ``agrees``: no cell does, and all rivals are rejected; of a law without rivals, its median cell is tested to 50 %.
* ``indistinguishable``: no cell does, nor for some rivals, from which the law differs in no cell.
* ``undecided``: no cell does, nor for a rival from which it differs; or nothing is tested.

Source.  Derived here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr

import theory
from geomem_jax.contenders import Contender, contenders
from geomem_jax.errors import InputError
from geomem_jax.freeze_out import SizeErrors, errors_of, freeze_out_sizes
from geomem_jax.gains import distinct_variances
from geomem_jax.laws import LAWS_OF
from geomem_jax.league_cells import (
    ALPHA,
    APART,
    Cells,
    Measured,
    decides,
    detectable,
    hold,
    log_detectable,
    log_score,
    measure,
    over_seeds,
    rejects,
    seeds_needed,
    separation,
    threshold,
)
from geomem_jax.results import POINT_CLASSES
from geomem_jax.statistics import Estimate, critical_t
from geomem_jax.trained_results import at_step, measured_steps
from geomem_jax.verdict import LOW_POWER

ONE_THEORY = frozenset((*LAWS_OF["empirical"], "planted"))

Outcome = Literal["agrees", "rejected", "indistinguishable", "undecided"]


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
      decidable: fraction of these that decide between the law and some rival.
      deviating: fraction of these that deviate significantly from the law at its word; within the row, if rejected.
      median_relative: median deviation of those, relative and absolute; nan without any.
      sizes: error of the log freeze-out sizes, and Kendall's tau over distinct variances, with intervals.
      log_detectable: ``(g,)`` logarithm of the factor in a freeze-out size that a cell of its variance would have found
        with probability ``POWER``; infinite where the law does not depend on the size.
      log_score: log density of the measured means if the law holds at its word, mean over cells, in nats; only
        differences between laws of the same measurement mean something; nan of fewer than three training sets.
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


def _of_rung(view: xr.Dataset, rung: str, step: int | None) -> Iterator[Measured]:
    first, *rest = (view["gain"].sel(rung=rung, point=point).values for point in POINT_CLASSES)
    same = all(np.array_equal(first, other, equal_nan=True) for other in rest)
    for point in POINT_CLASSES[: 1 if same else None]:
        found = measure(view, rung, point)
        if np.isfinite(found.gain).any():
            yield found._replace(point="any" if same else point, step=step)


def _measurements(dataset: xr.Dataset) -> Iterator[Measured]:
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


def _dimension_error(found: Measured, at: int, law: Contender) -> tuple[Estimate, int]:
    mean, spread, seeds = over_seeds(found.dimension[:, at], found.done)
    if found.rung == "population":
        spread = np.zeros_like(mean)
    error = mean - law.dimension[:, at]
    if np.isnan(error).all():
        return Estimate(*[float("nan")] * 3), 0
    worst = int(np.nanargmax(np.abs(error)))
    half = critical_t(0.05, len(error), seeds - 1.0)[worst] * spread[worst] if spread[worst] else 0.0
    ends = (float(error[worst] + side * half) for side in (0, -1, 1))
    return Estimate(*ends), int(found.view["dataset_size"].values[worst])


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
        power = np.median(detectable(own, comparisons)[tested])
        return ("agrees" if power <= LOW_POWER else "undecided"), (), float("nan")
    if not left:
        return "agrees", (), float("nan")
    differ = any((separation(own, cells[other]) > APART).any() for other in left)
    needed = seeds_needed(own, [cells[other] for other in left], comparisons)
    return ("undecided" if differ else "indistinguishable"), left, needed


def _row(
    found: Measured,
    at: int,
    law: Contender,
    cells: Mapping[str, Cells],
    sizes: SizeErrors,
    comparisons: int,
) -> Row:
    own = cells[law.name]
    tested = ~np.isnan(own.degrees)
    rivals = [other for name, other in cells.items() if not {name, law.name} <= ONE_THEORY and name != law.name]
    decided = np.any([decides(own, other, comparisons) for other in rivals], axis=0) if rivals else tested & False
    outcome, left, needed = _outcome(law.name, cells, comparisons)
    count = max(int(tested.sum()), 1)
    deviates = np.abs(own.face_score) > threshold(own, max(comparisons, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.abs(own.measured / own.predicted - 1)[deviates]
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
        float(decided.sum() / count),
        float(deviates.sum() / count),
        float(np.median(relative)) if deviates.any() else float("nan"),
        sizes,
        log_detectable(own, np.log(found.view["dataset_size"].values), comparisons),
        log_score(own),
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
    cells = [{law.name: hold(measured, at, law) for law in held[measured.point]} for measured in found for at in grid]
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
