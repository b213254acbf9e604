"""The dimension of a plane read from a trained network: exact where there is a gap, and nothing where there is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geomem_jax import dimension, sharding, training
from geomem_jax.data import manifolds
from geomem_jax.denoisers import mlp

DIMENSION, AMBIENT, SIZE = 16, 128, 5000
POINTS, COPIES = 32, 4 * AMBIENT
SMALL, LARGE = (0.05, 0.1, 0.2, 0.3), (0.5, 0.7, 0.9)  # standard deviations of the noise
STEPS = 4000


@pytest.fixture(scope="module")
def trained():
    """Denoiser ``(x, t) -> x_hat`` trained on the plane, training points and held-out points."""
    source = manifolds.affine(DIMENSION, AMBIENT, jax.random.key(7)).source
    data = training.draw_data(source, [jax.random.key(0)], SIZE, POINTS)
    optimizer = training.optimizer("adam", 2e-3, clip=1.0, warmup=100)
    recipe = training.Recipe(mlp.edm_mlp(AMBIENT, 512, 3, DIMENSION / AMBIENT), optimizer, 256, 0.999)
    members = training.grid_members([SIZE], 1, noise_range=(0.02, 3.0))
    state = training.start(recipe, jax.random.key(1), members)
    (state,) = training.train(recipe, sharding.ensemble_mesh(1, 256), data, members, state, (STEPS,))
    params = jax.tree.map(lambda leaf: leaf[0], state.ema)
    return (
        lambda x, t: recipe.model.denoise(params, x, t),
        data.points[data.train[0, :POINTS]],
        data.points[data.held_out[0]],
    )


def jacobian_spectra(denoise, x, t):
    """Singular values of ``t grad s``."""

    def one(point):
        return jnp.linalg.svd(jax.jacfwd(denoise)(point, t) - jnp.eye(AMBIENT), compute_uv=False)

    return np.asarray(jax.jit(lambda x: jax.lax.map(one, x, batch_size=16))(x))


def score_spectra(denoise, x, t, *, centred=True):
    """Singular values of scores at noised copies, 1 in a frozen direction."""

    def one(args):
        point, key = args
        noised = point + jnp.sqrt(t) * jax.random.normal(key, (COPIES, AMBIENT))
        scores = (jax.vmap(lambda copy: denoise(copy, t))(noised) - noised) / t
        stack = scores - jnp.mean(scores, axis=0) if centred else scores
        return jnp.linalg.svd(stack, compute_uv=False) * jnp.sqrt(t / (COPIES - 1))

    keys = jax.random.split(jax.random.key(2), len(x))
    return np.asarray(jax.jit(lambda x: jax.lax.map(one, (x, keys)))(x))


@pytest.mark.slow  # 4000 steps of a network of three layers of 512 units: minutes
def test_a_network_on_a_plane_has_its_dimension_or_no_gap(trained):
    denoise, train, held_out = trained
    for std in SMALL + LARGE:
        t = jnp.float32(std**2)
        for points in (train, held_out):
            for found in (
                dimension.total_gap(jacobian_spectra(denoise, points, t)),
                dimension.total_gap(score_spectra(denoise, points, t)),
            ):
                print(f"std {std}: {found[:5]}, {np.isfinite(found.points).sum()} of {POINTS} points")
                if std in SMALL:
                    assert found.found
                    assert np.all(found.points == DIMENSION)
                assert np.all((found.points == DIMENSION) | np.isnan(found.points))
                assert found.found == (not np.isnan(found.value))
    # Negative controls.  The plain rule has an answer where there is no gap, and it is wrong; and without centring the
    # mean score passes for a normal direction.
    plain = dimension.largest_drop(score_spectra(denoise, train, jnp.float32(LARGE[-1] ** 2)))
    assert abs(plain.mean() - DIMENSION) > 5
    uncentred = dimension.total_gap(score_spectra(denoise, train, jnp.float32(SMALL[-1] ** 2), centred=False))
    assert uncentred.value == DIMENSION - 1
