"""Quantiles of gains below condensation, against simulated Poisson-Dirichlet weights and simulated scores."""

import numpy as np
import pytest

import theory

LADDER = np.repeat([1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 0], [4, 4, 4, 4, 4, 4, 8])
DRAWS = 50_000


def shape(m: float, terms: int, rng: np.random.Generator) -> np.ndarray:
    """Draws of the weighted variance under Poisson-Dirichlet weights, the first so many of them."""
    arrivals = np.cumsum(rng.exponential(size=(DRAWS, terms)), axis=1)
    weights = (arrivals / arrivals[:, :1]) ** (-1 / m)
    weights /= weights.sum(axis=1, keepdims=True)
    xi = rng.normal(size=weights.shape)
    return np.sum(weights * xi**2, axis=1) - np.sum(weights * xi, axis=1) ** 2


def test_the_leading_law_is_the_quantile_of_the_simulated_shape() -> None:
    """By rank, for the shape spans decades: which fraction of drawn shapes is below the predicted quantile."""
    t_c = float(theory.condensation_time(LADDER, 1000))
    rng, live = np.random.default_rng(0), LADDER > 0
    for scale, terms in ((0.1, 30), (0.2, 60), (0.35, 300)):
        t = scale * t_c
        noise = float(theory.effective_noise(LADDER, 1000, t, "empirical"))
        m = t / noise
        assert terms ** (1 - 1 / m) / (1 / m - 1) < 2e-3  # the weight left out, relative to the largest
        draws, wrong = shape(m, terms, rng), shape(1.1 * m, terms, rng)
        for quantile in (0.25, 0.5, 0.75):
            found = np.asarray(theory.gain_quantile(LADDER, 1000, t, quantile))[live]
            common = found * t * (LADDER[live] + noise) / (LADDER[live] * noise)
            np.testing.assert_allclose(common, common[0], rtol=1e-5)
            # 0.004: the table, from 4096 points of a lattice, against 300 000 draws.
            allowed = 0.004 + 3.5 * np.sqrt(quantile * (1 - quantile) / DRAWS)
            assert abs(np.mean(draws < common[0]) - quantile) < allowed
            assert abs(np.mean(wrong < common[0]) - quantile) > allowed  # the negative control


def test_above_condensation_every_point_is_typical() -> None:
    t = 2 * float(theory.condensation_time(LADDER, 1000))
    found = np.asarray(theory.gain_quantile(LADDER, 1000, t))
    np.testing.assert_allclose(found, LADDER / (LADDER + t), rtol=1e-6)


def test_medians_of_simulated_scores_follow_and_the_mean_does_not() -> None:
    n, rng = 300, np.random.default_rng(1)
    for scale, worst in ((0.3, 0.15), (1.0, 0.1)):
        t = scale * float(theory.condensation_time(LADDER, n))
        gains = []
        for _ in range(8):
            y = rng.normal(size=(n, LADDER.size)) * np.sqrt(LADDER)
            x = rng.normal(size=(256, LADDER.size)) * np.sqrt(LADDER + t)
            energy = (np.sum(y**2, axis=1) / 2 - x @ y.T) / t  # up to a constant of each x
            weights = np.exp(energy.min(axis=1, keepdims=True) - energy)
            weights /= weights.sum(axis=1, keepdims=True)
            gains.append((weights @ y**2 - (weights @ y) ** 2) / t)
        median = np.median(np.concatenate(gains), axis=0).reshape(-1, 4)[:6].mean(axis=1)
        found = np.asarray(theory.finite_size_gain_quantile(LADDER, n, t).mean)[:24:4]
        mean = np.asarray(theory.mean_finite_size_gain(LADDER, n, t).mean)[:24:4]
        # The documented accuracy of the shape, and of the median of 2048 points.
        np.testing.assert_allclose(found, median, rtol=worst)
        assert np.all(mean > (1 + worst) * median)


def test_bad_quantiles_are_refused() -> None:
    with pytest.raises(ValueError, match="quantile must be between 0 and 1, got 1"):
        theory.gain_quantile(LADDER, 10, 0.1, 1.0)
    with pytest.raises(TypeError, match="noise variance t"):
        theory.gain_quantile(LADDER, 10)
