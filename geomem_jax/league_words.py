"""The league table in words: strings for tables, and a sentence for each row."""

from collections.abc import Sequence

import numpy as np

from geomem_jax.formatting import format_size
from geomem_jax.laws import label
from geomem_jax.league import League, Row
from geomem_jax.league_cells import POWER
from geomem_jax.verdict import percent

POINTS = {"any": "any point", "held_out": "held-out points", "train": "training points", "origin": "the origin"}
HEADER = ("model", "points", "t", "law", "verdict", "N* off by", "tau", "log score", "dimension", "detects")
MOST_FACTOR = np.log(1e6)  # beyond, a factor is not worth telling


def _factor(log_factor: float) -> str:
    return format_size(log_factor) if log_factor < MOST_FACTOR else "none"


def detectable(row: Row) -> str:
    """Factor in a freeze-out size that the run could have detected, of the median distinct variance."""
    return _factor(float(np.median(row.log_detectable)))


def size_factor(row: Row) -> str:
    """Largest factor between a measured and a predicted freeze-out size; a bound where the grid hides either."""
    low, high = np.log(row.sizes.measured.grid)
    measured, predicted = row.sizes.measured.log_value, row.sizes.predicted
    if (predicted == -np.inf).all():
        return "no N*"  # nothing freezes under this law
    ends = np.stack([measured, np.where(np.isfinite(predicted), predicted, np.clip(predicted, low, high))])
    hidden = ~np.isfinite(measured) | ~np.isfinite(predicted)
    distance = np.abs(np.clip(ends[0], low, high) - ends[1])
    # Hidden and predicted on the same side of the grid: no contradiction, and nothing to compare.
    compared = np.isfinite(measured) | ((measured > high) & (predicted < high)) | ((measured < low) & (predicted > low))
    compared &= np.isfinite(predicted) | np.isfinite(measured) | (np.sign(measured) != np.sign(predicted))
    if not compared.any():
        return "n/a"
    worst = np.argmax(np.where(compared, distance, -np.inf))
    return ("more than " if hidden[worst] else "") + format_size(float(distance[worst]))


def verdict(row: Row) -> str:
    """The verdict of a row with what qualifies it, for a table."""
    if row.outcome == "rejected":
        finite = row.claimed and not row.exact
        return f"rejected (finite size, {percent(row.median_relative)})" if finite else "rejected"
    if row.outcome == "agrees":
        return f"agrees in the limit (here off {percent(row.median_relative)})" if row.deviating else "agrees"
    if not row.tested:
        return "undecided (not tested)"
    if row.outcome == "indistinguishable":
        return f"like {', '.join(map(label, row.unrejected))}"
    if np.isfinite(row.seeds_needed):
        return f"undecided ({row.seeds_needed:.0f} sets needed)"
    return "undecided"


def table(found: League, rows: Sequence[Row] | None = None) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of strings.

    Args:
      found: the league.
      rows: those to show; all by default.

    Returns:
      The header and one line per row, in the order given.  ``N* off by`` is the largest factor, ``log score`` that less
      the best of the same measurement, in nats for each cell, ``dimension`` measured less predicted, and ``detects`` a
      factor in N*.
    """
    shown = found.rows if rows is None else rows
    best: dict[tuple[object, ...], float] = {}
    for row in found.rows:
        key = row.rung, row.point, row.noise_variance, row.step
        best[key] = np.fmax(best.get(key, np.nan), row.log_score)
    lines: list[tuple[str, ...]] = []
    for row in shown:
        behind = row.log_score - best[row.rung, row.point, row.noise_variance, row.step]
        error = row.dimension_error
        lines.append(
            (
                row.rung if row.step is None else f"{row.rung}, {row.step} steps",
                POINTS[row.point],
                f"{row.noise_variance:.3g}",
                label(row.law),
                verdict(row),
                size_factor(row),
                "n/a" if np.isnan(row.sizes.tau.estimate) else f"{row.sizes.tau.estimate:.2f}",
                "n/a" if np.isnan(behind) else f"{behind:.3g}",
                "n/a" if np.isnan(error.value) else f"{error.value:+.2g}",
                detectable(row),
            )
        )
    return HEADER, lines


SUMMARY_HEADER = ("model", "at", "agree", "only for many directions (here off by)", "rejected", "not decided")


def _undecided(rows: Sequence[Row]) -> str:
    """Name laws that are neither, with what would decide, if anything."""
    names = ", ".join(label(row.law) for row in rows)
    if not all(row.tested for row in rows):
        return f"{names} (not tested)"
    needed = [row.seeds_needed for row in rows if np.isfinite(row.seeds_needed)]
    more = f"{max(needed):.0f} training sets would decide, there are {rows[0].num_seeds}" if needed else "too alike"
    return f"{names} ({more})"


def summary(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and one line for every model, step and point class: what became of the laws there."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        model = row.rung if row.step is None else f"{row.rung}, {row.step} steps"
        groups.setdefault((model, POINTS[row.point]), []).append(row)
    lines: list[tuple[str, ...]] = []
    for place, held in groups.items():
        kinds: dict[str, list[Row]] = {"agree": [], "limit": [], "rejected": [], "left": []}
        for row in held:
            agrees = "limit" if row.deviating else "agree"
            kinds[{"agrees": agrees, "rejected": "rejected"}.get(row.outcome, "left")].append(row)
        agree, rejected = (", ".join(label(row.law) for row in kinds[kind]) for kind in ("agree", "rejected"))
        limit = ", ".join(f"{label(row.law)} ({percent(row.median_relative)})" for row in kinds["limit"])
        left = _undecided(kinds["left"]) if kinds["left"] else ""
        lines.append((*place, *(text or "none" for text in (agree, limit, rejected, left))))
    return SUMMARY_HEADER, lines


def describe(row: Row) -> str:
    """One sentence or two: the verdict on a law, how far it is off, and what the run could have detected.

    The level of the verdict is that of the league, which is said once for all rows.
    """
    steps = "" if row.step is None else f" after {row.step} steps"
    where = f"{row.rung} model{steps} at {POINTS[row.point]}, t = {row.noise_variance:.3g}"
    name = f"the {label(row.law)} law"
    if not row.tested:
        return f"{where}: {name} is not tested; the run has no spread over training sets that can be trusted there."
    if row.outcome == "rejected":
        text = f"{name} is rejected"
        if row.claimed and not row.exact:
            text += ", a finite-size deviation"
        text += f"; it is off by {percent(row.median_relative)} in {percent(row.deviating)} of the cells"
    elif row.outcome == "agrees":
        text = f"{name} agrees"
        if row.deviating:
            where_off = f"{percent(row.median_relative)} in {percent(row.deviating)} of the cells"
            text += f" in the limit, here it is off by {where_off}"
    else:
        others = " and ".join(label(law) for law in row.unrejected) or "50 % off"
        text = f"{name} is indistinguishable from {others}"
        if row.outcome == "undecided":
            text = f"it is undecided between {name} and {others}"
        if np.isfinite(row.seeds_needed):
            text += f"; {row.seeds_needed:.0f} training sets would decide, there are {row.num_seeds}"
        elif np.isinf(row.seeds_needed):
            text += "; more training sets would not decide"
    sizes, factor = size_factor(row), detectable(row)
    if sizes not in ("n/a", "no N*"):
        text += f". Its freeze-out sizes are off by a factor of {sizes} at most"
    if factor != "none":
        text += f". This run could detect a factor {factor} in N* (median variance, power {100 * POWER:g} %)"
    return f"{where}: {text}."
