"""Figures of a result, composed from :mod:`geomem_jax.panels`, and vectors as pictures.

The only module that imports matplotlib.  Figures are made without pyplot and without touching its global settings;
text is readable at 100 pixels per inch.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import theory
from geomem_jax import (
    ablate_job,
    ablation_panels,
    curves,
    formatting,
    panels,
    phase_diagrams,
    phase_panels,
    results,
    spectrum_panels,
    trained_panels,
)
from geomem_jax.atomic import replacing
from geomem_jax.errors import InputError
from geomem_jax.freeze_out import comparison_noise
from geomem_jax.gains import is_solved
from geomem_jax.phases import PHASES
from geomem_jax.trained_results import is_predicted

if TYPE_CHECKING:
    from geomem_jax.calibrate import Calibration

FONT: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "legend.fontsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}
WIDTH = 12  # inches
PICTURES_IN_A_ROW = 8


def _at_noise(dataset: xr.Dataset) -> int:
    """Position of the noise variance of figures along N: the one at which the verdict compares freeze-out sizes."""
    return int(np.argmin(np.abs(dataset["noise_variance"].values - comparison_noise(dataset))))


def _condensing(dataset: xr.Dataset) -> int:
    """Position of the noise variance nearest the condensation time in the middle of the sizes."""
    size = dataset["dataset_size"].values[curves.comparison_size(dataset)]
    middle = theory.condensation_time(dataset["variance"].values, int(size))
    return int(np.argmin(np.abs(np.log(dataset["noise_variance"].values / float(middle)))))


@contextmanager
def _figure(height: float) -> Iterator[Figure]:
    with mpl.rc_context(FONT):
        yield Figure(figsize=(WIDTH, height), dpi=150, layout="constrained")


def _maps(figure: Any, dataset: xr.Dataset) -> None:
    row = figure.subplots(1, 2)
    at = _at_noise(dataset)
    cells = [panels.freeze_out_map(axes, dataset, rung, at) for axes, rung in zip(row, panels.FINITE, strict=True)]
    bar = figure.colorbar(cells[-1], ax=list(row), label="measured relative gain ρ", extend="max", pad=0.01)
    bar.ax.set_ylim(0, 1)


def _gains_along_size(figure: Any, dataset: xr.Dataset) -> None:
    rungs = panels.shown_rungs(dataset)
    row = figure.subplots(1, len(rungs))
    for axes, rung in zip(row, rungs, strict=True):
        panels.relative_gain(axes, dataset, rung, "dataset_size", _at_noise(dataset))
    panels.variance_legend(row[-1], dataset)


def _noise_and_dimension(figure: Any, dataset: xr.Dataset) -> None:
    left, right = figure.subplots(1, 2)
    panels.effective_noise(left, dataset, _at_noise(dataset))
    panels.soft_dimension(right, dataset, _at_noise(dataset))


def gains(dataset: xr.Dataset) -> Figure:
    """Draw relative gains of the linear, the empirical and the network rung at held-out points, against N and t.

    Args:
      dataset: a result, possibly incomplete.  Of many distinct variances six are shown, evenly spaced by rank.
    """
    rungs = panels.shown_rungs(dataset)
    with _figure(4.75 * len(rungs)) as figure:
        for row, rung in zip(figure.subplots(len(rungs), 2), rungs, strict=True):
            panels.relative_gain(row[0], dataset, rung, "dataset_size", _at_noise(dataset))
            panels.relative_gain(row[1], dataset, rung, "noise_variance", curves.comparison_size(dataset, rung))
            panels.variance_legend(row[1], dataset)
    return figure


def freeze_out_maps(dataset: xr.Dataset) -> Figure:
    """Draw the relative gain over direction and size, with measured and predicted freeze-out sizes.

    Args:
      dataset: a result, possibly incomplete; what is not measured is hatched.

    Raises:
      InputError: if nothing is measured.
    """
    with _figure(5) as figure:
        _maps(figure, dataset)
    return figure


def noise_and_dimension(dataset: xr.Dataset) -> Figure:
    """Draw effective noise and soft dimension of every rung and law against N, at held-out points."""
    with _figure(4.8) as figure:
        _noise_and_dimension(figure, dataset)
    return figure


def condensation(dataset: xr.Dataset) -> Figure:
    """Draw the participation ratio against N, and the noise variance at which it crosses 1/2."""
    with _figure(4.8) as figure:
        left, right = figure.subplots(1, 2)
        panels.participation_ratio(left, dataset, _condensing(dataset))
        panels.crossing_times(right, dataset)
    return figure


def spectra(dataset: xr.Dataset) -> Figure:
    """Draw sorted singular values of every rung made from N points against the noise, and the dimension of the gap.

    Args:
      dataset: a result with spectra (:func:`geomem_jax.spectrum_panels.is_measured`), possibly incomplete.
    """
    rungs = spectrum_panels.shown_rungs(dataset)
    with _figure(9.5) as figure:
        top, bottom = figure.subfigures(2, 1, squeeze=False)[:, 0]
        row = top.subplots(1, len(rungs), sharey=True, squeeze=False)[0]
        for axes, rung in zip(row, rungs, strict=True):
            spectrum_panels.sorted_spectrum(axes, dataset, rung, curves.comparison_size(dataset, rung))
        row[0].set_ylabel("singular values of t ∇s (1: frozen)")
        panels.variance_legend(row[-1], dataset)
        left, right = bottom.subplots(1, 2)
        spectrum_panels.gap_against_noise(left, dataset, curves.comparison_size(dataset, "linear"))
        spectrum_panels.gap_dimension(right, dataset, _at_noise(dataset))
    return figure


def _plain(name: str) -> str:
    """A name for a title: one line, not too long."""
    line = " ".join(name.split())
    return line if len(line) <= 50 else line[:49] + "…"


def overlay(dataset: xr.Dataset) -> Figure:
    """Compose the most telling panels: gains, freeze-out maps, effective noise and soft dimension.

    Args:
      dataset: a result, possibly incomplete.

    Raises:
      InputError: if nothing is measured.
    """
    seeds = int(is_solved(dataset).sum(axis=1).max())
    sets, bars = (
        (f"{seeds} training sets", "Bars: 95 % intervals over training sets.")
        if seeds > 1
        else ("one training set", "No bars: one training set.")
    )
    if results.NETWORK in panels.shown_rungs(dataset):
        bars += " Networks: range."
    with _figure(14.5) as figure:
        top, middle, bottom = figure.subfigures(3, 1, squeeze=False)[:, 0]
        _gains_along_size(top, dataset)
        _maps(middle, dataset)
        _noise_and_dimension(bottom, dataset)
        title = f"{_plain(str(dataset.attrs['name']))}: theory and measurement at held-out points, {sets}"
        figure.suptitle(title, fontsize=13, parse_math=False)
        figure.supxlabel(f"Lines: theory, nothing fitted. Points: measurement. {bars}", fontsize=10)
    return figure


def training(dataset: xr.Dataset) -> Figure:
    """Draw what training did: relative gains against steps, and against N at the end, at the smallest noise variance.

    Args:
      dataset: of :mod:`geomem_jax.trained_results`, with one snapshot measured or more.
    """
    at_noise = int(np.argmin(dataset["noise_variance"].values))
    shown = trained_panels.shown_sizes(dataset)
    with _figure(9) as figure:
        top, bottom = figure.subfigures(2, 1, squeeze=False)[:, 0]
        row = top.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, size in zip(row, shown, strict=True):
            trained_panels.against_steps(axes, dataset, size, at_noise, curves.POINT)
        row[0].set_ylabel("relative gain ρ, held-out points")
        if is_predicted(dataset):
            trained_panels.explain_flow(row[0])
        left, right = bottom.subplots(1, 2, sharey=True)
        trained_panels.against_size(left, dataset, at_noise, "train")
        trained_panels.against_size(right, dataset, at_noise, "held_out")
        left.set_ylabel("relative gain ρ = g / g(infinite data)")
        panels.variance_legend(right, dataset)
        t, seeds = dataset["noise_variance"].values[at_noise], dataset.sizes["seed"]
        name = _plain(str(dataset.attrs["name"]))
        what = f"trained {trained_panels.trained(dataset)}"
        title = f"{name}: gains of {what} at noise variance t = {t:.3g}, {seeds} training sets"
        figure.suptitle(title, fontsize=13, parse_math=False)
    return figure


def phases(dataset: xr.Dataset) -> Figure:
    """Draw the phases of networks over dataset size and training step, and what is frozen and copied at the end.

    Args:
      dataset: of :mod:`geomem_jax.trained_results`, with one snapshot measured or more.
    """
    times = dataset["noise_variance"].values
    times = np.sort(times)[formatting.spaced(len(times), 2)]
    maps = {(t, point): phase_diagrams.over_training(dataset, t, point) for t in times for point in phase_panels.POINTS}
    with _figure(10) as figure:
        top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.15, 1])[:, 0]
        row = top.subplots(1, len(maps), sharey=True, squeeze=False)[0]
        for axes, ((t, point), found) in zip(row, maps.items(), strict=True):
            phase_panels.trained_map(axes, dataset, found, t, point)
            axes.label_outer()
        shown = [name for name in PHASES if any((found.phase == name).any() for found in maps.values())]
        top.legend(handles=phase_panels.handles(row[0], shown), loc="outside upper center", ncols=len(shown))
        sampled = dataset.attrs["samples"] > 0
        panels_below = bottom.subplots(1, 3 if sampled else 2, sharey=True)
        phase_panels.frozen_share(panels_below[0], dataset, float(times[0]), "directions")
        phase_panels.frozen_share(panels_below[1], dataset, float(times[0]), "variance")
        panels_below[1].legend(loc="best", framealpha=0.85)
        if sampled:
            phase_panels.copied_fraction(panels_below[2], dataset, next(iter(maps.values())))
        what = trained_panels.trained(dataset)
        title = f"{_plain(str(dataset.attrs['name']))}: phases of {what}, {dataset.sizes['seed']} training sets"
        figure.suptitle(title, fontsize=13, parse_math=False)
        if not is_predicted(dataset):
            note = "N*: to its right all directions are free under that law. "
            note += "Early in training, what a network has not learned yet may count as free."
            figure.supxlabel(note, fontsize=10)
    return figure


def phase_diagram(dataset: xr.Dataset) -> Figure:
    """Draw the phases of every rung made from N points over (dataset size, noise variance), and two shares below.

    Args:
      dataset: a result, possibly incomplete; :func:`geomem_jax.phase_diagrams.noise_in_words` reads it in a sentence.

    Raises:
      InputError: if nothing is measured.
    """
    others = [(rung, point) for rung in panels.shown_rungs(dataset)[1:] for point in phase_panels.POINTS]
    shown = [("linear", curves.POINT), *others]
    found = [phase_diagrams.over_noise(dataset, *which) for which in shown]
    times = phase_diagrams.predicted_times(dataset)
    with _figure(9.5) as figure:
        body = figure.subfigures(1, 1, squeeze=False)[0, 0]  # beside whose legends there is room for a title
        grid = body.subplots(3, len(shown), sharex=True, sharey=True)
        for column, (rung, point), diagram in zip(grid.T, shown, found, strict=True):
            phase_panels.cells(column[0], diagram, "")
            share = phase_panels.share_map(column[1], diagram, diagram.frozen_directions)
            phase_panels.share_map(column[2], diagram, diagram.frozen_variance)
            if rung != "linear":
                phase_panels.predicted_times(column[0], times)
            else:
                phase_panels.law_boundaries(column[0], dataset, diagram, rung)
            if point == curves.POINT:
                phase_panels.law_boundaries(column[1], dataset, diagram, rung)
            column[0].set_title(
                f"{rung} rung,\n{phase_panels.POINTS[point]}", color=panels.STYLES[rung].color, loc="left"
            )
            column[0].set_xlabel("")
            column[2].set_xlabel(panels.SIZE_LABEL)
        for axes, name in zip(grid[:, 0], ("phase", "frozen directions", "frozen variance"), strict=True):
            axes.set_ylabel(f"{name}\nnoise variance t (data units²)")
        grid[0, 0].set_xlim(panels.cell_edges(dataset["dataset_size"].values)[[0, -1]])
        bar = body.colorbar(share, ax=list(grid[1:].flat), label="share that is frozen", pad=0.01)
        bar.ax.set_ylim(0, 1)
        lines = [line for axes in grid[0, :2] for line in axes.get_legend_handles_labels()[0]]
        names = [name for name in PHASES if any((one.phase == name).any() for one in found)]
        body.legend(handles=lines, loc="outside lower center", ncols=len(lines))
        body.legend(handles=phase_panels.handles(grid[0, 0], names), loc="outside upper center", ncols=len(names))
        note = "Copying: mean participation ratio at noised training points from 1/2 on, of the empirical rung alone."
        figure.supxlabel(note, fontsize=10)
        title = f"{_plain(str(dataset.attrs['name']))}: phases over dataset size and noise variance"
        figure.suptitle(title, fontsize=13, parse_math=False)
    return figure


ROW = 0.27  # inches of a condition


def ablations(dataset: xr.Dataset) -> Figure:
    """Draw the sequence of collapse under every condition: freeze-out sizes, and freeze-out times where N is fixed.

    Args:
      dataset: of :mod:`geomem_jax.ablate_job`, with one condition measured or more.
    """
    rows = [pair for of_letter in ablate_job.orders(dataset).values() for pair in of_letter.items()]
    along_time = dataset["along_time"].values == 1
    parts = [[pair for pair in rows if along_time[pair[0]] == kind] for kind in (True, False)]
    drawn = [(part, kind) for part, kind in zip(parts, ("time", "size"), strict=True) if part]
    ratios = [len(part) + len(set(dataset["experiment"].values[[row for row, _ in part]])) for part, _ in drawn]
    with _figure(1.5 + len(drawn) + ROW * sum(ratios)) as figure:
        column = figure.subplots(len(drawn), 1, squeeze=False, height_ratios=ratios)[:, 0]
        for axes, (part, kind) in zip(column, drawn, strict=True):
            grid = dataset["grid"].values[[row for row, _ in part]]
            ablation_panels.collapse(axes, dataset, part, (float(np.nanmin(grid)), float(np.nanmax(grid))))
            axes.set_xlabel(
                "freeze-out time t* (noise variance): frozen below it"
                if kind == "time"
                else "freeze-out size N* (points): frozen below it"
            )
        sets = dataset.sizes["seed"]
        title = f"Which directions freeze first? 95 % intervals over {sets} training sets (networks: fewer)"
        ablation_panels.legend(figure, column[0], title)
    return figure


def toy_gaps(toy: xr.Dataset) -> Figure:
    """Draw the position of the largest drop of the paper's toy against noise and N, for every reading and point.

    Args:
      toy: of :mod:`geomem_jax.ablate_job`, with one training set measured or more.
    """
    points = {"origin": "origin", "held_out": "fresh points", "train": "training points"}
    cells = list(ablate_job.toy_cells(toy))
    rows = len(cells) // len(points)
    with _figure(1.2 + 1.9 * rows) as figure:
        grid = figure.subplots(rows, len(points), squeeze=False)
        for axes, (reading, data, point, counts) in zip(grid.flat, cells, strict=True):
            ablation_panels.positions(axes, counts, toy["dataset_size"].values, toy["noise_variance"].values)
            axes.set_title(f"{data}, {points[point]}, {reading}", loc="left")
        for axes in grid[:, 0]:
            axes.set_ylabel("N (points)")
        for axes in grid[-1]:
            axes.set_xlabel("noise variance t (data units squared)")
        title = "Position of the largest drop among the last 11 singular values of t ∇s (pale: at few points)"
        ablation_panels.positions_legend(figure, grid[0, 0], title)
    return figure


def calibration(dataset: xr.Dataset, found: "Calibration") -> Figure:
    """Draw relative gains of networks with predictive bands, and the posterior of the capacity and of the width.

    Args:
      dataset: the result that was calibrated.
      found: its calibration by the mixture of laws (:func:`geomem_jax.calibrate.calibrate`).
    """
    from geomem_jax import calibration_panels  # numpyro takes a second to import

    shown, colors = panels.told_apart(dataset)
    rows = -(-len(shown) // 3)
    highest = min(1.12 * float(np.nanmax([1.0, *found.relative_gain[..., shown].ravel()])), 1.8)
    with _figure(3 + 2.6 * rows) as figure:
        top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[2.6 * rows, 2.3])[:, 0]
        grid = top.subplots(rows, 3, sharex=True, sharey=True, squeeze=False)
        for axes in grid.flat[len(shown) :]:
            axes.set_axis_off()
        for axes, group, color in zip(grid.flat, shown, colors, strict=False):
            calibration_panels.gains_with_band(axes, found, int(group), color, highest)
        for axes in grid[-1]:
            axes.set_xlabel(panels.SIZE_LABEL)
        top.supylabel("relative gain ρ = g / g(infinite data)", fontsize=10)
        left, right = bottom.subplots(1, 2)
        sizes = float(found.dataset_size[0]), float(found.dataset_size[-1])
        label = "memorization capacity N* (points; axis: sizes measured)"
        calibration_panels.posterior(left, found, "log_capacity", "N*", label, sizes, log=True)
        widest = 1.1 * max(found.parameters["width"].prior_upper, found.parameters["width"].upper)
        label = "width of the crossover (e-folds of N)"
        calibration_panels.posterior(right, found, "width", "width", label, (0.0, widest), log=False)
        right.legend(loc="center right")
        title = f"{_plain(str(dataset.attrs['name']))}: networks between the laws at noise variance t = {found.t:.3g}"
        figure.suptitle(title, fontsize=13, parse_math=False)
        figure.supxlabel(
            "Points: networks, one for each training set. Bands: 95 % of networks on new training sets. "
            "Orange: N*, 95 %. Below ½ (grey): frozen.",
            fontsize=10,
        )
    return figure


def pictures(vectors: np.ndarray, shape: tuple[int, ...], titles: Sequence[str] | None = None) -> Figure:
    """Draw vectors, such as directions of images, as pictures on one colour scale that is symmetric about 0.

    Grey vectors are blue below 0 and red above; of colours, 0 is mid-grey and each channel is above or below it.

    Args:
      vectors: ``(d, k)``, one in each column; their signs, which mean nothing, are drawn as they are.
      shape: of a picture, ``(h, w)`` or ``(h, w, c)`` with ``c`` 1 or 3, ``d`` numbers in all.
      titles: one for each vector; their numbers if not given.

    Raises:
      InputError: if the vectors do not fill pictures of this shape, a value is not finite, or titles are not ``k``.
    """
    vectors = np.asarray(vectors, np.float64)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)):
        raise InputError(f"shape: {shape} is not that of a picture; give (h, w), (h, w, 1) or (h, w, 3)")
    if vectors.ndim != 2 or vectors.shape[0] != np.prod(shape) or vectors.shape[1] == 0:
        raise InputError(
            f"vectors: shape {vectors.shape} does not fill pictures of {shape}; give ({np.prod(shape)}, k)"
        )
    if not np.all(np.isfinite(vectors)):
        raise InputError("vectors: has NaN or infinite values; give finite ones")
    count = vectors.shape[1]
    titles = [f"{number + 1}" for number in range(count)] if titles is None else titles
    if len(titles) != count:
        raise InputError(f"titles: {len(titles)} for {count} vectors; give one each")
    columns = min(max(count, 4), PICTURES_IN_A_ROW)
    rows = -(-count // columns)
    largest = np.abs(vectors).max() or 1.0
    with _figure(max(2.0, rows * (WIDTH / columns * shape[0] / shape[1] * 0.9 + 0.35))) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, vector, title in zip(grid.flat, vectors.T, titles, strict=False):
            picture = vector.reshape(shape)
            if picture.shape[2:] == (3,):
                axes.imshow(0.5 + picture / (2 * largest), vmin=0, vmax=1, interpolation="nearest")
            else:
                image = axes.imshow(
                    picture.reshape(shape[:2]), cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest"
                )
            axes.set_title(_plain(title), parse_math=False)
        if shape[2:] != (3,):
            figure.colorbar(image, ax=grid, label="component", pad=0.01)
    return figure


def png(figure: Figure) -> bytes:
    """Render a figure."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the report spells it out.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write a PNG atomically: a reader sees the old file or the new one, never a part."""
    with replacing(path) as partial:
        partial.write_bytes(png(figure))
