"""Freeze-out sizes and times with intervals, deviations and the table, on results whose truth is known."""

import numpy as np
import pytest
from scipy import stats

import theory
from geomem_jax import compare, freeze_out, gains, league_cells, results, statistics
from geomem_jax.contenders import contender
from geomem_jax.errors import InputError

from . import plotted

SIZES = [2, 4, 8, 16, 32, 64]
TIMES = [0.1, 0.4]
LADDER = [1.0, 1.0, 0.25, 0.25, 0.0]


def blank(variances=LADDER, sizes=SIZES, times=TIMES, num_seeds=4, **attributes):
    """A complete result with the Wiener gain as reference and prediction; nothing is measured."""
    dataset = results.empty(
        rungs=["population", "linear", "empirical"],
        laws=["population", "linear", "empirical"],
        dataset_sizes=sizes,
        noise_variances=times,
        seeds=range(num_seeds),
        variances=np.array(variances),
        attributes={"gaussian_relative": 0, "centred": 0, **attributes},
    )
    reference = np.array(variances) / (np.array(variances) + np.array(times)[:, None])
    dataset["reference_gain"][:] = reference
    dataset["predicted_gain"][:] = reference
    dataset["complete"][:] = 1
    return dataset


def with_relative_gain(dataset, rho, rung="empirical", variable="gain"):
    """Fill one rung at held-out points with ``rho``, broadcast to (size, noise, seed, direction)."""
    at = {"rung": rung, "point": "held_out"}
    shape = dataset[variable].loc[at].shape
    dataset[variable].loc[at] = np.broadcast_to(rho, shape) * dataset["reference_gain"].values[:, None, :]
    return dataset


def cells(dataset, law):
    """All cells of the empirical rung at held-out points against a law."""
    found = league_cells.measure(dataset, "empirical", "held_out")
    return league_cells.hold_all(found, contender(dataset, law, law, "held_out"))


def along_size(values):
    return np.asarray(values, float)[:, None, None, None]


def test_equal_variances_are_one_and_zero_is_none():
    dataset = blank([0.0, 1.0, 0.25 * (1 + 5e-7), 1.0, 0.25, 1e-17, 0.25 * (1 + 1e-5)])
    groups = compare.distinct_variances(dataset)
    np.testing.assert_allclose(groups.variance, [1, 0.25 * (1 + 1e-5), 0.25], rtol=1e-6)
    np.testing.assert_array_equal(groups.multiplicity, [2, 1, 2])
    np.testing.assert_allclose(np.arange(7) @ groups.weights, [2, 6, 3])


def test_relative_gain_averages_equal_variances_and_hides_what_is_incomplete():
    dataset = with_relative_gain(blank(), np.array([0.2, 0.4, 0.6, 1.0, 9.0]))
    dataset["complete"][:, 5, 3] = 0
    rho = compare.relative_gain(dataset, "empirical", "held_out")
    assert rho.dims == ("dataset_size", "noise_variance", "seed", "distinct_variance")
    np.testing.assert_allclose(rho.values[0, 1, 2], [0.3, 0.8], rtol=1e-6)
    assert np.isnan(rho.sel(dataset_size=64, seed=3)).all()
    assert np.isnan(rho).sum() == len(TIMES) * 2


@pytest.mark.parametrize(
    ("rho", "crossing"),
    [
        ([0.1, 0.4, 0.6, 0.9], 1.5),
        ([0.1, 0.5, 0.6, 0.9], 1.0),  # frozen means below one half
        ([0.6, 0.7, 0.8, 0.9], -np.inf),
        ([0.1, 0.2, 0.3, 0.4], np.inf),
        ([0.1, 0.6, 0.2, 0.7], 2.6),  # several crossings: free *above* N*, so the largest
        ([0.6, 0.2, 0.4, 0.9], 2.2),
        ([0.1, 0.6, 0.9, 0.4], np.inf),  # frozen again at the end: N* is beyond the grid
        ([0.9, 0.1, 0.9, 0.9], 1.5),
        ([0.1, np.nan, 0.9, 0.9], np.nan),
    ],
)
def test_the_largest_crossing(rho, crossing):
    found = freeze_out.largest_crossing(np.arange(4.0), np.array([rho, rho]))
    np.testing.assert_allclose(found, [crossing, crossing])


@pytest.mark.parametrize(("rho", "crossing"), [(0.4, np.inf), (0.5, -np.inf)])
def test_a_grid_of_one_number_only_censors(rho, crossing):
    assert freeze_out.largest_crossing(np.array([3.0]), np.array([rho])) == crossing


def test_sizes_come_from_the_mean_over_seeds():
    offsets = np.array([-0.2, 0.0, 0.0, 0.2])[:, None]
    dataset = with_relative_gain(blank(), along_size([0.1, 0.2, 0.3, 0.4, 0.6, 0.7]) + offsets)
    found = compare.freeze_out_sizes(dataset, "empirical", "held_out", 0.4)
    np.testing.assert_allclose(found.log_value, np.log(np.sqrt(16 * 32)), rtol=1e-6)
    np.testing.assert_array_less(found.log_lower, found.log_value)
    np.testing.assert_array_less(found.log_value, found.log_upper)
    assert (found.grid, found.num_seeds, list(found.multiplicity)) == ((2.0, 64.0), 4, [2, 2])


def test_mean_and_median_are_different_definitions():
    dataset = with_relative_gain(blank(), along_size([0.1, 0.4, 0.6, 0.9, 1, 1]))
    with_relative_gain(dataset, along_size([0, 0, 0, 0.4, 0.6, 1]), variable="gain_median")
    by_mean = compare.freeze_out_sizes(dataset, "empirical", "held_out", 0.1)
    by_median = compare.freeze_out_sizes(dataset, "empirical", "held_out", 0.1, "median")
    np.testing.assert_allclose(np.exp(by_mean.log_value), np.sqrt(4 * 8), rtol=1e-6)
    np.testing.assert_allclose(np.exp(by_median.log_value), np.sqrt(16 * 32), rtol=1e-6)


def test_replicates_outside_the_grid_open_the_interval():
    spread = np.array([-0.3, -0.1, 0.1, 0.3])[:, None]
    rising = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.55])
    found = compare.freeze_out_sizes(
        with_relative_gain(blank(), along_size(rising) + spread), "empirical", "held_out", 0.1
    )
    assert np.isfinite(found.log_value).all()
    assert (found.log_upper == np.inf).all()
    assert np.isfinite(found.log_lower).all()
    found = compare.freeze_out_sizes(
        with_relative_gain(blank(), along_size(1 - rising[::-1]) + spread), "empirical", "held_out", 0.1
    )
    assert (found.log_lower == -np.inf).all()
    assert np.isfinite(found.log_upper).all()


@pytest.mark.parametrize("by", ["seed", "dataset_size"])
def test_an_interrupted_run_uses_what_is_complete(by):
    dataset = with_relative_gain(blank(), along_size([0.1, 0.2, 0.3, 0.4, 0.6, 0.7]))
    if by == "seed":  # the third seed was being measured
        dataset["complete"][:, 2:, 2] = 0
        dataset["complete"][:, :, 3] = 0
    else:  # the last size was being measured
        dataset["complete"][:, 5, 1:] = 0
    for variable in ("gain", "gain_median"):  # unmeasured numbers must not matter
        known = dataset[variable].where(dataset["complete"] == 1, 77.0)
        dataset[variable] = known.transpose(*results.DIMENSIONS[variable])
    found = compare.freeze_out_sizes(dataset, "empirical", "held_out", 0.1)
    assert (found.num_seeds, found.grid) == ((2, (2, 64)) if by == "seed" else (4, (2, 32)))
    np.testing.assert_allclose(np.exp(found.log_value), np.sqrt(16 * 32), rtol=1e-6)


def test_times_are_the_largest_crossing_in_log_t_whatever_the_order_of_the_grid():
    times = [1.6, 0.1, 6.4, 0.4]
    rho = np.array([0.2, 0.9, 0.8, 0.6])[None, :, None, None]  # ascending: 0.9, 0.6, 0.2, 0.8
    found = compare.freeze_out_times(with_relative_gain(blank(times=times), rho), "empirical", "held_out", 8)
    np.testing.assert_allclose(found.log_value, np.log(1.6) + 0.5 * np.log(4), rtol=1e-6)
    assert found.grid == (0.1, 6.4)
    for value, censored in [(0.4, np.inf), (0.9, -np.inf)]:
        dataset = with_relative_gain(blank(times=times), value)
        assert (compare.freeze_out_times(dataset, "empirical", "held_out", 8).log_value == censored).all()


def test_sizes_are_compared_where_the_grid_can_tell_their_order(monkeypatch):
    predicted = {0.1: [10.0, 10.5], 0.4: [10.0, 30.0], 1.6: [70.0, 700.0]}  # too close, resolved, off the grid
    monkeypatch.setattr(theory, "freeze_out_sizes", lambda variances, t, law: np.repeat(np.log(predicted[t]), [2, 3]))
    dataset = blank(times=list(predicted))
    assert freeze_out.best_resolved(dataset, ["empirical"]) == 0.4
    predicted[1.6] = [7.0, 700.0]
    predicted[0.4] = [1.0, 0.1]
    assert freeze_out.best_resolved(dataset, ["empirical"]) == 1.6


def test_what_is_not_in_the_result_is_an_input_error():
    dataset = with_relative_gain(blank(), 1.0)
    with pytest.raises(InputError, match=r"^rung 'u-net' is not .* population, linear, empirical$"):
        compare.relative_gain(dataset, "u-net", "held_out")
    with pytest.raises(InputError, match=r"^point 'nowhere' .* train, held_out, origin$"):
        compare.relative_gain(dataset, "linear", "nowhere")
    with pytest.raises(InputError, match=r"^law 'planted' is not"):
        gains.predicted_gain(dataset, "planted")
    with pytest.raises(InputError, match=r"^noise_variance 0.2 is not .* 0.1, 0.4$"):
        compare.freeze_out_sizes(dataset, "linear", "held_out", 0.2)
    with pytest.raises(InputError, match=r"^dataset_size 5 is not"):
        compare.freeze_out_times(dataset, "linear", "held_out", 5)
    dataset["complete"][:] = 0
    with pytest.raises(InputError, match="no training set of this result is measured"):
        compare.freeze_out_sizes(dataset, "linear", "held_out", 0.1)
    with pytest.raises(InputError, match="no training set of size 8 is measured"):
        compare.freeze_out_times(dataset, "linear", "held_out", 8)


def covered(num_seeds, num_directions=800):
    """Fraction of intervals of log N* that hold the truth: one independent experiment per direction."""
    rng = np.random.default_rng(num_seeds)
    sizes = np.unique(np.round(2 ** np.arange(3, 10.1, 0.5)).astype(int))
    dataset = blank(np.geomspace(1, 1e-2, num_directions), sizes, [0.1], num_seeds)
    truth = rng.uniform(np.log(32), np.log(256), num_directions)
    curve = 1 / (1 + np.exp(truth - np.log(sizes)[:, None]))
    # A shift per seed, as training sets are nested in size, and independent noise per size.
    shift = 0.04 * rng.standard_normal((num_seeds, num_directions))
    noise = 0.02 * rng.standard_normal((len(sizes), num_seeds, num_directions))
    rho = curve[:, None, None, :] + shift[None, None] + noise[:, None]
    found = compare.freeze_out_sizes(with_relative_gain(dataset, rho), "empirical", "held_out", 0.1)
    return np.mean((found.log_lower <= truth) & (truth <= found.log_upper))


# Two coverages and their control; correct code fails with probability 1e-3.  Binomial error of 800 experiments.
COVERAGE_ERROR = statistics.critical_z(1e-3, 3) * np.sqrt(0.95 * 0.05 / 800)


@pytest.mark.parametrize("num_seeds", [8, 16])
def test_intervals_of_sizes_cover_the_truth_as_often_as_they_say(num_seeds):
    assert abs(covered(num_seeds) - 0.95) < COVERAGE_ERROR


def test_the_plain_percentile_interval_does_not(monkeypatch):
    monkeypatch.setattr(statistics, "expanded_percentile", lambda num_seeds, confidence: (1 - confidence) / 2)
    assert covered(8) < 0.95 - COVERAGE_ERROR


def test_predictions_are_those_of_theory_per_distinct_variance():
    dataset = blank()
    first = np.array([0, 2])
    for law in ("population", "linear", "empirical"):
        expected = theory.freeze_out_sizes(np.array(LADDER), 0.1, law)[first]
        np.testing.assert_allclose(compare.predicted_sizes(dataset, 0.1, law), expected, rtol=1e-6)
    assert (compare.predicted_times(dataset, 8, "population") == -np.inf).all()  # never frozen


def test_sizes_and_times_of_exact_averages_are_interpolated_as_measured_ones():
    dataset = plotted.with_exact(plotted.simulated(noise=0.0))
    for t in plotted.TIMES:
        measured = compare.freeze_out_sizes(dataset, "empirical", "held_out", t)
        np.testing.assert_allclose(compare.predicted_sizes(dataset, t, "finite_size"), measured.log_value, rtol=1e-5)
    for n in plotted.SIZES:
        measured = compare.freeze_out_times(dataset, "empirical", "held_out", int(n))
        found = compare.predicted_times(dataset, int(n), "finite_size")
        np.testing.assert_allclose(found, measured.log_value, rtol=1e-4, atol=1e-5)
    assert np.isfinite(measured.log_value).any()


def test_the_error_of_a_law_widens_the_error_bar():
    exact, uncertain = (
        cells(plotted.with_exact(plotted.simulated(), error=error), "finite_size") for error in (0.0, 0.04)
    )
    np.testing.assert_allclose(uncertain.fixed, 0.04, rtol=1e-5)
    np.testing.assert_allclose(
        uncertain.face_score * np.hypot(exact.sampling, 0.04), exact.face_score * exact.sampling, rtol=1e-4
    )
    np.testing.assert_array_equal(uncertain.sampling, exact.sampling)


def test_centred_data_lose_one_point_under_the_linear_law_only(monkeypatch):
    # A stand-in that compiles in no time: what matters is the size it is asked for.
    monkeypatch.setattr(theory, "freeze_out_times", lambda variances, n, law: variances / n)
    plain, centred = blank(), blank(centred=1)
    sizes = [np.exp(compare.predicted_sizes(dataset, 0.1, "linear")) for dataset in (plain, centred)]
    np.testing.assert_allclose(sizes[1], sizes[0] + 1, rtol=1e-6)
    np.testing.assert_array_equal(
        compare.predicted_sizes(centred, 0.1, "empirical"), compare.predicted_sizes(plain, 0.1, "empirical")
    )
    for dataset, law, size in [(plain, "linear", 9), (centred, "linear", 8), (centred, "empirical", 9)]:
        expected = np.log(np.array([1.0, 0.25]) / size)
        np.testing.assert_allclose(compare.predicted_times(dataset, 9, law), expected)
    assert (compare.predicted_times(centred, 1, "linear") == np.inf).all()


def test_tau_of_a_reversed_order_with_its_interval():
    dataset = blank([1.0, 0.5, 0.25, 0.125], num_seeds=8)
    position = np.log(SIZES)[:, None] - np.log([40, 20, 10, 5])
    noise = 0.02 * np.random.default_rng(0).standard_normal((8, 4))
    with_relative_gain(dataset, 1 / (1 + np.exp(-position))[:, None, None, :] + noise)
    measured = compare.freeze_out_sizes(dataset, "empirical", "held_out", 0.1)
    predicted = compare.predicted_sizes(dataset, 0.1, "empirical")  # fine detail freezes first
    tau = compare.kendall_tau(measured, predicted)
    assert (tau.estimate, tau.lower, tau.upper) == (-1, -1, -1)
    tau = compare.kendall_tau(measured, -predicted)
    assert (tau.estimate, tau.lower, tau.upper) == (1, 1, 1)
    assert np.isnan(compare.kendall_tau(measured, np.full(4, -np.inf))[:3]).all()


def test_an_order_hidden_by_noise_has_a_wide_tau():
    dataset = blank([1.0, 0.5, 0.25, 0.125], num_seeds=8)
    position = np.log(SIZES)[:, None] - np.log([16, 16.1, 16.2, 16.3])
    noise = 0.1 * np.random.default_rng(0).standard_normal((8, 4))
    with_relative_gain(dataset, (1 / (1 + np.exp(-position)))[:, None, None, :] + noise)
    measured = compare.freeze_out_sizes(dataset, "empirical", "held_out", 0.1)
    tau = compare.kendall_tau(measured, np.arange(4.0))
    assert tau.lower < 0 < tau.upper


def false_alarms(factor, threshold_of=compare.critical_t):
    """Fraction of runs of 40 cells (one run per noise variance) with any cell beyond the threshold, and the cells."""
    dataset = blank([1.0, 1.0, 0.5, 0.25, 0.125, 0.0], range(1, 11), np.geomspace(0.1, 1, RUNS), 8)
    found = cells(with_relative_gain(dataset, factor), "population")
    assert found.face_score.shape == (10, RUNS, 4)
    beyond = np.abs(found.face_score) > threshold_of(0.05, 40, found.degrees)
    return np.mean(beyond.any(axis=(0, 2))), found


RUNS = 400
EXPECTED = 1 - (1 - 0.05 / 40) ** 40  # of independent cells
ERROR = statistics.critical_z(1e-3, 2) * np.sqrt(EXPECTED * (1 - EXPECTED) / RUNS)


def test_a_true_law_is_rejected_as_rarely_as_promised():
    factor = 1 + 0.03 * np.random.default_rng(0).standard_normal((10, RUNS, 8, 6))
    rate, found = false_alarms(factor)
    assert abs(rate - EXPECTED) < ERROR
    np.testing.assert_allclose(found.degrees, 7, rtol=1e-6)
    assert stats.kstest(found.face_score.ravel(), stats.t(7).cdf).pvalue > 1e-3
    # The comparison can tell the two apart.
    assert stats.kstest(found.face_score.ravel(), stats.norm.cdf).pvalue < 1e-3
    normal, _ = false_alarms(factor, lambda alpha, cells, _: compare.critical_z(alpha, cells))
    assert normal > EXPECTED + ERROR  # the normal threshold cries wolf with 8 seeds


def test_a_true_law_of_skewed_gains_is_rejected_as_rarely():
    factor = np.random.default_rng(0).gamma(2, 1 / 2, (10, RUNS, 8, 6))
    rate, found = false_alarms(factor)
    assert abs(rate - EXPECTED) < ERROR
    assert 0 < np.isnan(found.degrees).mean() < 0.1  # few training sets carry these
    student = (found.measured / found.predicted - 1) / (found.sampling * found.measured / found.predicted)
    old = np.mean((np.abs(student) > compare.critical_t(0.05, 40, 7)).any(axis=(0, 2)))
    assert old > EXPECTED + ERROR


def test_incomplete_cells_are_not_tested_and_identical_seeds_are():
    dataset = with_relative_gain(blank(), 1.1)
    dataset["complete"][:, 0] = 0
    dataset["complete"][:, 1, 1:] = 0
    found = cells(dataset, "population")
    assert np.isnan(found.measured[0]).all()
    assert np.isnan(found.degrees[:2]).all()
    np.testing.assert_allclose(found.measured[1:] / found.predicted[1:], 1.1, rtol=1e-5)
    assert np.isfinite(found.face_score[2:]).all()
    np.testing.assert_array_equal(found.degrees[2:], league_cells.CERTAIN)  # rounding is all there is
    np.testing.assert_array_equal(found.seeds[:, 0, 0], [0, 1, 4, 4, 4, 4])


def test_a_law_whose_range_reaches_zero_is_held_for_skewed_gains_all_the_same():
    dataset = with_relative_gain(blank(centred=1), np.array([0.5, 0.9, 1.1, 1.9])[:, None])
    found = cells(dataset, "linear")
    assert (found.lower[0] <= 0).all()  # of two points, centred: one part in one
    assert not found.plain.any()
    assert np.isfinite(found.score).all()
    np.testing.assert_allclose(found.face_score[1:] - found.face_score[0], 0, atol=1e-5)  # the same at every size


def test_a_mean_of_zero_is_kept_and_not_tested():
    found = cells(with_relative_gain(blank(), 0.0), "population")
    assert (found.measured == 0).all()
    assert np.isnan(found.degrees).all()


def test_the_table_holds_predictions_and_both_definitions():
    dataset = blank()
    for rung, scale in [("population", 9.0), ("linear", 1.0), ("empirical", 0.1)]:
        for variable in ("gain", "gain_median"):
            rho = along_size([0.1, 0.4, 0.6, 0.9, 1, 1]) * scale
            with_relative_gain(dataset, rho if variable == "gain" else rho / 2, rung, variable)
    rows = compare.freeze_out_table(dataset, 0.1)
    assert [(row.variance, row.multiplicity) for row in rows] == [(1, 2), (0.25, 2)]
    assert rows[0].grid == dict.fromkeys(["population", "linear", "empirical"], (2, 64))
    for position, row in enumerate(rows):
        assert list(row.predicted) == list(row.measured) == ["population", "linear", "empirical"]
        assert row.predicted["linear"] == compare.predicted_sizes(dataset, 0.1, "linear")[position]
        assert row.measured["population"] == (-np.inf,) * 3
        assert row.measured["empirical"] == (np.inf,) * 3
        np.testing.assert_allclose(np.exp(row.measured["linear"]), np.sqrt(4 * 8), rtol=1e-6)
        np.testing.assert_allclose(np.exp(row.measured_median["linear"]), 32, rtol=1e-6)


@pytest.mark.parametrize(
    ("log_size", "grid", "text"),
    [
        (np.log(2.0), None, "2"),
        (np.log(212.4), None, "212"),
        (np.log(999.7), None, "1000"),
        (np.log(1712.0), (2, 16384), "1710"),
        (-np.inf, (2, 16384), "< 2"),
        (np.inf, (2, 16384), "> 16384"),
        (np.inf, (2, 12345678), "> 12345678"),
        (-np.inf, None, "never"),
        (-0.5, None, "< 1"),
        (np.inf, None, "inf"),
        (43.25 * np.log(10), None, "10^43"),
        (10_000.0, None, "10^4343"),
        (np.nan, None, "n/a"),
    ],
)
def test_sizes_are_written_for_readers(log_size, grid, text):
    assert compare.format_size(log_size, grid) == text


def test_networks_have_ranges_and_no_law():
    plain = plotted.simulated()
    dataset = plotted.with_network(plain)
    found = compare.verdict(dataset)
    assert found.sentence == compare.verdict(plain).sentence
    assert (found.measured, found.planned) == (48, 48)
    t = found.noise_variance
    rows, expected = compare.freeze_out_table(dataset, t), compare.freeze_out_table(plain, t)
    assert list(rows[0].measured) == ["population", "linear", "empirical", "network"]
    assert compare.table_laws(rows[0]) == {"linear": ["linear"], "empirical": ["empirical"], "network": []}
    # Two sets at the three sizes that did not fail are the largest block: 2, 512 and 2048.
    assert (rows[0].grid["network"], rows[0].grid["empirical"]) == ((2, 2048), (2, 2048))
    measured = compare.freeze_out_sizes(dataset, "network", "held_out", t)
    assert measured.num_seeds == 2
    rho = compare.relative_gain(dataset, "network", "held_out").sel(noise_variance=t).values[[0, 4, 5], :2]
    for group, row in enumerate(rows):
        own = [freeze_out.largest_crossing(np.log([2, 512, 2048]), rho[:, seed, group]) for seed in range(2)]
        np.testing.assert_allclose(row.measured["network"][1:], [min(own), max(own)])
        for rung in ("linear", "empirical"):
            assert row.measured[rung] == expected[group].measured[rung]
    assert np.isfinite(measured.log_value).any()
    words = compare.networks_in_words(dataset)
    assert "trained for 300 steps on the same points, at N = 2, 32, 512, 2048; it has no law of its own" in words
    assert words.endswith("The network of N = 32, training set 2, became non-finite and is left out.")
    assert compare.networks_in_words(plain) is None
    dataset["complete"].loc[{"rung": "network"}] = 0  # interrupted before
    assert compare.networks_in_words(dataset) == "No network is measured."
    assert list(compare.freeze_out_table(dataset, t)[0].measured) == ["population", "linear", "empirical"]
