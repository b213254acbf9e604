"""Gains of ensembles, against finite differences and closed forms written here."""

import jax
import jax.numpy as jnp
import numpy as np

from geomem_jax import data, jacobian, sharding, snapshots, training
from geomem_jax.denoisers.trainable import Trainable


def test_gains_are_derivatives_along_the_basis(x64: bool) -> None:
    generator = np.random.default_rng(0)
    basis, _ = np.linalg.qr(generator.normal(size=(4, 4)))
    basis = jnp.asarray(basis[:, :3])
    x = jnp.asarray(generator.normal(size=(70, 4)))  # more than one block, and not a multiple

    def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
        return jnp.tanh(x[::-1] * x / t)

    gains = jax.jit(lambda x: jacobian.gains(denoise, x, 0.7, basis))(x)
    assert gains.shape == (70, 3)
    # Central differences in double precision: error step^2 times a third derivative of order 10.
    points, directions = np.asarray(x, np.float64), np.asarray(basis, np.float64)

    def exact(x: np.ndarray) -> np.ndarray:
        return np.tanh(x[:, ::-1] * x / 0.7)

    for index, direction in enumerate(directions.T):
        difference = (exact(points + 1e-5 * direction) - exact(points - 1e-5 * direction)) / 2e-5
        np.testing.assert_allclose(gains[:, index], difference @ direction, atol=1e-7 if x64 else 1e-5)


def test_measures_every_member_at_its_own_points() -> None:
    source = data.linear_manifold([1.0, 0.25])
    drawn = training.draw_data(source, [jax.random.key(seed) for seed in range(2)], 6, 5)
    members = training.grid_members([2, 6], 2, (0.1, 1.0))
    # Gain 3 a x^2 along each axis, so that the points show; the parameter tells members apart.
    cubic = Trainable(lambda key: jnp.ones(()), lambda params, x, t: params * t * x**3, lambda t: 1.0)
    params = jnp.arange(1.0, 5.0)
    mesh = sharding.ensemble_mesh(4, 1)
    keys = jax.random.split(jax.random.key(3), (2, 2))
    t = jnp.array([0.1, 0.4])
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    got = snapshots.measure(cubic, mesh, drawn, members, params, keys, jnp.asarray(turn, jnp.float32), t, 9)
    assert got.gain.shape == (4, 3, 2, 2)
    for member in range(4):
        size, seed = int(members.size[member]), int(members.seed[member])
        drawing = source.draw(jax.random.key(seed), 6, 5)
        for index, clean in enumerate((drawing.train[:size], drawing.held_out)):
            clean = np.asarray(clean, np.float64)[np.arange(9) % len(clean)]
            noise = np.asarray(jax.random.normal(keys[seed, index], (9, 2)), np.float64)
            for level, variance in enumerate(np.asarray(t, np.float64)):
                x = clean + np.sqrt(variance) * noise @ turn.T
                scale = (member + 1) * variance
                gains = 3 * scale * x**2 @ turn**2  # sum_j u_j^2 dD_j/dx_j
                error = ((scale * x**3 - clean) @ turn) ** 2
                at = (member, index, level)
                np.testing.assert_allclose(got.gain[at], gains.mean(0), rtol=1e-4)
                np.testing.assert_allclose(got.gain_median[at], np.median(gains, axis=0), rtol=1e-4)
                np.testing.assert_allclose(got.gain_sem[at], gains.std(0, ddof=1) / 3, rtol=1e-4)
                np.testing.assert_allclose(got.error[at], error.mean(0), rtol=1e-4)
    np.testing.assert_array_equal(got.gain[:, 2], 0)
    assert np.isnan(got.error[:, 2]).all()
    assert np.isnan(got.gain_sem[:, 2]).all()
