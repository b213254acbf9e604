"""Both estimators on linear scores, where they are known, and against NumPy on the same probes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from geomem_jax import normal_bundle
from geomem_jax.errors import InputError

D = 24
T = 0.04
VARIANCES = np.repeat([1.0, 0.09, 0.0], [4, 6, D - 10])
KEY = jax.random.key(0)


def wiener(rotation, variances, x, t):
    """Denoiser of normal data, direction by direction: a linear solver would amplify rounding 26 times."""
    return rotation @ (variances / (variances + t) * (rotation.T @ x))


def network(params, x, t):
    first, last = params
    return last @ jnp.tanh(first @ x)


def population(seed=0):
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(D, D)))[0]
    return Partial(wiener, jnp.asarray(rotation), jnp.asarray(VARIANCES))


def example():
    keys = jax.random.split(jax.random.key(1), 3)
    first, last, x = (jax.random.normal(key, shape) for key, shape in zip(keys, ((D, D), (D, D), (2, D)), strict=True))
    return Partial(network, (first / D**0.5, last / D**0.5)), x


def points(count=2):
    return jax.random.normal(jax.random.key(7), (count, D))


EXACT = np.sort(T / (VARIANCES + T))[::-1]  # singular values of t grad s


def test_orthogonal_probes_are_exact_for_a_linear_score(x64):
    for probe_std in (None, 1e-1, (T / D) ** 0.5):
        found = normal_bundle.orthogonal(KEY, population(), points(), T, probe_std)
        # Rounding of scores of size 1 over probes of size 0.2.
        np.testing.assert_allclose(found, np.broadcast_to(EXACT, (2, D)), atol=1e-5)


def test_symmetrized_differences_tend_to_the_jacobian():
    """The deviation of a network falls as the square of the probe: 16 times from one to a quarter of it."""
    model, x = example()
    deviations = []
    with jax.enable_x64(True):
        model, x = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), (model, x))
        exact = np.stack([np.linalg.svd(np.asarray(jax.jacrev(model)(p, T)) - np.eye(D), compute_uv=False) for p in x])
        for probe_std in (0.04, 0.01):
            found = normal_bundle.orthogonal(KEY, model, x, T, probe_std)
            deviations.append(np.abs(found - exact).max())
    assert deviations[0] < 0.05
    assert 12 < deviations[0] / deviations[1] < 20


def test_one_sided_stacks_are_the_scores_themselves():
    """NumPy on the same orthogonal matrices; the largest value is of the score at the point, not of the Jacobian."""
    model, x = example()
    std = 0.01
    found = normal_bundle.orthogonal(KEY, model, x, T, std, symmetrized=False)
    first, last = (np.asarray(leaf, np.float64) for leaf in model.args[0])
    for index, point in enumerate(np.asarray(x, np.float64)):
        rows = np.asarray(jax.random.orthogonal(jax.random.fold_in(KEY, index), D), np.float64)
        np.testing.assert_allclose(rows @ rows.T, np.eye(D), atol=1e-5)
        probes = point + std * D**0.5 * rows
        scores = (np.tanh(probes @ first.T) @ last.T - probes) / T
        expected = np.linalg.svd(scores, compute_uv=False) * T / (std * D**0.5)
        np.testing.assert_allclose(found[index], expected, rtol=2e-3, atol=2e-4)
        at_point = np.linalg.norm(last @ np.tanh(first @ point) - point) / std
        np.testing.assert_allclose(found[index, 0], at_point, rtol=1e-2)
        # Differences have no such value.
        assert normal_bundle.orthogonal(KEY, model, x, T, std)[index, 0] < 0.02 * at_point


def test_where_the_score_vanishes_one_side_is_enough():
    found = normal_bundle.orthogonal(KEY, population(), jnp.zeros((1, D)), T, symmetrized=False)
    np.testing.assert_allclose(found[0], EXACT, atol=1e-5)


def test_probes_are_of_the_stated_size():
    """Each coordinate has the standard deviation given: a model that reports the size of what it is asked about."""
    seen = []

    def record(x, t):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), x)
        return 0.5 * x

    for estimate, size in ((normal_bundle.orthogonal, 0.3), (normal_bundle.centred, 0.3)):
        seen.clear()
        jax.block_until_ready(estimate(KEY, record, jnp.zeros((1, D)), T, probe_std=size))
        jax.effects_barrier()
        probes = np.concatenate([np.atleast_2d(rows) for rows in seen])
        # 2 x 24 orthogonal rows of exactly this size; 96 x 24 normal numbers: 4 standard errors are 6 %.
        np.testing.assert_allclose(np.sqrt(np.mean(probes**2)), size, rtol=1e-5 if len(probes) == 2 * D else 0.06)


def test_the_centred_bundle_tends_to_the_singular_values():
    """Off the centre, where the mean score is large; deviations fall as one over the root of the copies."""
    model, x = population(), points()
    deviations = []
    for copies in (500, 8000):
        found = np.asarray(normal_bundle.centred(KEY, model, x, T, copies))
        deviations.append(np.sqrt(np.mean((found - EXACT) ** 2)))
        # The mean of squares has no bias: its relative standard error is about sqrt(2 / 14 copies), of 14 values of 1.
        squares = np.mean(found**2, axis=1)
        np.testing.assert_allclose(squares, np.mean(EXACT**2), rtol=4.5 * np.sqrt(2 / (14 * copies)))
    assert deviations[1] < 0.03
    assert 3 < deviations[0] / deviations[1] < 5  # root of 16


def test_the_centred_bundle_is_that_of_numpy(x64):
    model, x = example()
    dtype = jnp.zeros(()).dtype
    model, x = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), dtype), (model, x))
    found = normal_bundle.centred(KEY, model, x, T, copies=15, probe_std=0.3)
    assert found.shape == (2, 15)
    first, last = (np.asarray(leaf, np.float64) for leaf in model.args[0])
    for index, point in enumerate(np.asarray(x, np.float64)):
        noise = np.asarray(jax.random.normal(jax.random.fold_in(KEY, index), (15, D), dtype), np.float64)
        probes = point + 0.3 * noise
        scores = (np.tanh(probes @ first.T) @ last.T - probes) / T
        centred = np.linalg.svd(scores - scores.mean(axis=0), compute_uv=False) * T / (0.3 * np.sqrt(14))
        np.testing.assert_allclose(found[index], centred, atol=1e-5)
        uncentred = np.linalg.svd(scores, compute_uv=False) * T / (0.3 * np.sqrt(14))
        assert abs(found[index, 0] - uncentred[0]) > 1  # the control: not subtracting the mean


def test_four_copies_for_each_dimension_and_the_noise_told_are_the_defaults():
    given = normal_bundle.centred(KEY, population(), points(), T, copies=4 * D, probe_std=T**0.5)
    np.testing.assert_array_equal(normal_bundle.centred(KEY, population(), points(), T), given)


def test_batches_change_nothing():
    model, x = example()
    for estimate in (normal_bundle.orthogonal, normal_bundle.centred):
        whole = estimate(KEY, model, x, T)
        np.testing.assert_allclose(estimate(KEY, model, x[:1], T, batch=7), whole[:1], atol=2e-5)


@pytest.mark.parametrize("estimate", [normal_bundle.orthogonal, normal_bundle.centred])
@pytest.mark.parametrize("size", [0.0, float("nan"), -1.0])
def test_the_size_of_probes_is_checked(estimate, size):
    with pytest.raises(InputError, match=r"probe_std: .* is not a standard deviation"):
        estimate(KEY, lambda x, t: x, jnp.ones((1, 3)), T, probe_std=size)


def test_counts_are_checked():
    with pytest.raises(InputError, match="copies must be >= 2, got copies = 1"):
        normal_bundle.centred(KEY, lambda x, t: x, jnp.ones((1, 3)), T, copies=1)
    with pytest.raises(InputError, match="batch must be >= 1, got batch = 0"):
        normal_bundle.orthogonal(KEY, lambda x, t: x, jnp.ones((1, 3)), T, batch=0)
