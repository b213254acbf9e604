r"""Panels of score-Jacobian spectra: sorted singular values against the noise, and the dimension against N.

Singular values of :math:`t\nabla s`: 1, a frozen direction; near 0, a free one.  Of the linear rung
:mod:`theory.random_matrix` predicts the edges :math:`t/(t+\gamma_\pm)` of every bulk and the number of directions above
the total gap; of the other rungs the laws predict gains ``g``, and :math:`1-g` is drawn.  Drawn on figures that
:mod:`geomem_jax.plots` makes, in the styles of :mod:`geomem_jax.panels`.
"""

import numpy as np
import xarray as xr

import theory
from geomem_jax import curves, panels
from geomem_jax.dimension import CONTRAST, RESOLUTION
from geomem_jax.formatting import spaced
from geomem_jax.gains import distinct_variances, is_complete, predicted_gain
from geomem_jax.laws import label, law_size
from geomem_jax.panels import BLANK, NOISE_LABEL, SIZE_LABEL, STYLES, Axes, Figure
from geomem_jax.results import NETWORK

TRACY_WIDOM_MEAN = -1.2065  # of the largest eigenvalue of real matrices, in units of its scale, from the edge
HIGHEST = 1.2  # singular value; larger ones are drawn as an arrow at the upper edge
VISIBLE = CONTRAST * RESOLUTION  # height from which a gap is seen, in units of a frozen direction


def is_measured(dataset: xr.Dataset) -> bool:
    """Whether a result has spectra; it has none of many directions."""
    return bool(np.isfinite(dataset["singular_value"].values).any())


def shown_rungs(dataset: xr.Dataset) -> list[str]:
    """Rungs made from N points of which there are spectra."""
    values = dataset["singular_value"]
    return [rung for rung in panels.shown_rungs(dataset) if np.isfinite(values.sel(rung=rung).values).any()]


def _ensemble(dataset: xr.Dataset, n: float) -> theory.random_matrix.Ensemble:
    points = law_size("linear", n, centred=bool(dataset.attrs["centred"]))
    return theory.random_matrix.sample_covariance(dataset["variance"].values, float(points))


def _opens(gaps: theory.random_matrix.Gaps) -> float:
    """Noise variance below which the total gap can be seen; 0 where there is none."""
    if not gaps.below.size or gaps.below[-1] > 0:
        return 0.0
    return float(theory.random_matrix.gap_times(gaps.above[-1], 0.0, VISIBLE).opens)


def _values(dataset: xr.Dataset, variable: str, rung: str) -> xr.DataArray:
    """At held-out points, dimensions ``dataset_size``, ``noise_variance``, ``seed`` and any other."""
    values = dataset[variable].sel(rung=rung, point=curves.POINT)
    return values.transpose("dataset_size", "noise_variance", "seed", ...)


def sorted_spectrum(axes: Axes, dataset: xr.Dataset, rung: str, at_size: int) -> None:
    """Sorted singular values of a rung against the noise variance, at position ``at_size`` of the dataset sizes.

    Shaded: the bulks that random-matrix theory predicts of the linear rung, with a vertical line below which its total
    gap is high enough to be seen.  Lines: ``1 - g`` by the law of another rung, for the variances of other figures.
    """
    noises, n = dataset["noise_variance"].values, int(dataset["dataset_size"].values[at_size])
    dense, style = np.geomspace(noises.min(), noises.max(), 129), STYLES[rung]
    groups = distinct_variances(dataset)
    if rung == "linear":
        ensemble = _ensemble(dataset, n)
        bulks = theory.random_matrix.bulks(ensemble)
        for lower, upper in zip(bulks.lower, bulks.upper, strict=True):
            axes.fill_between(
                dense, dense / (dense + upper), dense / (dense + lower), color=style.color, alpha=0.2, lw=0
            )
        if float(theory.random_matrix.atom(ensemble)) > 0:
            axes.axhline(1, color=style.color, linewidth=1.5, alpha=0.5)
        opens = _opens(theory.random_matrix.gaps(ensemble))
        if noises.min() < opens < noises.max():
            axes.axvline(opens, color="0.4", linestyle=":", linewidth=1.2, label="total gap opens (predicted)")
        axes.fill_between(BLANK, BLANK, BLANK, color=style.color, alpha=0.3, label="bulks (predicted)")
    else:
        law = panels.EXACT if panels.has_exact(dataset) else "empirical"
        x = noises if law == panels.EXACT else dense
        if law == panels.EXACT:
            predicted = predicted_gain(dataset, law)[at_size]
        else:
            wiener = np.asarray(theory.wiener_gain(dataset["variance"].values, dense), float) @ groups.weights
            predicted = wiener * curves.law_relative_gain(dataset, law, n, dense)
        faint = 0.5 if rung == NETWORK else None  # which has no law of its own
        for group, color in zip(*panels.told_apart(dataset), strict=True):
            axes.plot(x, 1 - predicted[:, group], color=color, linewidth=1.5, alpha=faint)
        axes.plot(BLANK, BLANK, color="0.3", linewidth=1.5, alpha=faint, label=f"1 − mean gain, {label(law)} law")
    if rung != NETWORK:
        above = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.1}
        legend = axes.legend(**above, frameon=False, handletextpad=0.4, labelspacing=0.2)
        legend.set_in_layout(False)  # it may reach over the edge of a narrow panel
    mean, lower, upper = (
        ends[at_size] for ends in curves.interval(dataset, rung, _values(dataset, "singular_value", rung))
    )
    for order in range(mean.shape[1]):
        interval = curves.Interval(mean[:, order], lower[:, order], upper[:, order])
        panels.bars(axes, noises, interval, style._replace(color="0.25" if rung == "linear" else style.color))
    above = noises[np.nanmax(mean, axis=1, initial=0) > HIGHEST]
    axes.plot(above, np.full(len(above), HIGHEST - 0.02), linestyle="none", marker="^", color=style.color)
    axes.set(xscale="log", ylim=(-0.03, HIGHEST), xlabel=NOISE_LABEL)
    axes.set_title(f"{rung} model, N = {n}", color=style.color, loc="left", pad=32)


def gap_against_noise(axes: Axes, dataset: xr.Dataset, at_size: int) -> None:
    """Height of every predicted gap of the linear rung against the noise, at position ``at_size`` of the sizes.

    Dashed: between the edges of the bulks.  Solid: between the mean outermost eigenvalues, which stay inside the edges
    by the mean of the Tracy-Widom law.
    """
    noises, n = dataset["noise_variance"].values, int(dataset["dataset_size"].values[at_size])
    dense = np.geomspace(noises.min(), noises.max(), 129)
    ensemble, d = _ensemble(dataset, n), dataset.sizes["order"]
    bulks, gaps = theory.random_matrix.bulks(ensemble), theory.random_matrix.gaps(ensemble)
    values = _values(dataset, "singular_value", "linear")
    shown = spaced(len(gaps.dimension), len(panels.VARIANCE_COLORS))
    for index, color in zip(shown, panels.VARIANCE_COLORS, strict=False):
        dimension, place = round(gaps.dimension[index]), len(bulks.lower) - 1 - int(index)
        inside = bulks.lower[place] - TRACY_WIDOM_MEAN * bulks.lower_scale[place]
        below = bulks.upper[place - 1] + TRACY_WIDOM_MEAN * bulks.upper_scale[place - 1] if place else 0.0
        for a, b, line in ((gaps.above[index], gaps.below[index], "--"), (inside, max(below, 0.0), "-")):
            axes.plot(dense, theory.random_matrix.gap_height(a, b, dense), color=color, linestyle=line, linewidth=1.5)
        height = values.isel(order=d - dimension - 1) - values.isel(order=d - dimension)
        interval = curves.Interval(*(ends[at_size] for ends in curves.interval(dataset, "linear", height)))
        panels.bars(
            axes, noises, interval, STYLES["linear"]._replace(color=color), f"below the first {dimension} directions"
        )
    axes.axhline(VISIBLE, color="0.6", linewidth=0.8, label="a gap is seen from here on")
    axes.set(xscale="log", ylim=(0, None), xlabel=NOISE_LABEL, ylabel="height of the gap (1: frozen against free)")
    axes.set_title(f"gaps of the linear model, N = {n}", color=STYLES["linear"].color, loc="left")
    if gaps.dimension.size:
        axes.legend(loc="best", framealpha=0.85)
    else:
        axes.set(ylim=(0, 1), xlim=(noises.min() / 1.2, noises.max() * 1.2))
        axes.text(0.5, 0.5, "no gap is predicted: one bulk", transform=axes.transAxes, ha="center")


def gap_dimension(axes: Axes, dataset: xr.Dataset, at_noise: int) -> None:
    """Directions within the total gap against N: points where a gap is seen, and what the linear score should have."""
    sizes, t = dataset["dataset_size"].values, float(dataset["noise_variance"].values[at_noise])
    dense = np.unique(np.round(np.geomspace(sizes.min(), sizes.max(), 129)))
    rank = int(distinct_variances(dataset).multiplicity.sum())
    line = STYLES["linear"]
    predicted = np.array([visible_dimension(dataset, n, t) for n in dense])
    axes.plot(dense, predicted, color=line.color, linestyle=line.line, linewidth=1.5)
    for rung in shown_rungs(dataset):
        style = STYLES[rung]
        values, complete = _values(dataset, "gap_dimension", rung).values, is_complete(dataset, rung)
        seen = np.isfinite(values) & complete[:, None]
        # Of the training sets that show a gap, where more than half do.
        several = 2 * seen.sum(axis=2) > complete.sum(axis=1)[:, None]
        mean = np.sum(values, axis=2, where=seen) / np.where(several, seen.sum(axis=2), np.nan)
        axes.plot(sizes, mean[:, at_noise], color=style.color, linestyle="none", marker=style.marker, label=rung)
    axes.axhline(rank, color="0.5", linewidth=0.8)
    axes.text(sizes.min(), rank, "all directions that vary", color="0.4", va="bottom", fontsize=8)
    limits = sizes.min() / 1.2, sizes.max() * 1.2  # there may be nothing to draw
    axes.set(xscale="log", xlim=limits, ylim=(0, 1.15 * rank), xlabel=SIZE_LABEL)
    axes.set_ylabel("dimension within the total gap")
    axes.set_title(f"dimension that the gap shows at t = {t:.3g}", loc="left")
    axes.legend(loc="best", framealpha=0.85)


def visible_dimension(dataset: xr.Dataset, n: float, t: float) -> float:
    """Directions within the total gap of the linear score of ``n`` points; nan where it is too low to be seen."""
    gaps = theory.random_matrix.gaps(_ensemble(dataset, n))
    return float(gaps.dimension[-1]) if t < _opens(gaps) else np.nan


def compose(figure: Figure, dataset: xr.Dataset, at_noise: int) -> None:
    """Fill a figure: spectra of every rung above, the gaps between singular values below."""
    rungs = shown_rungs(dataset)
    top, bottom = figure.subfigures(2, 1, squeeze=False)[:, 0]
    row = top.subplots(1, len(rungs), sharey=True, squeeze=False)[0]
    for axes, rung in zip(row, rungs, strict=True):
        sorted_spectrum(axes, dataset, rung, curves.comparison_size(dataset, rung))
    row[0].set_ylabel("singular values of t ∇s (1: frozen)")
    panels.variance_legend(row[-1], dataset)
    left, right = bottom.subplots(1, 2)
    gap_against_noise(left, dataset, curves.comparison_size(dataset, "linear"))
    gap_dimension(right, dataset, at_noise)
