"""Nearest neighbours and the best-generalization time: quadrature, simulation, limits, and the order of times.

One program serves all spectra: they are padded with zero variances, which count neither in distances nor in m.
"""

from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import chi2, ncx2, norm

import theory
from theory import generalization
from theory._lattice import normal_points

from . import naive

LADDER = np.asarray(naive.SPECTRA["ladder"], float)
SIZES = np.array([10.0, 1e4, 1e12])


def padded(v: np.ndarray | list[float]) -> np.ndarray:
    return np.concatenate([v, np.zeros(naive.WIDTH - len(v))])


def times(v: np.ndarray | list[float], n: np.ndarray) -> np.ndarray:
    """One by one: each takes a second of a core, and so none is computed to fill a shape."""
    with jax.enable_x64(True):
        return np.concatenate([theory.best_generalization_time(v, [size]) for size in n])


# ---- against quadrature, for equal variances ------------------------------------------------------------------------


def by_quadrature(d: int) -> np.ndarray:
    """Mean squared distance of y to the nearest of N points, over d: |y|^2 is chi-square, |y - y'|^2 non-central."""
    total = norm.cdf(np.linspace(-8, 8, 161))
    squares = chi2.ppf(total, d) if d > 1 else np.linspace(0, 12, 1501) ** 2
    mass = norm.pdf(np.linspace(-8, 8, 161)) if d > 1 else 2 * norm.pdf(np.sqrt(squares))
    log_u = np.linspace(-60 if d == 1 else -120 / d, 6, 1500)
    u = np.exp(log_u)
    means = np.empty((len(SIZES), len(squares)))
    for i, h in enumerate(squares):
        if d == 1:
            # Differences of the error function lose digits where ncx2 does worse.
            r = np.sqrt(u)
            f = np.where(r < 1e-3, 2 * r * norm.pdf(np.sqrt(h)), ndtr(r - np.sqrt(h)) - ndtr(-r - np.sqrt(h)))
        else:
            f = ncx2.cdf(u, d, h)
        log_outside = np.log1p(-np.minimum(f, 1 - 1e-16))
        means[:, i] = [np.trapezoid(np.exp(n * log_outside) * u, log_u) for n in SIZES]
    mass[[0, -1]] /= 2
    weight = mass / mass.sum()
    return means @ weight / d


# Where few directions meet many points, outlying y carry the mean: it is the lattice that limits the accuracy.
@pytest.mark.parametrize(("d", "accuracy"), [(1, (0.003, 0.003, 0.03)), (8, (0.003, 0.005, 0.01))])
def test_equal_variances_by_quadrature(d: int, accuracy: tuple[float, ...]) -> None:
    found = times(np.full(d, 1.7), SIZES) / 1.7
    np.testing.assert_array_less(np.abs(found / by_quadrature(d) - 1), accuracy)


@pytest.mark.parametrize("d", [3, 16, 32])
def test_equal_variances_among_zeros_by_quadrature(d: int) -> None:
    found = times(padded([0.4] * d), SIZES) / 0.4
    # 512 points here; three directions would need more of them.
    np.testing.assert_array_less(np.abs(found / by_quadrature(d) - 1), 0.03 if d == 3 else 0.015)


# ---- against simulation ---------------------------------------------------------------------------------------------

SPECTRA = {
    "ladder": LADDER,
    "two groups": padded([1.0] * 8 + [0.09] * 8),
    "twelve decades": np.asarray(naive.SPECTRA["twelve decades"], float),
    "power law": np.arange(1, 33) ** -1.0,
}
COUNTS = [2, 30, 1000]
# One family; correct code fails somewhere with probability 1e-4.
Z = -NormalDist().inv_cdf(1e-4 / (2 * len(SPECTRA) * len(COUNTS)))
NUMERICAL = 0.015  # stated error


def simulated(v: np.ndarray, n: int) -> tuple[float, float]:
    """Mean squared distance to the nearest of n over m, and its error, from independent training sets."""
    rng = np.random.default_rng([n, int(1e6 * v.sum())])
    repetitions, queries = 200_000 // (n + 200), 40
    means = np.empty(repetitions)
    for k in range(repetitions):
        data, fresh = (rng.standard_normal((size, v.size)) * np.sqrt(v) for size in (n, queries))
        squared = np.sum(data**2, axis=1) + np.sum(fresh**2, axis=1)[:, None] - 2 * fresh @ data.T
        means[k] = squared.min(axis=1).mean()
    m = np.count_nonzero(v)
    return means.mean() / m, means.std(ddof=1) / np.sqrt(repetitions) / m


@pytest.mark.parametrize("name", SPECTRA)
def test_nearest_neighbours_are_those_of_a_simulation(name: str) -> None:
    predicted = times(SPECTRA[name], np.array([*COUNTS], float))
    for n, time in zip(COUNTS, predicted, strict=True):
        measured, error = simulated(SPECTRA[name], n)
        assert abs(measured - time) < NUMERICAL * time + Z * error
        # Control: a tenth more or less is too much, unless one direction carries the sum as in a spectrum of decades.
        for wrong in (1.1, 1 / 1.1):
            assert abs(measured - wrong * time) > NUMERICAL * time + Z * error or name == "twelve decades"


def test_the_divergence_is_least_near_the_time() -> None:
    """Direct minimum of -E log p_t(y) over t, 4 to 15 % above t_g in the condensed phase; far off below m of few."""
    rng = np.random.default_rng(3)
    grid = np.geomspace(0.01, 3, 80)
    for v, n, low, high in [
        (np.ones(32), 200, 1.0, 1.15),
        (padded([1.0] * 20 + [1e-4] * 5), 100, 1.0, 1.15),
        (padded([1.0] * 3), 1000, 4.0, 10.0),
    ]:
        m = np.count_nonzero(v)
        loss = np.zeros(grid.size)
        for _ in range(15):
            data, fresh = (rng.standard_normal((size, v.size)) * np.sqrt(v) for size in (n, 100))
            squared = np.sum(data**2, axis=1) + np.sum(fresh**2, axis=1)[:, None] - 2 * fresh @ data.T
            nearest = squared.min(axis=1, keepdims=True)
            crowd = [np.log(np.sum(np.exp((nearest - squared) / (2 * t)), axis=1)) for t in grid]
            loss += m / 2 * np.log(grid) + nearest.mean() / (2 * grid) - np.mean(crowd, axis=1)
        best = grid[np.argmin(loss)]
        t_g = times(v, np.array([float(n)]))[0]
        t_c = float(theory.condensation_time(v, n))
        assert low < best / t_g < high
        assert (t_g < t_c) == (high < 2)


# ---- orders and limits ----------------------------------------------------------------------------------------------


def test_order_of_times() -> None:
    """t_g < t_c < t_o wherever log N is small against the number of resolved directions."""
    for v in SPECTRA.values():
        onset, condensation = (np.asarray(f(v, SIZES[:2])) for f in (theory.onset_time, theory.condensation_time))
        assert np.all(times(v, SIZES[:2]) < condensation)
        assert np.all(condensation < onset)


@pytest.mark.parametrize(("m", "n"), [(3, 2.9), (4, 4.7), (6, 18.0), (8, 85.0), (12, 3.6e3), (16, 3e5), (24, 2e9)])
def test_the_order_is_lost_where_stated(m: int, n: float) -> None:
    v, sizes = padded([1.0] * m), np.exp(np.log(n) * np.array([0.85, 1.15]))
    ratios = times(v, sizes) / np.asarray(theory.condensation_time(v, sizes))
    assert ratios[0] < 1 < ratios[1]


# The larger spectrum is a program of its own; the smaller ones are padded.
@pytest.mark.parametrize(
    ("directions", "left"),
    [((8, 32), 0.15), pytest.param((32, 128), 0.06, marks=pytest.mark.slow)],
)
def test_leading_order_is_the_limit(directions: tuple[int, int], left: float) -> None:
    """Equation (3) at fixed log N/d: relative deviations of order 1/d, and t_g below the time of clean points."""
    deviations = []
    for d in directions:
        v = padded([1.0] * d) if d < naive.WIDTH else np.ones(d)
        with jax.enable_x64(True):
            kappa = float(theory.condensation_time_at(v, log_n=0.3 * d, point=v))
            found = float(theory.best_generalization_time(v, log_n=[0.3 * d])[0])
        leading = kappa * (1 - (kappa / (kappa + 1)) ** 2)
        deviations.append(found / leading - 1)
    assert found < kappa
    assert 0.25 < deviations[1] / deviations[0] < 0.5  # (log d)/d: 0.35
    assert 0 < deviations[1] < left


def test_limits_and_units(x64: bool) -> None:
    dtype = naive.precision(x64)
    v = LADDER.astype(dtype)

    def find(v: np.ndarray, *log_sizes: float) -> np.ndarray:
        """One by one, as in :func:`times`."""
        return np.concatenate([theory.best_generalization_time(v, log_n=np.array([size], dtype)) for size in log_sizes])

    found = find(v, 0.0, 1.0, np.inf)
    assert found.dtype == dtype
    # One point: y - y' has twice the variances.
    np.testing.assert_allclose(found[0], 2 * LADDER.sum() / 24, rtol=0.003)
    assert found[2] == 0
    np.testing.assert_allclose(find(1000 * v, 1.0), 1000 * found[1:2], rtol=1e-4)
    # The lattice sees the order of the directions, the result hardly.
    np.testing.assert_allclose(find(v[::-1], 1.0), found[1:2], rtol=0.005)
    assert not find(0 * v, 0.0, 1.0).any()
    many = find(v, 400.0, 600.0, 1e6)
    assert np.log(many[1] / many[0]) < -0.9 * 200 / 12
    assert many[2] == 0  # e^(-2e6/24) of the largest variance
    # Sizes are solved one by one: shape kept.
    sizes = jnp.ones((3, 1), dtype)
    assert jax.eval_shape(lambda s: theory.best_generalization_time(v, log_n=s), sizes).shape == (3, 1)


@pytest.mark.slow  # every spectrum of the other tests once more
def test_both_precisions_agree() -> None:
    for v in SPECTRA.values():
        single = np.asarray(theory.best_generalization_time(v.astype(np.float32), SIZES))
        np.testing.assert_allclose(single, times(v, SIZES), rtol=2e-4)


def test_derivatives() -> None:
    """Along each variance and the size; the nodes and the lattice stay where they are, as they may to their error."""
    v, log_n = np.array([1.0, 0.5, 0.5, 0.1, 0.05, 0.02]), 3.0
    with jax.enable_x64(True):
        points = jnp.asarray(normal_points(126, 6) ** 2)
        both = jax.jit(jax.value_and_grad(generalization._time_of, (0, 1)))
        value, (by_variance, by_size) = both(v, log_n, points)
        for i in range(6):
            step = 1e-3 * v[i] * np.eye(6)[i]
            numerical = (both(v + step, log_n, points)[0] - both(v - step, log_n, points)[0]) / (2e-3 * v[i])
            np.testing.assert_allclose(by_variance[i], numerical, rtol=0.03)
        numerical = (both(v, log_n + 1e-3, points)[0] - both(v, log_n - 1e-3, points)[0]) / 2e-3
        np.testing.assert_allclose(by_size, numerical, rtol=0.03)
    # Twice the variances, twice the time: Euler's identity, to the numerical error.
    np.testing.assert_allclose(np.asarray(by_variance) @ v, float(value), rtol=0.03)


def test_under_vmap_and_jit() -> None:
    spectra = np.stack([LADDER, 2 * LADDER]).astype(np.float32)
    sizes = np.array([2.0, 5.0], np.float32)
    mapped = jax.jit(jax.vmap(lambda v, s: theory.best_generalization_time(v, log_n=s)))(spectra, sizes)
    looped = [theory.best_generalization_time(v, log_n=[s])[0] for v, s in zip(spectra, sizes, strict=True)]
    np.testing.assert_allclose(mapped, looped, rtol=1e-4)


@pytest.mark.slow
def test_ten_thousand_directions() -> None:
    v = np.asarray(naive.SPECTRA["10 000 directions"], np.float32)
    rng = np.random.default_rng(0)
    nearest = [
        np.sum(
            v * (rng.standard_normal((100, v.size), dtype=np.float32) - rng.standard_normal(v.size)) ** 2, axis=1
        ).min()
        for _ in range(400)
    ]
    error = np.std(nearest) / 20 / np.mean(nearest)
    found = float(theory.best_generalization_time(v, 100)) * v.size
    assert abs(found / np.mean(nearest) - 1) < 0.02 + 4 * error
    assert error < 0.02


def test_angles_are_those_of_arctan2(x64: bool) -> None:
    """The angle that replaces arctan2, over the half plane."""
    dtype = naive.precision(x64)
    angles = np.linspace(0, 3.1, 500).astype(dtype)
    real, imaginary = (3 * f(angles) for f in (np.cos, np.sin))
    found = generalization._angle(*map(jnp.asarray, (real, imaginary, real**2 + imaginary**2)))
    # Near pi the modulus and the real part cancel: 1 + cos loses half the digits in single precision.
    np.testing.assert_allclose(found, angles, atol=1e-8 if x64 else 2e-4)


# ---- the lattice ----------------------------------------------------------------------------------------------------


def test_lattice_points_are_fixed_and_evenly_normal() -> None:
    points = normal_points(1000, 40)
    assert points.shape == (1000, 40)
    assert points.dtype == np.float64
    assert not points.flags.writeable
    assert np.unique(points).size == points.size
    np.testing.assert_array_equal(points[:10, :3], normal_points(10, 3))
    # By the definition: (k + 1/2) times the roots of 2, 3, 5 and of the 40th prime, 173.
    for column, prime in [(0, 2), (1, 3), (2, 5), (39, 173)]:
        uniform = ((np.arange(1000) + 0.5) * np.sqrt(prime)) % 1
        np.testing.assert_allclose(points[:, column], norm.ppf(uniform), rtol=1e-10)
    # Five times closer than the 0.03 of independent draws, in few dimensions.
    np.testing.assert_array_less(np.abs(points[:, :6].mean(axis=0)), 0.006)
    np.testing.assert_array_less(np.abs(points.mean(axis=0)), 0.03)
    np.testing.assert_array_less(np.abs((points[:, :8] ** 2).mean(axis=0) - 1), 0.02)
    correlations = points[:, :8].T @ points[:, :8] / 1000 - np.eye(8)
    # Between coordinates no better than independent draws: single pairs are correlated up to three times as strongly.
    assert np.sqrt(np.mean(correlations**2)) < 1 / np.sqrt(1000)


@pytest.mark.parametrize("dimensions", [1, 2, 5, 6, 7, 100, 10_000])
def test_lattices_use_different_primes(dimensions: int) -> None:
    points = normal_points(1, dimensions)
    assert points.shape == (1, dimensions)
    assert np.all(np.isfinite(points))
    assert np.unique(points).size == dimensions
