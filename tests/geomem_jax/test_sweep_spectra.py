"""What is kept of spectra, and the figure of them."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import theory
from geomem_jax import curves, plots, results, spectrum_panels, sweep_spectra

from . import plotted
from .test_plots import points

RNG = np.random.default_rng(0)


def with_gap(frozen, noise):
    """Eight spectra of 20 values: ``frozen`` near 1, the others near 0.1."""
    values = np.where(np.arange(20) < frozen, 1.0, 0.1) + noise * RNG.uniform(-1, 0, (8, 20))
    return np.sort(values)[:, ::-1]


def test_the_dimension_is_that_of_most_points():
    clear, none = with_gap(15, 0.02), np.sort(RNG.uniform(0, 1, (8, 20)))[:, ::-1]
    mostly, rarely = clear.copy(), clear.copy()
    mostly[:3], rarely[:4] = none[:3], none[:4]
    found = sweep_spectra.summarize(np.stack([clear, none, mostly, rarely, with_gap(12, 0.02)]))
    np.testing.assert_array_equal(found.gap_dimension, [5, np.nan, 5, np.nan, 8])
    np.testing.assert_allclose(found.singular_value[0], clear.mean(0))


def test_gains_of_no_point_are_one_spectrum_in_descending_order():
    gains = np.array([[0.9, 0.0, 0.8, 0.0], [0.5, 0.0, 0.4, 0.0]])
    found = sweep_spectra.of_gains(gains)
    np.testing.assert_allclose(found.singular_value, [[1, 1, 0.2, 0.1], [1, 1, 0.6, 0.5]])
    np.testing.assert_array_equal(found.gap_dimension, [2, 2])
    assert np.isnan(sweep_spectra.of_gains(gains[:, :2]).gap_dimension).all()  # two values: no other drop to compare


def test_many_directions_have_no_spectra_and_no_figure_of_them():
    many = np.ones(sweep_spectra.MOST_DIRECTIONS + 1)
    dataset = results.empty(
        rungs=("linear",), laws=(), dataset_sizes=[3], noise_variances=[0.1], seeds=[0], variances=many, attributes={}
    )
    assert dataset.sizes["order"] == 0
    assert not spectrum_panels.is_measured(dataset)
    assert spectrum_panels.is_measured(plotted.simulated())


def test_spectra_are_theirs():
    dataset = plotted.simulated(noise=0.01)
    axes, at = Figure().subplots(), 3
    spectrum_panels.sorted_spectrum(axes, dataset, "linear", at)
    (opens,) = [line.get_xdata()[0] for line in axes.get_lines() if str(line.get_label()).startswith("total gap opens")]
    least = theory.random_matrix.bulks(theory.random_matrix.sample_covariance(plotted.LADDER, 128.0)).lower[0]
    assert least / (least + opens) == pytest.approx(0.04)  # four times the resolution
    drawn = points(axes)
    assert len(drawn) == plotted.LADDER.size
    values = dataset["singular_value"].sel(rung="linear", point="held_out").values[at]
    for order, (t, mean, lower, upper) in enumerate(drawn):
        np.testing.assert_allclose(t, plotted.TIMES)
        np.testing.assert_allclose(mean, values[..., order].mean(axis=1), rtol=1e-6)
        half_width = 2.3646 * values[..., order].std(axis=1, ddof=1) / np.sqrt(8)
        np.testing.assert_allclose(upper - lower, 2 * half_width, rtol=1e-2, atol=1e-7)
    bulks = theory.random_matrix.bulks(theory.random_matrix.sample_covariance(plotted.LADDER, float(plotted.SIZES[at])))
    shaded = [part for part in axes.collections if part.get_paths() and len(part.get_paths()[0].vertices) > 50]
    assert len(shaded) == len(bulks.lower)
    for part, lower, upper in zip(shaded, bulks.lower, bulks.upper, strict=True):
        t, height = part.get_paths()[0].vertices.T
        inside = (height >= t / (t + upper) - 1e-9) & (height <= t / (t + lower) + 1e-9)
        assert inside.all()
        assert np.ptp(height[t == t.min()]) == pytest.approx(t.min() / (t.min() + lower) - t.min() / (t.min() + upper))


def test_gaps_are_theirs():
    dataset = plotted.simulated(noise=0.0)
    axes, at = Figure().subplots(), 5
    spectrum_panels.gap_against_noise(axes, dataset, at)
    ensemble = theory.random_matrix.sample_covariance(plotted.LADDER, float(plotted.SIZES[at]))
    gaps = theory.random_matrix.gaps(ensemble)
    assert len(points(axes)) == len(gaps.dimension) == 6
    gain = np.asarray(theory.gain(plotted.LADDER, float(plotted.SIZES[at]), plotted.TIMES, "linear"))
    bulks = theory.random_matrix.bulks(ensemble)
    drawn = iter(line.get_data() for line in axes.get_lines() if len(line.get_xdata()) == 129)
    for index, ((_, height, _, _), dimension) in enumerate(zip(points(axes), gaps.dimension, strict=True)):
        below = int(dimension)
        np.testing.assert_allclose(height, gain[:, below - 1] - gain[:, below], rtol=1e-4)
        (t, edges), (_, outermost) = next(drawn), next(drawn)
        a, b = gaps.above[index], gaps.below[index]
        np.testing.assert_allclose(edges, a / (a + t) - b / (b + t), rtol=1e-4)
        # Mean of the Tracy-Widom law of real matrices: -1.2065 scales from the edge, into the bulk.
        a += 1.2065 * bulks.lower_scale[5 - index]
        b -= 1.2065 * bulks.upper_scale[4 - index] if index < 5 else 0.0
        np.testing.assert_allclose(outermost, a / (a + t) - b / (b + t), rtol=1e-4)


def test_a_single_bulk_has_no_gap_to_draw():
    dataset = plotted.simulated(np.linspace(1, 0.5, plotted.LADDER.size))
    axes = Figure().subplots()
    spectrum_panels.gap_against_noise(axes, dataset, 3)
    assert points(axes) == []
    assert "no gap" in axes.texts[0].get_text()
    dataset["gap_dimension"][:] = np.nan
    assert len(plots.png(plots.spectra(dataset))) > 10_000  # logarithmic axes without points can be drawn


def test_the_dimension_is_drawn_where_a_gap_is_seen():
    dataset = plotted.simulated()
    dataset["gap_dimension"].loc[{"rung": "empirical", "dataset_size": plotted.SIZES[:3]}] = np.nan
    dataset["gap_dimension"].loc[{"rung": "empirical", "dataset_size": plotted.SIZES[3], "seed": [0, 1, 2]}] = np.nan
    dataset["gap_dimension"].loc[{"rung": "empirical", "dataset_size": plotted.SIZES[4], "seed": range(5)}] = np.nan
    axes = Figure().subplots()
    spectrum_panels.gap_dimension(axes, dataset, 0)
    drawn = {line.get_label(): line.get_data() for line in axes.get_lines()}
    np.testing.assert_array_equal(drawn["linear"][1], np.full(6, 24))
    np.testing.assert_array_equal(drawn["empirical"][1], [np.nan, np.nan, np.nan, 24, np.nan, 24])
    # Fewer points than directions show as many directions as there are points.
    assert spectrum_panels.visible_dimension(dataset, 8, 0.03) == 8
    assert spectrum_panels.visible_dimension(dataset, 2048, 0.03) == 24
    assert np.isnan(spectrum_panels.visible_dimension(dataset, 2048, 10.0))


@pytest.mark.parametrize("change", [lambda d: d, plotted.with_exact, plotted.with_network, plotted.partial])
def test_the_figure_is_drawn_of_any_result(change):
    figure = plots.spectra(change(plotted.simulated()))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert any(title.startswith("linear model, N = ") for title in titles)
    assert any(title.startswith("gaps of the linear model") for title in titles)
    assert len(plots.png(figure)) > 10_000
    assert curves.POINT == "held_out"
