"""Panels of a result of training: relative gains against training steps and against the dataset size.

Points are networks, bars 95 % intervals over training sets, colour is variance as in :mod:`geomem_jax.panels`.
Against steps theory is drawn as lines for linear denoisers, which plain gradient descent trains
(:mod:`theory.learning_time`).  Other networks have no line, for Adam's steps have no learning time; their points are
joined.
"""

from typing import Any

import numpy as np
import xarray as xr

from geomem_jax import curves, panels
from geomem_jax.formatting import spaced
from geomem_jax.freeze_out import FROZEN_BELOW
from geomem_jax.gains import predicted_relative_gain
from geomem_jax.panels import Figure
from geomem_jax.trained_results import at_step, is_predicted, measured_steps

MOST_SIZES = 4
MOST_LABELS = 6  # dataset sizes with a number on the axis
DENSE = 65  # steps at which a line is evaluated
HALF_LEARNED: dict[str, Any] = {"marker": "|", "linestyle": "none", "markersize": 11, "markeredgewidth": 1.8}
HIGHEST = 2.0  # relative gain at the upper edge; early gains of small variances lie far above
HIGHEST_LINEAR = 1.5  # gains of linear denoisers rise from 0 to 1 or below


def shown_sizes(dataset: xr.Dataset) -> np.ndarray:
    """Positions of the dataset sizes whose gains are drawn against training steps."""
    return spaced(len(dataset["dataset_size"]), MOST_SIZES)


def trained(dataset: xr.Dataset) -> str:
    """Name what was trained, in words."""
    return "linear denoisers" if is_predicted(dataset) else "networks"


def _highest(dataset: xr.Dataset) -> float:
    return HIGHEST_LINEAR if is_predicted(dataset) else HIGHEST


def _frame(axes: Any, highest: float) -> None:
    axes.axhline(1, color="black", linestyle=":", linewidth=1)
    axes.axhspan(-1, FROZEN_BELOW, color="0.94")
    axes.set(xscale="log", ylim=(-0.03, highest))


def _points(axes: Any, x: np.ndarray, interval: curves.Interval, color: str, line: str, highest: float) -> None:
    """Draw points with bars, joined by ``line``; what lies above the panel is an arrow at its edge."""
    mean, lower, upper = interval
    known = np.isfinite(mean)
    bars = np.nan_to_num(np.stack([mean - lower, upper - mean])[:, known])
    style = {"fmt": f"o{line}", "color": color, "markersize": 4.5, "capsize": 2.5, "elinewidth": 1, "linewidth": 0.8}
    axes.errorbar(x[known], mean[known], yerr=bars, markeredgecolor="white", markeredgewidth=0.4, **style)
    above = mean > highest
    axes.plot(x[above], np.full(above.sum(), 0.98 * highest), "^", color=color, markersize=6)


def against_steps(axes: Any, dataset: xr.Dataset, at_size: int, at_noise: int, point: str) -> None:
    """Relative gain of every variance shown against training steps, at one dataset size and noise variance.

    Of linear denoisers with what theory predicts: the gain, and on the level of 1/2 the learning time of infinite data.
    """
    steps = measured_steps(dataset)
    views = [at_step(dataset, int(step)) for step in steps]
    found = [curves.measured_relative_gain(view, "trained", point) for view in views]
    _frame(axes, _highest(dataset))
    shown, colors = panels.told_apart(dataset)
    predicted = is_predicted(dataset)
    for group, color in zip(shown, colors, strict=True):
        ends = (np.array([interval[end][at_size, at_noise, group] for interval in found]) for end in range(3))
        _points(axes, steps, curves.Interval(*ends), color, "" if predicted else "-", _highest(dataset))
    if predicted:
        learned = curves.learning_steps(dataset, at_noise)[shown]
        first, last = min(steps[0], max(1, learned.min() / 2)), dataset["training_step"].values[-1]
        dense = np.geomspace(first, last, DENSE)
        flow = curves.training_relative_gain(dataset, int(dataset["dataset_size"].values[at_size]), at_noise, dense)
        for group, color, half in zip(shown, colors, learned, strict=True):
            axes.plot(dense, flow[:, group], color=color, linewidth=1.2)
            axes.plot(half, FROZEN_BELOW, color=color, **HALF_LEARNED)
        # Learning times of variances that the run is too short for lie outside.
        axes.set_xlim(first / 1.3, last * 1.3)
    axes.set_xlabel("training steps")
    axes.set_title(f"N = {dataset['dataset_size'].values[at_size]}", loc="left")


def explain_flow(axes: Any) -> None:
    """Explain lines and marks of :func:`against_steps` in a legend, where there are any."""
    axes.plot(panels.BLANK, panels.BLANK, color="0.3", linewidth=1.2, label="theory: gradient flow")
    axes.plot(panels.BLANK, panels.BLANK, color="0.3", **HALF_LEARNED, label="half learned (infinite data)")
    axes.plot(panels.BLANK, panels.BLANK, "o", color="0.3", markersize=4.5, label="trained, measured")
    axes.legend(loc="upper left", framealpha=0.85)


def against_size(axes: Any, dataset: xr.Dataset, at_noise: int, point: str) -> None:
    """Relative gain of networks against the dataset size at the last snapshot, the exact empirical score beside."""
    step = int(measured_steps(dataset)[-1])
    view, sizes = at_step(dataset, step), dataset["dataset_size"].values
    networks, exact = (curves.measured_relative_gain(view, rung, point) for rung in ("trained", "empirical"))
    linear = predicted_relative_gain(view, "linear")
    with_law = point == "held_out" or is_predicted(dataset)  # linear denoisers have the same gains at every point
    _frame(axes, _highest(dataset))
    shown, colors = panels.told_apart(dataset)
    for group, color in zip(shown, colors, strict=True):
        _points(
            axes, sizes, curves.Interval(*(ends[:, at_noise, group] for ends in networks)), color, "", _highest(dataset)
        )
        axes.plot(sizes, exact.mean[:, at_noise, group], color=color, linewidth=1.5)
        if with_law:
            axes.plot(sizes, linear[:, at_noise, group], color=color, linewidth=1, linestyle="--")
    axes.plot(panels.BLANK, panels.BLANK, "o", color="0.3", label=trained(dataset))
    axes.plot(panels.BLANK, panels.BLANK, color="0.3", label="exact empirical score, measured")
    if with_law:
        axes.plot(panels.BLANK, panels.BLANK, "--", color="0.3", linewidth=1, label="linear law")
    axes.legend(loc="upper left", framealpha=0.85)
    axes.minorticks_off()
    labelled = sizes[spaced(len(sizes), MOST_LABELS)]
    axes.set_xticks(labelled, labels=[str(size) for size in labelled])
    axes.set_xlabel(panels.SIZE_LABEL)
    where = "held-out points" if point == "held_out" else "noised training points"
    axes.set_title(f"after {step} steps, at {where}", loc="left")


def compose(figure: Figure, dataset: xr.Dataset) -> None:
    """Fill a figure at the smallest noise variance: against steps at several sizes above, against the size below."""
    at_noise, shown = int(np.argmin(dataset["noise_variance"].values)), shown_sizes(dataset)
    top, bottom = figure.subfigures(2, 1, squeeze=False)[:, 0]
    row = top.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, size in zip(row, shown, strict=True):
        against_steps(axes, dataset, size, at_noise, curves.POINT)
    row[0].set_ylabel("relative gain ρ, held-out points")
    if is_predicted(dataset):
        explain_flow(row[0])
    left, right = bottom.subplots(1, 2, sharey=True)
    against_size(left, dataset, at_noise, "train")
    against_size(right, dataset, at_noise, "held_out")
    left.set_ylabel("relative gain ρ = g / g(infinite data)")
    panels.variance_legend(right, dataset)
    where = (
        f"noise variance t = {dataset['noise_variance'].values[at_noise]:.3g}, {dataset.sizes['seed']} training sets"
    )
    panels.title(figure, dataset, f"gains of trained {trained(dataset)} at {where}")
