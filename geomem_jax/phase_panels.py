"""Panels of phases: maps over dataset size and training step or noise variance, and shares against the size.

Phases have colours that stay apart for the colour-blind and, from light to dark, in grey, and hatches besides.  As in
:mod:`geomem_jax.panels`, lines are theory, points are measurement and bars are 95 % intervals over training sets.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from geomem_jax import curves, panels, phase_diagrams
from geomem_jax.formatting import format_size, spaced
from geomem_jax.freeze_out import FROZEN_BELOW, laws, predicted_sizes
from geomem_jax.gains import distinct_variances, grid_position, predicted_relative_gain
from geomem_jax.laws import LAWS_OF, label
from geomem_jax.panels import Figure
from geomem_jax.phase_diagrams import TRAINED, Diagram, Shares, Times, frozen_shares, shares
from geomem_jax.phases import COPYING_FROM, PHASES
from geomem_jax.trained_panels import MOST_LABELS, trained
from geomem_jax.trained_results import at_step, is_predicted, measured_steps

STYLES: dict[str, dict[str, Any]] = {
    "generalization": {"facecolor": "#d9eef7", "hatch": ""},
    "geometric memorization": {"facecolor": "#f0b73c", "hatch": "//"},
    "collapse": {"facecolor": "#56929e", "hatch": ".."},
    "copying": {"facecolor": "#7d2252", "hatch": "xx"},
    "unknown": {"facecolor": "white", "hatch": "oo"},
}
HATCH_COLOR = "0.75"
FLOW_COLOR = "#d55e00"
OUTLINE = {"color": "white", "linewidth": 4.0}  # of a line that stands out from light and dark cells
POINTS = {"train": "training points", "held_out": "held-out points"}
LAWS = {"train": ("linear", "planted"), "held_out": ("linear", "empirical")}  # of gains at either kind of points
LINE_OF = {"linear": "linear", "empirical": "empirical", "planted": "empirical"}
MOST_STEPS = 4
MOST_TICKS = 4  # sizes with a number on the axis of a map
STEP_COLORS = ("0.75", "0.6", "0.4", "0")  # later is darker


def cells(axes: Any, found: Diagram, label: str) -> None:
    """Draw the phases of a diagram as cells over the dataset size and the other axis, which ``label`` names."""
    x, y = panels.cell_edges(found.dataset_size), panels.cell_edges(found.other)
    for name, style in STYLES.items():
        column, row = np.nonzero(found.phase == name)
        wide, high, drawn = np.diff(x)[column], np.diff(y)[row], {"edgecolor": HATCH_COLOR, "linewidth": 0, **style}
        axes.bar(x[column], high, wide, y[row], align="edge", **drawn)
    axes.set(xscale="log", yscale="log", xlim=x[[0, -1]], ylim=y[[0, -1]], xlabel=panels.SIZE_LABEL, ylabel=label)


def _legend(figure: Figure, axes: Any, found: Sequence[Diagram]) -> None:
    """Explain the phases that occur in diagrams, in their order, above all panels; drawn nowhere on ``axes``."""
    shown = [name for name in PHASES if any((one.phase == name).any() for one in found)]
    handles = [
        axes.fill(panels.BLANK, panels.BLANK, edgecolor=HATCH_COLOR, linewidth=0.5, label=name, **style)[0]
        for name, style in STYLES.items()
        if name in shown
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(shown))


def boundaries(axes: Any, found: Diagram, relative_gain: np.ndarray, law: str, color: str) -> None:
    """Draw where a law of relative gains ``(n, m, g)`` freezes the first direction, and where the last."""
    if min(relative_gain.shape[:2]) < 2:
        return
    for values, line, which in ((relative_gain.min(-1), "-", "first"), (relative_gain.max(-1), ":", "last")):
        frozen = values < FROZEN_BELOW
        if frozen.any() and not frozen.all():
            for shade, width in ((OUTLINE["color"], OUTLINE["linewidth"]), (color, 2.0)):
                style = {"colors": shade, "linestyles": line, "linewidths": width}
                axes.contour(found.dataset_size, found.other, values.T, [FROZEN_BELOW], **style)
            label = f"{law}: {which} direction freezes"
            axes.plot(panels.BLANK, panels.BLANK, color=color, linestyle=line, linewidth=2, label=label)


def law_boundaries(axes: Any, dataset: xr.Dataset, found: Diagram, rung: str) -> None:
    """Draw where the law of a rung, the exact average if there is one, freezes directions at held-out points."""
    stored = [law for law in LAWS_OF[rung] if law in laws(dataset)]
    if stored:
        measured = np.isin(dataset["dataset_size"].values, found.dataset_size)
        relative, color = predicted_relative_gain(dataset, stored[-1])[measured], panels.STYLES[rung].color
        boundaries(axes, found, relative, f"{label(stored[-1])} law", color)


def predicted_times(axes: Any, times: Times) -> None:
    """Draw the times that theory predicts for the exact empirical score, over the dataset size."""
    for values, line, name in (
        (times.onset, "--", "onset t_o"),
        (times.condensation, "-", "condensation t_c"),
        (times.best, ":", "best generalization t_g"),
    ):
        axes.plot(times.dataset_size, values, **OUTLINE)
        axes.plot(times.dataset_size, values, color="black", linestyle=line, linewidth=2, label=name)


def share_map(axes: Any, found: Diagram, values: np.ndarray) -> Any:
    """Draw a share ``(n, m)`` as cells and return them, for a colour bar from 0 to 1; unknown ones are hatched."""
    x, y = panels.cell_edges(found.dataset_size), panels.cell_edges(found.other)
    axes.patch.set(hatch="xxx", edgecolor="0.8")
    drawn = axes.pcolormesh(x, y, values.T, cmap="Greys", vmin=0, vmax=1.25, rasterized=True)
    axes.set(xscale="log", yscale="log", xlim=x[[0, -1]], ylim=y[[0, -1]])
    return drawn


def _flow(dataset: xr.Dataset, t: float) -> np.ndarray:
    """Relative gains by gradient flow, ``(dataset_size, training_step, g)``, as they are stored."""
    weights = distinct_variances(dataset).weights
    now = dataset.isel(noise_variance=grid_position(dataset, "noise_variance", t))
    gain = now["predicted_training_gain"].transpose("dataset_size", "training_step", "direction").values
    return (gain @ weights) / (now["reference_gain"].values @ weights)


def trained_map(axes: Any, dataset: xr.Dataset, found: Diagram, t: float, point: str) -> None:
    """Draw the phases of networks over (dataset size, training step), with the boundaries that theory has.

    Of linear denoisers that is where gradient flow freezes the first and the last direction.  Of other networks there
    is no theory of steps: beside them is the largest freeze-out size N*, from which on all directions are free, under
    the laws of the linear and of the exact empirical score, which know no steps.
    """
    cells(axes, found, "training steps")
    if is_predicted(dataset):
        measured = np.isin(dataset["training_step"].values, found.other)
        boundaries(axes, found, _flow(dataset, t)[:, measured], "gradient flow", FLOW_COLOR)
    else:
        view = at_step(dataset, int(found.other[-1]))
        for law in LAWS[point]:
            style = panels.STYLES[LINE_OF[law]]
            log_size = float(np.max(predicted_sizes(view, t, law)))
            inside = np.log(axes.get_xlim()[0]) < log_size < np.log(axes.get_xlim()[1])
            at = [np.exp(log_size)] * 2 if inside else [np.nan] * 2
            label = f"{law} law: N* = {format_size(log_size)}"
            axes.plot(at, axes.get_ylim(), color="black", linestyle=style.line, linewidth=2, label=label)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.17), frameon=False, borderaxespad=0)
    _size_ticks(axes, found.dataset_size, MOST_TICKS)
    axes.set_title(f"{POINTS[point]}, t = {t:.3g}", loc="left")


def _size_ticks(axes: Any, sizes: np.ndarray, most: int) -> None:
    axes.minorticks_off()
    labelled = sizes[spaced(len(sizes), most)]
    axes.set_xticks(labelled, labels=[str(size) for size in labelled])


def _bars(axes: Any, x: np.ndarray, interval: curves.Interval, **style: Any) -> None:
    known = np.isfinite(interval.mean)
    # Without an interval there is no bar; an end that is the mean may lie a rounding on its other side.
    ends = np.maximum(np.nan_to_num([interval.mean - interval.lower, interval.upper - interval.mean]), 0)
    style = {"capsize": 2.5, "elinewidth": 1, "markersize": 5, "linewidth": 0.8, **style}
    axes.errorbar(x[known], interval.mean[known], yerr=ends[:, known], **style)


def _against_size(axes: Any, dataset: xr.Dataset, label: str) -> None:
    sizes = dataset["dataset_size"].values
    axes.set(xscale="log", ylim=(-0.04, 1.04), xlabel=panels.SIZE_LABEL, ylabel=label)
    _size_ticks(axes, sizes, MOST_LABELS)


def frozen_share(axes: Any, dataset: xr.Dataset, t: float, which: str) -> None:
    """Share of frozen directions, or of frozen variance, of networks against the size after the last step.

    Args:
      axes: where to draw.
      dataset: of :mod:`geomem_jax.trained_results`.
      t: noise variance, one of the grid.
      which: ``"directions"`` or ``"variance"``.
    """
    step, sizes = int(measured_steps(dataset)[-1]), dataset["dataset_size"].values
    view, groups = at_step(dataset, step), distinct_variances(dataset)
    at = grid_position(view, "noise_variance", t)
    field = Shares._fields.index(which)
    for point, marker, color in (("train", "o", "#0072B2"), ("held_out", "s", "#D55E00")):
        found = shares(view, TRAINED, t, point)[field]
        _bars(axes, sizes, found, fmt=f"{marker}-", color=color, label=f"{trained(dataset)}, {POINTS[point]}")
        exact = frozen_shares(curves.measured_relative_gain(view, "empirical", point).mean[:, at], groups)[field]
        axes.plot(sizes, exact, color=color, linestyle="--", linewidth=1.2, label=f"exact score, {POINTS[point]}")
    if is_predicted(dataset):
        relative = _flow(dataset, t)[:, grid_position(dataset, "training_step", step)]
        name = "theory: gradient flow"
    else:
        relative, name = predicted_relative_gain(view, "linear")[:, at], "linear law"
    axes.plot(sizes, frozen_shares(relative, groups)[field], color="black", linestyle=":", linewidth=1.5, label=name)
    _against_size(axes, dataset, f"share of frozen {which}")
    axes.set_title(f"frozen {which} after {step} steps, t = {t:.3g}", loc="left")


def copied_fraction(axes: Any, dataset: xr.Dataset, found: Diagram) -> None:
    """Fraction of samples that copy beyond chance against the size, after several steps, with 95 % intervals."""
    chosen = spaced(len(found.other), MOST_STEPS)
    for at, color in zip(chosen, STEP_COLORS[-len(chosen) :], strict=True):
        ends = curves.Interval(*(values[:, at] for values in found.copied))
        _bars(axes, found.dataset_size, ends, fmt="o-", color=color, label=f"{found.other[at]} steps")
    _against_size(axes, dataset, "fraction copied, beyond chance")
    axes.axhspan(COPYING_FROM, 2, color="0.94")
    axes.legend(loc="best", framealpha=0.85)
    axes.set_title(f"copies among {dataset.attrs['samples']} samples per network", loc="left")


def compose_trained(figure: Figure, dataset: xr.Dataset) -> None:
    """Fill a figure: phases of networks over (dataset size, step); below, what is frozen and copied at the end."""
    times = dataset["noise_variance"].values
    times = np.sort(times)[spaced(len(times), 2)]
    maps = {(t, point): phase_diagrams.over_training(dataset, t, point) for t in times for point in POINTS}
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.15, 1])[:, 0]
    row = top.subplots(1, len(maps), sharey=True, squeeze=False)[0]
    for axes, ((t, point), found) in zip(row, maps.items(), strict=True):
        trained_map(axes, dataset, found, t, point)
        axes.label_outer()
    _legend(top, row[0], list(maps.values()))
    sampled = dataset.attrs["samples"] > 0
    below = bottom.subplots(1, 3 if sampled else 2, sharey=True)
    frozen_share(below[0], dataset, float(times[0]), "directions")
    frozen_share(below[1], dataset, float(times[0]), "variance")
    below[1].legend(loc="best", framealpha=0.85)
    if sampled:
        copied_fraction(below[2], dataset, next(iter(maps.values())))
    panels.title(figure, dataset, f"phases of {trained(dataset)}, {dataset.sizes['seed']} training sets")
    if not is_predicted(dataset):
        note = "N*: to its right all directions are free under that law. "
        note += "Early in training, what a network has not learned yet may count as free."
        figure.supxlabel(note, fontsize=10)


def compose_noise(figure: Figure, dataset: xr.Dataset) -> None:
    """Fill a figure: phases of every rung over (dataset size, noise variance), and below them what is frozen."""
    others = [(rung, point) for rung in panels.shown_rungs(dataset)[1:] for point in POINTS]
    shown = [("linear", curves.POINT), *others]
    found = [phase_diagrams.over_noise(dataset, *which) for which in shown]
    times = phase_diagrams.predicted_times(dataset)
    body = figure.subfigures(1, 1, squeeze=False)[0, 0]  # beside whose legends there is room for a title
    grid = body.subplots(3, len(shown), sharex=True, sharey=True)
    for column, (rung, point), diagram in zip(grid.T, shown, found, strict=True):
        cells(column[0], diagram, "")
        share = share_map(column[1], diagram, diagram.frozen_directions)
        share_map(column[2], diagram, diagram.frozen_variance)
        if rung != "linear":
            predicted_times(column[0], times)
        else:
            law_boundaries(column[0], dataset, diagram, rung)
        if point == curves.POINT:
            law_boundaries(column[1], dataset, diagram, rung)
        column[0].set_title(f"{rung} model,\n{POINTS[point]}", color=panels.STYLES[rung].color, loc="left")
        column[0].set_xlabel("")
        column[2].set_xlabel(panels.SIZE_LABEL)
    for axes, name in zip(grid[:, 0], ("phase", "frozen directions", "frozen variance"), strict=True):
        axes.set_ylabel(f"{name}\nnoise variance t (data units²)")
    grid[0, 0].set_xlim(panels.cell_edges(dataset["dataset_size"].values)[[0, -1]])
    bar = body.colorbar(share, ax=list(grid[1:].flat), label="share that is frozen", pad=0.01)
    bar.ax.set_ylim(0, 1)
    named: dict[str, Any] = {}  # of lines in several panels one
    for axes in grid[:2].flat:
        named |= {label: line for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    body.legend(handles=list(named.values()), loc="outside lower center", ncols=4)
    _legend(body, grid[0, 0], found)
    note = "Copying: mean participation ratio at noised training points from 1/2 on, of the empirical model alone."
    figure.supxlabel(note, fontsize=10)
    panels.title(figure, dataset, "phases over dataset size and noise variance")
