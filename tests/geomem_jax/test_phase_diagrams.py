"""Phase diagrams and shares of results whose phases are known, in numbers, words and figures."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex

import theory
from geomem_jax import phase_diagrams, phase_panels, plots, trained_results
from geomem_jax.errors import InputError
from geomem_jax.gains import DistinctVariances

from . import plotted

VARIANCES = np.array([1.0, 1.0, 0.25, 0.01, 0.01, 0.01, 0.0])
SIZES, STEPS, TIMES = np.array([10, 20, 40, 80]), np.array([1, 10, 100]), np.array([0.01, 0.1])
SAMPLES, HELD_OUT, SEEDS = 128, 200, 3
# Relative gains of the three variances: all free, the smallest frozen, all but the largest, all frozen.
FREE, FINE, MOST, ALL = [0.9, 0.8, 0.6], [0.9, 0.8, 0.3], [0.7, 0.4, 0.2], [0.3, 0.2, 0.1]
# By dataset size, from small to large; fractions copied far from 1/2, and one whose interval holds it.
LATE, COPIED = [ALL, MOST, FINE, FREE], [0.9, 0.5, 0.05, 0.0]
LATE_PHASES = ["copying", "unknown", "geometric memorization", "generalization"]


def made(samples=SAMPLES, chance=0.0, seeds=SEEDS):
    """Networks that generalize at first and end as ``LATE``, at training points; at held-out ones all is free."""
    dataset = trained_results.empty(
        training_steps=STEPS,
        dataset_sizes=SIZES,
        noise_variances=TIMES,
        seeds=seeds,
        variances=VARIANCES,
        attributes={"name": "levels", "centred": 0, "samples": samples, "held_out": HELD_OUT},
    )
    dataset["reference_gain"][:] = 0.5
    dataset["complete"][:] = 1
    spread = 1 + 0.01 * np.linspace(-1, 1, seeds)  # its mean over training sets is 1
    for step, table in zip(STEPS, ([FREE] * 4, [FINE] * 4, LATE), strict=True):
        gain = 0.5 * np.array(table)[:, [0, 0, 1, 2, 2, 2, 2]]
        dataset["gain"].loc[{"point": "held_out"}] = 0.45
        at = {"point": "train", "training_step": step}
        dataset["gain"].loc[at] = gain[:, None, None] * spread[:, None]
        dataset["empirical_gain"].loc[{"point": "train"}] = 0.1
        dataset["empirical_gain"].loc[{"point": "held_out"}] = 0.1
        dataset["predicted_gain"][:] = 0.45
    dataset["copied"][:] = chance
    dataset["held_out_copied"][:] = chance
    copied = np.array(COPIED)[:, None] + 0.02 * np.linspace(-1, 1, seeds) * (np.array(COPIED)[:, None] > 0)
    dataset["copied"].loc[{"training_step": STEPS[-1]}] = chance + (1 - chance) * copied
    return dataset


def test_shares_are_those_of_a_count():
    groups = DistinctVariances(np.array([1.0, 0.25, 0.01]), np.array([2, 1, 3]), np.eye(3))
    directions, variance = phase_diagrams.frozen_shares(np.array([FREE, FINE, MOST, ALL, [0.3, np.nan, 0.9]]), groups)
    np.testing.assert_allclose(directions, [0, 3 / 6, 4 / 6, 1, np.nan])
    np.testing.assert_allclose(variance, [0, 0.03 / 2.28, 0.28 / 2.28, 1, np.nan])


def test_networks_have_the_phases_that_they_were_given():
    dataset = made()
    found = phase_diagrams.over_training(dataset, 0.01, "train")
    np.testing.assert_array_equal(found.dataset_size, SIZES)
    np.testing.assert_array_equal(found.other, STEPS)
    assert found.phase[:, 0].tolist() == ["generalization"] * 4
    assert found.phase[:, 1].tolist() == ["geometric memorization"] * 4
    assert found.phase[:, 2].tolist() == LATE_PHASES
    np.testing.assert_allclose(found.frozen_directions[:, 2], [1, 4 / 6, 3 / 6, 0])
    np.testing.assert_allclose(found.frozen_variance[:, 2], [1, 0.28 / 2.28, 0.03 / 2.28, 0])
    np.testing.assert_allclose(found.copied.mean[:, 2], COPIED, atol=0.003)  # counted in samples, of 128
    # Held-out points are free, and copying does not look at them.
    fresh = phase_diagrams.over_training(dataset, 0.1, "held_out")
    assert fresh.phase[:, 2].tolist() == ["copying", "unknown", "generalization", "generalization"]
    said = phase_diagrams.trained_in_words(dataset, 0.1)
    assert said == (
        "phases after 100 steps at noise variance t = 0.1: at training points copying up to N = 10, unknown at N = 20, "
        "geometric memorization at N = 40, generalization from N = 80 on; at held-out points copying up to N = 10, "
        "unknown at N = 20, generalization from N = 40 on"
    )
    with pytest.raises(InputError, match=r"noise_variance 0\.5 is not in this result"):
        phase_diagrams.over_training(dataset, 0.5, "train")


def test_what_is_not_measured_or_failed_is_left_out():
    dataset = made()
    dataset["complete"].loc[{"training_step": 100}] = 0
    dataset["gain"].loc[{"training_step": 10, "dataset_size": 20, "seed": 0}] = np.nan
    dataset["copied"].loc[{"training_step": 10, "dataset_size": 20, "seed": 0}] = np.nan
    dataset["failed"].loc[{"dataset_size": 20, "seed": 0}] = 5
    found = phase_diagrams.over_training(dataset, 0.01, "train")
    np.testing.assert_array_equal(found.other, STEPS[:2])
    assert found.phase[:, 1].tolist() == ["geometric memorization"] * 4
    dataset["failed"][:] = -1  # then what is missing must show
    found = phase_diagrams.over_training(dataset, 0.01, "train")
    assert found.phase[:, 1].tolist() == ["geometric memorization", "unknown", *["geometric memorization"] * 2]
    assert np.isnan(found.frozen_directions[1, 1])


def test_copies_by_chance_are_not_copies():
    dataset = made(chance=0.6)
    assert (dataset["copied"].values > 0.5).all()
    found = phase_diagrams.over_training(dataset, 0.01, "train")
    assert found.phase[:, 0].tolist() == ["generalization"] * 4
    assert found.phase[[0, 3], 2].tolist() == ["copying", "generalization"]
    dataset["held_out_copied"][:] = 0
    assert (phase_diagrams.over_training(dataset, 0.01, "train").phase[:, 0] == "copying").all()


def test_the_interval_of_copies_covers_the_truth_and_not_chance():
    """Fractions differ from training set to training set, by more than samples do."""
    rng, covered, naive, wrong, trials = np.random.default_rng(0), 0, 0, 0, 400
    for _ in range(trials):
        truth = np.clip(0.5 + 0.1 * rng.standard_normal(4), 0, 1)  # 0.5 on average
        copied = rng.binomial(SAMPLES, 0.2 + 0.8 * truth) / SAMPLES
        chance = rng.binomial(HELD_OUT, 0.2, 4) / HELD_OUT
        found = phase_diagrams.copied_beyond_chance(copied, chance, SAMPLES, HELD_OUT)
        covered += found.lower <= 0.5 <= found.upper
        wrong += found.lower <= 0.75 <= found.upper
        pooled = phase_diagrams.excess_interval(round(copied.sum() * SAMPLES), 4 * SAMPLES, 0, 4 * HELD_OUT)
        naive += pooled.lower <= 0.5 <= pooled.upper
    # Of 400 at 95 %: below 360 with probability 3e-5.
    assert covered >= 360
    # Negative controls: chance forgotten, and a truth five standard errors of the mean away.
    assert naive < 100
    assert wrong < 100
    apart = phase_diagrams.copied_beyond_chance(np.array([0.1, 0.9]), np.zeros(2), SAMPLES, HELD_OUT)
    assert apart[1:] == (0, 1)  # two training sets that differ say nothing
    none = phase_diagrams.copied_beyond_chance(np.zeros(4), np.zeros(4), SAMPLES, HELD_OUT)
    assert none[:2] == (0, 0)
    assert 0 < none.upper < 0.02  # though all training sets agree
    one = phase_diagrams.copied_beyond_chance(np.array([0.5]), np.array([0.0]), SAMPLES, HELD_OUT)
    assert 0.35 < one.lower < 0.5 < one.upper < 0.65
    assert np.isnan(phase_diagrams.copied_beyond_chance(np.array([]), np.array([]), SAMPLES, HELD_OUT)).all()


def test_shares_have_the_range_of_three_training_sets():
    dataset = made()
    smallest = np.flatnonzero(VARIANCES == 0.01)
    at = {"training_step": 100, "point": "train", "dataset_size": 40, "direction": smallest}
    dataset["gain"].loc[at] = 0.5 * np.array([0.3, 0.3, 0.6])[:, None]  # in one of three it is free
    view = trained_results.at_step(dataset, 100).copy(deep=True)
    directions, variance = phase_diagrams.shares(view, "trained", 0.01, "train")
    np.testing.assert_allclose(directions.mean, [1, 4 / 6, 3 / 6, 0])
    np.testing.assert_allclose(directions.lower, [1, 4 / 6, 0, 0])
    np.testing.assert_allclose(directions.upper, [1, 4 / 6, 3 / 6, 0])
    np.testing.assert_allclose(variance.upper, [1, 0.28 / 2.28, 0.03 / 2.28, 0])
    view["complete"].loc[{"rung": "trained", "dataset_size": 10}] = 0
    assert np.isnan(phase_diagrams.shares(view, "trained", 0.01, "train").directions.mean).tolist() == [
        True,
        False,
        False,
        False,
    ]


def cells(axes, name, sizes=SIZES, others=STEPS):
    """Positions (size, other) of the cells that are drawn as a phase, by its hatch and its colour."""
    style, found = phase_panels.STYLES[name], []
    for bars in axes.containers:
        for bar in bars:
            if to_hex(bar.get_facecolor()) == to_hex(style["facecolor"]) and (bar.get_hatch() or "") == style["hatch"]:
                x, y = bar.get_xy()
                inside = [
                    np.flatnonzero((low < centres) & (centres < low + width))
                    for low, width, centres in ((x, bar.get_width(), sizes), (y, bar.get_height(), others))
                ]
                found.append(tuple(int(*position) for position in inside))
    return sorted(found)


def test_the_figure_shows_the_phases_the_shares_and_the_copies(tmp_path):
    dataset = made()
    figure = plots.phases(dataset)
    plots.save(figure, tmp_path / "phases.png")
    maps, below = figure.axes[:4], figure.axes[4:]
    assert [axes.get_title(loc="left") for axes in maps] == [
        "training points, t = 0.01",
        "held-out points, t = 0.01",
        "training points, t = 0.1",
        "held-out points, t = 0.1",
    ]
    found = phase_diagrams.over_training(dataset, 0.01, "train")
    for name in phase_panels.STYLES:
        assert cells(maps[0], name) == [tuple(at) for at in np.argwhere(found.phase == name).tolist()]
    last = [axes.containers[0].lines[0].get_data() for axes in below[:2]]
    np.testing.assert_allclose(last, [[SIZES, [1, 4 / 6, 3 / 6, 0]], [SIZES, [1, 0.28 / 2.28, 0.03 / 2.28, 0]]])
    ends = np.array([container.lines[0].get_ydata() for container in below[2].containers])
    np.testing.assert_allclose(ends, found.copied.mean.T)
    sizes = [text.get_fontsize() for text in figure.findobj(mpl.text.Text) if text.get_text().strip()]
    assert min(sizes) >= 9


def test_of_linear_denoisers_the_boundary_is_that_of_gradient_flow(tmp_path):
    dataset = made(samples=0)
    dataset["training_time"][:] = 0.1 * STEPS
    for name in ("copied", "held_out_copied"):
        dataset[name][:] = np.nan
    # All directions of a size are free from the step N / 3 on.
    late = 1 / (1 + SIZES / (3 * STEPS[:, None]))
    dataset["predicted_training_gain"][:] = 0.5 * late[:, :, None, None]
    figure = plots.phases(dataset)
    plots.save(figure, tmp_path / "phases.png")
    axes = figure.axes[0]
    assert phase_diagrams.over_training(dataset, 0.01, "train").phase[:, 2].tolist() == [
        "collapse",
        *["geometric memorization"] * 2,
        "generalization",
    ]
    assert len(figure.axes) == 4 + 2  # nothing is sampled
    (line,) = {line.get_label() for line in axes.get_lines()} - {"gradient flow: last direction freezes"}
    assert line == "gradient flow: first direction freezes"


def test_over_noise_the_empirical_score_copies_below_the_condensation_time():
    dataset = plotted.simulated(noise=0.0)  # the participation ratio crosses 1/2 there
    times = np.asarray(theory.condensation_time(plotted.LADDER, plotted.SIZES))
    below = times[:, None] > plotted.TIMES
    for point in ("train", "held_out"):
        found = phase_diagrams.over_noise(dataset, "empirical", point)
        np.testing.assert_array_equal(found.phase == "copying", below & (plotted.SIZES > 2)[:, None])
        assert (found.phase[0] == "unknown").all()  # of two points
        assert (found.phase[1:][~below[1:]] == "generalization").all()
    # Shares by a count over directions, gain by gain.
    rho = dataset["gain"].sel(rung="empirical", point="held_out").mean("seed") / dataset["reference_gain"]
    frozen = rho.transpose("dataset_size", "noise_variance", "direction").values[..., :24]
    frozen = frozen.reshape(*below.shape, 6, 4).mean(axis=-1) < 0.5
    np.testing.assert_allclose(found.frozen_directions, frozen.mean(axis=-1), rtol=1e-6)
    variances = 2.0 ** -np.arange(6)
    np.testing.assert_allclose(found.frozen_variance, frozen @ variances / variances.sum(), rtol=1e-6)
    assert len(np.unique(found.frozen_directions)) > 4
    # Gains at held-out points, the participation ratio at training points.
    dataset["participation"].loc[{"point": "held_out"}] = 0.0
    np.testing.assert_array_equal(phase_diagrams.over_noise(dataset, "empirical").phase, found.phase)
    dataset["participation"].loc[{"point": "train"}] = 0.0
    assert "copying" not in phase_diagrams.over_noise(dataset, "empirical").phase
    assert "geometric memorization" in phase_diagrams.over_noise(dataset, "empirical").phase


def test_sizes_that_are_not_measured_are_left_out():
    found = phase_diagrams.over_noise(plotted.partial(plotted.simulated()), "empirical")
    np.testing.assert_array_equal(found.dataset_size, plotted.SIZES[:-1])
    assert np.isfinite(found.frozen_directions).all()


def test_an_interval_that_holds_one_half_decides_nothing():
    dataset = plotted.simulated(noise=0.2)
    dataset["participation"][:] = dataset["participation"].clip(0, 1)
    unknown = phase_diagrams.over_noise(dataset, "empirical", "train").phase[1:] == "unknown"
    mean = dataset["participation"].sel(rung="empirical", point="train").mean("seed").values[1:]
    assert unknown.any()
    assert np.abs(mean - 0.5)[unknown].max() < np.abs(mean - 0.5)[~unknown].max()
    alone = phase_diagrams.over_noise(plotted.simulated(num_seeds=1), "empirical", "train")
    assert "unknown" not in alone.phase[1:]  # one training set has no interval


def test_rungs_that_cannot_copy_have_phases_of_directions_alone():
    dataset = plotted.with_network(plotted.simulated(noise=0.0))
    linear = phase_diagrams.over_noise(dataset, "linear")
    rho = theory.gain(plotted.LADDER, plotted.SIZES[:, None], plotted.TIMES, "linear") / theory.wiener_gain(
        plotted.LADDER, plotted.TIMES
    )
    frozen = np.asarray(rho)[..., :24] < 0.5
    expected = np.select([frozen.all(-1), frozen.any(-1)], ["collapse", "geometric memorization"], "generalization")
    np.testing.assert_array_equal(linear.phase, expected)
    assert set(expected.ravel()) == {"collapse", "geometric memorization", "generalization"}
    assert (phase_diagrams.over_noise(dataset, "population").phase == "generalization").all()
    network = phase_diagrams.over_noise(dataset, "network")
    np.testing.assert_array_equal(network.dataset_size, plotted.SIZES[[0, 2, 4, 5]])
    assert not {"copying", "unknown"} & set(network.phase.ravel())
    dataset["complete"].loc[{"rung": "network"}] = 0
    with pytest.raises(InputError, match="no training set of this result is measured for the network model"):
        phase_diagrams.over_noise(dataset, "network")


@pytest.fixture
def quick(monkeypatch):
    """The time of best generalization takes seconds to compile; here it crosses the condensation time."""
    monkeypatch.setattr(theory, "best_generalization_time", plotted.best_times)


def test_times_are_those_of_theory(quick):
    found = phase_diagrams.predicted_times(plotted.simulated())
    assert found.dataset_size[[0, -1]].tolist() == pytest.approx([3, 2048])
    for got, time in ((found.condensation, theory.condensation_time), (found.onset, theory.onset_time)):
        np.testing.assert_allclose(got, time(plotted.LADDER, found.dataset_size), rtol=1e-5)
    below = 0.7 * found.dataset_size**-0.05 < found.condensation
    assert np.count_nonzero(below) > 0
    np.testing.assert_allclose(found.best[below], 0.7 * found.dataset_size[below] ** -0.05, rtol=1e-6)
    assert np.isnan(found.best[~below]).all()


def test_the_figure_over_noise_shows_phases_shares_and_times(quick, tmp_path):
    dataset = plotted.with_network(plotted.with_exact(plotted.simulated()))
    figure = plots.phase_diagram(dataset)
    plots.save(figure, tmp_path / "phases.png")
    axes = figure.axes
    assert [panel.get_title(loc="left").replace("\n", " ") for panel in axes[:5]] == [
        "linear model, held-out points",
        "empirical model, training points",
        "empirical model, held-out points",
        "network model, training points",
        "network model, held-out points",
    ]
    found = phase_diagrams.over_noise(dataset, "empirical", "train")
    for name in phase_panels.STYLES:
        drawn = cells(axes[1], name, found.dataset_size, found.other)
        assert drawn == [tuple(at) for at in np.argwhere(found.phase == name).tolist()]
    (line,) = [line for line in axes[1].get_lines() if line.get_label() == "condensation t_c"]
    np.testing.assert_allclose(line.get_ydata(), theory.condensation_time(plotted.LADDER, line.get_xdata()), rtol=1e-5)
    for row, name in ((1, "frozen_directions"), (2, "frozen_variance")):
        shares = axes[5 * row + 1].collections[0].get_array()
        np.testing.assert_allclose(shares, getattr(found, name).T)
    sizes = [text.get_fontsize() for text in figure.findobj(mpl.text.Text) if text.get_text().strip()]
    assert min(sizes) >= 9


def test_the_sentence_counts_the_cells():
    dataset = plotted.simulated(noise=0.0)
    said = phase_diagrams.noise_in_words(dataset)
    below = np.asarray(theory.condensation_time(plotted.LADDER, plotted.SIZES))[1:, None] > plotted.TIMES
    shares = phase_diagrams.over_noise(dataset, "linear").frozen_directions
    some = np.count_nonzero((shares > 0) & (shares < 1))
    assert f"copies training points in {below.sum()} of 20 cells" in said
    assert "is right about 20 of them" in said
    assert said.endswith(f"; some directions are frozen and some free in {some} of 24 cells of the linear model.")
    dataset["participation"][:] = 1.0
    assert (
        "copies training points in 20 of 20 cells of dataset size and noise variance, below"
        in phase_diagrams.noise_in_words(dataset)
    )
    assert f"is right about {below.sum()} of them" in phase_diagrams.noise_in_words(dataset)
