"""Densities, bulks, gaps, overlaps and fluctuations: polynomial roots, closed forms, identities, limits."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import theory
from theory import random_matrix
from theory.random_matrix import Ensemble
from theory.sample_spectrum import count_covariance

from .test_transformations import largest_array, quickly

# Three distinct variances each, so that one program serves all; merged and separate bulks, more and fewer directions
# than points, as many, null directions, both uses.
ENSEMBLES: dict[str, Callable[[], Ensemble]] = {
    "three bulks": lambda: random_matrix.sample_covariance(np.repeat([1.0, 0.1, 0.01], [10, 20, 30]), 600),
    "merged": lambda: random_matrix.sample_covariance(np.repeat([1.0, 0.7, 0.4, 0.0], [10, 20, 30, 40]), 90),
    "few points": lambda: random_matrix.sample_covariance(np.repeat([3.0, 0.2, 0.1], [2, 30, 40]), 24),
    "as many": lambda: random_matrix.sample_covariance(np.repeat([1.0, 0.2, 0.1], [20, 20, 20]), 60),
    "six decades": lambda: random_matrix.sample_covariance(np.repeat([1e3, 1.0, 1e-3], [5, 5, 5]), 60),
    "manifold": lambda: random_matrix.random_manifold(np.repeat([1.0, 0.1, 0.01], [10, 20, 30]), 100, nu=60),
    "full manifold": lambda: random_matrix.random_manifold(np.repeat([1.0, 0.1, 0.05], [50, 40, 40]), 100),
}
NODES = 1024  # resolve the lower edges of bulks that span decades


def ensemble(name: str) -> Ensemble:
    with jax.enable_x64(True):
        return ENSEMBLES[name]()


def nodes(lower: float, upper: float) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and weights of the trapezoidal rule in the angle, which converges exponentially for root edges."""
    angle = np.pi * (np.arange(NODES) + 0.5) / NODES
    half = (upper - lower) / 2
    return (upper + lower) / 2 - half * np.cos(angle), np.pi / NODES * half * np.sin(angle)


def spectrum(found: Ensemble) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues, weights and densities of all bulks, ``(bulks, NODES)`` each."""
    with jax.enable_x64(True):
        edges = random_matrix.bulks(found)
        quadrature = [nodes(*ends) for ends in zip(edges.lower, edges.upper, strict=True)]
        rho = [np.asarray(random_matrix.density(found, eigenvalues)) for eigenvalues, _ in quadrature]
    return np.array([x for x, _ in quadrature]), np.array([w for _, w in quadrature]), np.array(rho)


def atom(found: Ensemble) -> float:
    with jax.enable_x64(True):
        return float(random_matrix.atom(found))


def parts(found: Ensemble) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Variances, counts, points and dimensions as NumPy numbers."""
    v, counts, n, d = (np.asarray(part, float) for part in found)
    return v, counts, float(n), float(d)


# --- The density. ---


@pytest.mark.parametrize(("d", "n"), [(4, 10), (10, 10), (25, 10)])
def test_equal_variances_are_marchenko_pastur(d: int, n: int, x64: bool) -> None:
    v, c = 2.0, d / n
    low, high = v * (1 - np.sqrt(c)) ** 2, v * (1 + np.sqrt(c)) ** 2
    eigenvalues = np.linspace(low, high, NODES + 2)[1:-1]
    exact = np.sqrt((high - eigenvalues) * (eigenvalues - low)) / (2 * np.pi * c * v * eigenvalues)
    rounding = 1e-12 if x64 else 2e-4  # near an edge the root loses half of the digits
    found = random_matrix.density(random_matrix.sample_covariance([v] * d, n), eigenvalues)
    np.testing.assert_allclose(found, exact, rtol=rounding)
    assert found.dtype == (np.float64 if x64 else np.float32)
    # The manifold of the same matrix: its n eigenvalues are counted, not its d.
    manifold = random_matrix.density(random_matrix.random_manifold([v] * d, n), eigenvalues)
    np.testing.assert_allclose(manifold, c * exact, rtol=rounding)


@pytest.mark.parametrize("name", ENSEMBLES)
def test_densities_integrate_to_one_and_have_the_exact_moments(name: str) -> None:
    found = ensemble(name)
    v, counts, n, d = parts(found)
    x, w, rho = spectrum(found)
    total = np.sum(w * rho)
    assert total + atom(found) == pytest.approx(1, abs=1e-9)
    rank = min(n, counts.sum())
    assert atom(found) == pytest.approx(1 - rank / d, abs=1e-15)
    # Traces of S, S^2, S^3 by counting pairings, leading order.
    one, two, three = (np.sum(counts * v**k) for k in (1, 2, 3))
    exact = np.array([one, two + one**2 / n, three + 3 * one * two / n + one**3 / n**2]) / d
    moments = np.array([np.sum(w * rho * x**k) for k in (1, 2, 3)])
    np.testing.assert_allclose(moments, exact, rtol=1e-10)
    if n > counts.sum():  # the inverse of a Wishart matrix, exact in n to leading order
        assert np.sum(w * rho / x) == pytest.approx(np.sum(counts / v) / d / (1 - counts.sum() / n), rel=1e-10)
    # Every bulk has the number of eigenvalues that is told.
    with jax.enable_x64(True):
        np.testing.assert_allclose(d * np.sum(w * rho, axis=1), random_matrix.bulks(found).eigenvalues, rtol=1e-9)


def test_a_power_law_and_twelve_decades() -> None:
    with jax.enable_x64(True):
        for v, n in [(np.arange(1, 14) ** -1.5, 5), (10.0 ** np.arange(-6, 7), 4)]:
            found = random_matrix.sample_covariance(v, n)
            edges = random_matrix.bulks(found)
            assert edges.eigenvalues.sum() == n
            total = 0.0
            for low, high in zip(edges.lower, edges.upper, strict=True):
                # In the logarithm, as a bulk may span decades.
                log_x, weights = nodes(math.log(low), math.log(high))
                total += np.sum(weights * np.exp(log_x) * np.asarray(random_matrix.density(found, np.exp(log_x))))
            assert total == pytest.approx(n / v.size, rel=1e-6)


def companion_roots(v: np.ndarray, counts: np.ndarray, n: float, eigenvalue: float) -> np.ndarray:
    """All kappa of (1), as roots of the polynomial that it is times all denominators."""
    product = np.poly(-v)
    numerator = np.polysub(
        n * product,
        sum(k * s * np.poly(-np.delete(v, i)) for i, (k, s) in enumerate(zip(counts, v, strict=True))),
    )
    return np.roots(np.polyadd(np.polymul([1.0, 0.0], numerator), n * eigenvalue * product))


@pytest.mark.parametrize("name", ENSEMBLES)
def test_densities_and_overlaps_are_the_roots_of_the_polynomial(name: str) -> None:
    found = ensemble(name)
    v, counts, n, d = parts(found)
    # The same number of points for all, one program.
    x, rho = (np.resize(part[:, 32:-32:160].ravel(), 18) for part in spectrum(found)[::2])
    kappa = np.array([min(companion_roots(v, counts, n, at), key=lambda root: root.imag) for at in x])
    np.testing.assert_allclose(rho, n / d / np.pi * (1 / kappa).imag, rtol=1e-6)  # of the roots of a cubic and more
    with jax.enable_x64(True):
        overlaps = np.asarray(random_matrix.overlap(found, x, v))
    expected = v * np.abs(kappa[:, None]) ** 2 / (n * x[:, None] * np.abs(v + kappa[:, None]) ** 2)
    np.testing.assert_allclose(overlaps, expected, rtol=1e-6)


def test_outside_of_the_bulks_there_is_nothing() -> None:
    found = ensemble("three bulks")
    with jax.enable_x64(True):
        edges = random_matrix.bulks(found)
        middles = (edges.upper[:-1] + edges.lower[1:]) / 2
        outside = [-1.0, 0.0, *middles, 0.999 * edges.lower[0], 1.001 * edges.upper[-1], 1e6]
        points = [1.001 * edges.lower[0], 0.999 * edges.upper[-1], *outside]
        rho = np.asarray(random_matrix.density(found, np.resize(points, NODES)))[: len(points)]
    assert np.all(rho[:2] > 0)
    assert not np.any(rho[2:])


# --- Bulks. ---


@pytest.mark.parametrize("name", ENSEMBLES)
def test_edges_are_the_real_roots_of_the_polynomial(name: str) -> None:
    found = ensemble(name)
    v, counts, n, _ = parts(found)
    squares = [np.polymul(*[np.poly(np.delete(v, i))] * 2) for i in range(v.size)]
    slope = np.polysub(
        n * np.polymul(np.poly(v), np.poly(v)),
        sum(k * s**2 * p for k, s, p in zip(counts, v, squares, strict=True)),
    )
    spikes = np.roots(slope)
    spikes = np.sort(spikes[np.abs(spikes.imag) < 1e-7 * np.abs(spikes) + 1e-12].real)
    distance = spikes[:, None] - v
    edges = np.sort(spikes * (1 + np.sum(counts / n * v / distance, axis=1)))
    bend = np.abs(2 * np.sum(counts / n * v**2 / distance**3, axis=1))
    scale = (spikes**4 * bend / (2 * n**2)) ** (1 / 3)
    bulks = random_matrix.bulks(found)
    ours = np.stack([bulks.lower, bulks.upper], axis=1).ravel()
    # A root of a polynomial of degree six has half the digits where others are near.
    np.testing.assert_allclose(ours, edges, rtol=1e-6, atol=1e-12)
    scales = np.stack([bulks.lower_scale, bulks.upper_scale], axis=1).ravel()
    np.testing.assert_allclose(scales, scale, rtol=1e-6, atol=1e-10)
    assert bulks.lower.dtype == np.float64


def test_bulks_of_one_variance() -> None:
    c, n, v = 0.4, 50, 3.0
    for matrix, unit in [
        (random_matrix.sample_covariance([v] * 20, n), 1.0),
        (random_matrix.random_manifold([v] * 20, n, nu=20), n / 20),  # normalized by the latent dimension
    ]:
        bulks = random_matrix.bulks(matrix)
        np.testing.assert_allclose(bulks.lower, unit * v * (1 - np.sqrt(c)) ** 2, rtol=1e-6)  # given in float32
        np.testing.assert_allclose(bulks.upper, unit * v * (1 + np.sqrt(c)) ** 2, rtol=1e-6)
        root = np.sqrt(n) + np.array([-1, 1]) * np.sqrt(20)
        johnstone = np.abs(root) / n * np.abs(1 / np.sqrt(n) + np.array([-1, 1]) / np.sqrt(20)) ** (1 / 3)
        np.testing.assert_allclose(bulks.lower_scale, unit * v * johnstone[0], rtol=1e-6)
        np.testing.assert_allclose(bulks.upper_scale, unit * v * johnstone[1], rtol=1e-6)


def test_bulks_of_no_variance_and_of_equal_numbers() -> None:
    assert random_matrix.bulks(random_matrix.sample_covariance([0.0, 0.0], 5)).lower.size == 0
    nothing = random_matrix.gaps(random_matrix.sample_covariance([0.0, 0.0], 5))
    assert [part.size for part in nothing] == [0, 0, 0]
    square = random_matrix.bulks(random_matrix.sample_covariance([1.0, 0.5] * 8, 16))
    assert square.lower[0] == square.lower_scale[0] == 0
    for n in (15, 17):
        assert random_matrix.bulks(random_matrix.sample_covariance([1.0, 0.5] * 8, n)).lower[0] > 1e-4


def test_bulks_separate_as_points_are_added() -> None:
    v = np.repeat([1.0, 0.25], 50)
    separate = [random_matrix.bulks(random_matrix.sample_covariance(v, n)).lower.size for n in (10, 100, 400, 1e4)]
    assert separate == [1, 1, 2, 2]
    many = random_matrix.bulks(random_matrix.sample_covariance(v, 1e12))
    np.testing.assert_allclose(many.lower, [0.25, 1], rtol=1e-4)
    np.testing.assert_allclose(many.upper, [0.25, 1], rtol=1e-4)


def test_bulks_are_found_on_the_host_and_say_so() -> None:
    with pytest.raises(TypeError, match=r"^bulks are counted on the host: call this outside of jit, vmap and grad"):
        jax.jit(lambda v: random_matrix.bulks(random_matrix.sample_covariance(v, 5)).lower)(jnp.ones(3))
    # What was made in a trace comes out ungrouped; it has the same bulks.
    made = jax.jit(lambda v: random_matrix.sample_covariance(v, 40))(jnp.array([1.0, 0.1, 1.0, 0.0, 0.1]))
    same = random_matrix.sample_covariance([1.0, 0.1, 1.0, 0.0, 0.1], 40)
    for ours, theirs in zip(random_matrix.bulks(made), random_matrix.bulks(same), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


# --- Gains and gaps. ---


@pytest.mark.parametrize("name", ["three bulks", "merged", "few points", "full manifold"])
def test_gains_have_the_mean_of_the_linear_law(name: str) -> None:
    found, t = ensemble(name), 0.05
    v, counts, n, d = parts(found)
    edges = random_matrix.bulks(found)
    with jax.enable_x64(True):
        total = mean = 0.0
        for low, high in zip(edges.lower, edges.upper, strict=True):
            x, w = nodes(low / (low + t), high / (high + t))
            rho = np.asarray(random_matrix.gain_density(found, x, t))
            total, mean = total + np.sum(w * rho), mean + np.sum(w * rho * x)
        law = theory.soft_dimension(np.repeat(v, counts.astype(int)), n, t, "linear")
        assert not np.any(random_matrix.gain_density(found, [-0.5, 0.0, 1.0, 1.5], t))
    assert total + atom(found) == pytest.approx(1, abs=1e-9)
    assert mean == pytest.approx(float(law) / d, rel=1e-9)


def test_gaps_are_between_the_bulks() -> None:
    found = ensemble("manifold")
    edges, gaps = random_matrix.bulks(found), random_matrix.gaps(found)
    np.testing.assert_array_equal(gaps.above, edges.lower[::-1])
    np.testing.assert_array_equal(gaps.below, [*edges.upper[-2::-1], 0])
    np.testing.assert_array_equal(gaps.dimension, [10, 30, 60])
    # Nothing is 0: no total gap.
    full = random_matrix.gaps(ensemble("three bulks"))
    np.testing.assert_array_equal(full.dimension, [10, 30])
    np.testing.assert_array_equal(full.below, random_matrix.bulks(ensemble("three bulks")).upper[1::-1])
    # With few points there are as many eigenvalues as points, not as directions.
    np.testing.assert_array_equal(random_matrix.gaps(ensemble("few points")).dimension[-1], 24)


EDGES = [(1.0, 0.02), (5.0, 4.0), (0.3, 0.0)]


@pytest.mark.parametrize(("a", "b"), EDGES)
def test_gap_heights_and_times_against_the_gains(a: float, b: float) -> None:
    with jax.enable_x64(True):
        t = np.geomspace(1e-4, 1e3, 200_001)
        height = a / (a + t) - b / (b + t)
        np.testing.assert_allclose(random_matrix.gap_height(a, b, t), height, rtol=1e-12, atol=1e-15)
        for resolution in (0.03, 0.05):
            times = random_matrix.gap_times(a, b, resolution)
            seen = t[height >= resolution]
            step = t[1] / t[0] - 1
            assert float(times.opens) == pytest.approx(seen[-1], rel=2 * step)
            for time in (times.opens, times.closes) if b else (times.opens,):
                assert float(random_matrix.gap_height(a, b, time)) == pytest.approx(resolution, rel=1e-12)
            if b:
                assert float(times.closes) == pytest.approx(seen[0], rel=2 * step)
                assert float(times.largest) == pytest.approx(t[np.argmax(height)], rel=1e-3)  # flat at the top
                assert float(times.height) == pytest.approx(height.max(), rel=1e-8)
            else:
                assert (float(times.largest), float(times.closes), float(times.height)) == (0, 0, 1)
                assert float(times.opens) == pytest.approx(a * (1 - resolution) / resolution, rel=1e-14)


def test_gaps_below_the_resolution_have_no_times() -> None:
    with jax.enable_x64(True):
        height = float(random_matrix.gap_times(5.0, 4.0, 0.01).height)
        assert height == pytest.approx((math.sqrt(5) - 2) / (math.sqrt(5) + 2), rel=1e-14)
        never = random_matrix.gap_times(5.0, 4.0, height * (1 + 1e-9))
        assert np.isnan(never.opens)
        assert np.isnan(never.closes)
        once = random_matrix.gap_times(5.0, 4.0, height * (1 - 1e-12))
        # Open for a moment: half of its width in log t is about the square root of twice the margin over the height.
        assert 0 < float(once.opens) / float(once.closes) - 1 < 1e-4
        assert math.sqrt(float(once.opens) * float(once.closes)) == pytest.approx(math.sqrt(20), rel=1e-12)
        several = random_matrix.gap_times([5.0, 5.0], [4.0, 0.0], [[0.1], [0.01]])
        assert several.opens.shape == several.largest.shape == several.height.shape == (2, 2)
        np.testing.assert_array_equal(np.isnan(several.opens), [[True, False], [False, False]])
        np.testing.assert_array_equal(np.isnan(several.closes), [[True, False], [False, False]])


# --- The linear score beyond its mean. ---


@pytest.mark.parametrize("name", ["three bulks", "merged", "few points"])
def test_overlaps_give_the_gains_of_every_direction(name: str) -> None:
    found = ensemble(name)
    v, counts, n, d = parts(found)
    x, w, rho = spectrum(found)
    with jax.enable_x64(True):
        squared = np.array([random_matrix.overlap(found, row, v) for row in x])
        np.testing.assert_allclose(squared @ counts, 1, rtol=1e-10)
        measure = d * (w * rho)[..., None] * squared  # of one direction of each variance
        for t in (0.3, 0.01):
            kappa = float(theory.effective_noise(np.repeat(v, counts.astype(int)), n, t, "linear"))
            gains = np.sum(measure * (x / (x + t))[..., None], axis=(0, 1))
            np.testing.assert_allclose(gains, v / (v + kappa), rtol=1e-8)
    np.testing.assert_allclose(np.sum(measure * x[..., None], axis=(0, 1)), v, rtol=1e-10)  # u'Su
    if n > counts.sum():  # else a part is at 0
        np.testing.assert_allclose(np.sum(measure, axis=(0, 1)), 1, rtol=1e-10)


def generating_function(v: np.ndarray, n: float, first: np.ndarray, second: np.ndarray) -> float:
    """Covariance of two log-determinants (halved) with noises of their own for every direction, by bisection."""
    gains = []
    for noises in (first, second):
        low, high = 0.0, float(1 + np.sum(v / noises) / n)
        for _ in range(80):  # kappa (1 - sum of gains / n) = 1
            k = (low + high) / 2
            low, high = (low, k) if k * (1 - np.sum(v / (v + noises * k)) / n) > 1 else (k, high)
        gains.append(v / (v + noises * k))
    return float(-0.5 * np.log(1 - np.sum(gains[0] * gains[1]) / n))


def test_sums_of_gains_vary_as_the_derivatives_of_the_log_determinant() -> None:
    v, n, t = np.repeat([1.0, 0.3, 0.05], [2, 3, 2]), 9.0, 0.04
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        for weights in (np.ones(7), np.repeat([1.0, 0.0, 0.0], [2, 3, 2]), rng.standard_normal(7)):
            step = 1e-4
            moved = [t * np.exp(sign * step * weights) for sign in (1, -1)]
            mixed = [[generating_function(v, n, one, two) for one in moved] for two in moved]
            # 1 - g is twice the derivative of half a log-determinant, along the weights.
            numerical = 4 * (mixed[0][0] - mixed[0][1] - mixed[1][0] + mixed[1][1]) / (4 * step**2)
            found = float(random_matrix.gain_sum_variance(v, n, t, weights))
            assert found == pytest.approx(numerical, rel=1e-5)  # rounding 1e-16 over the square of the step


def test_the_soft_dimension_varies_as_its_covariance_at_fixed_noise() -> None:
    v, n, t = np.repeat([1.0, 0.3, 0.05], [2, 3, 2]), 9.0, 0.04
    with jax.enable_x64(True):
        kappa = theory.effective_noise(v, n, t, "linear")
        gains = v / (v + np.asarray(kappa))
        at_fixed_kappa = float(count_covariance(jnp.asarray(v), jnp.asarray(n), kappa[None])[0, 0])
        factor = (1 - gains.sum() / n) / (1 - np.sum(gains**2) / n)
        found = random_matrix.gain_sum_variance(v, n, t, np.ones(7))
    assert float(found) == pytest.approx(factor**2 * at_fixed_kappa, rel=1e-12)


def test_single_gains_vary_as_the_diagonal_of_the_covariance() -> None:
    v, t = np.repeat([1.0, 0.3, 0.05], [2, 3, 2]), 0.04
    with jax.enable_x64(True):
        single = np.asarray(random_matrix.gain_variance(v, [1e3, 1e5], t))
        sums = [[random_matrix.gain_sum_variance(v, n, t, row) for row in np.eye(7)] for n in (1e3, 1e5)]
    assert single.shape == (2, 7)
    deviation = np.abs(np.array(sums) / single - 1).max(axis=1)
    assert deviation[0] < 1e-2
    assert deviation[1] == pytest.approx(deviation[0] / 100, rel=0.1)  # a relative order of 1/N


def test_spikes_beside_equal_variances() -> None:
    n, d, v = 400, 100, 2.0
    c = d / n
    with jax.enable_x64(True):
        bulk = random_matrix.sample_covariance([v] * d, n)
        theta = np.array([0.2, 0.499, 0.501, 2.0])
        seen = random_matrix.spike(bulk, v * (1 + theta))
        assert np.all(np.isnan(seen.eigenvalue[:2]))
        assert not np.any(seen.overlap[:2])
        np.testing.assert_allclose(seen.eigenvalue[2:], (v * (1 + theta) * (1 + c / theta))[2:], rtol=1e-12)
        np.testing.assert_allclose(seen.overlap[2:], ((1 - c / theta**2) / (1 + c / theta))[2:], rtol=1e-12)
        # At the threshold it leaves the bulk.
        edge = random_matrix.spike(bulk, v * (1 + 0.5 + 1e-9)).eigenvalue
        np.testing.assert_allclose(edge, random_matrix.bulks(bulk).upper[0], rtol=1e-9)
        np.testing.assert_allclose(random_matrix.points_to_see([v] * d, v * (1 + theta)), d / theta**2, rtol=1e-12)
        assert random_matrix.points_to_see([v] * d, v) == np.inf
        within = random_matrix.spike(bulk, [v, 1e-9])  # a variance of the bulk; one far below it
        assert np.isnan(within.eigenvalue[0])
        assert float(within.eigenvalue[1]) == pytest.approx(1e-9 * (1 - c), rel=1e-6)


def test_a_spike_is_a_bulk_of_few_directions() -> None:
    """Above the bulks, between them and below: the limit of a fourth bulk, whose edges close in on it."""
    v, n = np.repeat([1.0, 0.1], [100, 200]), 3000.0
    spikes = np.array([2.0, 0.3, 0.02])
    with jax.enable_x64(True):
        others = random_matrix.sample_covariance(v, n)
        seen = random_matrix.spike(others, spikes)
        for value, eigenvalue in zip(spikes, np.asarray(seen.eigenvalue), strict=True):
            counts = np.append(others.counts, 1e-6)
            bulks = random_matrix.bulks(others._replace(variances=np.append(others.variances, value), counts=counts))
            assert bulks.lower.size == 3
            mine = np.argmin(bulks.eigenvalues)
            assert bulks.eigenvalues[mine] == pytest.approx(1e-6)
            assert (bulks.lower[mine] + bulks.upper[mine]) / 2 == pytest.approx(eigenvalue, rel=1e-7)
        needed = np.asarray(random_matrix.points_to_see(v, spikes))
        for value, size in zip(spikes, needed, strict=True):
            for factor, alone in ((1.001, True), (0.999, False)):
                beside = random_matrix.sample_covariance(v, factor * size)
                assert np.isfinite(random_matrix.spike(beside, value).eigenvalue) == alone


# --- Transformations, precision, inputs. ---

X = np.array([0.02, 0.1, 0.8])


def everything(v: Any, x: Any) -> jax.Array:
    made = random_matrix.sample_covariance(v, 20)
    seen = random_matrix.spike(made, 4.0)
    return jnp.stack(
        [
            *random_matrix.density(made, x),
            *random_matrix.overlap(made, x, v)[:, 0],
            seen.eigenvalue,
            seen.overlap,
            *random_matrix.gain_variance(v, 20, 0.1)[:3],
            random_matrix.gain_sum_variance(v, 20, 0.1, v),
            random_matrix.points_to_see(v, 3.0),
            *random_matrix.gap_times(v[0], v[1], 0.1),
            random_matrix.gap_height(v[0], v[1], 0.3),
        ]
    )


def test_derivatives_and_vmap() -> None:
    v = np.array([1.0, 0.1, 0.02, 0.03])
    with jax.enable_x64(True):
        point = np.array([*v, *X])
        compiled = quickly(jax.vmap(lambda point: everything(point[:4], point[4:])))
        steps = 1e-6 * np.diag(point)
        values = np.asarray(compiled(np.stack([point, *(point + steps), *(point - steps)])))
        assert np.all(values[0] > 0)
        numerical = ((values[1:8] - values[8:]) / (2e-6 * point[:, None])).T

        def twice(point: jax.Array) -> tuple[jax.Array, jax.Array]:
            result = everything(point[:4], point[4:])
            return result, result

        forward, alone = quickly(jax.jacfwd(twice, has_aux=True))(point)
        np.testing.assert_allclose(values[0], alone, rtol=1e-10)
        # Rounding 1e-13 of a value over a step of 1e-6, relative to the largest derivative of each.
        scale = np.abs(numerical).max(axis=1, keepdims=True)
        np.testing.assert_array_less(np.abs(forward - numerical), 1e-5 * np.abs(numerical) + 1e-6 * scale)


def test_a_gradient_in_reverse_and_at_the_edges() -> None:
    with jax.enable_x64(True):
        made = random_matrix.sample_covariance([1.0, 1.0, 0.1], 20)

        def total(x: jax.Array) -> jax.Array:
            return jnp.sum(random_matrix.density(made, x))

        reverse = np.asarray(jax.grad(total)(jnp.array([0.0, 0.05, 1.0, 50.0])))
    assert np.all(np.isfinite(reverse))
    assert reverse[[0, 1, 3]].tolist() == [0, 0, 0]  # nothing there
    assert reverse[2] != 0


def test_units_do_not_matter() -> None:
    v, x = np.ones(10), np.resize([0.5, 0.9, 1.5, 2.0], NODES)
    for unit in (1e-12, 1e12):
        made, scaled = (random_matrix.sample_covariance(s * v, 30) for s in (1.0, unit))
        found = random_matrix.density(scaled, unit * x) * unit
        np.testing.assert_allclose(found, random_matrix.density(made, x), rtol=1e-4)


def test_ten_thousand_directions_make_no_square_array() -> None:
    d = 10_000

    def total(v: jax.Array) -> jax.Array:
        made = random_matrix.sample_covariance(v, 1000)
        x = jnp.linspace(0.1, 1.0, 1000)
        sums = random_matrix.gain_sum_variance(v, 1000, 0.1, v) + jnp.sum(random_matrix.gain_variance(v, 1000, 0.1))
        spikes = jnp.sum(random_matrix.spike(made, jnp.linspace(2, 3, 10)).overlap)
        return jnp.sum(random_matrix.density(made, x)) + sums + spikes

    assert largest_array(jax.make_jaxpr(total)(jnp.ones(d)).jaxpr) < 100 * d


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "variances": (
        lambda: random_matrix.sample_covariance([1.0, -1.0], 5),
        "variances must be finite and >= 0 in float32, got variances[1] = -1.0",
    ),
    "n": (
        lambda: random_matrix.sample_covariance([1.0], 0),
        "n must be finite and > 0 in float32, got n = 0.0",
    ),
    "several n": (lambda: random_matrix.sample_covariance([1.0], [5, 6]), "n must be one number, got shape (2,)"),
    "ambient": (
        lambda: random_matrix.random_manifold([1.0], -3),
        "ambient must be finite and > 0 in float32, got ambient = -3.0",
    ),
    "nu": (lambda: random_matrix.random_manifold([1.0], 3, 0.0), "nu must be finite and > 0 in float32, got nu = 0.0"),
    "t": (
        lambda: random_matrix.gain_density(random_matrix.sample_covariance([1.0], 5), 0.5, 0.0),
        "t must be finite and > 0 in float32, got t = 0.0",
    ),
    "gap t": (lambda: random_matrix.gap_height(1.0, 0.5, -1), "t must be finite and > 0 in float32, got t = -1.0"),
    "above": (
        lambda: random_matrix.gap_times(0.5, 0.5, 0.1),
        "above must exceed below, got above = 0.5, below = 0.5",
    ),
    "below": (
        lambda: random_matrix.gap_height(1.0, -0.5, 1),
        "below must be finite and >= 0 in float32, got below = -0.5",
    ),
    "resolution": (
        lambda: random_matrix.gap_times(1.0, 0.5, 1.5),
        "resolution must be between 0 and 1, got resolution = 1.5",
    ),
    "no resolution": (
        lambda: random_matrix.gap_times(1.0, 0.5, 0.0),
        "resolution must be finite and > 0 in float32, got resolution = 0.0",
    ),
    "size": (
        lambda: random_matrix.gain_variance([1.0], 0, 1.0),
        "n must be finite and > 0 in float32, got n = 0.0",
    ),
    "weights": (
        lambda: random_matrix.gain_sum_variance([1.0, 2.0], 5, 1.0, [1.0]),
        "weights must have shape (2,) as variances, got shape (1,)",
    ),
    "eigenvalues": (
        lambda: random_matrix.overlap(random_matrix.sample_covariance([1.0], 5), [1.0, 0.0], [1.0]),
        "eigenvalues must be finite and > 0 in float32, got eigenvalues[1] = 0.0",
    ),
    "spike": (
        lambda: random_matrix.spike(random_matrix.sample_covariance([1.0], 5), 0.0),
        "variance must be finite and > 0 in float32, got variance = 0.0",
    ),
    "point": (
        lambda: random_matrix.points_to_see([1.0], math.nan),
        "spike must be finite and > 0 in float32, got spike = nan",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_and_in_which_words(name: str) -> None:
    call, text = REFUSED[name]
    with pytest.raises(ValueError, match=r"must") as caught:
        call()
    assert str(caught.value) == text


def test_as_many_points_as_directions_leave_no_total_gap() -> None:
    """The lowest bulk reaches down to the zeros of null directions; one point more or less leaves a gap again."""
    v = np.array([1.0] * 6 + [0.0] * 4)
    for n, dimensions in ((5, [5.0]), (6, []), (7, [6.0])):
        assert random_matrix.gaps(random_matrix.sample_covariance(v, n)).dimension.tolist() == dimensions
