"""Bulks, gaps, overlaps, fluctuations and spikes against matrices that are drawn and diagonalized, in NumPy.

The predictions are asymptotic: at three or four sizes the deviations are measured in the units in which they should
approach a known limit, and extrapolated along the next order.  What is compared is the limit, in standard errors.
"""

from itertools import pairwise
from typing import NamedTuple

import jax
import numpy as np
import pytest
from scipy import stats

from theory import random_matrix
from theory.random_matrix import Ensemble

Z = float(stats.norm.isf(1e-4 / (2 * 50)))  # 4.8: some 40 comparisons, correct code fails in one with probability 1e-4


class Limit(NamedTuple):
    """Values at size infinity and their standard errors, one shape."""

    value: np.ndarray
    error: np.ndarray


def limit(small: np.ndarray, values: np.ndarray, errors: np.ndarray) -> Limit:
    """Fit ``values = limit + slope * small`` (first axis: sizes) with the weights of the errors."""
    weights = errors**-2.0
    small = np.broadcast_to(small.reshape(-1, *[1] * (values.ndim - 1)), values.shape)
    mean = np.sum(weights * small, axis=0) / np.sum(weights, axis=0)
    spread = np.sum(weights * (small - mean) ** 2, axis=0)
    coefficient = weights * (1 / np.sum(weights, axis=0) - mean * (small - mean) / spread)
    return Limit(np.sum(coefficient * values, axis=0), np.sqrt(np.sum((coefficient * errors) ** 2, axis=0)))


def z_scores(found: Limit, expected: float) -> np.ndarray:
    return np.abs(found.value - expected) / found.error


def test_the_fit_finds_a_limit() -> None:
    small = np.array([1.0, 0.5, 0.25])
    exact = limit(small, np.array([3.0, 2.5, 2.25]), np.array([0.1, 0.2, 0.3]))
    assert exact.value == pytest.approx(2.0, rel=1e-12)
    draws = np.random.default_rng(0).standard_normal((3, 4000)) * np.array([[0.1], [0.2], [0.3]])
    scatter = limit(small, draws, np.broadcast_to([[0.1], [0.2], [0.3]], draws.shape))
    assert scatter.value.std() == pytest.approx(scatter.error[0], rel=0.06)  # 4000 draws


# --- Edges of the bulks of a random manifold. ---

EDGE_SIZES = {50: 1500, 100: 800, 200: 400, 400: 160}  # ambient dimension: manifolds
TRACY_WIDOM = (-1.2065, 1.2680)


@pytest.fixture(scope="module")
def outermost() -> tuple[np.ndarray, list[np.ndarray]]:
    """Edges ``(size, 4)``, and for every size the outermost eigenvalues of both bulks ``(manifolds, 4)``."""
    rng = np.random.default_rng(0)
    found = []
    for d, repetitions in EDGE_SIZES.items():
        k = d // 5
        spread = np.sqrt(np.repeat([0.05, 1.0], k) / d)
        drawn = (rng.standard_normal((d, 2 * k)) * spread for _ in range(repetitions))
        eigenvalues = np.array([np.linalg.eigvalsh(f.T @ f) for f in drawn])
        found.append(eigenvalues[:, [0, k - 1, k, -1]])
    return np.array(list(EDGE_SIZES)), found


def edges(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges of both bulks and the scales of fluctuations, ``(4,)`` each, the scales of lower edges negative."""
    bulks = random_matrix.bulks(random_matrix.random_manifold(np.repeat([0.05, 1.0], d // 5), d))
    assert bulks.eigenvalues.tolist() == [d // 5, d // 5]
    places = np.stack([bulks.lower, bulks.upper], axis=1).ravel()
    return places, np.stack([-bulks.lower_scale, bulks.upper_scale], axis=1).ravel()


def scaled(
    outermost: tuple[np.ndarray, list[np.ndarray]], factor: float = 1.0, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean deviations from the edges in units of the scale, their errors, and standard deviations; ``(size, 4)``."""
    values = []
    for d, eigenvalues in zip(*outermost, strict=True):
        places, scales = edges(int(d))
        values.append((eigenvalues - factor * places) / (scale * scales))
    means, spreads = (np.array([f(x, axis=0) for x in values]) for f in (np.mean, np.std))
    return means, spreads / np.sqrt(np.array([len(x) for x in values]))[:, None], spreads


def test_edges_are_where_eigenvalues_end_by_the_tracy_widom_law(
    outermost: tuple[np.ndarray, list[np.ndarray]],
) -> None:
    means, errors, spreads = scaled(outermost)
    small = outermost[0] ** (-1 / 3)  # the next order, relative
    found = limit(small, means, errors)
    assert np.all(found.error < 0.2)
    assert np.all(z_scores(found, TRACY_WIDOM[0]) < Z)
    # A standard deviation over R draws is good to one part in sqrt(2 R).
    widths = limit(small, spreads, spreads / np.sqrt(2 * np.array(list(EDGE_SIZES.values())))[:, None])
    assert np.all(z_scores(widths, TRACY_WIDOM[1]) < Z)
    # Edges wrong by 3 percent and scales wrong by two are noticed.
    for factor in (0.97, 1.03):
        assert np.all(z_scores(limit(small, *scaled(outermost, factor)[:2]), TRACY_WIDOM[0]) > Z)
    wrong = scaled(outermost, scale=2.0)[2]
    repetitions = np.array(list(EDGE_SIZES.values()))[:, None]
    assert np.all(z_scores(limit(small, wrong, wrong / np.sqrt(2 * repetitions)), TRACY_WIDOM[1]) > Z)


def test_deviations_from_the_edges_fall_as_the_power_minus_two_thirds(
    outermost: tuple[np.ndarray, list[np.ndarray]],
) -> None:
    deviations = []
    for d, eigenvalues in zip(*outermost, strict=True):
        inside = np.abs(np.mean(eigenvalues, axis=0) / edges(int(d))[0] - 1)
        deviations.append(np.log(inside).mean())  # of the four edges
    slope, error = np.polyfit(np.log(outermost[0]), deviations, 1)[0], 0.03
    # Halfway to the neighbouring powers -1/2 and -5/6; the next order makes it steeper by 0.06 here.
    assert abs(slope + 2 / 3) < 1 / 6 - error


# --- The linear score of N points: half as many as directions, two variances, one bulk. ---

SIZES = {24: 2400, 48: 1200, 96: 500}  # directions: training sets
T = 0.05
LEVELS = np.array([0.3, 0.8, 2.0])  # eigenvalues, within the bulk
BINS = np.array([0.1, 0.3, 0.6, 1.2, 3.0])


def population(d: int) -> np.ndarray:
    return np.repeat([1.0, 0.2], [d // 3, d - d // 3])


class Sample(NamedTuple):
    """What was measured at one size."""

    gains: np.ndarray  # (training sets, d)
    below: np.ndarray  # (training sets, levels): fraction of eigenvalues
    overlaps: np.ndarray  # (bins, 2): mean squared overlap with one direction of each variance, measured
    predicted: np.ndarray  # (bins, 2): and predicted for the same eigenvalues
    errors: np.ndarray  # (bins, 2)


def ensemble(d: int) -> Ensemble:
    return random_matrix.sample_covariance(population(d), d // 2)


@pytest.fixture(scope="module")
def samples() -> dict[int, Sample]:
    rng = np.random.default_rng(1)
    found = {}
    for d, repetitions in SIZES.items():
        v = population(d)
        y = rng.standard_normal((repetitions, d // 2, d)) * np.sqrt(v)
        eigenvalues, vectors = np.linalg.eigh(np.swapaxes(y, 1, 2) @ y / (d // 2))
        squares = vectors**2
        gains = np.einsum("rik,rk->ri", squares, eigenvalues / (eigenvalues + T))
        positive = eigenvalues[:, None, d // 2 :]  # d/2 are 0
        below = np.mean(positive < LEVELS[:, None], axis=2) / 2
        grid = np.geomspace(BINS[0], BINS[-1], 256)
        with jax.enable_x64(True):
            law = np.asarray(random_matrix.overlap(ensemble(d), grid, v[[0, -1]]))
        groups = np.stack([squares[:, : d // 3].mean(axis=1), squares[:, d // 3 :].mean(axis=1)], axis=-1)
        expected = np.stack([np.interp(eigenvalues, grid, column) for column in law.T], axis=-1)
        rows = []
        for low, high in pairwise(BINS):
            inside = ((eigenvalues >= low) & (eigenvalues < high))[..., None]
            per_set, expected_per_set = (np.sum(inside * part, axis=1) for part in (groups, expected))
            # The ratio of sums; its error from what is left in every training set.
            ratio = per_set.sum(axis=0) / expected_per_set.sum(axis=0)
            left = per_set - ratio * expected_per_set
            rows.append((per_set.sum(axis=0), expected_per_set.sum(axis=0), left.std(axis=0) * np.sqrt(repetitions)))
        found[d] = Sample(gains, below, *np.array(rows).swapaxes(0, 1))
    return found


ONE_OVER = np.array([1 / d for d in SIZES])


def test_fractions_of_eigenvalues_are_integrals_of_the_density(samples: dict[int, Sample]) -> None:
    with jax.enable_x64(True):
        bulks = random_matrix.bulks(ensemble(96))
        assert bulks.lower.size == 1
        angle = np.pi * (np.arange(512) + 0.5) / 512
        fractions = []
        for level in LEVELS:  # from the lower edge, where the density starts as a root, to the level
            x = bulks.lower[0] + (level - bulks.lower[0]) * np.sin(angle / 2) ** 2
            rho = np.asarray(random_matrix.density(ensemble(96), x))
            fractions.append(np.sum(rho * np.sin(angle)) * (level - bulks.lower[0]) / 2 * np.pi / 512)
    means = np.array([s.below.mean(axis=0) for s in samples.values()])
    errors = np.array([s.below.std(axis=0) / np.sqrt(len(s.below)) for s in samples.values()])
    for factor, agrees in ((1.0, True), (1.03, False)):
        found = limit(ONE_OVER, means / (factor * np.array(fractions)), errors / np.array(fractions))
        assert np.all((z_scores(found, 1) < Z) == agrees)


def test_gains_fluctuate_as_predicted(samples: dict[int, Sample]) -> None:
    """Of single directions, and of sums: both groups, all, and a difference."""
    ratios, errors = [], []
    for d, sample in samples.items():
        v, repetitions = population(d), len(sample.gains)
        high = (v > 0.5).astype(float)
        weights = [high, 1 - high, np.ones(d), high / high.sum() - (1 - high) / (1 - high).sum()]
        with jax.enable_x64(True):
            single = np.asarray(random_matrix.gain_variance(v, d // 2, T))[[0, -1]]
            sums = [float(random_matrix.gain_sum_variance(v, d // 2, T, w)) for w in weights]
        measured = sample.gains.var(axis=0, ddof=1)
        mine = [measured[: d // 3].mean(), measured[d // 3 :].mean()]
        ratios.append([*(mine / single), *((sample.gains @ np.transpose(weights)).var(axis=0, ddof=1) / sums)])
        # The variance of a nearly normal number, from R draws; directions are nearly independent.
        count = np.array([d // 3, d - d // 3, 1, 1, 1, 1])
        errors.append(np.sqrt(2 / (repetitions * count)))
    found = limit(ONE_OVER, np.array(ratios), np.array(errors))
    assert np.all(found.error[:2] < 0.015)
    assert np.all(found.error < 0.08)
    assert np.all(z_scores(found, 1) < Z)
    # A sum is not made of independent gains: without their correlations its variance is wrong.
    d = 96
    with jax.enable_x64(True):
        alone = np.asarray(random_matrix.gain_variance(population(d), d // 2, T))
    ratio = samples[d].gains.sum(axis=1).var() / alone.sum()
    assert abs(ratio - 1) > Z * np.sqrt(2 / len(samples[d].gains))
    # A variance wrong by 10 percent is noticed, for either group.
    assert np.all(z_scores(Limit(found.value / 1.1, found.error), 1)[:2] > Z)


def test_eigenvectors_overlap_as_predicted(samples: dict[int, Sample]) -> None:
    ratios = np.array([s.overlaps / s.predicted for s in samples.values()])
    errors = np.array([s.errors / s.predicted for s in samples.values()])
    found = limit(ONE_OVER, ratios, errors)
    assert np.all(found.error < 0.02)
    assert np.all(z_scores(found, 1) < Z)
    # Without the shrinkage by |kappa|^2, that is, eigenvectors that do not care, every bin is wrong.
    flat = np.array([s.overlaps / (s.overlaps @ [d // 3, d - d // 3])[:, None] * d for d, s in samples.items()])
    assert np.all(z_scores(limit(ONE_OVER, flat, errors), 1).max(axis=1) > Z)


# --- Spikes beside two bulks. ---

SPIKE_SIZES = {40: 600, 80: 300, 160: 120}
SPIKES = (3.0, 0.35)  # above both bulks, and between them


def spiked(d: int, n: int, repetitions: int, spikes: tuple[float, ...], which: list[int]) -> np.ndarray:
    """Eigenvalues and squared overlaps, ``(repetitions, 2, spikes)``; ``which`` are their ranks from the top."""
    rng = np.random.default_rng(d)
    v = np.concatenate([spikes, np.repeat([1.0, 0.05], d // 2)])
    found = []
    for _ in range(repetitions):
        y = rng.standard_normal((n, v.size)) * np.sqrt(v)
        eigenvalues, vectors = np.linalg.eigh(y.T @ y / n)
        found.append([eigenvalues[which], vectors[np.arange(len(spikes)), which] ** 2])
    return np.array(found)


def test_spikes_leave_the_bulks_where_predicted() -> None:
    means, errors = [], []
    for d, repetitions in SPIKE_SIZES.items():
        found = spiked(d, 3 * d, repetitions, SPIKES, [-1, -2 - d // 2])
        means.append(found.mean(axis=0))
        errors.append(found.std(axis=0) / np.sqrt(repetitions))
    with jax.enable_x64(True):
        v = np.repeat([1.0, 0.05], 30)
        assert np.all(random_matrix.points_to_see(v, np.array(SPIKES)) < 180)
        law = np.array(random_matrix.spike(random_matrix.sample_covariance(v, 180), np.array(SPIKES)))
    found = limit(np.array([1 / d for d in SPIKE_SIZES]), np.array(means) / law, np.array(errors) / law)
    assert np.all(found.error < 0.015)
    assert np.all(z_scores(found, 1) < Z)
    # A spike that is not pushed by the others, with an eigenvector of its own, is rejected.
    naive = np.array([SPIKES, (1.0, 1.0)])
    assert np.all(z_scores(Limit(found.value * law / naive, found.error * law / naive), 1) > Z)


def test_a_spike_with_too_few_points_stays_in_the_bulk() -> None:
    """Its eigenvector is lost in the limit: the overlap falls with the size, at a fixed share of what is needed."""
    overlaps = []
    for d, repetitions in ((40, 100), (320, 12)):
        needed = float(random_matrix.points_to_see(np.repeat([1.0, 0.05], d // 2), 1.5))
        few, enough = (
            spiked(d, int(share * needed), repetitions, (1.5,), [-1])[:, 1, 0].mean() for share in (0.25, 4.0)
        )
        overlaps.append((few, enough))
    assert overlaps[1][0] < 0.5 * overlaps[0][0]
    assert overlaps[1][1] > 0.8 * overlaps[0][1]
