"""Simulation-based calibration: parameters drawn from the prior lie anywhere in their posteriors, equally often.

Gains are simulated here by formulas of their own (NumPy and SciPy, from the docstring of the model), so that the test
is of the laws, the likelihood, the priors and the sampler together.  Talts et al. (2018), arXiv:1804.06788.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from geomem_jax import calibration_model
from geomem_jax.calibration_model import Measurements

pytestmark = pytest.mark.slow  # 160 posteriors: minutes

VARIANCES, DIRECTIONS = np.array([1.0, 0.25, 0.0625]), 4
SIZES, SETS, T, ERROR = np.array([10.0, 30.0, 90.0, 270.0, 1000.0, 4000.0]), 2, 0.05, 0.01
SIMULATIONS, DRAWS, KEPT, BINS = 128, 500, 31, 8
EVERY = np.repeat(VARIANCES, DIRECTIONS)
FAMILY_WISE = 1e-4
NAMES = ("log_capacity", "width", "advantage", "tilt", "floor", "set_spread", "spread", "residual")


def linear_noise(n):
    return optimize.brentq(
        lambda k: k * (1 - np.sum(EVERY / (EVERY + k)) / n) - T, T, T + EVERY.sum() / n + 1, xtol=1e-14
    )


def empirical_noise(log_n):
    def budget(k):
        return 0.5 * np.sum(np.log1p(EVERY / k) - EVERY * (k - T) / (k + EVERY) ** 2) - log_n

    return T if budget(T) <= 0 else optimize.brentq(budget, T, 1e6, xtol=1e-14)


LINEAR = np.array([linear_noise(n) for n in SIZES])


def noise(p):
    """Effective noise, ``(k, g)``."""
    empirical = np.array([empirical_noise(np.log1p((n - 1) * np.exp(p["advantage"]))) for n in SIZES])
    small = np.log(EVERY).mean() - np.log(VARIANCES)
    weight = 1 / (1 + np.exp((np.log(SIZES)[:, None] - p["log_capacity"] - p["tilt"] * small) / p["width"]))
    mixed = weight * np.log(empirical)[:, None] + (1 - weight) * np.log(LINEAR)[:, None]
    return np.exp(mixed) + T * (np.exp(p["floor"]) - 1)


def gain(kappa):
    return VARIANCES / (VARIANCES + kappa)


def drawn_from_prior(rng):
    logs = np.log(SIZES)
    return {
        "log_capacity": rng.normal((logs[0] + logs[-1]) / 2, (logs[-1] - logs[0]) / 2),
        "width": 0.5 * np.exp(0.5 * rng.normal()),
        "advantage": rng.normal(0, 1.5),
        "tilt": rng.normal(0, 0.2),
        "floor": rng.normal(0, 0.2),
        "set_spread": abs(rng.normal(0, 0.3)),
        "spread": abs(rng.normal(0, 0.3)),
        "residual": abs(rng.normal(0, 0.1)),
    }


def simulated(rng, p, louder):
    """Gains ``(k, s, g)``; the residual is ``louder`` times what the parameters say."""
    step = 1e-5
    kappa = noise(p)
    of_network = (gain(kappa * np.exp(step)) - gain(kappa * np.exp(-step))) / (2 * step)
    ends = [gain(noise(p | {"log_capacity": p["log_capacity"] + shift})) for shift in (step, -step)]
    of_set = (ends[0] - ends[1]) / (2 * step)
    shape = (len(SIZES), SETS, len(VARIANCES))
    return (
        gain(kappa)[:, None]
        + p["set_spread"] * rng.normal(size=(1, SETS, 1)) * of_set[:, None]
        + p["spread"] * rng.normal(size=(*shape[:2], 1)) * of_network[:, None]
        + louder * p["residual"] * rng.normal(size=shape)
        + ERROR * rng.normal(size=shape)
    )


def ranks_of_truth(louder, seed, simulations=SIMULATIONS):
    """Rank of every parameter among thinned draws of its posterior, ``(parameter, simulation)``, 0 to KEPT."""
    rng = np.random.default_rng(seed)
    truths = [drawn_from_prior(rng) for _ in range(simulations)]
    gains = np.array([simulated(rng, p, louder) for p in truths])
    log_n = np.log(SIZES)
    m = Measurements(
        variances=jnp.asarray(EVERY),
        variance=jnp.asarray(VARIANCES),
        t=jnp.asarray(T),
        log_n=jnp.asarray(log_n),
        linear_noise=jnp.asarray(LINEAR),
        gain=jnp.asarray(gains),
        error=jnp.full(gains.shape[1:], ERROR),
        known=jnp.ones(gains.shape[1:3], bool),
        centre=jnp.asarray((log_n[0] + log_n[-1]) / 2),
        half_range=jnp.asarray((log_n[-1] - log_n[0]) / 2),
    )
    keys = jax.random.split(jax.random.key(seed), simulations)
    # All posteriors in one compiled program, a chain each.
    found = jax.jit(
        jax.vmap(lambda key, y: calibration_model.sample(key, m._replace(gain=y), "mixture", DRAWS, chains=1))
    )(keys, m.gain)
    kept = np.linspace(0, DRAWS - 1, KEPT).round().astype(int)
    return np.array(
        [
            np.sum(np.asarray(found.draws[name])[:, 0, kept] < np.array([p[name] for p in truths])[:, None], axis=1)
            for name in NAMES
        ]
    )


def p_values(ranks):
    """Chi-squared test of uniform ranks, of every parameter."""
    counts = [np.bincount(row * BINS // (KEPT + 1), minlength=BINS) for row in ranks]
    return dict(zip(NAMES, stats.chisquare(counts, axis=1).pvalue, strict=True))


def test_posteriors_hold_the_truth_as_often_as_they_say():
    ranks = ranks_of_truth(1.0, 0)
    found = p_values(ranks)
    print(found)
    assert min(found.values()) > FAMILY_WISE / (2 * len(NAMES)), found
    # Ranks 4 to 27 of 0 to 31: an interval of 75 %.
    inside = np.sum((ranks >= 4) & (ranks < 28), axis=1)
    covered = {
        name: stats.binomtest(int(count), SIMULATIONS, 0.75).pvalue for name, count in zip(NAMES, inside, strict=True)
    }
    print(inside / SIMULATIONS)
    assert min(covered.values()) > FAMILY_WISE / (2 * len(NAMES)), covered


def test_a_likelihood_with_half_the_noise_is_rejected():
    found = p_values(ranks_of_truth(2.0, 1, 32))
    print(found)
    assert found["residual"] < FAMILY_WISE / len(NAMES), found
