"""Panels of a calibration: measured relative gains with predictive bands, and posteriors beside their priors.

Points are networks, one for each training set; bands hold 95 % of networks on new training sets.  Colour is variance as
in :mod:`geomem_jax.panels`.  Drawn on axes that :mod:`geomem_jax.plots` makes.
"""

from typing import Any

import numpy as np

from geomem_jax.calibrate import Calibration
from geomem_jax.freeze_out import FROZEN_BELOW

Axes = Any  # a matplotlib.axes.Axes, by another name because only plots imports matplotlib
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
