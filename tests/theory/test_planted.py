"""The planted point: printed formulas, quadrature, and simulation of the exact score at training points."""

from collections.abc import Callable
from functools import cache, partial
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

import theory
from theory import planted

from . import naive

LADDER = np.asarray(naive.SPECTRA["ladder"])
PROBES = [0.0, 0.3, 1.0]
FLOAT = naive.FLOAT
planted_times = jax.jit(planted.planted_times, static_argnums=2)  # compiled once, unlike the bare function


def terms(v: np.ndarray, t: float, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The three terms of the density A, (3, ..., d)."""
    v, y, x, noise = (np.asarray(q, FLOAT) for q in (v, y, x, t))
    parts = np.log1p(v / noise), x**2 / (noise + v), -((x - y) ** 2) / noise
    return np.stack(np.broadcast_arrays(*parts)) / 2


def response(v: Any, n: float, t: float, y: Any, x: Any, others: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Weight and gains as printed; ``others`` is how many points of the set do not count."""
    v, y, x = (np.asarray(q, FLOAT) for q in (v, y, x))
    a = np.sum(terms(v, t, y, x), axis=(0, -1))
    weight = 1 / (1 + (FLOAT(n) - FLOAT(others)) * np.exp(-a))
    deviation = y - v * x / (t + v)
    return weight, (1 - weight) * v / (t + v) + weight * (1 - weight) * deviation**2 / t


def law(v: Any, log_n: Any, t: Any, probe: float) -> np.ndarray:
    """The mean-field gains, from the weight and the two-point formula rather than its factored form."""
    v = np.asarray(v, FLOAT)
    noise = naive.last(t)
    odds = np.expm1(np.asarray(log_n, FLOAT)) / np.exp(naive.log_critical_size(v, t, probe))
    weight = (1 / (1 + odds))[..., None]
    wiener = v / (v + noise)
    return (1 - weight) * wiener + weight * (1 - weight) * v * (noise + probe * v) / (noise + v) ** 2


def relative_gain(v: np.ndarray, i: int, log_n: float, probe: float, t: np.ndarray) -> np.ndarray:
    return law(v, log_n, t, probe)[..., i] / (v[i] / (v[i] + np.asarray(t)))


# ---- the printed formulas -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", naive.SPECTRA)
def test_the_response_is_the_printed_one(name: str, x64: bool) -> None:
    dtype = naive.precision(x64)
    v = np.asarray(naive.SPECTRA[name], dtype)
    rng = np.random.default_rng(5)
    t = dtype.type(0.3 * np.max(v))
    y = (np.sqrt(v) * rng.normal(size=v.size)).astype(dtype)
    x = (y + np.sqrt(0.2 * t) * rng.normal(size=v.size)).astype(dtype)
    sizes = np.exp(np.sum(terms(v, t, y, x))) * np.array([0.1, 1, 10]) + 1.5
    found = theory.planted_response(v, np.asarray(sizes, np.float64), t, training_point=y, point=x)
    assert found.weight.shape == (3,)
    assert found.gain.shape == (3, v.size)
    assert found.weight.dtype == found.gain.dtype == dtype
    for i, n in enumerate(sizes):
        weight, gain = response(v, n, float(t), y, x)
        # The density is a sum of terms of both signs: a rounding of its moduli moves log W/(1 - W).
        moduli = np.sum(np.abs(terms(v, t, y, x))) + abs(np.log(n))
        bound = naive.allowed(dtype, moduli)
        np.testing.assert_allclose(found.weight[i], float(weight), rtol=float(bound))
        # y - m is a difference of numbers of order |y|.
        scale = gain + weight * (1 - weight) * (np.asarray(y, FLOAT) ** 2 + np.asarray(x, FLOAT) ** 2) / t
        np.testing.assert_array_less(np.abs(np.asarray(found.gain[i]) - gain), bound * scale + np.finfo(dtype).tiny)


@pytest.mark.parametrize(("n", "t", "y", "x"), [(2, 0.5, 0.4, 0.6), (30, 0.1, -1.0, -1.0), (1e4, 0.01, 2.0, 1.9)])
def test_one_direction_is_the_mixture_of_the_point_and_the_prior(n: float, t: float, y: float, x: float) -> None:
    """Moments of (own weight) delta + (N - 1) prior e^{-E} by quadrature; N points in the prior are rejected."""
    prior = NormalDist(0, np.sqrt(1.3)).pdf

    def moment(k: int, others: float) -> float:
        width = np.sqrt(t * 1.3 / (t + 1.3))
        center = 1.3 * x / (t + 1.3)
        integrand = lambda u: u**k * prior(u) * np.exp(-((x - u) ** 2) / 2 / t)  # noqa: E731
        inside = quad(integrand, center - 12 * width, center + 12 * width, epsabs=0, epsrel=1e-12, points=[center])[0]
        return float(y**k * np.exp(-((x - y) ** 2) / 2 / t) + others * inside)

    with jax.enable_x64(True):
        found = theory.planted_response([1.3], n, t, training_point=[y], point=[x])
    for others, close in [(n - 1, True), (n, False)]:
        z, first, second = (moment(k, others) for k in range(3))
        weight = np.exp(-((x - y) ** 2) / 2 / t) / z
        gain = (second / z - (first / z) ** 2) / t
        errors = np.array([float(found.weight) / weight - 1, float(found.gain[0]) / gain - 1])
        assert np.all(np.abs(errors) < 1e-9) == close


def test_broadcasting_and_limits() -> None:
    v = np.array([1.0, 0.2, 0.0])
    y = np.array([[0.5, 0.1, 0.0], [1.0, -1.0, 0.0]])
    found = theory.planted_response(v, [[3.0], [30.0], [300.0]], 0.2, training_point=y, point=y[0] + 0.1)
    assert found.weight.shape == (3, 2)
    assert found.gain.shape == (3, 2, 3)
    alone = theory.planted_response(v, 30, 0.2, training_point=y[1], point=y[0] + 0.1)
    np.testing.assert_allclose(found.gain[1, 1], alone.gain, rtol=1e-5)
    assert not np.any(found.gain[..., 2])
    # One point is all there is, whatever the probe; infinitely many hide it.
    one = theory.planted_response(v, 1, 0.2, training_point=y[1], point=y[0])
    assert one.weight == 1
    assert not np.any(one.gain)
    many = theory.planted_response(v, log_n=1e6, t=0.2, training_point=y[1], point=y[0])
    assert many.weight == 0
    np.testing.assert_allclose(many.gain, v / (v + 0.2), rtol=1e-6)


# ---- simulation of the exact score ----------------------------------------------------------------------------------


class Sample(NamedTuple):
    """Exact score at planted probes of independent training sets, and the prediction at the same points."""

    weight: np.ndarray  # (reps,)
    gain: np.ndarray  # (reps, d)
    predicted_weight: np.ndarray
    predicted_gain: np.ndarray
    slack: np.ndarray  # the stated (1 - W)^2 nu


@cache
def simulate(variances: tuple[float, ...], n: int, t: float, probe: float, reps: int, others: float = 1.0) -> Sample:
    rng = np.random.default_rng([n, int(1000 * t), int(10 * probe)])
    v = np.asarray(variances)
    rows = []
    for _ in range(reps):
        data = rng.normal(size=(n, v.size)) * np.sqrt(v)
        y = data[0]
        x = y + np.sqrt(probe * t) * rng.normal(size=v.size)
        energy = np.sum((x - data) ** 2, axis=1) / (2 * t)
        w = np.exp(energy.min() - energy)
        w /= w.sum()
        rows.append((w[0], w @ data**2 / t - (w @ data) ** 2 / t, y, x))
    weight, gain, y, x = (np.array(column) for column in zip(*rows, strict=True))
    a = np.sum(terms(v, t, y, x), axis=(0, -1)).astype(float)
    p = 1 / (1 + (n - others) * np.exp(-a))
    deviation = y - v * x / (t + v)
    g = (1 - p)[:, None] * v / (t + v) + (p * (1 - p))[:, None] * deviation**2 / t
    log_dispersion = np.sum(np.log1p(v / t) - np.log1p(2 * v / t) / 2 + v * x**2 / ((t + v) * (t + 2 * v)), axis=1)
    return Sample(weight, gain, p, g, (1 - p) ** 2 * np.expm1(log_dispersion) / (n - 1))


EIGHT = (1.0,) * 4 + (0.3,) * 4
CASES = [(n, t, probe) for n in (3, 10, 100) for t in (0.5, 1.5, 10.0) for probe in (0.0, 1.0)]
# Two one-sided comparisons for each case: correct code fails somewhere with probability 1e-4.
Z = NormalDist().inv_cdf(1 - 1e-4 / (2 * len(CASES)))


def standard_scores(draws: np.ndarray) -> np.ndarray:
    return np.mean(draws, axis=0) / (np.std(draws, axis=0, ddof=1) / np.sqrt(len(draws)))


def violations(others: float) -> list[tuple[int, float, float]]:
    """Cases in which the simulated weight leaves its interval [W, W + slack] by more than chance allows."""
    found = []
    for n, t, probe in CASES:
        sample = simulate(EIGHT, n, t, probe, 2000, others)
        excess = sample.weight - sample.predicted_weight
        if standard_scores(excess) < -Z or standard_scores(excess - sample.slack) > Z:
            found.append((n, t, probe))
    return found


def test_simulated_weights_lie_in_the_stated_interval() -> None:
    assert violations(others=1.0) == []


def test_counting_the_planted_point_twice_is_noticed() -> None:
    """N others, or N - 2: where all weights are alike, at the largest noise, both are seen."""
    assert (10, 10.0, 0.0) in violations(others=0.0)
    assert (10, 10.0, 0.0) in violations(others=2.0)


def test_the_simulation_evaluates_the_implementation() -> None:
    """The prediction inside the simulation is that of the package."""
    rng = np.random.default_rng(0)
    y, x = rng.normal(size=(2, 5, 8))
    with jax.enable_x64(True):
        found = theory.planted_response(EIGHT, 10, 0.5, training_point=y, point=x)
    for i in range(5):
        weight, gain = response(EIGHT, 10, 0.5, y[i], x[i])
        np.testing.assert_allclose(found.weight[i], float(weight), rtol=1e-12)
        np.testing.assert_allclose(found.gain[i], gain.astype(float), rtol=1e-12)


def test_gains_at_training_points_are_exact_for_practical_purposes() -> None:
    """16 directions, N = 2980, W about one half, no noise added: within 2 % of the simulation, and not by chance."""
    sample = simulate((1.0,) * 8 + (0.3,) * 8, 2980, 0.774, 0.0, 300)
    assert 0.4 < np.mean(sample.weight) < 0.6
    for group in (slice(0, 8), slice(8, 16)):
        measured = sample.gain[:, group].mean(axis=1)
        off = measured - sample.predicted_gain[:, group].mean(axis=1)
        error = np.std(off) / np.sqrt(len(off))
        assert error < 0.004 * measured.mean()
        assert abs(np.mean(off)) < 0.02 * measured.mean() + 4 * error
        # Control: without the second term of (2) the prediction is far off.
        without = (1 - sample.predicted_weight) * (measured.mean() / sample.gain[:, group].mean())
        assert abs(np.mean(without) * (1 / 1.774 if group.start == 0 else 0.3 / 1.074) / measured.mean() - 1) > 0.1


def test_gains_under_nominal_noise_are_high_by_as_much_as_stated() -> None:
    for t, weight, low, high in [(0.949, 0.21, 1.05, 1.2), (0.343, 0.61, 1.2, 1.5), (0.165, 0.85, 1.5, 2.4)]:
        sample = simulate(EIGHT, 54, t, 1.0, 1500)
        assert abs(sample.weight.mean() - weight) < 0.04
        ratio = sample.predicted_gain.mean(axis=0).sum() / sample.gain.mean(axis=0).sum()
        total = sample.gain.sum(axis=1)
        error = np.std(total) / np.sqrt(len(total)) / total.mean()
        assert low * (1 - 3 * error) < ratio < high * (1 + 3 * error)


# ---- mean field -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", PROBES)
def test_mean_field_is_the_response_at_a_balanced_probe(probe: float) -> None:
    """Noise of both signs in each of two equal directions: averages over the pair are exactly those of mean field."""
    v, t = np.repeat([1.0, 0.3, 0.02], 2), 0.2
    y = np.sqrt(v)
    x = y + np.sqrt(probe * t) * np.tile([1.0, -1.0], 3)
    with jax.enable_x64(True):
        for log_n in (0.0, 0.5, 2.0, 5.0):
            found = theory.planted_response(v, log_n=log_n, t=t, training_point=y, point=x).gain
            expected = planted.planted_law(jnp.asarray(v), jnp.asarray(log_n), jnp.asarray(t), probe)
            np.testing.assert_allclose(found.reshape(3, 2).mean(axis=1), expected[::2], rtol=1e-12, atol=1e-15)
            wrong = planted.planted_law(jnp.asarray(v), jnp.asarray(log_n), jnp.asarray(t), probe + 0.01)
            assert log_n == 0 or np.max(np.abs(wrong / expected - 1)) > 1e-4


@pytest.mark.parametrize("name", naive.SPECTRA)
def test_mean_field_gains_are_the_printed_ones(name: str, x64: bool) -> None:
    dtype = naive.precision(x64)
    v = np.asarray(naive.SPECTRA[name], dtype)
    t = dtype.type(0.1 * np.max(v))
    for probe in PROBES:
        critical = float(naive.log_critical_size(v, float(t), probe))
        for shift in (-2.0, 0.0, 2.0):
            log_n = dtype.type(np.logaddexp(critical + shift, 0))
            found = planted.planted_law(jnp.asarray(v), jnp.asarray(log_n), jnp.asarray(t), probe)
            expected = law(v, log_n, float(t), probe)
            bound = naive.allowed(dtype, 2 * critical + 1 / log_n)
            np.testing.assert_array_less(np.abs(np.asarray(found) - expected), bound * expected + np.finfo(dtype).tiny)


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("name", naive.SPECTRA)
def test_sizes_have_half_the_wiener_gain(name: str, probe: float) -> None:
    v = np.asarray(naive.SPECTRA[name], float)
    t = 0.1 * np.max(v)
    with jax.enable_x64(True):
        sizes = np.asarray(planted.planted_sizes(jnp.asarray(v), jnp.asarray(t), probe))
    assert np.all(np.isposinf(sizes[v == 0]))
    critical = naive.log_critical_size(v, t, probe)
    for variance in np.unique(v[v > 0])[:12]:
        (i, *_) = np.flatnonzero(v == variance)

        def surplus(u: np.ndarray, variance: float = variance) -> np.ndarray:
            # As law above, for one direction.
            weight = 1 / (1 + np.expm1(u) / np.exp(critical))
            return 0.5 - (1 - weight) * (1 + weight * (t + probe * variance) / (t + variance))

        expected = naive.root(surplus, 0, critical + 5)
        np.testing.assert_allclose(sizes[i], float(expected), rtol=1e-9)
        assert abs(float(surplus(FLOAT(1.01) * sizes[i]))) > 1e-4  # control


def test_under_nominal_noise_all_sizes_are_alike_and_without_it_salient_directions_freeze_first() -> None:
    v, t = jnp.asarray(LADDER, jnp.float32), jnp.asarray(0.05, jnp.float32)
    common = np.asarray(planted.planted_sizes(v, t))[LADDER > 0]
    expected = np.log1p(np.exp(float(naive.information(LADDER, 0.05))) * (np.sqrt(2) - 1))
    np.testing.assert_allclose(common, expected, rtol=1e-5)
    selective = np.asarray(planted.planted_sizes(v, t, 0.0))[LADDER > 0]
    assert np.all(np.diff(selective) <= 0)
    assert 0.5 < selective[0] - selective[-1] < np.log(1 + np.sqrt(2))


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("name", ["one direction", "two equal", "ladder", "twelve decades", "strong among weak"])
def test_times_are_the_largest_with_half_the_wiener_gain(name: str, probe: float) -> None:
    v = np.asarray(naive.SPECTRA[name], float)
    grid = np.geomspace(1e-14, 1e4, 400) * v.max()
    for log_n in np.log([1.5, 2, 30, 1e6]):
        with jax.enable_x64(True):
            found = np.asarray(planted_times(jnp.asarray(v), jnp.asarray(log_n), probe))
        for variance in np.unique(v):
            (i, *_) = np.flatnonzero(v == variance)
            if variance == 0:
                assert np.isposinf(found[i])
                continue
            relative = partial(relative_gain, v, i, log_n, probe)
            frozen = np.flatnonzero(relative(grid) < 0.5)
            assert frozen.size
            assert frozen[-1] < grid.size - 1
            ends = np.log(grid[frozen[-1]]), np.log(grid[frozen[-1] + 1])
            u = naive.root(lambda u, relative=relative: 0.5 - relative(np.exp(u)), *ends)  # type: ignore[misc]
            np.testing.assert_allclose(found[i], float(np.exp(u)), rtol=1e-9)


def test_limits_of_times(x64: bool) -> None:
    dtype = naive.precision(x64)
    v = jnp.asarray([1.0, 0.1, 0.0], dtype)
    for probe in PROBES:
        one, fewer, more, many = (
            np.asarray(planted_times(v, jnp.asarray(s, dtype), probe)) for s in (0, *np.log([1.41, 1.42]), 1e6)
        )
        assert np.all(np.isposinf([one, fewer]))  # N - 1 < sqrt 2 - 1
        np.testing.assert_array_equal(np.isfinite(more), [True, True, False])
        np.testing.assert_array_equal(many, [0, 0, np.inf])
        assert np.all(np.isposinf(planted_times(0 * v, jnp.asarray(2.0, dtype), probe)))
    exact = np.asarray(planted_times(jnp.asarray([8.0], dtype), jnp.asarray(np.log(6.0), dtype), 1.0))
    # (1 + v/t)^(1/2) = (N - 1)(1 + sqrt 2)
    np.testing.assert_allclose(exact, 8 / ((5 * (1 + np.sqrt(2))) ** 2 - 1), rtol=float(naive.allowed(dtype, 10)))


def test_ten_thousand_directions_in_linear_memory() -> None:
    v = jnp.asarray(naive.SPECTRA["10 000 directions"], jnp.float32)
    log_n = jnp.asarray(20.0, jnp.float32)
    times = np.asarray(jax.jit(planted.planted_times)(v, log_n))
    assert np.all(times == times[0])
    np.testing.assert_allclose(planted.planted_sizes(v, times[0]), 20.0, rtol=1e-4)
    sizes = {
        v.aval.size
        for equation in jax.make_jaxpr(lambda v: planted.planted_times(v, log_n, 0.3))(v).jaxpr.eqns
        for v in equation.outvars
    }
    assert max(sizes) == 10_000


def test_measured_sizes_approach_the_law() -> None:
    """log N* of simulated gains under nominal noise exceeds (4) by about a nat: a share of d that vanishes."""
    excesses: list[float] = []
    errors: list[float] = []
    t = 0.5
    for d in (3, 6, 12):
        v = np.ones(d)
        predicted = float(planted.planted_sizes(jnp.asarray(v), jnp.asarray(t))[0])
        sizes = np.unique(np.round(np.exp(predicted + np.arange(0, 2.6, 0.5))).astype(int))
        relative = np.array([simulate(tuple(v), int(n), t, 1.0, 400).gain.mean(axis=1) for n in sizes]) * (1 + t)
        means, sems = relative.mean(axis=1), relative.std(axis=1) / 20
        i = int(np.flatnonzero(means < 0.5)[-1])
        assert i + 1 < len(sizes)
        slope = (means[i + 1] - means[i]) / np.log(sizes[i + 1] / sizes[i])
        excesses.append(np.log(sizes[i]) + (0.5 - means[i]) / slope - predicted)
        errors.append(2 * sems[i] / slope)
    # Mean field is low by 0.3 to 1.8 nats at each size, with errors of 0.1 to 0.3.
    shares = np.array(excesses) / (3, 6, 12)
    assert np.all(np.array(errors) < 0.35)
    assert np.all((np.array(excesses) > 0.2) & (np.array(excesses) < 2.0))
    assert shares[2] < 0.6 * shares[0]


@pytest.mark.parametrize("function", [planted.planted_law, planted.planted_times])
def test_laws_are_traced_like_any_other(function: Callable[..., jax.Array]) -> None:
    """One size and one noise, batched by the caller."""
    second = jnp.asarray([0.5, 2.0, 5.0])
    v = jnp.asarray([1.0, 0.3, 0.0])
    arguments = (jnp.asarray(0.2),) if function is planted.planted_law else ()
    mapped = jax.jit(jax.vmap(lambda s: function(v, s, *arguments)))(second)
    looped = np.stack([jax.jit(function)(v, s, *arguments) for s in second])
    np.testing.assert_allclose(mapped, looped, rtol=1e-5)
