"""Real digits: does the held-out denoising loss foretell condensation better than the variances do?

Measured is the noise variance at which the mean participation ratio of the exact empirical score, at noised training
points, crosses 1/2.  At 64 directions the transition is rounded, and the crossing need not be at t_c even where t_c is
exact: for Gaussian data of the digits' variances it lies 12 to 20 % above.  So digits are compared with that Gaussian
twin: by which factor do they condense later (at less noise)?  The loss and the variances predict it with nothing
fitted; the variances predict no difference.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import theory
from geomem_jax import data
from geomem_jax.denoisers import empirical, linear

SIZES = np.array([50, 200, 800, 1400])
LOSS_SEEDS, SEEDS, HELD_OUT, POINTS = 4, 10, 256, 256
LOSS_NOISES = np.geomspace(0.4, 400, 18)
# Around the crossings of digits and of their Gaussian twin.
NOISES = np.array([2.1, 1.3, 0.88, 0.78])[:, None] * np.geomspace(0.7, 1.45, 6)


def noised(key: jax.Array, points: jax.Array, t: float) -> jax.Array:
    return points + jnp.sqrt(t) * jax.random.normal(key, points.shape)


class Losses(NamedTuple):
    """Squared errors along the principal directions, averaged over points: (LOSS_SEEDS, noises, d)."""

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
    for seed in range(LOSS_SEEDS):
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
    stacked = np.array(rows).reshape(LOSS_SEEDS, LOSS_NOISES.size, 4, -1)
    return Losses(*np.moveaxis(stacked, 2, 0))


class Estimate(NamedTuple):
    value: np.ndarray  # (sizes,)
    error: np.ndarray  # standard error over training sets


def jackknife(samples: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> Estimate:
    """A statistic of the mean over training sets (axis 0), and its error."""
    count = len(samples)
    left_out = np.stack([statistic(np.delete(samples, i, axis=0).mean(axis=0)) for i in range(count)])
    error = np.sqrt((count - 1) * np.mean((left_out - left_out.mean(axis=0)) ** 2, axis=0))
    return Estimate(statistic(samples.mean(axis=0)), error)


def log_crossings(source: data.Source) -> Estimate:
    """Log of the noise variance at which the mean participation ratio is 1/2."""
    ratios = np.empty((SEEDS, *NOISES.shape))
    for seed in range(SEEDS):
        train = source.draw(jax.random.key(seed), int(SIZES.max()), 1).train
        for row, size in enumerate(SIZES.tolist()):
            points = train[: min(size, POINTS)]
            keys = jax.random.split(jax.random.fold_in(jax.random.key(200 + seed), size), NOISES.shape[1])
            for column, t in enumerate(NOISES[row]):
                x = noised(keys[column], points, t)
                ratios[seed, row, column] = empirical.posterior(train, size, x, t).participation.mean()
    assert np.all(ratios.mean(axis=0)[:, 0] > 0.5)
    assert np.all(ratios.mean(axis=0)[:, -1] < 0.5)

    def crossing(mean: np.ndarray) -> np.ndarray:
        return np.array([np.interp(-0.5, -y, np.log(t)) for y, t in zip(mean, NOISES, strict=True)])

    return jackknife(ratios, crossing)


@pytest.fixture(scope="module")
def digits() -> Estimate:
    return log_crossings(data.load("digits"))


@pytest.fixture(scope="module")
def twin() -> Estimate:
    """Gaussian data of the same variances."""
    return log_crossings(data.linear_manifold(data.load("digits").variances))


def log_times(loss: np.ndarray) -> np.ndarray:
    return np.log(np.asarray(theory.condensation_time_from_mmse(LOSS_NOISES, loss, SIZES)))


@pytest.fixture(scope="module")
def from_variances() -> np.ndarray:
    return np.log(np.asarray(theory.condensation_time(data.load("digits").variances, SIZES)))


Z = 4.0  # of errors from 4 to 10 training sets; a fixed seed, and effects of 8 errors and more


def test_a_denoiser_that_knows_more_gives_less_information(losses: Losses, from_variances: np.ndarray) -> None:
    """The chain of upper bounds: variances, then the exact score of other points, then the best mixture of both."""
    nats = {
        name: np.asarray(theory.information_from_mmse(LOSS_NOISES, loss.mean(axis=0))).sum(axis=1)
        for name, loss in losses._asdict().items()
    }
    assert np.all(nats["blend"] <= 1.002 * np.minimum(nats["exact"], nats["wiener"]))  # weights from half of the points
    times = jackknife(losses.blend, log_times)
    assert np.all(times.value + Z * times.error < from_variances)
    # The linear denoiser is the one that the variances describe; fitted to 1541 points, it loses 2 % at the most.
    linear_times = jackknife(losses.wiener, log_times)
    assert np.all(np.abs(linear_times.value - from_variances) < 0.02 + Z * linear_times.error)


def test_the_loss_foretells_how_digits_differ_from_their_gaussian_twin(
    losses: Losses, digits: Estimate, twin: Estimate, from_variances: np.ndarray
) -> None:
    times = jackknife(losses.blend, log_times)
    measured = digits.value - twin.value
    error = times.value - from_variances - measured
    sigma = np.sqrt(times.error**2 + digits.error**2 + twin.error**2)
    assert np.all(sigma < 0.06), sigma  # a fifth of the effect at large N
    # The variances predict 0; at N = 50 the difference is too small to tell.
    assert np.all(measured[1:] < -Z * sigma[1:])
    # An upper bound; a close one while N is small against the reference set, and 12 % above at N = 1400.
    assert np.all(error > -Z * sigma), (error, sigma)
    assert np.all(error < 0.15 + Z * sigma), (error, sigma)
    assert abs(error[1]) < 0.02 + Z / 2 * sigma[1], (error, sigma)
    assert np.all(np.abs(error[1:]) < np.abs(measured[1:]) / 2), (error, measured)


def test_the_times_themselves(losses: Losses, digits: Estimate, from_variances: np.ndarray) -> None:
    """Without the twin: t_c from the loss is low by the rounding at small N, and right at the largest."""
    times = jackknife(losses.blend, log_times)
    from_loss, from_pca = times.value - digits.value, from_variances - digits.value
    assert np.all(np.abs(from_loss) < 0.3)
    assert np.all(np.diff(np.abs(from_loss)) < 0)
    assert np.all(np.abs(from_loss[2:]) < np.abs(from_pca[2:]) / 2)
    # An accident of two errors, too much information and rounding, that the variances do better at small N.
    assert np.all(np.abs(from_pca[:2]) < np.abs(from_loss[:2]))


def test_the_loss_on_its_own_training_points_is_no_bound(
    losses: Losses, digits: Estimate, twin: Estimate, from_variances: np.ndarray
) -> None:
    """Negative control: a model that has seen the points needs fewer nats than the data hold."""
    times = jackknife(losses.training, log_times)
    below = times.value - from_variances - (digits.value - twin.value)
    sigma = np.sqrt(times.error**2 + digits.error**2 + twin.error**2)
    assert np.all(below[1:3] < -Z * sigma[1:3])
    # 1541 points hold log 1541 = 7.3 nats: the budget of N = 1400 is spent far below every measured crossing.
    assert np.isnan(times.value[3])
