"""Are the error bars honest?  Thresholds, bootstrap and rank correlation, without any dataset."""

import numpy as np
import pytest
from scipy import stats

from geomem_jax import statistics


def mean_of(values):
    return values


def test_thresholds_are_the_textbook_ones():
    # Tables of the normal and of Student's t, two-sided 5 %.
    assert statistics.critical_z(0.05, 1) == pytest.approx(1.959964, abs=1e-6)
    assert statistics.critical_z(0.05, 10) == pytest.approx(2.807034, abs=1e-6)
    np.testing.assert_allclose(statistics.critical_t(0.05, 1, [1, 7, 30]), [12.7062, 2.36462, 2.04227], rtol=1e-5)
    assert statistics.critical_t(0.05, 10, 1e9) == pytest.approx(statistics.critical_z(0.05, 10), rel=1e-6)
    assert np.isnan(statistics.critical_t(0.05, 1, 0))


@pytest.mark.parametrize("degrees", [3, 7, 15])
def test_a_detectable_shift_is_detected_as_often_as_promised(degrees):
    rng = np.random.default_rng(degrees)
    draws, comparisons = 20_000, 100
    shift = statistics.detectable_shift(0.05, comparisons, degrees, 0.9)
    threshold = statistics.critical_t(0.05, comparisons, degrees)
    normal, spread = rng.standard_normal(draws), np.sqrt(rng.chisquare(degrees, draws) / degrees)
    error = statistics.critical_z(1e-4, 3) * np.sqrt(0.9 * 0.1 / draws)  # binomial, 3 cases
    assert abs(np.mean((normal + shift) / spread > threshold) - 0.9) < error
    # The customary t_crit + t_power misses its power by far more: the test can tell.
    customary = threshold + stats.t.ppf(0.9, degrees)
    assert np.mean((normal + customary) / spread > threshold) < 0.9 - error


def test_a_detectable_shift_of_two_seeds_continues_that_of_small_thresholds():
    # At two degrees of freedom thresholds of 45 and 64, on either side of 50, have shifts in proportion.
    comparisons = np.array([100, 200])
    thresholds, shifts = (
        np.array([float(function(0.05, int(n), 2)) for n in comparisons])
        for function in (statistics.critical_t, statistics.detectable_shift)
    )
    assert thresholds[0] < statistics.FAR < thresholds[1]
    np.testing.assert_allclose(shifts / thresholds, np.sqrt(stats.chi2.ppf(0.9, 2) / 2), rtol=1e-3)


def test_the_expanded_percentile_widens_small_samples():
    # Normal quantile table of sqrt(n / (n - 1)) * t: 1.118 * 2.776, 1.054 * 2.262 and 1.026 * 2.093.
    found = [statistics.expanded_percentile(n) for n in (5, 10, 20)]
    np.testing.assert_allclose(found, [0.0010, 0.0086, 0.0159], atol=6e-5)
    assert statistics.expanded_percentile(100_000) == pytest.approx(0.025, abs=1e-5)


def test_the_bootstrap_reproduces_the_spread_of_a_mean():
    values = np.random.default_rng(0).standard_normal((16, 3)) * [1.0, 2.0, 0.0] + [0.0, 5.0, 7.0]
    found = statistics.expanded_bootstrap(values, mean_of, seed=1)
    np.testing.assert_allclose(found.estimate, values.mean(axis=0))
    expected = values.std(axis=0, ddof=0) / np.sqrt(16)
    # The relative error of a standard deviation of R replicates is 1 / sqrt(2 R) = 1.6 %; 4 sigma.
    np.testing.assert_allclose(found.replicates.std(axis=0), expected, rtol=0.064, atol=1e-12)
    np.testing.assert_array_less(found.lower[:2], found.estimate[:2])
    np.testing.assert_array_less(found.estimate[:2], found.upper[:2])


def test_the_bootstrap_depends_on_its_seed_and_not_on_its_blocks(monkeypatch):
    values = np.random.default_rng(0).standard_normal((8, 5))
    first = statistics.expanded_bootstrap(values, mean_of, seed=1)
    other = statistics.expanded_bootstrap(values, mean_of, seed=2)
    monkeypatch.setattr(statistics, "BLOCK", 100)
    again = statistics.expanded_bootstrap(values, mean_of, seed=1)
    np.testing.assert_allclose(again.replicates, first.replicates, rtol=1e-12)
    assert not np.allclose(other.replicates, first.replicates)


def test_one_seed_has_no_interval():
    found = statistics.expanded_bootstrap(np.ones((1, 2)), mean_of, seed=0)
    np.testing.assert_array_equal(found.estimate, [1, 1])
    assert np.isnan([found.lower, found.upper]).all()
    assert np.isnan(found.replicates).all()


def test_censored_replicates_censor_an_end_of_the_interval():
    replicates = np.concatenate([np.full(30, -np.inf), np.linspace(0, 1, 1000), np.full(10, np.inf)])
    lower, upper = statistics.percentile_interval(replicates, 0.02)
    assert lower == -np.inf  # 3 % of the replicates are below the grid
    assert 0.98 < upper < 1.0  # only 1 % are above it


def test_concordance_is_kendalls_tau_without_ties_and_censoring():
    rng = np.random.default_rng(3)
    measured, predicted = rng.standard_normal((20, 9)), rng.standard_normal(9)
    expected = [stats.kendalltau(row, predicted).statistic for row in measured]
    np.testing.assert_allclose(statistics.concordance(measured, predicted), expected, atol=1e-12)


INF = np.inf


@pytest.mark.parametrize(
    ("measured", "predicted", "tau"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 1.0),
        ([4, 3, 2, 1], [1, 2, 3, 4], -1.0),
        ([1, 2, INF, INF], [1, 2, 3, 4], 1.0),  # the last two: order unknown, left out
        ([1, 2, INF, INF], [1, 2, 4, 3], 1.0),
        ([-INF, 2, 3, INF], [1, 2, 3, 4], 1.0),  # censored on different sides: order known
        ([INF, 2, 3, 4], [1, 2, 3, 4], 0.0),  # a censored entry counts: 3 of 6 pairs are discordant
        ([1, 2, 3, 4], [1, 1, 2, 2], 1.0),  # equal predictions order nothing
        ([2, 2, 3, 4], [1, 2, 3, 4], 1.0),
        ([1, 3, 2, 4], [1, 2, 3, 4], 2 / 3),
        ([1, INF, INF, INF], [1, 2, 3, 4], np.nan),  # two ranks only
        ([-INF] * 4, [1, 2, 3, 4], np.nan),
        ([1, 2, 3, 4], [-INF] * 4, np.nan),  # the population law predicts no order
        ([1, 2], [1, 2], np.nan),
    ],
)
def test_concordance_of_ties_and_censored_sizes(measured, predicted, tau):
    found = statistics.concordance(np.array([measured], float), np.array(predicted, float))
    np.testing.assert_allclose(found, [tau], atol=1e-12)


def coverage(intervals, n, probability):
    """Exact probability that the interval of a binomial count holds its probability."""
    lower, upper = np.transpose(intervals)
    return stats.binom.pmf(np.arange(n + 1), n, probability)[(lower <= probability) & (probability <= upper)].sum()


@pytest.mark.parametrize("n", [1, 5, 40])
def test_the_interval_of_a_fraction_covers_at_every_probability(n):
    probabilities = np.concatenate([np.linspace(0, 1, 101), [1e-4, 1e-3, 0.999]])
    found = [statistics.fraction_interval(count, n) for count in range(n + 1)]
    np.testing.assert_allclose([each.value for each in found], np.arange(n + 1) / n)
    covered = [coverage([each[1:] for each in found], n, probability) for probability in probabilities]
    assert min(covered) >= 0.95 - 1e-9  # rounding of sums of probabilities
    # Negative control: the percentile bootstrap, whose resampled counts are binomial about the fraction itself.
    bootstrap = [stats.binom.ppf([0.025, 0.975], n, count / n) / n for count in range(n + 1)]
    assert min(coverage(bootstrap, n, probability) for probability in probabilities) < 0.2
    expected = stats.binomtest(n // 2, n).proportion_ci(0.99, method="exact")
    assert statistics.fraction_interval(n // 2, n, 0.99)[1:] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [3, 5, 6, 7, 30])
@pytest.mark.parametrize("atoms", [False, True])
def test_the_interval_of_a_median_covers(n, atoms):
    values, truth = np.random.default_rng(n).exponential(size=(1000, n)), np.log(2)
    if atoms:  # half of the draws and more are one number, and it is the median
        values, truth = np.maximum(values, 0.8), 0.8
    found = [statistics.median_interval(row, (0.0, np.inf)) for row in values]
    covered = np.mean([each.lower <= truth <= each.upper for each in found])
    # 10 cases at 1e-4 in all; 1 where every interval is the whole support.
    assert covered > 0.95 - statistics.critical_z(1e-4, 10) * np.sqrt(0.95 * 0.05 / 1000)
    assert np.mean([each.upper < np.inf for each in found]) == (n >= 6)
    if n == 30:  # negative control
        assert np.mean([each.lower <= 3 * truth <= each.upper for each in found]) < 0.1


def test_the_interval_of_a_median_is_that_of_the_bootstrap_where_draws_are_many():
    values = np.random.default_rng(0).permutation(401) / 400
    found = statistics.median_interval(values, (0.0, 1.0))
    resampled = np.median(np.random.default_rng(1).choice(values, (2000, 401)), axis=1)
    # Ranks have a spread of sqrt(401) / 2 = 10; their 2.5 % quantile one of 10 * 2.7 / sqrt(2000) = 0.6, 4 sigma.
    np.testing.assert_allclose(found[1:], np.quantile(resampled, [0.025, 0.975]), atol=2.5 / 400)
    assert found.value == 0.5
