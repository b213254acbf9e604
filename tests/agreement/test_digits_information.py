"""Real digits: does the held-out denoising loss foretell condensation better than the variances do?

Measured is the noise variance at which the mean participation ratio of the exact empirical score, at noised training
points, crosses 1/2.  With 64 directions it lies 10 to 25 % above t_c even where t_c is exact, for Gaussian data: the
transition is rounded.  So digits are compared with Gaussian data of the same variances, where the rounding is the same
to first approximation: what is predicted, with nothing fitted, is by which factor digits condense later (at less noise).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import theory
from geomem_jax import data
from geomem_jax.denoisers import empirical, linear

SIZES = np.array([50, 200, 800, 1400])
SEEDS, HELD_OUT, POINTS = 5, 256, 256
LOSS_NOISES = np.geomspace(0.4, 400, 22)
NOISES = np.geomspace(0.45, 3.2, 12)


def noised(key: jax.Array, points: jax.Array, t: float) -> jax.Array:
    return points + jnp.sqrt(t) * jax.random.normal(key, points.shape)


class Losses(NamedTuple):
    """Squared errors along the principal directions, averaged over points: (SEEDS, noises, d)."""

    wiener: np.ndarray
    exact: np.ndarray
    blend: np.ndarray
    training: np.ndarray


def cross_fitted(wiener: np.ndarray, exact: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Squared errors of the best mixture of two denoisers, its weight chosen on the other half of the points."""
    half = len(truth) // 2
    errors = []
    for chosen, used in ((slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))):
        apart = (exact - wiener)[chosen]
        weight = np.sum(apart * (truth - wiener)[chosen]) / np.sum(apart**2)
        errors.append((truth - wiener - weight * (exact - wiener))[used] ** 2)
    return np.mean(np.concatenate(errors), axis=0)


@pytest.fixture(scope="module")
def losses() -> Losses:
    source = data.load("digits")
    assert source.basis is not None
    assert source.max_points is not None
    rows: list[np.ndarray] = []
    for seed in range(SEEDS):
        drawn = source.draw(jax.random.key(seed), source.max_points - HELD_OUT, HELD_OUT)
        train, held_out = drawn.train @ source.basis, drawn.held_out @ source.basis
        size = len(train)
        model = linear.fit(train, size, centred=True)
        wiener_of = jax.jit(jax.vmap(lambda x, t, model=model: linear.denoise(model, x, t), (0, None)))
        for i, t in enumerate(LOSS_NOISES):
            x = noised(jax.random.fold_in(jax.random.key(100 + seed), i), held_out, t)
            wiener = np.asarray(wiener_of(x, t), float)
            exact = np.asarray(empirical.posterior(train, size, x, t).mean, float)
            own = train[:HELD_OUT]
            memorized = empirical.posterior(train, size, x - held_out + own, t).mean
            truth = np.asarray(held_out, float)
            rows.append(
                np.stack(
                    [
                        np.mean((wiener - truth) ** 2, axis=0),
                        np.mean((exact - truth) ** 2, axis=0),
                        cross_fitted(wiener, exact, truth),
                        np.mean((np.asarray(memorized, float) - np.asarray(own, float)) ** 2, axis=0),
                    ]
                )
            )
    stacked = np.array(rows).reshape(SEEDS, LOSS_NOISES.size, 4, -1)
    return Losses(*np.moveaxis(stacked, 2, 0))


def crossings(source: data.Source) -> np.ndarray:
    """Log of the noise variance at which the participation ratio is 1/2, for every training set; (SEEDS, sizes)."""
    result = np.empty((SEEDS, SIZES.size))
    for seed in range(SEEDS):
        train = source.draw(jax.random.key(seed), int(SIZES.max()), 1).train
        for column, size in enumerate(SIZES.tolist()):
            key = jax.random.fold_in(jax.random.key(200 + seed), size)
            points = train[jax.random.randint(key, (POINTS,), 0, size)]
            ratios = [
                float(jnp.mean(empirical.posterior(train, size, noised(jax.random.fold_in(key, i), points, t), t)[2]))
                for i, t in enumerate(NOISES)
            ]
            assert ratios[0] > 0.5 > ratios[-1]
            result[seed, column] = np.interp(-0.5, -np.array(ratios), np.log(NOISES))
    return result


@pytest.fixture(scope="module")
def measured() -> tuple[np.ndarray, np.ndarray]:
    source = data.load("digits")
    return crossings(source), crossings(data.linear_manifold(source.variances))


def log_times(loss: np.ndarray) -> np.ndarray:
    return np.log(np.asarray(theory.condensation_time_from_mmse(LOSS_NOISES, loss, SIZES)))


def standard_error(values: np.ndarray) -> np.ndarray:
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))


def test_report(losses, measured):
    digits, gaussian = measured
    v = data.load("digits").variances
    pca = np.log(np.asarray(theory.condensation_time(v, SIZES)))
    print()
    print("pca", np.exp(pca).round(3))
    for n, l in losses._asdict().items():
        per = np.array([log_times(x) for x in l])
        print(n, np.exp(log_times(l.mean(0))).round(3), "se", standard_error(per).round(3))
    print("digits", np.exp(digits.mean(0)).round(3), standard_error(digits).round(4))
    print("gauss", np.exp(gaussian.mean(0)).round(3), standard_error(gaussian).round(4))
    r = digits.mean(0) - gaussian.mean(0)
    print("measured ratio", np.exp(r).round(3), np.hypot(standard_error(digits), standard_error(gaussian)).round(3))
    for n, l in losses._asdict().items():
        print(n, np.exp(log_times(l.mean(0)) - pca).round(3))
