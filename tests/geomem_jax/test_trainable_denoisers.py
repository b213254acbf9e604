"""Denoisers trained by plain gradient descent against their closed-form solutions."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import theory
from geomem_jax.denoisers import linear, random_features, trainable_linear
from geomem_jax.errors import InputError
from geomem_jax.statistics import critical_z

N, D, P, DRAWS = 6, 3, 10, 4
T = 0.4


def points() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, D)) * [1.5, 0.7, 0.3]


def noised_copies(key: jax.Array, data: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Clean points (DRAWS N, D) and their noises, as the moments document them."""
    noises = [jax.random.normal(jax.random.fold_in(key, k), data.shape, data.dtype) for k in range(DRAWS)]
    return jnp.tile(data, (DRAWS, 1)), jnp.concatenate(noises)


def loss(model: Any, params: Any, clean: jax.Array, noise: jax.Array) -> jax.Array:
    noised = clean + jnp.sqrt(T) * noise
    denoised = jax.vmap(model.denoise, (None, 0, None))(params, noised, T)
    return model.weight(T) * jnp.mean(jnp.sum((denoised - clean) ** 2, axis=-1))


def descend(gradient: Callable[[Any], Any], params: Any, rate: float, steps: int) -> Any:
    def step(_: int, params: Any) -> Any:
        return jax.tree.map(lambda value, slope: value - rate * slope, params, gradient(params))

    return jax.jit(lambda params: jax.lax.fori_loop(0, steps, step, params))(params)


def start() -> tuple[jax.Array, jax.Array, random_features.RandomFeatures]:
    """Key of the noise, training points and untrained features."""
    data = jnp.asarray(points(), float)
    return jax.random.key(1), data, random_features.init(jax.random.key(2), D, P)


def test_descent_approaches_the_flow_as_the_step_falls() -> None:
    """First order in the step; the first layer is not trained."""
    with jax.enable_x64(True):
        key, data, params = start()
        gradient = jax.grad(partial(loss, random_features))
        copies = noised_copies(key, data)
        time, errors = 4.0, []
        solution = random_features.flow(random_features.moments(key, params, data, T, DRAWS), time)
        for steps in (50, 500):
            trained = descend(lambda params: gradient(params, *copies), params, time / steps, steps)
            np.testing.assert_array_equal(trained.first, params.first)
            errors.append(np.abs(trained.readout - solution).max())
        assert errors[0] < 0.1 * np.abs(solution).max()
        np.testing.assert_allclose(errors[0] / errors[1], 10, rtol=0.1)
        # The loss of the paper, and no other weight: at twice the time the readout is another.
        other = random_features.flow(random_features.moments(key, params, data, T, DRAWS), 2 * time)
        assert np.abs(other - solution).max() > 20 * errors[1]


def test_the_weighted_loss_is_that_of_the_score() -> None:
    key, data, params = start()
    clean, noise = noised_copies(key, data)
    readout = np.random.default_rng(4).normal(size=(D, P))
    noised = np.asarray(clean + np.sqrt(T) * noise)
    score = np.tanh(noised @ np.asarray(params.first).T / np.sqrt(D)) @ readout.T / np.sqrt(P)
    expected = np.mean(np.sum((np.sqrt(T) * score + noise) ** 2, axis=1))
    found = loss(random_features, params._replace(readout=jnp.asarray(readout, float)), clean, noise)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_end_of_the_flow_is_least_squares(x64: bool) -> None:
    """NumPy's least squares on the noised copies: more copies than features, and fewer; with and without penalty."""
    key, data, params = start()
    clean, noise = (np.asarray(array, np.float64) for array in noised_copies(key, data))
    features = np.tanh((clean + np.sqrt(T) * noise) @ np.asarray(params.first, float).T / np.sqrt(D))
    features *= np.sqrt(T / P)
    moments = random_features.moments(key, params, data, T, DRAWS)
    # Eigenvalues of U reach down to 7e-5 of the largest, by which rounding is amplified.
    tolerance = 1e-8 if x64 else 1e-2
    least = np.linalg.lstsq(features, -noise, rcond=None)[0].T
    if x64:
        np.testing.assert_allclose(random_features.flow(moments, 1e9), least, rtol=tolerance)
        np.testing.assert_allclose(random_features.ridge(moments, 0.0), least, rtol=tolerance)
        few = random_features.moments(key, params, data, T, 1)
        shortest = np.linalg.lstsq(features[:N], -noise[:N], rcond=None)[0].T
        np.testing.assert_allclose(random_features.ridge(few, 0.0), shortest, rtol=tolerance)
        # Long after the slowest eigenvalue, 8e-6, is learned; rounding along those of 0 grows with time, here to 3e-9.
        np.testing.assert_allclose(random_features.flow(few, 1e7), shortest, rtol=1e-7)
    stacked = np.concatenate([features, np.sqrt(0.1 * len(noise)) * np.eye(P)])
    targets = np.concatenate([-noise, np.zeros((P, D))])
    penalized = np.linalg.lstsq(stacked, targets, rcond=None)[0].T
    np.testing.assert_allclose(random_features.ridge(moments, 0.1), penalized, rtol=tolerance, atol=1e-5)


def test_moments_and_flow_in_both_precisions(x64: bool) -> None:
    key, data, params = start()
    clean, noise = (np.asarray(array, np.float64) for array in noised_copies(key, data))
    features = np.tanh((clean + np.sqrt(T) * noise) @ np.asarray(params.first, float).T / np.sqrt(D))
    features *= np.sqrt(T / P)
    moments = random_features.moments(key, params, data, T, DRAWS)
    eps = np.finfo(data.dtype).eps
    np.testing.assert_allclose(moments.features, features.T @ features / len(noise), rtol=0, atol=100 * eps)
    np.testing.assert_allclose(moments.targets, -noise.T @ features / len(noise), rtol=0, atol=100 * eps)
    for time in (0.0, 0.1, 10.0):
        steps = 20_000  # explicit, in NumPy
        readout = np.zeros((D, P))
        for _ in range(steps if time else 0):
            readout -= time / steps * 2 * (readout @ features.T + noise.T) @ features / len(noise)
        found = random_features.flow(moments, time)
        assert found.dtype == data.dtype
        # The step of the iteration, 1e-3 at most, and rounding amplified by the time.
        np.testing.assert_allclose(found, readout, rtol=0, atol=1e-3 * np.abs(readout).max() + 200 * eps * time)


def test_a_feature_without_curvature_moves_at_its_gradient() -> None:
    moments = random_features.Moments(jnp.zeros((2, 2)), jnp.array([[0.5, -1.0]]))
    np.testing.assert_allclose(random_features.flow(moments, 3.0), 6 * moments.targets, rtol=1e-6)


def test_gains_are_the_derivative_and_leave_one() -> None:
    key, data, params = start()
    moments = random_features.moments(key, params, data, T, 200)
    x = jnp.array([0.5, -1.0, 0.2])
    np.testing.assert_array_equal(random_features.denoise(params, x, T), x)
    widths = []
    for time in (0.0, 1.0, 100.0):
        trained = params._replace(readout=random_features.flow(moments, time))
        jacobian = jax.jacfwd(random_features.denoise, argnums=1)(trained, x, T)
        found = random_features.gains(trained, x, T)
        np.testing.assert_allclose(found, np.diag(jacobian), rtol=1e-5)
        widths.append(np.asarray(found))
    np.testing.assert_array_equal(widths[0], 1)  # untrained it returns what it is given
    assert np.all(widths[1] < widths[0])
    # Trained, the direction of variance 0.09 is held more than that of variance 2.
    assert widths[2][2] < widths[2][0]


def test_stochastic_descent_of_an_ensemble_of_linear_denoisers() -> None:
    """Mini-batches with fresh noise: the mean over members is the closed form of small steps."""
    members, steps, rate = 400, 60, 0.02
    data = jnp.asarray(points(), jnp.float32)
    model = linear.fit(data, N, centred=False)
    init = partial(trainable_linear.init, dimension=D)
    gradient = jax.grad(partial(loss, trainable_linear))

    def train(key: jax.Array) -> jax.Array:
        init_key, batch_key, noise_key = jax.random.split(key, 3)
        rows = jax.random.randint(batch_key, (steps, 2), 0, N)
        noise = jax.random.normal(noise_key, (steps, 2, D))

        def step(params: jax.Array, batch: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            return params - rate * gradient(params, data[batch[0]], batch[1]), None

        return jax.lax.scan(step, init(init_key), (rows, noise))[0]

    weights = np.asarray(jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(5), members)))
    vectors = np.asarray(model.eigenvectors)
    gains = np.einsum("ji,rjk,ki->ri", vectors, weights, vectors)
    error = gains.std(axis=0, ddof=1) / np.sqrt(members)
    expected = theory.gradient_descent_gain(model.eigenvalues, T, steps, rate)
    threshold = critical_z(1e-4, D)
    assert np.all(np.abs(gains.mean(axis=0) - expected) < threshold * error)
    # The control: the last tenth of the steps left out.
    short = theory.gradient_descent_gain(model.eigenvalues, T, 0.9 * steps, rate)
    assert np.any(np.abs(gains.mean(axis=0) - short) > threshold * error)


def test_the_linear_flow(x64: bool) -> None:
    """Explicit descent in NumPy; at the end the fitted rung."""
    data = jnp.asarray(points(), float)
    model = linear.fit(data, N, centred=False)
    second = points().T @ points() / N
    steps, time = 20_000, 0.6
    weights = np.zeros((D, D))
    for _ in range(steps):
        weights -= time / steps * 2 * (weights @ (second + T * np.eye(D)) - second)
    found = trainable_linear.flow(model, T, time)
    assert found.dtype == data.dtype
    np.testing.assert_allclose(found, weights, rtol=0, atol=2e-4)
    vectors = np.asarray(model.eigenvectors)
    predicted = theory.gradient_flow_gain(model.eigenvalues, T, time)
    eps = np.finfo(data.dtype).eps
    np.testing.assert_allclose(np.diag(vectors.T @ np.asarray(found) @ vectors), predicted, atol=20 * eps)
    end, x = trainable_linear.flow(model, T, np.inf), data[0]
    np.testing.assert_allclose(trainable_linear.denoise(end, x, T), linear.denoise(model, x, T), rtol=100 * eps)
    np.testing.assert_allclose(np.diag(end), linear.gains(model, T), rtol=100 * eps)


def test_members_of_an_ensemble_differ_and_are_reproduced() -> None:
    keys = jax.random.split(jax.random.key(0), 2)
    ensemble = jax.vmap(partial(random_features.init, dimension=D, features=P))(keys)
    assert ensemble.first.shape == (2, P, D)
    assert not np.array_equal(ensemble.first[0], ensemble.first[1])
    np.testing.assert_array_equal(ensemble.first[1], random_features.init(keys[1], D, P).first)
    assert not np.any(ensemble.readout)


def test_sizes_are_refused() -> None:
    key, data, params = start()
    for call, text in [
        (lambda: trainable_linear.init(key, 0), "dimension must be >= 1, got dimension = 0"),
        (lambda: random_features.init(key, -1, 3), "dimension must be >= 1, got dimension = -1"),
        (lambda: random_features.init(key, 3, 0), "features must be >= 1, got features = 0"),
        (lambda: random_features.moments(key, params, data, T, 0), "draws must be >= 1, got draws = 0"),
    ]:
        with pytest.raises(InputError, match=text):
            call()  # type: ignore[no-untyped-call]
