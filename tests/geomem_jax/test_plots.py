"""Figures show the numbers they claim to show, whatever the result looks like."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

import theory
from geomem_jax import compare, curves, panels, plots
from geomem_jax.errors import InputError

from . import plotted

AT = 1  # t = 0.1
MANY = np.geomspace(1, 1e-3, plotted.LADDER.size)  # the shape of the others, for which everything is compiled


def axes_of():
    return Figure().subplots()


def settings():
    # Looking at the backend would choose one.
    return {name: mpl.rcParams[name] for name in mpl.rcParams if not name.startswith("backend")}


def lines(axes):
    """Data of the curves: lines with more points than any marker, dash or end of an error bar."""
    return [line.get_data() for line in axes.get_lines() if len(line.get_xdata()) > 50]


def points(axes):
    """Means and ends of the bars of every error-bar container."""
    found = []
    for container in axes.containers:
        x, y = container.lines[0].get_data()
        segments = np.array(container.lines[2][0].get_segments())
        found.append((x, y, segments[:, 0, 1], segments[:, 1, 1]))
    return found


@pytest.mark.parametrize("centred", [0, 1])
@pytest.mark.parametrize("rung", ["linear", "empirical"])
def test_gains_are_theirs(rung, centred):
    dataset = plotted.simulated(centred=centred)
    axes = axes_of()
    panels.relative_gain(axes, dataset, rung, "dataset_size", AT)
    groups = compare.distinct_variances(dataset)
    shift = centred if rung == "linear" else 0
    assert len(lines(axes)) == len(points(axes)) == len(groups.variance)
    for group, ((x, line), (sizes, mean, lower, upper)) in enumerate(zip(lines(axes), points(axes), strict=True)):
        law = theory.gain(plotted.LADDER, x - shift, plotted.TIMES[AT], rung)[:, 4 * group]
        wiener = theory.wiener_gain(plotted.LADDER, plotted.TIMES[AT])[4 * group]
        # Both are float32 roots of the same equations, from arguments that differ in the last bits.
        np.testing.assert_allclose(line, law / wiener, rtol=1e-4)
        gain = dataset["gain"].sel(rung=rung, point="held_out").values[:, AT, :, 4 * group : 4 * group + 4]
        rho = gain.mean(axis=-1) / dataset["reference_gain"].values[AT, 4 * group]
        np.testing.assert_array_equal(sizes, plotted.SIZES)
        np.testing.assert_allclose(mean, rho.mean(axis=1), rtol=1e-6)
        half_width = 2.3646 * rho.std(axis=1, ddof=1) / np.sqrt(8)  # Student, 7 degrees of freedom, tabulated
        np.testing.assert_allclose(upper - lower, 2 * half_width, rtol=1e-3)


def test_gains_against_noise_are_theirs():
    dataset = plotted.simulated(noise=0.0)
    axes = axes_of()
    panels.relative_gain(axes, dataset, "empirical", "noise_variance", 2)
    for group, ((x, line), (_, mean, _, _)) in enumerate(zip(lines(axes), points(axes), strict=True)):
        law = theory.gain(plotted.LADDER, plotted.SIZES[2], x, "empirical")[:, 4 * group]
        np.testing.assert_allclose(line, law / theory.wiener_gain(plotted.LADDER, x)[:, 4 * group], rtol=1e-4)
        np.testing.assert_allclose(mean, np.interp(np.log(plotted.TIMES), np.log(x), line), rtol=2e-3)


def test_the_frontier_is_predicted_and_measured():
    dataset = plotted.simulated(noise=0.0)
    axes = axes_of()
    cells = panels.freeze_out_map(axes, dataset, "empirical", AT)
    rho = compare.relative_gain(dataset, "empirical", "held_out").mean("seed").values[:, AT]
    np.testing.assert_allclose(cells.get_array(), rho.T, rtol=1e-6)
    drawn = {line.get_label(): line.get_data() for line in axes.get_lines()}
    low, high = axes.get_xlim()
    for law in ("linear", "empirical"):
        sizes = np.exp(theory.freeze_out_sizes(plotted.LADDER, plotted.TIMES[AT], law)[:24:4])
        np.testing.assert_allclose(drawn[law][0], np.clip(sizes, low, high), rtol=1e-5)
    size, row = drawn["measured"]
    measured = compare.freeze_out_sizes(dataset, "empirical", "held_out", plotted.TIMES[AT])
    inside = np.isfinite(measured.log_value)
    assert inside.sum() >= 3
    np.testing.assert_array_equal(row[np.isfinite(size)], np.flatnonzero(inside))
    np.testing.assert_allclose(size[np.isfinite(size)], np.exp(measured.log_value[inside]))


def test_the_exact_average_is_drawn_from_what_is_stored():
    dataset = plotted.with_exact(plotted.simulated(noise=0.0))
    stored = 0.7 * theory.gain(plotted.LADDER, plotted.SIZES, plotted.TIMES[AT], "empirical")
    rho = np.asarray(stored / theory.wiener_gain(plotted.LADDER, plotted.TIMES[AT]))[:, :24:4]
    axes = axes_of()
    panels.relative_gain(axes, dataset, "empirical", "dataset_size", AT)
    solid = [line for line in axes.get_lines() if line.get_linestyle() == "-" and len(line.get_xdata()) == 6]
    assert len(solid) == 6
    for line, expected in zip(solid, rho.T, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), plotted.SIZES)
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-5)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["exact-average law", "empirical law"]
    along_noise = axes_of()
    panels.relative_gain(along_noise, dataset, "empirical", "noise_variance", 2)
    first = next(line for line in along_noise.get_lines() if line.get_linestyle() == "-" and len(line.get_xdata()) == 4)
    np.testing.assert_allclose(first.get_ydata()[AT], rho[2, 0], rtol=1e-5)
    dimension, noise = axes_of(), axes_of()
    panels.soft_dimension(dimension, dataset, AT)
    panels.effective_noise(noise, dataset, AT)
    total = stored.sum(axis=1)
    for panel, of_dimension in (
        (dimension, lambda x: x),
        (noise, lambda kappa: np.sum(plotted.LADDER / (plotted.LADDER + kappa[:, None]), axis=1)),
    ):
        line = next(line for line in panel.get_lines() if line.get_label() == "exact-average law")
        np.testing.assert_allclose(of_dimension(line.get_ydata()), total, rtol=1e-5)
    # The linear rung has one law, and a map all of them.
    plain = axes_of()
    panels.relative_gain(plain, dataset, "linear", "dataset_size", AT)
    assert plain.get_legend() is None
    frontier = axes_of()
    panels.freeze_out_map(frontier, dataset, "empirical", AT)
    drawn = {line.get_label(): line for line in frontier.get_lines()}
    assert drawn["exact-average"].get_linewidth() > drawn["empirical"].get_linewidth()
    at_measured = drawn["measured"].get_xdata()
    known = np.isfinite(at_measured)
    assert known.sum() >= 3
    np.testing.assert_allclose(at_measured[known], drawn["exact-average"].get_xdata()[np.flatnonzero(known)], rtol=1e-5)


def test_sizes_outside_the_grid_are_arrows_at_its_edge():
    dataset = plotted.simulated(noise=0.0)
    dataset["gain"][:] = 0.0  # all is frozen at every size
    axes = axes_of()
    panels.freeze_out_map(axes, dataset, "empirical", AT)
    (arrows,) = [line for line in axes.get_lines() if line.get_marker() == ">"]
    np.testing.assert_allclose(arrows.get_xdata(), [plotted.SIZES[-1]] * 6)


@pytest.mark.parametrize("variances", [[1.0], [2.0, 0.5, 0.0], np.geomspace(1, 1e-9, 50)])
@pytest.mark.parametrize("noise", [1e-6, 0.3, 1e4])
def test_the_effective_noise_has_the_soft_dimension_it_came_from(variances, noise):
    variances = np.asarray(variances)
    dimension = float(np.sum(variances / (variances + noise)))
    # The bracket in log noise is 1e-12 wide, amplified where the dimension saturates in float64.
    assert curves.noise_of_dimension(variances, dimension) == pytest.approx(noise, rel=1e-6)


def test_a_soft_dimension_without_an_effective_noise():
    variances = np.array([1.0, 0.5, 0.0])
    assert curves.noise_of_dimension(variances, -0.1) == np.inf
    assert curves.noise_of_dimension(variances, 0.0) == np.inf
    assert np.isnan([curves.noise_of_dimension(variances, value) for value in (2.0, 2.1, np.nan, np.inf)]).all()


@pytest.mark.parametrize("rung", plotted.RUNGS)
def test_noise_and_dimension_are_theirs(rung):
    dataset = plotted.simulated(noise=0.0)
    position = plotted.RUNGS.index(rung)
    for panel, law in (
        (panels.effective_noise, theory.effective_noise),
        (panels.soft_dimension, theory.soft_dimension),
    ):
        axes = axes_of()
        panel(axes, dataset, AT)
        x, line = lines(axes)[position]
        np.testing.assert_allclose(line, law(plotted.LADDER, x, plotted.TIMES[AT], rung), rtol=1e-4)
        # Without noise the points lie on the law, and on no other law.
        at_sizes = [law(plotted.LADDER, plotted.SIZES, plotted.TIMES[AT], name) for name in plotted.RUNGS]
        mean = points(axes)[position][1]
        np.testing.assert_allclose(mean, at_sizes[position], rtol=1e-4)
        assert all(np.abs(mean / other - 1).max() > 0.1 for other in at_sizes[:position] + at_sizes[position + 1 :])


def test_participation_and_crossings_are_theirs():
    dataset = plotted.simulated(noise=0.0)
    axes = axes_of()
    panels.participation_ratio(axes, dataset, AT)
    for point, (_, mean, _, _) in zip(("held_out", "train"), points(axes), strict=True):
        at = dataset["participation"].sel(rung="empirical", point=point).values[:, AT, 0]
        np.testing.assert_allclose(mean, at, rtol=1e-6)
    axes = axes_of()
    panels.crossing_times(axes, dataset)
    ((x, line),) = lines(axes)
    np.testing.assert_allclose(line, theory.condensation_time(plotted.LADDER, x), rtol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        plotted.simulated,
        lambda: plotted.simulated(MANY, gaussian_relative=1, centred=1, max_points=3000),
        lambda: plotted.simulated(num_seeds=1),
        lambda: plotted.partial(plotted.simulated()),
        lambda: plotted.simulated(name="数 $\\alpha ^^ $ <b>\n" + 80 * "x"),
    ],
    ids=["ladder", "many variances", "one seed", "partial", "hostile name"],
)
def test_every_figure_can_be_drawn(make, tmp_path):
    dataset = make()
    before = settings()
    figure = plots.overlay(dataset)
    plots.save(figure, tmp_path / "overlay.png")
    assert [path.name for path in tmp_path.iterdir()] == ["overlay.png"]
    assert (tmp_path / "overlay.png").read_bytes().startswith(b"\x89PNG")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert [title.split(" ")[0] for title in titles[:4]] == ["linear", "empirical", "freeze-out", "freeze-out"]
    labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes if axes.get_xlabel()]
    assert {xlabel for xlabel, _ in labels} == {panels.SIZE_LABEL}
    assert len(labels) == 6
    assert all(ylabel for _, ylabel in labels)
    assert settings() == before


@pytest.mark.parametrize("draw", [plots.gains, plots.freeze_out_maps, plots.noise_and_dimension, plots.condensation])
def test_text_stays_readable_at_100_pixels_per_inch(draw):
    figure = draw(plotted.simulated())
    sizes = [text.get_fontsize() for text in figure.findobj(mpl.text.Text) if text.get_text().strip()]
    assert min(sizes) >= 9
    assert figure.get_figwidth() * 100 <= 1200


def test_of_many_variances_six_are_shown_and_counted():
    figure = plots.gains(plotted.simulated(MANY))
    legend = figure.axes[1].get_legend()
    assert legend.get_title().get_text() == "variance σ²\n(6 of 32)"
    assert [text.get_text() for text in legend.get_texts()][::5] == ["1", "0.001"]


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "overlay.png"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        plots.save(Figure(), path)
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["overlay.png"]


def test_networks_are_points_with_ranges_beside_the_laws_of_others():
    dataset = plotted.with_network(plotted.simulated())
    axes = axes_of()
    panels.relative_gain(axes, dataset, "network", "dataset_size", AT)
    assert len(lines(axes)) == 2 * 6  # the linear and the empirical law, faint
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["empirical law", "linear law"]
    rho = compare.relative_gain(dataset, "network", "held_out").values[:, AT]
    assert len(axes.containers) == 6
    for group, container in enumerate(axes.containers):
        sizes, mean = container.lines[0].get_data()
        np.testing.assert_array_equal(sizes, plotted.SIZES[[0, 2, 4, 5]])
        own = rho[[0, 2, 4, 5], :2, group]
        np.testing.assert_allclose(mean, np.nanmean(own, axis=1), rtol=1e-6)
        bars = container.lines[2][0].get_segments()
        assert len(bars[1]) == 0  # of the second size one failed: no range
        for position in (0, 2, 3):
            ends = own[position].min(), own[position].max()
            np.testing.assert_allclose(bars[position][:, 1], ends, rtol=1e-6)
    for panel in (panels.effective_noise, panels.soft_dimension):
        axes = axes_of()
        panel(axes, dataset, AT)
        assert len(lines(axes)) == 3
        assert len(axes.containers) == 4
        assert "network (bars: range of 2)" in [text.get_text() for text in axes.get_legend().get_texts()]
    assert [axes.get_title(loc="left").split(" ")[0] for axes in plots.overlay(dataset).axes[:3]] == [
        "linear",
        "empirical",
        "network",
    ]
    assert len(plots.gains(dataset).axes) == 6
    dataset["complete"].loc[{"rung": "network"}] = 0
    assert len(plots.gains(dataset).axes) == 4


def images(figure):
    return [image for axes in figure.axes for image in axes.get_images()]


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1)])
def test_vectors_are_pictures_on_one_scale_about_zero(shape):
    vectors = np.random.default_rng(0).normal(size=(24, 9))  # two rows of them
    vectors[3, 2] = -7.0
    figure = plots.pictures(vectors, shape)
    drawn = images(figure)
    assert len(drawn) == 9
    for number, image in enumerate(drawn):
        np.testing.assert_array_equal(image.get_array(), vectors[:, number].reshape(4, 6))
        assert image.get_clim() == (-7.0, 7.0)
        assert image.axes.get_title() == str(number + 1)
    assert plots.png(figure).startswith(b"\x89PNG")


def test_coloured_vectors_are_grey_at_zero():
    vectors = np.zeros((2 * 2 * 3, 2))
    vectors[4, 0], vectors[11, 1] = 0.5, -0.25
    figure = plots.pictures(vectors, (2, 2, 3), ["up $", "down"])
    first, second = (np.asarray(image.get_array()) for image in images(figure))
    assert first[0, 1].tolist() == [0.5, 1.0, 0.5]
    assert second[1, 1].tolist() == [0.5, 0.5, 0.25]
    assert first[0, 0].tolist() == [0.5, 0.5, 0.5]
    assert [image.axes.get_title() for image in images(figure)] == ["up $", "down"]
    assert plots.png(figure).startswith(b"\x89PNG")
    assert plots.png(plots.pictures(np.zeros((4, 1)), (2, 2)))  # a scale of no width is none


@pytest.mark.parametrize(
    ("vectors", "shape", "titles", "message"),
    [
        (np.ones((6, 2)), (2, 2), None, r"vectors: shape \(6, 2\) does not fill pictures of \(2, 2\); give \(4, k\)"),
        (np.ones(4), (2, 2), None, r"vectors: shape \(4,\)"),
        (np.ones((4, 0)), (2, 2), None, r"vectors: shape \(4, 0\)"),
        (np.full((4, 1), np.nan), (2, 2), None, "vectors: has NaN"),
        (np.ones((8, 1)), (2, 2, 2), None, r"shape: \(2, 2, 2\) is not that of a picture"),
        (np.ones((4, 1)), (2, 2), ["a", "b"], "titles: 2 for 1 vectors"),
    ],
)
def test_what_is_no_picture_is_named(vectors, shape, titles, message):
    with pytest.raises(InputError, match=message):
        plots.pictures(vectors, shape, titles)
