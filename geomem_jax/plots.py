"""Figures of a result, composed in :mod:`geomem_jax.panels` and its like, and vectors as pictures.

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
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import theory
from geomem_jax import (
    ablate_job,
    ablation_panels,
    curves,
    panels,
    phase_panels,
    results,
    spectrum_panels,
    trained_panels,
)
from geomem_jax.atomic import replacing
from geomem_jax.errors import InputError
from geomem_jax.formatting import one_line
from geomem_jax.freeze_out import comparison_noise
from geomem_jax.gains import is_solved

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
def _figure(height: float = 9.0) -> Iterator[Figure]:
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
    with _figure(9.5) as figure:
        spectrum_panels.compose(figure, dataset, _at_noise(dataset))
    return figure


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
        panels.title(figure, dataset, f"theory and measurement at held-out points, {sets}")
        figure.supxlabel(f"Lines: theory, nothing fitted. Points: measurement. {bars}", fontsize=10)
    return figure


def training(dataset: xr.Dataset) -> Figure:
    """Draw what training did: relative gains against steps, and against N at the end, at the smallest noise variance.

    Args:
      dataset: of :mod:`geomem_jax.trained_results`, with one snapshot measured or more.
    """
    with _figure(9) as figure:
        trained_panels.compose(figure, dataset)
    return figure


def phases(dataset: xr.Dataset) -> Figure:
    """Draw the phases of networks over dataset size and training step, and what is frozen and copied at the end.

    Args:
      dataset: of :mod:`geomem_jax.trained_results`, with one snapshot measured or more.
    """
    with _figure(10) as figure:
        phase_panels.compose_trained(figure, dataset)
    return figure


def phase_diagram(dataset: xr.Dataset) -> Figure:
    """Draw the phases of every rung made from N points over (dataset size, noise variance), and two shares below.

    Args:
      dataset: a result, possibly incomplete; :func:`geomem_jax.phase_diagrams.noise_in_words` reads it in a sentence.

    Raises:
      InputError: if nothing is measured.
    """
    with _figure(9.5) as figure:
        phase_panels.compose_noise(figure, dataset)
    return figure


def ablations(dataset: xr.Dataset) -> Figure:
    """Draw the sequence of collapse under every condition: freeze-out sizes, and freeze-out times where N is fixed.

    Args:
      dataset: of :mod:`geomem_jax.ablate_job`, with one condition measured or more.
    """
    with _figure() as figure:
        ablation_panels.compose_orders(figure, dataset)
    return figure


def toy_gaps(toy: ablate_job.Toy) -> Figure:
    """Draw the position of the largest drop of the paper's toy against noise and N, for every reading and point.

    Args:
      toy: with one training set of the exact score measured or more; networks that are not are left out.
    """
    with _figure() as figure:
        ablation_panels.compose_positions(figure, toy)
    return figure


def calibration(dataset: xr.Dataset, found: "Calibration") -> Figure:
    """Draw relative gains of networks with predictive bands, and the posterior of the capacity and of the width.

    Args:
      dataset: the result that was calibrated.
      found: its calibration by the mixture of laws (:func:`geomem_jax.calibrate.calibrate`).
    """
    from geomem_jax import calibration_panels  # numpyro takes a second to import

    with _figure() as figure:
        calibration_panels.compose(figure, dataset, found)
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
            axes.set_title(one_line(title), parse_math=False)
        if shape[2:] != (3,):
            figure.colorbar(image, ax=grid, label="component", pad=0.01)
    return figure


def png(figure: Figure) -> bytes:
    """Render a figure."""
    buffer, canvas = io.BytesIO(), FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the report spells it out.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        canvas.draw()  # once: savefig lays out by drawing, and then draws
    mpl.image.imsave(buffer, canvas.buffer_rgba(), format="png", dpi=figure.dpi)
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write a PNG atomically: a reader sees the old file or the new one, never a part."""
    with replacing(path) as partial:
        partial.write_bytes(png(figure))
