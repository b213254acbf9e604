"""The panels of figures, drawn on figures that :mod:`geomem_jax.plots` makes (the only importer of matplotlib).

Lines are theory, points are measurement, bars are 95 % intervals over training sets, of networks their range.  A rung
and its laws share a colour (Okabe and Ito), every law has a line style and every rung a marker, so that a panel also
reads in grey; where colour means variance, light is large.  The numbers come from :mod:`geomem_jax.curves`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

import theory
from geomem_jax import curves, participation
from geomem_jax.formatting import one_line, spaced
from geomem_jax.freeze_out import FROZEN_BELOW, freeze_out_sizes, laws, predicted_sizes
from geomem_jax.gains import distinct_variances, is_complete, predicted_relative_gain
from geomem_jax.laws import LAWS_OF, label
from geomem_jax.results import NETWORK

# Of matplotlib, by other names because only plots imports it.
Axes = Any
Figure = Any


class Style(NamedTuple):
    """How a rung and its law are drawn."""

    color: str
    line: Any
    marker: str


class Line(NamedTuple):
    """A law in a panel: ``y`` of shape ``(k, g)``."""

    x: np.ndarray
    y: np.ndarray
    style: Any
    width: float


STYLES = {
    "population": Style("#000000", ":", "^"),
    "linear": Style("#0072B2", "--", "o"),
    "empirical": Style("#D55E00", "-.", "s"),
    NETWORK: Style("#009E73", "none", "D"),  # no law
}
EXACT = "finite_size"  # the law that is exact for the empirical rung, known at the grid alone
EXACT_LINE = "-"
FINITE = ("linear", "empirical")  # rungs made from N points
# Six variances told apart, from large to small: viridis without its lightest fifth.
VARIANCE_COLORS = ("#7ad151", "#2cb17e", "#228b8d", "#32648e", "#453781", "#440154")
HIGHEST_RELATIVE_GAIN = 1.8  # what lies above is drawn as an arrow at the upper edge
MOST_MARKERS = 24  # rows of a map with a marker of their own
MOST_LABELS = 12  # rows of a map with a label of their own
SIZE_LABEL = "dataset size N (points)"
NOISE_LABEL = "noise variance t (data units squared)"
BLANK = np.full(1, np.nan)


def title(figure: Figure, dataset: xr.Dataset, text: str) -> None:
    """Name the result above a figure, and say what is drawn of it."""
    figure.suptitle(f"{one_line(str(dataset.attrs['name']))}: {text}", fontsize=13, parse_math=False)


def _dense(values: np.ndarray) -> np.ndarray:
    return np.geomspace(values.min(), values.max(), 129)


def shown_rungs(dataset: xr.Dataset) -> tuple[str, ...]:
    """Rungs made from N points; networks only where some are measured."""
    trained = NETWORK in dataset["rung"].values and is_complete(dataset, NETWORK).any()
    return (*FINITE, NETWORK) if trained else FINITE


def bars(axes: Axes, x: np.ndarray, interval: curves.Interval, style: Style, label: str | None = None) -> None:
    """Points with bars: no point where the mean is unknown, no bar where its interval is."""
    mean, lower, upper = interval
    known = np.isfinite(mean)
    up = np.where(np.isinf(upper), 1e9 * mean, upper - mean)  # an open end leaves the panel
    axes.errorbar(
        x[known],
        mean[known],
        yerr=[(mean - lower)[known], up[known]],
        fmt=style.marker,
        color=style.color,
        markersize=4.5,
        capsize=2.5,
        elinewidth=1,
        markeredgecolor="white",
        markeredgewidth=0.4,
        label=label,
    )


def relative_gain(axes: Axes, dataset: xr.Dataset, rung: str, along: str, at: int) -> None:
    """Relative gain of a rung along one grid, at position ``at`` of the other.

    Of many distinct variances six are shown, evenly spaced by rank.

    Args:
      axes: where to draw.
      dataset: a result.
      rung: the score model, compared with its laws; networks, which have none, with those of the two other rungs.
      along: ``"dataset_size"`` or ``"noise_variance"``.
      at: position on the grid of the other.
    """
    style = STYLES[rung]
    sizes, noises = dataset["dataset_size"].values, dataset["noise_variance"].values
    interval = curves.measured_relative_gain(dataset, rung)
    if along == "dataset_size":
        x, where, cells = sizes, f"t = {noises[at]:.3g}", [ends[:, at] for ends in interval]
        numbers = _dense(sizes), noises[at]
    else:
        x, where, cells = noises, f"N = {sizes[at]}", [ends[at] for ends in interval]
        numbers = sizes[at], _dense(noises)
    axes.axhline(1, color=STYLES["population"].color, linestyle=STYLES["population"].line, linewidth=1)
    axes.axhspan(-1, FROZEN_BELOW, color="0.94")
    compared = LAWS_OF[rung] or ("linear", *LAWS_OF["empirical"])
    exact = has_exact(dataset) and EXACT in compared
    drawn = {
        law: Line(_dense(x), curves.law_relative_gain(dataset, law, *numbers), STYLES[law].line, 1.5)
        for law in compared
        if law != EXACT
    }
    if exact:
        stored = predicted_relative_gain(dataset, EXACT)
        stored = stored[:, at] if along == "dataset_size" else stored[at]
        drawn |= {"empirical": drawn["empirical"]._replace(width=1), EXACT: Line(x, stored, EXACT_LINE, 1.5)}
        if rung == NETWORK:
            del drawn["empirical"]
    shown, colors = told_apart(dataset)
    faint = 0.5 if rung == NETWORK else None
    top = min(1.12 * float(np.nanmax([1.0, *cells[0][:, shown].ravel()])), HIGHEST_RELATIVE_GAIN)
    for group, color in zip(shown, colors, strict=True):
        for line in drawn.values():
            axes.plot(line.x, line.y[:, group], color=color, linestyle=line.style, linewidth=line.width, alpha=faint)
        interval = curves.Interval(*(ends[:, group] for ends in cells))
        bars(axes, x, interval, style._replace(color=color))
        beyond = interval.mean > top
        above = np.full(beyond.sum(), 0.99 * top)
        axes.plot(x[beyond], above, color=color, linestyle="none", marker="^", markersize=8, markeredgecolor="white")
    axes.set(xscale="log", ylim=(-0.03, top), ylabel="relative gain ρ = g / g(infinite data)")
    for text, height in (("frozen", FROZEN_BELOW / 2), ("free", (FROZEN_BELOW + 1) / 2)):
        at_right = (1.01, height)
        axes.annotate(text, at_right, xycoords=("axes fraction", "data"), fontsize=9, rotation=90, va="center")
    axes.set_xlabel(SIZE_LABEL if along == "dataset_size" else NOISE_LABEL)
    beside = "(no law)" if rung == NETWORK else "and laws" if exact else "and law"
    axes.set_title(f"{rung} model {beside} at {where}", color=style.color, loc="left")
    if len(drawn) > 1:
        for law, line in reversed(drawn.items()):
            name = f"{label(law)} law"
            axes.plot(BLANK, BLANK, color="0.3", linestyle=line.style, linewidth=line.width, alpha=faint, label=name)
        axes.legend(loc="lower right" if rung == NETWORK else "best", framealpha=0.85)


def has_exact(dataset: xr.Dataset) -> bool:
    """Whether a result has the exact average of the empirical rung."""
    return EXACT in laws(dataset)


def told_apart(dataset: xr.Dataset) -> tuple[np.ndarray, list[str]]:
    """Positions of the distinct variances that are shown, evenly spaced by rank, and their colours."""
    shown = spaced(len(distinct_variances(dataset).variance), len(VARIANCE_COLORS))
    return shown, [VARIANCE_COLORS[index] for index in spaced(len(VARIANCE_COLORS), len(shown))]


def variance_legend(axes: Axes, dataset: xr.Dataset) -> None:
    """Explain the colours of :func:`relative_gain`, to the right of the last panel of a row."""
    groups = distinct_variances(dataset)
    shown, colors = told_apart(dataset)
    handles = [
        axes.plot(BLANK, BLANK, color=color, linewidth=3, label=f"{groups.variance[group]:.3g}")[0]
        for group, color in zip(shown, colors, strict=True)
    ]
    count = len(groups.variance)
    title = "variance σ²" + ("" if len(shown) == count else f"\n({len(shown)} of {count})")
    laws_legend = axes.get_legend()  # which a second legend would replace
    axes.legend(
        handles=handles, title=title, title_fontsize=9, loc="center left", bbox_to_anchor=(1.05, 0.5), frameon=False
    )
    if laws_legend is not None:
        axes.add_artist(laws_legend)


def cell_edges(centres: np.ndarray) -> np.ndarray:
    """Edges of cells around ascending centres on a logarithmic axis."""
    logs = np.log(centres)
    if len(logs) == 1:
        return np.exp(logs[0] + np.array([-0.35, 0.35]))
    middle = (logs[1:] + logs[:-1]) / 2
    return np.exp([2 * logs[0] - middle[0], *middle, 2 * logs[-1] - middle[-1]])


def freeze_out_map(axes: Axes, dataset: xr.Dataset, rung: str, at: int) -> Any:
    """Measured relative gain over (size, direction), with freeze-out sizes by the laws and by the measurement.

    Args:
      axes: where to draw.
      dataset: a result; what is not measured is hatched.
      rung: the score model.
      at: position on the grid of noise variances.

    Returns:
      The coloured cells (a mappable), for a colour bar from 0 to 1.
    """
    groups, sizes = distinct_variances(dataset), dataset["dataset_size"].values
    rows, t = np.arange(len(groups.variance)), float(dataset["noise_variance"].values[at])
    edges = cell_edges(sizes)
    axes.patch.set(hatch="xxx", edgecolor="0.8")
    cells = axes.pcolormesh(
        edges,
        np.arange(len(rows) + 1) - 0.5,
        curves.measured_relative_gain(dataset, rung).mean[:, at].T,
        cmap="gray",
        # A relative gain of 0 is a middle grey: lines must stand out from frozen and free alike.
        vmin=-0.6,
        vmax=1,
        rasterized=True,
    )
    lines = {law: (STYLES[law].color, STYLES[law].line) for law in FINITE}
    if has_exact(dataset):
        lines[EXACT] = STYLES["empirical"].color, EXACT_LINE
    best = [law for law in LAWS_OF[rung] if law in lines][-1]
    for law, (color, line) in lines.items():
        predicted = np.exp(np.clip(predicted_sizes(dataset, t, law), *np.log(edges[[0, -1]])))
        width = 2.5 if law == best else 1.2
        axes.plot(predicted, rows, color=color, linestyle=line, linewidth=width, label=label(law))
    _frontier(axes, dataset, rung, t, rows)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=4,
        frameon=False,
        borderaxespad=0.1,
        handletextpad=0.4,
        columnspacing=1,
        handlelength=1.8,
    )
    labelled = spaced(len(rows), MOST_LABELS)
    many = groups.multiplicity.max() > 1
    labels = [f"{groups.variance[row]:.3g}" + (f" × {groups.multiplicity[row]}" if many else "") for row in labelled]
    axes.set_yticks(labelled, labels)
    axes.set(xscale="log", xlim=edges[[0, -1]], ylim=(len(rows) - 0.5, -0.5), xlabel=SIZE_LABEL)
    axes.set_ylabel("directions: variance σ²" + (" × how many" if many else ""))
    axes.set_title(f"freeze-out sizes N*, {rung} model at t = {t:.3g}", color=STYLES[rung].color, loc="left", pad=20)
    return cells


def _frontier(axes: Axes, dataset: xr.Dataset, rung: str, t: float, rows: np.ndarray) -> None:
    """Measured freeze-out sizes with intervals; arrows where they lie outside the grid."""
    style, sizes = STYLES[rung], freeze_out_sizes(dataset, rung, curves.POINT, t)
    shown = rows[spaced(len(rows), MOST_MARKERS)]
    value = sizes.log_value[shown]
    at, lower, upper = (
        np.exp(np.clip(ends[shown], *np.log(sizes.grid)))
        for ends in (sizes.log_value, sizes.log_lower, sizes.log_upper)
    )
    axes.hlines(shown, lower, upper, color=style.color, linewidth=2, zorder=2.5)
    for chosen, marker, size, name in (
        (np.isfinite(value), style.marker, 6.5, "measured"),
        (value == -np.inf, "<", 8, None),
        (value == np.inf, ">", 8, None),
    ):
        axes.plot(
            at[chosen],
            shown[chosen],
            color=style.color,
            markeredgecolor="white",
            linestyle="none",
            marker=marker,
            markersize=size,
            label=name,
            zorder=3,
            clip_on=False,
            in_layout=False,  # an unclipped line without points has no extent
        )


def _laws_and_rungs(
    axes: Axes,
    dataset: xr.Dataset,
    at: int,
    law: Callable[[xr.Dataset, str, np.ndarray, float], np.ndarray],
    stored: Callable[[xr.Dataset, str], np.ndarray],
    measured: Callable[[str], curves.Interval],
) -> None:
    """One number per dataset size: every law as a line, every rung as points."""
    sizes, t = dataset["dataset_size"].values, float(dataset["noise_variance"].values[at])
    for rung in ("population", *shown_rungs(dataset)):
        style, name = STYLES[rung], rung
        if LAWS_OF[rung]:
            predicted = law(dataset, rung, _dense(sizes), t)
            axes.plot(_dense(sizes), predicted, color=style.color, linestyle=style.line, linewidth=1.5)
        else:
            name = f"{rung} (bars: range of {int(is_complete(dataset, rung).any(axis=0).sum())})"
        bars(axes, sizes, curves.Interval(*(ends[:, at] for ends in measured(rung))), style)
        axes.plot(BLANK, BLANK, color=style.color, linestyle=style.line, marker=style.marker, label=name)
    if has_exact(dataset):
        exact, color = stored(dataset, EXACT)[:, at], STYLES["empirical"].color
        axes.plot(sizes, exact, color=color, linestyle=EXACT_LINE, linewidth=1.5, label=f"{label(EXACT)} law")
    axes.legend(loc="best", framealpha=0.85)
    axes.set(xscale="log", xlabel=SIZE_LABEL)


def effective_noise(axes: Axes, dataset: xr.Dataset, at: int) -> None:
    """Effective noise of every law and rung at held-out points, at position ``at`` of the noise variances."""
    t = float(dataset["noise_variance"].values[at])
    _laws_and_rungs(
        axes, dataset, at, curves.law_noise, curves.stored_noise, lambda rung: curves.measured_noise(dataset, rung)
    )
    points = np.concatenate([curves.measured_noise(dataset, rung).mean[:, at] for rung in shown_rungs(dataset)])
    lines = np.concatenate(
        [curves.law_noise(dataset, law, _dense(dataset["dataset_size"].values), t) for law in FINITE]
    )
    known = np.concatenate([[t], points[np.isfinite(points)], lines[np.isfinite(lines)]])
    axes.set(yscale="log", ylim=(0.7 * known.min(), 2 * known.max()), ylabel="effective noise κ (data units squared)")
    axes.set_title(f"effective noise κ at t = {t:.3g}", loc="left")


def soft_dimension(axes: Axes, dataset: xr.Dataset, at: int) -> None:
    """Soft dimension of every law and rung at held-out points, at position ``at`` of the noise variances."""
    _laws_and_rungs(
        axes,
        dataset,
        at,
        curves.law_dimension,
        curves.stored_dimension,
        lambda rung: curves.measured(dataset, "soft_dimension", rung),
    )
    axes.set(ylim=(0, None), ylabel="soft dimension Σ g (directions)")
    axes.set_title(f"soft dimension: the sum of all gains, t = {dataset['noise_variance'].values[at]:.3g}", loc="left")


def participation_ratio(axes: Axes, dataset: xr.Dataset, at: int) -> None:
    """Mean participation ratio of the empirical rung, at position ``at`` of the noise variances."""
    sizes, t = dataset["dataset_size"].values, float(dataset["noise_variance"].values[at])
    held_out, train = STYLES["empirical"], STYLES["population"]._replace(marker="o")
    law = 1 - t / curves.law_noise(dataset, "empirical", _dense(sizes), t)
    axes.plot(_dense(sizes), law, color=held_out.color, label="law, held-out points: 1 − t/κ")
    for point, style in (("held_out", held_out), ("train", train)):
        interval = curves.measured(dataset, "participation", participation.RUNG, point)
        label = f"measured, {'held-out' if point == 'held_out' else 'training'} points"
        bars(axes, sizes, curves.Interval(*(ends[:, at] for ends in interval)), style, label)
    critical = float(theory.log_critical_size(dataset["variance"].values, t))
    if np.log(sizes.min()) < critical < np.log(sizes.max()):
        label = "predicted ½-crossing, training points"
        axes.axvline(np.exp(critical), color=train.color, linestyle=train.line, label=label)
    axes.axhline(0.5, color="0.6", linewidth=0.8)
    axes.set(xscale="log", ylim=(0, 1.05), xlabel=SIZE_LABEL)
    axes.set_ylabel("participation ratio Y (1: one point answers)")
    axes.legend(loc="best", framealpha=0.85)
    axes.set_title(f"when one training point answers alone, t = {t:.3g}", loc="left")


def crossing_times(axes: Axes, dataset: xr.Dataset) -> None:
    """Noise variance at which the participation ratio at training points crosses 1/2, against the dataset size."""
    found, style = participation.crossing_times(dataset), STYLES["population"]._replace(marker="o")
    sizes = dataset["dataset_size"].values
    dense = _dense(np.maximum(sizes, participation.SMALLEST))
    times = np.asarray(theory.condensation_time(dataset["variance"].values, dense))
    axes.plot(dense, times, color=style.color, linestyle=style.line, label="condensation time t_c (variances alone)")
    with np.errstate(over="ignore"):
        value, lower, upper = (np.exp(ends) for ends in (found.log_value, found.log_lower, found.log_upper))
    value[~np.isfinite(found.log_value)] = np.nan
    label = "measured: mean participation ratio = ½"
    bars(axes, found.dataset_size, curves.Interval(value, lower, upper), style, label)
    axes.set(xscale="log", yscale="log", xlabel=SIZE_LABEL, ylabel=NOISE_LABEL)
    axes.legend(loc="best", framealpha=0.85)
    axes.set_title("condensation: below this noise a training point is copied", loc="left")
