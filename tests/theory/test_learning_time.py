"""Gains during training: explicit gradient descent in NumPy, the Marchenko-Pastur law, sampled training sets."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

import theory
from geomem_jax.statistics import critical_z
from theory.learning_time import gradient_flow_law

from . import naive

VARIANCES = np.array([2.0, 0.5, 0.5, 0.1, 0.0])
T = 0.05
TIMES = np.array([1e-3, 0.1, 1.0, 10.0, 1e4])


def exponential(matrix: np.ndarray) -> np.ndarray:
    """The matrix exponential by its series, after halving; nothing of eigenvectors."""
    halvings = int(np.ceil(np.log2(1 + np.abs(matrix).sum(axis=1).max()))) + 3
    term = result = np.eye(len(matrix))
    for k in range(1, 20):
        term = term @ matrix / 2**halvings / k
        result = result + term
    for _ in range(halvings):
        result = result @ result
    return result


def sample(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A second moment of seven correlated points, its eigenvalues and eigenvectors."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(7, 4)) @ rng.normal(size=(4, 4))
    second = y.T @ y / 7
    return second, *np.linalg.eigh(second)


def test_gradient_flow_is_the_matrix_exponential(x64: bool) -> None:
    dtype = naive.precision(x64)
    second, eigenvalues, vectors = sample(0)
    start = np.random.default_rng(1).normal(size=(4, 4))
    final, noisy = second @ np.linalg.inv(second + T * np.eye(4)), second + T * np.eye(4)
    initial = np.diag(vectors.T @ start @ vectors).astype(dtype)
    for time in (0.0, 0.01, 0.3, 4.0):
        weights = final + (start - final) @ exponential(-2 * time * noisy)
        expected = np.diag(vectors.T @ weights @ vectors)
        # Each weight starts on its own: one axis for the starts, whose diagonal is compared.
        found = theory.gradient_flow_gain(eigenvalues.astype(dtype), dtype.type(T), dtype.type(time), initial)
        assert found.dtype == dtype
        # Rounding of an exponent of at most 4 * 2 * 9.
        np.testing.assert_allclose(np.diag(found), expected, rtol=0, atol=200 * np.finfo(dtype).eps)


def descend(second: np.ndarray, start: np.ndarray, steps: int, rate: float) -> np.ndarray:
    weights = start
    for _ in range(steps):
        weights = weights - rate * (2 * weights @ (second + T * np.eye(len(second))) - 2 * second)
    return weights


def test_gradient_descent_is_iterated(x64: bool) -> None:
    dtype = naive.precision(x64)
    second, eigenvalues, vectors = sample(0)
    fastest = 1 / (2 * (eigenvalues[-1] + T))  # learns the last direction in one step; beyond twice this it diverges
    for rate in (1e-3, 0.3 * fastest, 1.5 * fastest, 2.05 * fastest):
        for steps in (0, 1, 2, 25):
            expected = np.diag(vectors.T @ descend(second, 0.2 * np.eye(4), steps, rate) @ vectors)
            found = theory.gradient_descent_gain(eigenvalues.astype(dtype), dtype.type(T), steps, rate, 0.2)
            # The rate is rounded to float32, a power of 25 multiplies that; products of matrices are rounded relative
            # to their largest entry.
            np.testing.assert_allclose(found, expected, rtol=0, atol=100 * np.finfo(dtype).eps * np.abs(expected).max())
            assert found.dtype == dtype


def test_small_steps_are_gradient_flow() -> None:
    """And the error falls with the step: first order."""
    with jax.enable_x64(True):
        flow = np.asarray(theory.gradient_flow_gain(VARIANCES, T, 1.5))
        errors = [
            np.abs(theory.gradient_descent_gain(VARIANCES, T, k, 1.5 / k) - flow).max() for k in (100, 1000, 10_000)
        ]
    assert errors[0] < 0.02
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 10, rtol=0.1)


def test_small_rates_keep_their_digits() -> None:
    """In float32 1 - 2e-9 is 1."""
    found = theory.gradient_descent_gain(np.array([1.0], np.float32), np.float32(1e-3), 1000, np.float32(1e-9))
    np.testing.assert_allclose(found, 2e-6, rtol=1e-5)
    np.testing.assert_allclose(theory.gradient_flow_gain(VARIANCES, T, 1e-9), 2e-9 * VARIANCES, rtol=1e-5)


def test_the_mean_of_stochastic_gradients() -> None:
    """Batches of two of seven points, with fresh noise, at a rate at which the weights fluctuate strongly."""
    second, eigenvalues, vectors = sample(2)
    rng, runs, steps, rate = np.random.default_rng(3), 20_000, 12, 0.15 / (eigenvalues[-1] + T)
    y = np.linalg.cholesky(second + 1e-12 * np.eye(4)).T * 2.0  # four points of the same second moment
    np.testing.assert_allclose(y.T @ y / 4, second, atol=1e-10)
    weights = np.zeros((runs, 4, 4))
    for _ in range(steps):
        batch = y[rng.integers(4, size=(runs, 2))]
        noisy = batch + np.sqrt(T) * rng.normal(size=batch.shape)
        residual = np.einsum("rij,rbj->rbi", weights, noisy) - batch
        weights -= rate * 2 * np.einsum("rbi,rbj->rij", residual, noisy) / 2
    gains = np.einsum("ji,rjk,ki->ri", vectors, weights, vectors)
    mean, error = gains.mean(axis=0), gains.std(axis=0, ddof=1) / np.sqrt(runs)
    found = np.asarray(theory.gradient_descent_gain(eigenvalues, T, steps, rate))
    threshold = critical_z(1e-4, 4)
    assert np.all(np.abs(mean - found) < threshold * error)
    # The controls: one step more, and gradient flow, differ by more in the fastest direction.
    for wrong in (
        theory.gradient_descent_gain(eigenvalues, T, steps + 1, rate),
        theory.gradient_flow_gain(eigenvalues, T, steps * rate),
    ):
        assert np.any(np.abs(mean - np.asarray(wrong)) > threshold * error)


def test_learning_times_are_when_the_fraction_is_reached(x64: bool) -> None:
    dtype = naive.precision(x64)
    v = VARIANCES.astype(dtype)
    fractions = np.array([0.0, 1e-6, 0.5, 0.9, 1.0], dtype)
    times = np.asarray(theory.learning_time(v, T, fractions))
    assert times.dtype == dtype
    assert not times[0].any()
    assert np.all(times[-1] == np.inf)
    final = np.asarray(theory.wiener_gain(v, T))
    for fraction, time in zip(fractions[1:-1], times[1:-1], strict=True):
        reached = np.diag(theory.gradient_flow_gain(v, T, time))
        np.testing.assert_allclose(reached, fraction * final, rtol=20 * np.finfo(dtype).eps)
    np.testing.assert_allclose(theory.learning_time([0.0], 0.5), np.log(2), rtol=1e-6)


def marchenko_pastur(n: int, d: int, t: float, time: float) -> float:
    """Mean of the gain over the spectrum of d unit variances and n points; zero eigenvalues have no gain."""
    ratio = d / n
    low, high = (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2

    def integrand(angle: float) -> float:  # substituted: no square root at the edges
        x = low + (high - low) * np.sin(angle) ** 2
        density = (high - low) ** 2 * np.sin(angle) ** 2 * np.cos(angle) ** 2 / (np.pi * ratio * x)
        return float(-x / (x + t) * np.expm1(-2 * time * (x + t)) * density)

    return float(quad(integrand, 0, np.pi / 2, epsabs=1e-13, epsrel=1e-11, limit=200)[0])


@pytest.mark.parametrize("n", [3, 16, 17, 200])
def test_equal_variances_follow_marchenko_pastur(n: int, x64: bool) -> None:
    dtype, v = naive.precision(x64), np.ones(16, naive.precision(x64))
    for t in (0.01, 1.0):
        found = theory.mean_gradient_flow_gain(v, n, dtype.type(t), TIMES.astype(dtype))
        assert found.dtype == dtype
        expected = np.array([marchenko_pastur(n, 16, t, time) for time in TIMES])
        # The documented errors of the contour, 24 nodes and 12; larger by sqrt(16/t) where N = d and t = 0.01.
        np.testing.assert_allclose(found[:, 0], expected, rtol=1e-9 if x64 else 2e-5)


def by_circle(v: np.ndarray, n: int, t: float, time: float, nodes: int = 4000) -> np.ndarray:
    """The mean of a function of the sample covariance, by a circle in the plane of kappa, on which z is explicit."""
    angle = 2 * np.pi * (np.arange(nodes) + 0.5) / nodes
    half = v.max() * (0.5 + np.sqrt(v.size / n))
    kappa = -v.max() / 2 + (half + 0.3) * np.exp(1j * angle)
    inner = v / (v + kappa[:, None])
    z = -kappa * (1 - inner.sum(axis=1) / n)
    slope = -1 + (inner**2).sum(axis=1) / n
    function = -np.expm1(-2 * time * (z + t)) / (z + t)  # f(z)/z, entire
    turn = 1j * (kappa + v.max() / 2)  # d kappa / d angle
    return np.mean((function * slope * turn)[:, None] * (1 - inner) / 1j, axis=0).real


@pytest.mark.parametrize("n", [2, 5, 40])
def test_unequal_variances_against_another_contour(n: int) -> None:
    # Times at which e^(-2 tau z) on the circle leaves digits.
    with jax.enable_x64(True):
        for time in (0.02, 0.5, 2.0):
            found = theory.mean_gradient_flow_gain(VARIANCES, n, 0.3, time)
            np.testing.assert_allclose(found, by_circle(VARIANCES, n, 0.3, time), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", naive.SPECTRA)
def test_limits_of_the_average(name: str, x64: bool) -> None:
    """Infinite data, long training, short training; never nan, and never falling with time."""
    dtype = naive.precision(x64)
    v, t, eps = np.asarray(naive.SPECTRA[name], dtype), dtype.type(0.01), np.finfo(dtype).eps
    grid = np.geomspace(1e-6, 1e6, 13)
    times = np.array([1e-6 / v.sum(dtype=float), 1e5 / t, *grid], dtype)
    tiny, long, *gains = np.asarray(theory.mean_gradient_flow_gain(v, log_n=np.log(9), t=t, training_time=times))
    infinite = theory.mean_gradient_flow_gain(v, log_n=np.inf, t=t, training_time=times)
    np.testing.assert_allclose(infinite, theory.gradient_flow_gain(v, t, times), rtol=50 * eps)
    linear = np.asarray(theory.gain(v, log_n=np.log(9), t=t, law="linear"))
    np.testing.assert_allclose(long, linear, rtol=1e-6, atol=20 * eps)
    # First order: twice the variance times the time. Relative to the trace over n, which cancels.
    np.testing.assert_allclose(tiny, 2e-6 * v / v.sum(), rtol=1e-5, atol=2e-3 * eps)
    assert np.all(np.isfinite(gains))
    assert np.all(np.diff(gains, axis=0) > -(1e-9 if x64 else 1e-5))
    assert np.all(gains <= linear + (1e-9 if x64 else 1e-5))


def sampled(v: np.ndarray, n: int, t: float, time: float, sets: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng, gains = np.random.default_rng(seed), []
    for _ in range(sets):
        y = rng.normal(size=(n, v.size)) * np.sqrt(v)
        eigenvalues, vectors = np.linalg.eigh(y.T @ y / n)
        filters = -eigenvalues / (eigenvalues + t) * np.expm1(-2 * time * (eigenvalues + t))
        gains.append((vectors**2 @ filters).reshape(2, -1).mean(axis=1))
    values = np.array(gains)
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(sets)


def test_the_average_over_training_sets_is_approached_as_one_over_d() -> None:
    """Two variances, d/N = 2, in the middle of training; d times the relative deviation is -0.4 and 0.2."""
    t, time, sizes, remainders, errors = 0.02, 3.0, (8, 16, 32, 64), [], []
    for d in sizes:
        v = np.repeat([1.0, 0.1], d // 2)
        law = np.asarray(theory.mean_gradient_flow_gain(v, d // 2, t, time))[[0, -1]]
        mean, error = sampled(v, d // 2, t, time, 24_000 // d, d)
        remainders.append(d * (mean / law - 1))
        errors.append(d * error / law)
        # Infinite data, or those of the end, are not it.
        for wrong in (theory.gradient_flow_gain(v, t, time), theory.gain(v, d // 2, t, "linear")):
            assert np.any(np.abs(np.asarray(wrong)[[0, -1]] / mean - 1) > 1 / d + 4 * error / mean)
    # d times the relative deviation: the same at every size to its error, and to a correction of 1/d itself.
    spread = np.array(remainders) - remainders[-1]
    allowed = critical_z(1e-4, 2 * len(sizes)) * np.hypot(errors, errors[-1]) + 2 / np.array(sizes)[:, None]
    assert np.all(np.abs(spread) < allowed)
    assert np.all(np.abs(remainders) < 1)


def test_the_law_is_offered_to_whatever_takes_a_law() -> None:
    found = theory.gain(VARIANCES, 3, T, partial(gradient_flow_law, training_time=TIMES[2]))
    np.testing.assert_allclose(found, theory.mean_gradient_flow_gain(VARIANCES, 3, T, TIMES)[2], rtol=1e-5)
    np.testing.assert_array_equal(theory.gain(VARIANCES, 3, T, gradient_flow_law, training_time=TIMES[2]), found)


def test_shapes_and_second_derivatives() -> None:
    assert theory.gradient_flow_gain(VARIANCES, [T, 1.0], np.ones((3, 1))).shape == (3, 2, 5)
    assert theory.gradient_descent_gain(VARIANCES, T, [0, 1], 0.1).shape == (2, 5)
    assert theory.learning_time(VARIANCES, [T, 1.0], [[0.5]]).shape == (1, 2, 5)
    assert theory.mean_gradient_flow_gain(VARIANCES, [[3], [30]], [T, 1.0], 2.0).shape == (2, 2, 5)


def test_second_derivatives_pass_through_the_roots() -> None:
    with jax.enable_x64(True):
        law = partial(gradient_flow_law, jnp.asarray(VARIANCES), jnp.log(3.0), jnp.asarray(T))
        slope = jax.jacfwd(law)
        both = jax.jit(lambda time: (slope(time), jax.jacfwd(slope)(time)))
        (above, _), (_, curvature), (below, _) = both(0.7001), both(0.7), both(0.6999)
        np.testing.assert_allclose(curvature, (above - below) / 2e-4, rtol=1e-6)


def test_what_is_refused() -> None:
    time = "training_time must be finite and >= 0 in float32, got training_time = -1.0"
    calls: list[tuple[Any, str]] = [
        (lambda: theory.gradient_flow_gain(VARIANCES.tolist(), T, -1.0), time),
        (lambda: theory.gradient_descent_gain([1.0], T, -1, 0.1), "steps must be whole and between 0 and 2147483647"),
        (lambda: theory.gradient_descent_gain([1.0], T, [1, 2.5], 0.1), r"got steps\[1\] = 2.5"),
        (lambda: theory.gradient_descent_gain([1.0], T, 2**31, 0.1), "got steps = 2147483648.0"),
        (lambda: theory.gradient_descent_gain([1.0], T, 1, 0.0), "learning_rate must be finite and > 0"),
        (lambda: theory.learning_time([1.0], T, 1.5), "fraction must be between 0 and 1, got fraction = 1.5"),
        (lambda: theory.mean_gradient_flow_gain([1.0], 3, T, 0.0), "training_time must be finite and > 0"),
    ]
    for call, text in calls:
        with pytest.raises(ValueError, match=text):
            call()
    with pytest.raises(TypeError, match="noise variance t"):
        theory.mean_gradient_flow_gain([1.0], 3, training_time=1.0)
    with pytest.raises(TypeError, match="training_time, learning rate times steps"):
        theory.mean_gradient_flow_gain([1.0], 3, T)
    assert jax.jit(lambda f: theory.learning_time(jnp.ones(2), T, f))(jnp.array(0.5)).shape == (2,)
