"""Panels of a result of training: relative gains against training steps and against the dataset size.

Points are networks, bars 95 % intervals over training sets, colour is variance as in :mod:`geomem_jax.panels`.
There is no line of theory against steps: the learning times of :mod:`theory.learning_time` are of gradient descent, and
Adam's steps have no learning time in their units.
"""

from typing import Any

import numpy as np
import xarray as xr

from geomem_jax import curves, panels
from geomem_jax.formatting import spaced
from geomem_jax.freeze_out import FROZEN_BELOW
from geomem_jax.gains import predicted_relative_gain
from geomem_jax.trained_results import at_step, measured_steps

MOST_SIZES = 4
HIGHEST = 2.0  # relative gain at the upper edge; early gains of small variances lie far above


def shown_sizes(dataset: xr.Dataset) -> np.ndarray:
    """Positions of the dataset sizes whose gains are drawn against training steps."""
    return spaced(len(dataset["dataset_size"]), MOST_SIZES)


def _frame(axes: Any) -> None:
    axes.axhline(1, color="black", linestyle=":", linewidth=1)
    axes.axhspan(-1, FROZEN_BELOW, color="0.94")
    axes.set(xscale="log", ylim=(-0.03, HIGHEST))


def _points(axes: Any, x: np.ndarray, interval: curves.Interval, color: str, line: str) -> None:
    """Draw points with bars, joined; what lies above the panel is an arrow at its edge."""
    mean, lower, upper = interval
    known = np.isfinite(mean)
    bars = np.nan_to_num(np.stack([mean - lower, upper - mean])[:, known])
    style = {"fmt": f"o{line}", "color": color, "markersize": 4.5, "capsize": 2.5, "elinewidth": 1, "linewidth": 0.8}
    axes.errorbar(x[known], mean[known], yerr=bars, markeredgecolor="white", markeredgewidth=0.4, **style)
    above = mean > HIGHEST
    axes.plot(x[above], np.full(above.sum(), 0.98 * HIGHEST), "^", color=color, markersize=6)


def against_steps(axes: Any, dataset: xr.Dataset, at_size: int, at_noise: int, point: str) -> None:
    """Relative gain of every variance shown against training steps, at one dataset size and noise variance."""
    steps = measured_steps(dataset)
    views = [at_step(dataset, int(step)) for step in steps]
    found = [curves.measured_relative_gain(view, "trained", point) for view in views]
    _frame(axes)
    shown, colors = panels.told_apart(dataset)
    for group, color in zip(shown, colors, strict=True):
        ends = (np.array([interval[end][at_size, at_noise, group] for interval in found]) for end in range(3))
        _points(axes, steps, curves.Interval(*ends), color, "-")
    axes.set_xlabel("training steps")
    axes.set_title(f"N = {dataset['dataset_size'].values[at_size]}", loc="left")


def against_size(axes: Any, dataset: xr.Dataset, at_noise: int, point: str) -> None:
    """Relative gain of networks against the dataset size at the last snapshot, the exact empirical score beside."""
    step = int(measured_steps(dataset)[-1])
    view, sizes = at_step(dataset, step), dataset["dataset_size"].values
    networks, exact = (curves.measured_relative_gain(view, rung, point) for rung in ("trained", "empirical"))
    linear = predicted_relative_gain(view, "linear")
    _frame(axes)
    shown, colors = panels.told_apart(dataset)
    for group, color in zip(shown, colors, strict=True):
        _points(axes, sizes, curves.Interval(*(ends[:, at_noise, group] for ends in networks)), color, "")
        axes.plot(sizes, exact.mean[:, at_noise, group], color=color, linewidth=1.5)
        if point == "held_out":
            axes.plot(sizes, linear[:, at_noise, group], color=color, linewidth=1, linestyle="--")
    axes.plot(panels.BLANK, panels.BLANK, "o", color="0.3", label="networks")
    axes.plot(panels.BLANK, panels.BLANK, color="0.3", label="exact empirical score, measured")
    if point == "held_out":
        axes.plot(panels.BLANK, panels.BLANK, "--", color="0.3", linewidth=1, label="linear law")
    axes.legend(loc="upper left", framealpha=0.85)
    axes.set_xlabel(panels.SIZE_LABEL)
    where = "held-out points" if point == "held_out" else "noised training points"
    axes.set_title(f"after {step} steps, at {where}", loc="left")
