import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy import stats

import theory
from geomem_jax import calibrate, calibration_model, convergence, plots, results, rival_laws
from geomem_jax.errors import InputError

from . import plotted

SIZES = np.array([2, 16, 64, 128, 256, 1024, 4096])
T = 0.03
TRUTH = {
    "log_capacity": np.log(150.0),
    "width": 0.4,
    "advantage": 0.3,
    "tilt": 0.05,
    "floor": -0.05,
    "set_spread": 0.1,
    "spread": 0.05,
    "residual": 0.02,
}


def dataset_of(noise=1.0, seeds=3):
    """Networks whose effective noise goes from one law to the other, by formulas that the package does not share."""
    rng = np.random.default_rng(0)
    variances = plotted.LADDER
    dataset = results.empty(
        rungs=["network"],
        laws=["linear", "empirical"],
        dataset_sizes=SIZES[::-1],
        noise_variances=[T, 0.3],
        seeds=range(seeds),
        variances=variances,
        attributes={"name": "made up", "centred": 0},
    )
    dataset["complete"][:] = 1
    dataset["reference_gain"][:] = theory.wiener_gain(variances, [T, 0.3])
    for law in ("linear", "empirical"):
        dataset["predicted_gain"].loc[{"law": law}] = theory.gain(variances, SIZES[::-1, None], [T, 0.3], law)
    mean = np.log(variances[variances > 0]).mean()
    for seed in range(seeds):
        of_set = noise * TRUTH["set_spread"] * rng.standard_normal()
        for n in SIZES:
            effective = 1 + (n - 1) * np.exp(TRUTH["advantage"])
            ends = [
                np.log(float(theory.effective_noise(variances, size, T, law)))
                for size, law in ((n, "linear"), (effective, "empirical"))
            ]
            of_network = noise * TRUTH["spread"] * rng.standard_normal()
            for variance in np.unique(variances[variances > 0]):
                capacity = TRUTH["log_capacity"] + of_set + TRUTH["tilt"] * (mean - np.log(variance))
                weight = 1 / (1 + np.exp((np.log(n) - capacity) / TRUTH["width"]))
                kappa = np.exp((1 - weight) * ends[0] + weight * ends[1]) + T * np.expm1(TRUTH["floor"])
                kappa *= np.exp(of_network)
                gain = variance / (variance + kappa) + noise * TRUTH["residual"] * rng.standard_normal()
                here = {"dataset_size": n, "seed": seed, "noise_variance": T, "direction": variances == variance}
                dataset["gain"].loc[here] = gain
    dataset["gain"].loc[{"noise_variance": 0.3}] = 0.5
    dataset["gain"].loc[{"direction": variances == 0}] = 0.0
    dataset["gain_sem"][:] = 0.0
    return dataset


@pytest.fixture(scope="module")
def dataset():
    return dataset_of()


@pytest.fixture(scope="module")
def found(dataset):
    return calibrate.calibrate(jax.random.key(0), dataset, T)


def test_measurements_are_in_order_and_of_large_enough_sizes(dataset):
    m = calibrate.measurements(dataset, T)
    np.testing.assert_allclose(m.log_n, np.log(SIZES[1:]), rtol=1e-6)
    np.testing.assert_allclose(m.variance, 2.0 ** -np.arange(6))
    for row, n in enumerate(SIZES[1:]):
        np.testing.assert_allclose(
            m.linear_noise[row], theory.effective_noise(plotted.LADDER, n, T, "linear"), rtol=1e-6
        )
        expected = dataset["gain"].sel(rung="network", point="held_out", dataset_size=n, noise_variance=T)
        np.testing.assert_allclose(m.gain[row], expected.values[:, :24:4], rtol=1e-6)


def test_points_average_over_directions():
    dataset = dataset_of()
    dataset["gain_sem"][:] = 0.08
    m = calibrate.measurements(dataset, T)
    np.testing.assert_allclose(m.error, 0.08 / 2, rtol=1e-6)  # four directions of each variance


def test_an_estimated_mean_costs_the_linear_law_one_point(dataset):
    m = calibrate.measurements(dataset.assign_attrs(centred=1), T)
    expected = theory.effective_noise(plotted.LADDER, SIZES[1:] - 1, T, "linear")
    np.testing.assert_allclose(m.linear_noise, expected, rtol=1e-6)


def test_networks_that_are_missing_do_not_count(dataset):
    gone = dataset.copy(deep=True)
    gone["complete"].loc[{"dataset_size": 64, "seed": 1}] = 0
    gone["complete"].loc[{"dataset_size": 128}] = 0
    m = calibrate.measurements(gone, T)
    assert m.known.shape == (5, 3)
    assert not m.known[1, 1]
    assert m.known.sum() == 14
    p = {name: jnp.asarray(value) for name, value in TRUTH.items()}
    density = calibration_model.log_density(m, "mixture", p)
    np.testing.assert_array_equal(
        calibration_model.log_density(m._replace(gain=m.gain.at[1, 1].set(7.0)), "mixture", p), density
    )


def numerical_density(m, law, p):
    """Log density of every training set from its full covariance, with derivatives by differences."""

    def mean(**changes):
        return np.asarray(calibration_model.moments(m, law, p | changes).mean, np.float64)

    k, s, g = m.gain.shape
    step = 1e-4
    slope = (mean(log_capacity=p["log_capacity"] + step) - mean(log_capacity=p["log_capacity"] - step)) / (2 * step)
    gain = mean()
    densities = []
    for column in range(s):
        covariance = p["set_spread"] ** 2 * np.outer(slope, slope)
        covariance += np.diag((p["residual"] ** 2 + np.asarray(m.error[:, column], np.float64) ** 2).ravel())
        for row in range(k):
            j = gain[row] * (1 - gain[row])  # - dg/dlog kappa of v/(v + kappa)
            block = slice(row * g, (row + 1) * g)
            covariance[block, block] += p["spread"] ** 2 * np.outer(j, j)
        kept = np.repeat(np.asarray(m.known[:, column]), g)
        values = np.asarray(m.gain[:, column], np.float64).ravel()[kept]
        densities.append(stats.multivariate_normal.logpdf(values, gain.ravel()[kept], covariance[np.ix_(kept, kept)]))
    return np.array(densities)


def test_density_is_that_of_the_full_covariance(dataset):
    with jax.enable_x64(True):
        gone = dataset.copy(deep=True)
        gone["complete"].loc[{"dataset_size": 64, "seed": 1}] = 0
        gone["gain_sem"][:] = 0.03
        m = calibrate.measurements(gone, T)
        m = m._replace(**{name: jnp.asarray(x, float) for name, x in m._asdict().items() if name != "known"})
        p = TRUTH | {"set_spread": 0.4, "spread": 0.3, "floor": 0.2}
        density = calibration_model.log_density(m, "mixture", {name: jnp.asarray(x) for name, x in p.items()})
        # Differences in float64: 1e-8 in a slope, and as much in a density of order 100.
        np.testing.assert_allclose(density, numerical_density(m, "mixture", p), rtol=1e-6)


@pytest.mark.parametrize(("law", "log_capacity"), [("linear", -20.0), ("empirical", 30.0)])
def test_rivals_are_ends_of_the_mixture(dataset, law, log_capacity):
    m = calibrate.measurements(dataset, T)
    p = {name: jnp.asarray(value) for name, value in TRUTH.items()}
    end = calibration_model.moments(m, "mixture", p | {"log_capacity": log_capacity, "tilt": 0.0})
    rival = calibration_model.moments(m, law, {name: p[name] for name in calibration_model.prior(m, law)})
    np.testing.assert_allclose(rival.mean, end.mean, rtol=1e-5)
    np.testing.assert_allclose(rival.of_network, end.of_network, rtol=1e-5)
    np.testing.assert_array_equal(rival.of_set, 0)


def test_gradients_go_through_the_law(dataset):
    with jax.enable_x64(True):
        m = calibrate.measurements(dataset, T)

        def total(a):
            p = {name: jnp.asarray(value) for name, value in TRUTH.items()} | {"advantage": a}
            return calibration_model.log_density(m, "mixture", p).sum()

        slope = (total(0.3 + 1e-5) - total(0.3 - 1e-5)) / 2e-5
        np.testing.assert_allclose(jax.grad(total)(0.3), slope, rtol=1e-5)
        assert abs(slope) > 1


@pytest.mark.slow  # NUTS, compiled without optimization, takes more than a minute
def test_what_went_in_comes_out(found):
    assert set(found.parameters) == set(TRUTH)
    for name, parameter in found.parameters.items():
        assert parameter.lower < TRUTH[name] < parameter.upper, name
    capacity = found.parameters["log_capacity"]
    assert capacity.upper - capacity.lower < 0.25 * (capacity.prior_upper - capacity.prior_lower)
    assert all(values.shape == (4, 2000) for values in found.draws.values())
    assert 0.85 < found.covered <= 1


@pytest.mark.slow  # NUTS, compiled without optimization, takes more than a minute
def test_bands_hold_the_truth_and_rise(found):
    truth = dataset_of(noise=0.0, seeds=1)
    assert found.bands.median.shape == (calibrate.BAND_SIZES, 6)
    np.testing.assert_allclose(found.bands.dataset_size[[0, -1]], [16, 4096], rtol=1e-5)
    for n in SIZES[1:]:
        gain = truth["gain"].sel(rung="network", point="held_out", dataset_size=n, noise_variance=T).values[0, :24:4]
        rho = gain / theory.wiener_gain(found.variance, T)
        for group, value in enumerate(rho):
            lower, upper = (
                np.interp(n, found.bands.dataset_size, end[:, group]) for end in (found.bands.lower, found.bands.upper)
            )
            assert lower < value < upper
    assert np.all(np.diff(found.bands.median, axis=0) > -1e-3)


@pytest.mark.slow  # eighteen fits: a minute or two
def test_the_law_that_made_the_gains_predicts_them_best(dataset):
    scores = rival_laws.compare_laws(jax.random.key(1), calibrate.measurements(dataset, T))
    assert scores[0].law == "mixture"
    assert scores[0].below_best == 0
    for score in scores[1:]:
        assert score.below_best > 3 * score.error > 0
        np.testing.assert_allclose(score.below_best, scores[0].log_density - score.log_density, rtol=1e-6)
        np.testing.assert_allclose(score.log_density, score.by_size.sum(), rtol=1e-6)
        difference = scores[0].by_size - score.by_size
        np.testing.assert_allclose(score.error, difference.std() * np.sqrt(len(difference)), rtol=1e-6)


def test_chains_that_disagree_are_refused():
    rng = np.random.default_rng(1)
    good = rng.standard_normal((4, 1000))
    convergence.refuse(convergence.diagnose({"a": good}), 0, "x")
    stuck = good.copy()
    stuck[0] += 1
    with pytest.raises(InputError, match=r"x: chains did not converge \(R-hat of b is 1"):
        convergence.refuse(convergence.diagnose({"a": good, "b": stuck}), 0, "x")
    slow = np.repeat(rng.standard_normal((4, 20)), 50, axis=1)
    with pytest.raises(InputError, match=r"a has .* effective draws"):
        convergence.refuse(convergence.diagnose({"a": slow}), 0, "x")
    with pytest.raises(InputError, match="1 trajectories diverged"):
        convergence.refuse(convergence.diagnose({"a": good}), 1, "x")
    with pytest.raises(InputError, match="R-hat of a is nan"):
        convergence.refuse({"a": convergence.Convergence(np.nan, np.nan)}, 0, "x")


def test_bad_input(dataset):
    key = jax.random.key(0)
    with pytest.raises(InputError, match="law 'cubic' cannot be calibrated"):
        calibrate.calibrate(key, dataset, T, law="cubic")
    with pytest.raises(InputError, match="noise_variance 7 is not in this result"):
        calibrate.calibrate(key, dataset, 7.0)
    with pytest.raises(InputError, match="rung 'trained' is not in this result"):
        calibrate.calibrate(key, dataset, T, rung="trained")
    with pytest.raises(InputError, match="point 'nowhere' is not in this result"):
        calibrate.measurements(dataset, T, point="nowhere")
    with pytest.raises(InputError, match="smallest: 1 points"):
        calibrate.measurements(dataset, T, smallest=1)
    with pytest.raises(InputError, match="measured at 3 dataset sizes of 200 points or more"):
        calibrate.measurements(dataset, T, smallest=200)
    wrong = dataset.copy(deep=True)
    wrong["gain"].loc[{"dataset_size": 64, "seed": 0}] = np.nan
    with pytest.raises(InputError, match=r"a gain at t = 0\.03 is not finite"):
        calibrate.measurements(wrong, T)


def test_views_without_errors_of_points_will_do(dataset):
    view = xr.Dataset({name: dataset[name] for name in dataset.data_vars if name != "gain_sem"}, attrs=dataset.attrs)
    np.testing.assert_array_equal(calibrate.measurements(view, T).error, 0)


@pytest.mark.slow  # NUTS, compiled without optimization, takes more than a minute
def test_figure_shows_networks_bands_and_posteriors(dataset, found):
    figure = plots.calibration(dataset, found)
    *gains, capacity, width = (axes for part in figure.subfigs for axes in part.axes)
    assert [axes.get_title(loc="left") for axes in gains] == [f"variance σ² = {v:.3g}" for v in found.variance]
    for group, axes in enumerate(gains):
        points = [line.get_data() for line in axes.get_lines() if line.get_marker() == "D"]
        np.testing.assert_array_equal([x for x, _ in points], np.tile(SIZES[1:], (3, 1)))
        np.testing.assert_array_equal([y for _, y in points], found.relative_gain[:, :, group].T)
    median, lower, upper = np.exp(found.parameters["log_capacity"][:3])
    assert capacity.get_title(loc="left") == f"capacity = {median:.3g} [{lower:.3g}, {upper:.3g}]"
    assert width.get_title(loc="left").startswith(f"width = {found.parameters['width'].median:.3g} [")
    assert len(plots.png(figure)) > 10_000
