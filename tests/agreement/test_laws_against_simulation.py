"""The laws of finite data against small, independent simulations in NumPy (float64).

Errors are over training sets, which are independent; directions of one variance and points of one set are averaged
first.  Nothing here uses the gain engines of `geomem_jax`.
"""

from typing import NamedTuple

import jax
import numpy as np
import pytest
from scipy import stats

import theory

# One family: every z-score and every slope of this file; correct code fails somewhere with probability 1e-4.
Z = float(stats.norm.isf(1e-4 / (2 * 100)))  # 4.9
LIMIT = 0.02  # the linear law is asymptotic: group means within 2 %
ERROR_BAR = 0.005  # with relative errors of the means below 0.5 %


class Means(NamedTuple):
    """Means over training sets and their standard errors, one shape."""

    mean: np.ndarray
    error: np.ndarray


def means(samples: np.ndarray) -> Means:
    return Means(samples.mean(axis=0), samples.std(axis=0, ddof=1) / np.sqrt(len(samples)))


# --- The linear score: D = S (S + t)^{-1} x with S the sample covariance. ---

GROUPS = {1.0: 20, 0.09: 60}  # variance: directions; 80 null directions add exact zeros to S and are left out
VARIANCES = np.repeat([*GROUPS, 0.0], [*GROUPS.values(), 80])
LINEAR_SIZES = (20, 40, 80, 160, 320, 640)
LINEAR_NOISES = np.array([0.1, 0.01, 0.001])
TRAINING_SETS = 400


def linear_gains(rng: np.random.Generator, n: int, centred: bool) -> np.ndarray:
    """Group means of the gains of one training set; shape (noise, group)."""
    y = rng.standard_normal((n, 80)) * np.sqrt(VARIANCES[:80])
    y = (y - y.mean(axis=0)) / np.sqrt(n - 1) if centred else y / np.sqrt(n)
    if n < 80:  # the dual: S = y'y has the spectrum of y y', with eigenvectors y'w/sqrt(lambda)
        eigenvalues, vectors = np.linalg.eigh(y @ y.T)
        gains = [(y.T @ vectors) ** 2 @ (1 / (np.maximum(eigenvalues, 0) + t)) for t in LINEAR_NOISES]
    else:
        eigenvalues, vectors = np.linalg.eigh(y.T @ y)
        eigenvalues = np.maximum(eigenvalues, 0)
        gains = [vectors**2 @ (eigenvalues / (eigenvalues + t)) for t in LINEAR_NOISES]
    return np.array([[g[:20].mean(), g[20:].mean()] for g in gains])


def simulate_linear(centred: bool) -> Means:
    rng = np.random.default_rng(2 + centred)
    samples = [[linear_gains(rng, n, centred) for n in LINEAR_SIZES] for _ in range(TRAINING_SETS)]
    return means(np.array(samples))


@pytest.fixture(scope="module")
def known_mean() -> Means:
    return simulate_linear(centred=False)


@pytest.fixture(scope="module")
def mean_subtracted() -> Means:
    return simulate_linear(centred=True)


def linear_law(lost: int = 0, kappa_factor: float = 1.0) -> np.ndarray:
    """Gains for N - lost points, shape (size, noise, group); kappa can be mis-stated."""
    n = np.array(LINEAR_SIZES)[:, None] - lost
    with jax.enable_x64(True):
        kappa = kappa_factor * np.asarray(theory.effective_noise(VARIANCES, n, LINEAR_NOISES, "linear"))
    variance = np.array(list(GROUPS))
    return variance / (variance + kappa[..., None])


def test_the_direct_inverse_gives_the_same_gains() -> None:
    """The dual and the primal shortcut against the definition."""
    for n in (20, 160):
        rng = np.random.default_rng(0)
        found = linear_gains(rng, n, centred=False)
        y = np.random.default_rng(0).standard_normal((n, 80)) * np.sqrt(VARIANCES[:80])
        covariance = y.T @ y / n
        gains = [np.diag(np.linalg.solve(covariance + t * np.eye(80), covariance)) for t in LINEAR_NOISES]
        np.testing.assert_allclose(found, [[g[:20].mean(), g[20:].mean()] for g in gains], rtol=1e-9)


def test_linear_law_with_known_mean(known_mean: Means) -> None:
    law = linear_law()
    assert np.all(known_mean.error <= ERROR_BAR * law)
    np.testing.assert_array_less(np.abs(known_mean.mean / law - 1), LIMIT)


def test_linear_law_with_the_mean_subtracted(mean_subtracted: Means) -> None:
    law = linear_law(lost=1)
    assert np.all(mean_subtracted.error <= ERROR_BAR * law)
    np.testing.assert_array_less(np.abs(mean_subtracted.mean / law - 1), LIMIT)


def test_counting_the_lost_point_is_noticed(mean_subtracted: Means, known_mean: Means) -> None:
    """Both ways round: N for centred data and N - 1 for data of known mean are rejected at small N."""
    z = np.abs((mean_subtracted.mean - linear_law()) / mean_subtracted.error)
    assert np.all(z[:2] > Z)
    assert np.all(np.abs(mean_subtracted.mean / linear_law() - 1)[0] > LIMIT)
    assert np.all(np.abs(known_mean.mean / linear_law(lost=1) - 1)[0] > LIMIT)


@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_a_kappa_wrong_by_five_percent_is_noticed(known_mean: Means, factor: float) -> None:
    deviation = np.abs(known_mean.mean / linear_law(kappa_factor=factor) - 1)
    assert np.any(deviation - Z * known_mean.error > LIMIT)


# --- The empirical score: a softmax over N points with log N/d fixed. ---

NATS_PER_DIRECTION = 0.1
TIMES = (0.3, 1.0, 2.0)  # in units of the condensation time
# d: training sets, points of each
SMALL = {40: (1000, 10), 60: (300, 32), 80: (50, 128)}
LARGE = {40: (4000, 10), 80: (160, 128), 120: (20, 300)}
SIGNS = [-1, -1, 1]  # columns: gains of variance 1 and 0.09 rise to the law, the participation falls to it


def ladder(d: int) -> np.ndarray:
    return np.repeat([1.0, 0.09], [d // 4, d - d // 4])


def dataset_size(d: int) -> int:
    return round(np.exp(NATS_PER_DIRECTION * d))


def empirical_responses(rng: np.random.Generator, d: int, noises: np.ndarray, points: int) -> np.ndarray:
    """Mean gains of both groups and participation of one training set at held-out points; shape (noise, 3)."""
    v, n = ladder(d), dataset_size(d)
    y = rng.standard_normal((n, d)) * np.sqrt(v)
    squares = y**2
    half_norms = squares.sum(axis=1) / 2
    out = []
    for t in noises:
        rows = []
        for _ in range(0, points, 50):  # few points at a time: (50, N) energies
            x = rng.standard_normal((min(points, 50), d)) * np.sqrt(v + t)
            energies = (half_norms - x @ y.T) / t  # the |x|^2 that all share is left out
            weights = np.exp(energies.min(axis=1, keepdims=True) - energies)
            weights /= weights.sum(axis=1, keepdims=True)
            gains = (weights @ squares - (weights @ y) ** 2) / t  # posterior variance over t
            rows.append([gains[:, : d // 4].mean(), gains[:, d // 4 :].mean(), (weights**2).sum(axis=1).mean()])
        out.append(np.mean(rows, axis=0))
    return np.array(out)


def empirical_law(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Noises and the prediction for the three columns at them; shape (noise, 3)."""
    v, n = ladder(d), dataset_size(d)
    with jax.enable_x64(True):
        t = np.asarray(theory.condensation_time(v, n)) * np.array(TIMES)
        gains = np.asarray(theory.gain(v, n, t))[:, [0, -1]]
        kappa = np.asarray(theory.effective_noise(v, n, t))
    return t, np.column_stack([gains, 1 - t / kappa])


def deviations(sizes: dict[int, tuple[int, int]]) -> Means:
    """Measured minus predicted, shape (size, noise, column)."""
    found = []
    for d, (sets, points) in sizes.items():
        rng = np.random.default_rng(d)
        t, law = empirical_law(d)
        found.append(means(np.array([empirical_responses(rng, d, t, points) for _ in range(sets)]) - law))
    return Means(np.array([f.mean for f in found]), np.array([f.error for f in found]))


def decay(deviation: Means, sizes: dict[int, tuple[int, int]]) -> Means:
    """Weighted fit of log |deviation| = a + slope log d; the slope with its error from the error bars."""
    log_d = np.log(list(sizes))[:, None, None]
    weight = (deviation.mean / deviation.error) ** 2
    centre = np.sum(weight * log_d, axis=0) / np.sum(weight, axis=0)
    spread = np.sum(weight * (log_d - centre) ** 2, axis=0)
    slope = np.sum(weight * (log_d - centre) * np.log(np.abs(deviation.mean)), axis=0) / spread
    return Means(slope, 1 / np.sqrt(spread))


def approached(deviation: Means, sizes: dict[int, tuple[int, int]], signs: list[int]) -> np.ndarray:
    """Whether a law is the limit, for every noise and column.

    The energies of N points fluctuate by d^(1/2) nats of d: at t_c this rounds the transition over a width d^(-1/2),
    elsewhere corrections are at most that large.  So deviations keep their sign, shrink significantly, and no slower
    than d^(-1/2); a wrong law leaves a bias that does not shrink.
    """
    slope = decay(deviation, sizes)
    resolved = np.all(np.abs(deviation.mean) > Z * deviation.error, axis=0)  # their logarithm means something
    one_sided = np.all(np.sign(deviation.mean) == signs, axis=0)
    return resolved & one_sided & (slope.mean + Z * slope.error < 0) & (slope.mean - Z * slope.error < -0.5)


@pytest.fixture(scope="module")
def small() -> Means:
    return deviations(SMALL)


def test_the_empirical_law_is_approached_as_d_grows(small: Means) -> None:
    assert np.all(approached(small, SMALL, SIGNS)), decay(small, SMALL)


@pytest.mark.slow
def test_the_empirical_law_is_approached_up_to_160_000_points() -> None:
    large = deviations(LARGE)
    assert np.all(approached(large, LARGE, SIGNS)), (large, decay(large, LARGE))


def wrong_gains(name: str, v: np.ndarray, n: int, t: np.ndarray) -> np.ndarray:
    if name == "infinite data":
        return np.asarray(theory.wiener_gain(v, t))
    if name == "N read as N^2":
        return np.asarray(theory.gain(v, n**2, t))
    assert name == "kappa stays at t_c"
    return v / (v + np.maximum(t, t[1])[:, None])


@pytest.mark.parametrize("name", ["infinite data", "N read as N^2", "kappa stays at t_c"])
def test_a_wrong_empirical_law_is_not_approached(small: Means, name: str) -> None:
    bias = []
    for d in SMALL:
        t, law = empirical_law(d)
        with jax.enable_x64(True):
            bias.append(law[:, :2] - wrong_gains(name, ladder(d), dataset_size(d), t)[:, [0, -1]])
    condensed = Means(small.mean[:, :1, :2] + np.array(bias)[:, :1], small.error[:, :1, :2])
    assert np.all(approached(Means(small.mean[:, :1, :2], condensed.error), SMALL, SIGNS[:2]))
    assert not np.any(approached(condensed, SMALL, SIGNS[:2]))
