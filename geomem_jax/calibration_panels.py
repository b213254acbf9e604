"""Panels of a calibration: measured relative gains with predictive bands, and posteriors beside their priors.

Points are networks, one for each training set; bands hold 95 % of networks on new training sets.  Colour is variance as
in :mod:`geomem_jax.panels`.  Drawn on figures that :mod:`geomem_jax.plots` makes.
"""

import numpy as np
import xarray as xr

from geomem_jax import panels
from geomem_jax.calibrate import Calibration
from geomem_jax.freeze_out import FROZEN_BELOW
from geomem_jax.panels import Axes, Figure

POSTERIOR_COLOR = "#D55E00"
BINS = 61  # edges of a histogram


def gains_with_band(axes: Axes, found: Calibration, group: int, color: str, highest: float) -> None:
    """Relative gain of one variance against the dataset size."""
    bands = found.bands
    axes.axhline(1, color="black", linestyle=":", linewidth=1)
    axes.axhspan(-1, FROZEN_BELOW, color="0.94")
    size = bands.dataset_size
    axes.fill_between(size, bands.lower[:, group], bands.upper[:, group], color=color, alpha=0.3, linewidth=0)
    axes.plot(size, bands.median[:, group], color=color, linewidth=1.5)
    capacity = found.parameters.get("log_capacity")
    if capacity is not None:
        axes.axvspan(*np.exp([capacity.lower, capacity.upper]), color=POSTERIOR_COLOR, alpha=0.15, linewidth=0)
    for gains in found.relative_gain[:, :, group].T:
        axes.plot(found.dataset_size, gains, "D", color=color, markersize=4.5, markeredgecolor="white")
    axes.set(xscale="log", ylim=(-0.03, highest))
    axes.set_title(f"variance σ² = {found.variance[group]:.3g}", loc="left")


def posterior(
    axes: Axes, found: Calibration, name: str, symbol: str, label: str, ends: tuple[float, float], *, log: bool
) -> None:
    """Posterior of a parameter as a histogram between two ends, its 95 % interval, and that of the prior above it.

    Args:
      axes: where to draw.
      found: a calibration.
      name: of the parameter.
      symbol: of the parameter, for the title.
      label: of the axis.
      ends: of the axis.
      log: whether the parameter is a logarithm; its exponential is drawn, on a logarithmic axis.
    """
    parameter = found.parameters[name]
    values = [*parameter[:5], *found.draws[name].ravel()]
    median, lower, upper, prior_lower, prior_upper, *draws = np.exp(values) if log else np.array(values)
    edges = np.geomspace(*ends, BINS) if log else np.linspace(*ends, BINS)
    counts = np.histogram(draws, edges)[0]
    axes.stairs(counts / counts.max(), edges, fill=True, color=POSTERIOR_COLOR, alpha=0.5)
    axes.hlines(1.1, lower, upper, color=POSTERIOR_COLOR, linewidth=3, label="posterior, 95 %")
    axes.hlines(1.25, prior_lower, prior_upper, color="0.6", linewidth=3, label="prior, 95 %")
    axes.set(xscale="log" if log else "linear", xlim=ends, ylim=(0, 1.35), yticks=[], xlabel=label)
    axes.set_title(f"{symbol} = {median:.3g} [{lower:.3g}, {upper:.3g}]", loc="left")


def compose(figure: Figure, dataset: xr.Dataset, found: Calibration) -> None:
    """Fill a figure, as high as there are variances: gains with bands above, capacity and width below."""
    shown, colors = panels.told_apart(dataset)
    rows = -(-len(shown) // 3)
    highest = min(1.12 * float(np.nanmax([1.0, *found.relative_gain[..., shown].ravel()])), 1.8)
    figure.set_figheight(3 + 2.6 * rows)
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[2.6 * rows, 2.3])[:, 0]
    grid = top.subplots(rows, 3, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    for axes, group, color in zip(grid.flat, shown, colors, strict=False):
        gains_with_band(axes, found, int(group), color, highest)
    for axes in grid[-1]:
        axes.set_xlabel(panels.SIZE_LABEL)
    top.supylabel("relative gain ρ = g / g(infinite data)", fontsize=10)
    left, right = bottom.subplots(1, 2)
    sizes = float(found.dataset_size[0]), float(found.dataset_size[-1])
    label = "memorization capacity (points; axis: sizes measured)"
    posterior(left, found, "log_capacity", "capacity", label, sizes, log=True)
    widest = 1.1 * max(found.parameters["width"].prior_upper, found.parameters["width"].upper)
    label = "width of the crossover (e-folds of N)"
    posterior(right, found, "width", "width", label, (0.0, widest), log=False)
    right.legend(loc="center right")
    panels.title(figure, dataset, f"networks between the laws at noise variance t = {found.t:.3g}")
    figure.supxlabel(
        "Points: networks, one for each training set. Bands: 95 % of networks on new training sets. "
        "Orange: capacity, 95 %. Below ½ (grey): frozen.",
        fontsize=10,
    )
