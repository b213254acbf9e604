"""Linear and random-feature denoisers through the trainer, against the closed forms of gradient descent.

With fresh, independent batches the mean of the parameters over runs obeys gradient descent on the whole training set
exactly, because the gradient is linear in them.  So runs that differ in nothing but their batches must have a mean
within its error bars of the closed form; the bars come from the spread of the runs.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import theory
from geomem_jax import sharding, training
from geomem_jax.denoisers import random_features, trainable_linear
from geomem_jax.denoisers.trainable import Trainable
from geomem_jax.statistics import critical_t

RUNS, POINTS, DIMENSION, FEATURES = 64, 6, 4, 5
T, RATE = 0.3, 0.02  # noise variance, learning rate of the loss summed over coordinates
STEPS = (5, 30, 150)
# Two models, three snapshots, every parameter: correct code fails anywhere with probability 1e-4.
COMPARISONS = len(STEPS) * (DIMENSION**2 + DIMENSION * FEATURES)
CRITICAL = float(critical_t(1e-4, COMPARISONS, RUNS - 1))


def training_set() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(POINTS, DIMENSION)) * np.array([1.0, 0.7, 0.4, 0.2])


def trained(model: Trainable) -> list:
    """Parameters ``(RUNS, ...)`` at every snapshot; all runs have the same training set."""
    rows = jnp.tile(jnp.arange(POINTS), (RUNS, 1))
    data = training.Data(jnp.asarray(training_set(), jnp.float32), rows, rows[:, :1])
    std = np.sqrt(T)
    members = training.grid_members([POINTS], RUNS, (std, std))
    # The trainer's loss is the mean over coordinates, so its rate is that of the sum times their number.
    optimizer = training.optimizer("sgd", RATE * DIMENSION, clip=None, warmup=0)
    recipe = training.Recipe(model, optimizer, batch_size=32, ema_decay=0.0)
    mesh = sharding.ensemble_mesh(RUNS, 32)
    start = training.start(recipe, jax.random.key(0), members)
    return [state.params for state in training.train(recipe, mesh, data, members, start, STEPS)]


def descent(features: np.ndarray, targets: np.ndarray, steps: int) -> np.ndarray:
    """Gradient descent from 0 on a quadratic loss with gradient 2 (A U - V), step by step."""
    weights = np.zeros_like(targets)
    for _ in range(steps):
        weights = weights - 2 * RATE * (weights @ features - targets)
    return weights


def scores(runs: jax.Array, expected: np.ndarray) -> np.ndarray:
    runs = np.asarray(runs, np.float64)
    return (runs.mean(0) - expected) / (runs.std(0, ddof=1) / np.sqrt(RUNS))


def test_the_linear_denoiser_learns_as_predicted() -> None:
    model = Trainable(
        partial(trainable_linear.init, dimension=DIMENSION), trainable_linear.denoise, trainable_linear.weight
    )
    points = training_set()
    second_moment = points.T @ points / POINTS
    eigenvalues, vectors = np.linalg.eigh(second_moment)
    for steps, runs in zip(STEPS, trained(model), strict=True):
        expected = descent(second_moment + T * np.eye(DIMENSION), second_moment, steps)
        assert np.abs(scores(runs, expected)).max() < CRITICAL
        wrong = descent(second_moment + T * np.eye(DIMENSION), second_moment, round(1.2 * steps))
        assert np.abs(scores(runs, wrong)).max() > CRITICAL
        # The law, along the eigenvectors; in single precision.
        law = theory.gradient_descent_gain(np.maximum(eigenvalues, 0), T, steps, RATE)
        np.testing.assert_allclose(law, np.diag(vectors.T @ expected @ vectors), rtol=1e-5)


def test_random_features_learn_as_predicted() -> None:
    with jax.enable_x64(True):
        start = random_features.init(jax.random.key(5), DIMENSION, FEATURES)
        # Of 1.2 million noised points: the moments are exact to 0.1 %, a tenth of the error bars of the runs.
        moments = random_features.moments(jax.random.key(6), start, jnp.asarray(training_set()), T, 200_000)
        flow = [np.asarray(random_features.flow(moments, RATE * steps)) for steps in STEPS]
        features, targets = np.asarray(moments.features), np.asarray(moments.targets)
    fixed = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), start)
    model = Trainable(lambda key: fixed, random_features.denoise, random_features.weight)
    for steps, runs, continuous in zip(STEPS, trained(model), flow, strict=True):
        expected = descent(features, targets, steps)
        assert np.abs(scores(runs.readout, expected)).max() < CRITICAL
        wrong = descent(features, targets, round(1.2 * steps))
        assert np.abs(scores(runs.readout, wrong)).max() > CRITICAL
        # Steps of this size follow the flow to a fraction of the rate times the largest eigenvalue.
        np.testing.assert_allclose(
            continuous, expected, atol=2 * RATE * np.abs(features).max() * np.abs(expected).max()
        )
        np.testing.assert_array_equal(np.ptp(np.asarray(runs.first), axis=0), 0)
