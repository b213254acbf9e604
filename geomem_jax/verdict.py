r"""Do theory and measurement agree, and how large a deviation could this run have seen?

Each rung is held against its laws (:data:`geomem_jax.laws.LAWS_OF`) at held-out points, in every cell (dataset size,
noise variance, distinct variance) with at least two seeds.

* The population law is exact and so is its rung: its largest deviation is compared with float32 rounding.
* All others are held against samples.  Every cell gets a two-sided test over seeds, for skewed gains, against the law
  at its word (:mod:`geomem_jax.league_cells`, which also says which cells are not tested); the cells of all of them
  share the family-wise error rate ``ALPHA`` (Bonferroni).
* The linear and empirical laws hold as the number of directions grows.  A rejection at finite size is therefore a
  measured finite-size deviation, not a refutation, and is reported with its size.  The exact average of the empirical
  score has no such excuse; its numerical error is part of the error bar.
* No rejection means little by itself.  The *detectable* deviation, which a cell's test would have found with
  probability ``POWER``, says how much; above ``LOW_POWER`` (median over cells) the outcome is *undecided*.

Scope.  The tests trust the spread over seeds.  Deep in the frozen phase the mean gain is carried by rare
points; where few seeds hold one, nothing is tested, but where no seed does, spread and mean are both too small and a
rejection may be a lack of points.
"""

from typing import Literal, NamedTuple

import numpy as np
import xarray as xr

import theory
from geomem_jax.contenders import contender
from geomem_jax.formatting import format_size
from geomem_jax.freeze_out import SizeErrors, comparison_noise, size_errors
from geomem_jax.gains import distinct_variances, is_solved
from geomem_jax.laws import LAWS_OF, label
from geomem_jax.league_cells import ALPHA, POWER, Cells, Measured, detectable, hold_all, measure
from geomem_jax.statistics import MIN_SEEDS, Bootstrap, critical_t

LOW_POWER = 0.5
POINT = "held_out"
SAMPLED = ("linear", "empirical")  # rungs made from training points


class RungVerdict(NamedTuple):
    """One rung against one law.

    Attributes:
      rung: the score model.
      law: the law it is held against.
      outcome: ``"agrees"``, ``"deviates"`` or ``"undecided"`` (too little power, or nothing measured).
      exact: whether the law is exact.
      sampled: whether the rung depends on training points; otherwise only ``max_deviation`` and ``rounding`` decide.
      max_deviation: largest absolute deviation of a gain.
      rounding: what float32 rounding explains, without samples.
      not_finite: measured cells whose gain is nan or infinite; they are left out.
      cells: how many cells were tested.
      rejected: fraction of them that deviate significantly.
      median_relative: median absolute relative deviation of those; nan without any.
      largest_relative: the largest of those, signed.
      largest_at: its variance, dataset size and noise variance.
      detectable: relative deviation found with probability ``POWER``, median over cells.
      sizes: freeze-out sizes against the law.
    """

    rung: str
    law: str
    outcome: Literal["agrees", "deviates", "undecided"]
    exact: bool
    sampled: bool
    max_deviation: float
    rounding: float
    not_finite: int
    cells: int
    rejected: float
    median_relative: float
    largest_relative: float
    largest_at: tuple[float, int, float]
    detectable: float
    sizes: SizeErrors


class Verdict(NamedTuple):
    """The outcome of a run.

    Attributes:
      sentence: the outcome in plain English.
      rungs: one verdict per rung and law of it in the result.
      num_seeds: training sets at the best-measured dataset size.
      measured: how many (dataset size, seed) pairs are measured.
      planned: how many there are.
      noise_variance: where freeze-out sizes and orders are compared: the grid of sizes can tell them best there.
    """

    sentence: str
    rungs: tuple[RungVerdict, ...]
    num_seeds: int
    measured: int
    planned: int
    noise_variance: float


def _testable(cells: Cells) -> np.ndarray:
    """Where there is a test, and a law by whose gain to divide."""
    return ~np.isnan(cells.degrees) & (cells.predicted != 0)


def _judge(found: Measured, law: str, cells: Cells, comparisons: int, sizes: SizeErrors) -> RungVerdict:
    """Hold one rung against one law; ``comparisons`` counts the cells of all sampled rungs and their laws."""
    sampled = found.rung in SAMPLED
    distance = np.abs(cells.measured - cells.predicted)
    finite = np.isfinite(distance)
    max_deviation = float(np.max(distance, where=finite, initial=0.0))
    # A gain is at best a sum of d rounded products of order one; rounding adds up like a random walk.
    rounding = float(8 * np.sqrt(found.view.sizes["direction"]) * np.finfo(np.float32).eps)
    tested = _testable(cells)
    relative = cells.measured[tested] / cells.predicted[tested] - 1
    significant = np.abs(cells.face_score[tested]) > critical_t(ALPHA, max(comparisons, 1), cells.degrees[tested])
    rejected, smallest, median, largest, at = 0.0, np.nan, np.nan, np.nan, (np.nan, 0, np.nan)
    if tested.any():
        rejected = float(significant.mean())
        smallest = float(np.median(detectable(cells, comparisons)[tested]))
    if significant.any():
        median = float(np.median(np.abs(relative[significant])))
        worst = np.flatnonzero(significant)[np.argmax(np.abs(relative[significant]))]
        size, noise, group = np.argwhere(tested)[worst]
        largest = float(relative[worst])
        n, t = (found.view[name].values for name in ("dataset_size", "noise_variance"))
        at = (float(distinct_variances(found.view).variance[group]), int(n[size]), float(t[noise]))
    outcome: Literal["agrees", "deviates", "undecided"]
    if not sampled and finite.any():
        outcome = "agrees" if max_deviation <= rounding else "deviates"
    elif significant.any():
        outcome = "deviates"
    else:
        outcome = "agrees" if smallest <= LOW_POWER else "undecided"
    return RungVerdict(
        found.rung,
        law,
        outcome,
        theory.SCOPES[law].exact,
        sampled,
        max_deviation,
        rounding,
        int(np.sum(~finite & (cells.seeds > 0))),
        int(tested.sum()),
        rejected,
        median,
        largest,
        at,
        smallest,
        sizes,
    )


def verdict(dataset: xr.Dataset, *, bootstrap_seed: int = 0) -> Verdict:
    """Say whether theory and measurement agree, and how large a deviation this run could have detected.

    Args:
      dataset: a result, possibly incomplete.
      bootstrap_seed: seed of the resampling.

    Returns:
      A :class:`Verdict`; its ``sentence`` says no more than the run supports.
    """
    complete = is_solved(dataset)
    pairs = [
        (str(rung), law) for rung in dataset["rung"].values for law in LAWS_OF[rung] if law in dataset["law"].values
    ]
    num_seeds, measured, planned = int(complete.sum(axis=1).max()), int(complete.sum()), complete.size
    if not measured or not pairs:
        sentence = "Nothing is measured yet." if not measured else "No score model of this run has a law of its own."
        return Verdict(sentence, (), num_seeds, measured, planned, float("nan"))
    t = comparison_noise(dataset)
    held = {rung: measure(dataset, rung, POINT) for rung, _ in pairs}
    cells = {(rung, law): hold_all(held[rung], contender(dataset, law, law, POINT)) for rung, law in pairs}
    comparisons = sum(int(_testable(cells[pair]).sum()) for pair in pairs if pair[0] in SAMPLED)
    rungs = tuple(
        _judge(
            held[rung],
            law,
            cells[rung, law],
            comparisons,
            size_errors(dataset, rung, POINT, t, law, bootstrap_seed=bootstrap_seed),
        )
        for rung, law in pairs
    )
    found = Verdict("", rungs, num_seeds, measured, planned, t)
    return found._replace(sentence=describe(found, bool(dataset.attrs["gaussian_relative"])))


def percent(fraction: float) -> str:
    """Write a fraction as a percentage of two digits."""
    if fraction > 10:
        return "more than 1000 %"
    return f"{100 * fraction:.2g} %" if fraction < 0.995 else f"{100 * fraction:.0f} %"


def _join(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _order_outcome(tau: Bootstrap) -> str:
    """Say of an order as much as the interval of its tau allows."""
    if np.isnan(tau.estimate):
        return "cannot be compared, too few sizes lie on the grid"
    if tau.upper < 0:
        return "is reversed"
    if not tau.lower > 0:
        return "is undecided"
    return "agrees" if tau.estimate == 1 else "agrees in part"


def _worst_factor(sizes: SizeErrors) -> str:
    """Largest factor between measured and predicted size; a bound where the grid hides the measured one."""
    low, high = np.log(sizes.measured.grid)
    value, predicted = sizes.measured.log_value, sizes.predicted
    contradicted = ((value > high) & (predicted < high)) | ((value < low) & (predicted > low))
    known = np.isfinite(value) | contradicted
    if not known.any():
        return ""
    distance = np.where(known, np.abs(np.clip(value, low, high) - predicted), -np.inf)
    worst = np.argmax(distance)
    return ("more than " if contradicted[worst] else "") + format_size(float(distance[worst]))


def _freezing(rungs: list[RungVerdict], t: float) -> str:
    """Order and sizes of freezing at noise variance ``t``; laws of the same outcome share a clause."""
    outcomes: dict[str, list[str]] = {}
    for rung in rungs:
        tau = rung.sizes.tau
        interval = "" if np.isnan(tau.estimate) else f": tau = {tau.estimate:.2f} [{tau.lower:.2f}, {tau.upper:.2f}]"
        outcomes.setdefault(_order_outcome(tau), []).append(label(rung.law) + interval)
    clauses = [f"the order of freezing {outcome} ({', '.join(names)})" for outcome, names in outcomes.items()]
    factors = [f"{factor} ({label(rung.law)})" for rung in rungs if (factor := _worst_factor(rung.sizes))]
    if factors:
        clauses.append(f"the freeze-out size farthest from the law is off by a factor of {_join(factors)}")
    return f"At t = {t:.3g} {'; '.join(clauses)}."


def _clause(rung: RungVerdict, limit: str) -> str:
    """What there is to say about a law that does not simply agree."""
    name = label(rung.law)
    if rung.outcome == "undecided":
        return f"the {name} law is indistinguishable from the measurement, but this run has too little power"
    if not rung.sampled:
        return (
            f"the {name} law, which is exact, is off by {rung.max_deviation:.1e}, more than rounding "
            f"explains ({rung.rounding:.0e}): a fault of the program, not physics"
        )
    variance, size, noise = rung.largest_at
    scope = "which needs no limit" if rung.exact else f"exact only {limit}"
    return (
        f"the {name} law, {scope}, deviates significantly in {percent(rung.rejected)} of "
        f"the cells, there by {percent(rung.median_relative)} (median) and up to "
        f"{percent(abs(rung.largest_relative))} (at variance {variance:.3g}, N = {size}, t = {noise:.3g})"
    )


def describe(found: Verdict, gaussian_relative: bool) -> str:
    """Put a verdict into words: what agrees, what deviates and by how much, and what could have been seen."""
    limit = "for Gaussian data " if gaussian_relative else ""
    limit += "as the number of directions grows"
    testable = [rung for rung in found.rungs if rung.cells or not rung.sampled]
    untested = [label(rung.law) for rung in found.rungs if rung.sampled and not rung.cells]
    agreeing = [label(rung.law) for rung in testable if rung.outcome == "agrees"]
    clauses = []
    if agreeing:
        verb = "laws agree" if len(agreeing) > 1 else "law agrees"
        clauses.append(f"the {_join(agreeing)} {verb} with the measurement")
    clauses += [_clause(rung, limit) for rung in testable if rung.outcome != "agrees"]
    parts = []
    if found.measured < found.planned:
        parts.append(f"Partial run, {found.measured} of {found.planned} training sets measured.")
    not_finite = {rung.rung: rung.not_finite for rung in found.rungs}
    for name, count in not_finite.items():
        if count:
            parts.append(f"{count} measured gains of the {name} model are not finite and are left out.")
    if clauses:
        parts.append("At held-out points " + "; ".join(clauses) + ".")
    if untested:
        cause, mend = f"Seeds are too few ({found.num_seeds}) for an error bar", f"at least {MIN_SEEDS}"
        if found.num_seeds > 1:
            cause, mend = f"No cell has a spread over its {found.num_seeds} seeds that can be trusted", "more"
        verb = "laws are" if len(untested) > 1 else "law is"
        parts.append(f"{cause}, so that the {_join(untested)} {verb} not tested: run {mend} seeds.")
    tested = [rung for rung in testable if rung.sampled]
    if tested:
        parts.append(_freezing(tested, found.noise_variance))
        power = _join([f"{percent(rung.detectable)} ({label(rung.law)})" for rung in tested])
        parts.append(
            f"This run could have detected a deviation of {power} in a gain (median cell, power {100 * POWER:g} %)."
        )
        if found.num_seeds < MIN_SEEDS:
            parts.append(f"With {found.num_seeds} seeds (fewer than {MIN_SEEDS}) intervals are too narrow.")
    return " ".join(parts)
