"""Products with vectors against the whole Jacobian, by reverse differentiation and NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from geomem_jax import matrix_free, quadrature
from geomem_jax.errors import InputError

D, K = 120, 3  # blocks of 11 vectors, of which 9 (steps 8) do not span the space: no dense shortcut
POINTS = 2


def network(params, x, t):
    """A layer whose Jacobian is not symmetric and differs from point to point."""
    first, last = params
    return x / (1 + t) + last @ jnp.tanh(first @ x)


def linear(matrix, x, t):
    return matrix @ x / t


def example():
    keys = jax.random.split(jax.random.key(1), 3)
    first, last, x = (
        jax.random.normal(key, shape) for key, shape in zip(keys, ((D, D), (D, D), (POINTS, D)), strict=True)
    )
    return Partial(network, (first / D**0.5, last / D**0.5)), x


def jacobians(model, x, t):
    with jax.enable_x64(True):
        model, x = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), (model, x))
        return np.stack([np.asarray(jax.jacrev(lambda x: model(x, jnp.asarray(t)))(point)) for point in x])


def symmetric(jacobians):
    return (jacobians + np.swapaxes(jacobians, 1, 2)) / 2


SPECTRA = {
    "even": np.linspace(0, 1, D),
    "power law": np.arange(1, D + 1) ** -0.7,
    "levels": np.repeat([0.9, 0.3, 0.0], [5, 15, D - 20]),
    "one level and noise": np.concatenate([np.full(30, 0.95), np.linspace(-0.05, 0.1, D - 30)]),
    "low rank": np.concatenate([np.linspace(1, 2, 6), np.zeros(D - 6)]),
    "mostly negative": np.concatenate([np.linspace(0.5, 1, 10), np.linspace(-3, 0, D - 10)]),
    "edge": 1 - np.linspace(0, 1, D) ** 0.5,
    "zero": np.zeros(D),
    "one": np.ones(D),
}


def rotated(spectrum, seed):
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(D, D)))[0]
    return (rotation * spectrum) @ rotation.T


@pytest.mark.parametrize("steps", [4, 8])
def test_errors_are_no_larger_than_stated(steps):
    """Nine spectra, both ends, three random starts each: 108 x 3 values and not one error above its statement."""
    tightest = []
    for seed, spectrum in enumerate(SPECTRA.values()):
        matrix = rotated(spectrum, seed)
        model, x = Partial(linear, jnp.asarray(matrix, jnp.float32)), jnp.ones((3, D))
        exact = np.linalg.eigvalsh(matrix) / 0.5
        for find, expected in ((matrix_free.leading, exact[::-1][:K]), (matrix_free.trailing, exact[:K])):
            found = find(jax.random.key(seed), model, x, 0.5, K, steps=steps)
            error = np.abs(np.asarray(found.values, np.float64) - expected)
            assert np.all(error <= np.asarray(found.error)), (seed, error, found.error)
            tightest.append(np.max(error / np.maximum(found.error, 1e-6)))
    # Nor are the statements idle: somewhere a third of what is stated is reached.
    assert max(tightest) > 0.3


def test_pairs_are_those_of_the_symmetric_part(x64):
    model, x = example()
    expected, vectors = np.linalg.eigh(symmetric(jacobians(model, x, 0.5)))
    first = matrix_free.leading(jax.random.key(0), model, x, 0.5, K, steps=9)
    last = matrix_free.trailing(jax.random.key(0), model, x, 0.5, K, steps=9)
    for found, at in ((first, slice(-1, -K - 1, -1)), (last, slice(0, K))):
        # Ends of a half circle: gaps of 0.1 between these values, found to 0.01 in 9 steps.
        np.testing.assert_array_less(np.abs(found.values - expected[:, at]), found.error)
        np.testing.assert_array_less(found.error, 0.1)
        gram = np.einsum("bdk,bdl->bkl", found.vectors, found.vectors)
        np.testing.assert_allclose(gram, np.broadcast_to(np.eye(K), gram.shape), atol=1e-5)
        overlap = np.abs(np.einsum("bdk,bdk->bk", found.vectors, vectors[:, :, at]))
        assert np.all(overlap[:, 0] > 0.99)


def test_small_spaces_are_solved_exactly():
    model, x = example()
    expected = np.linalg.eigvalsh(symmetric(jacobians(model, x, 0.5)))
    found = matrix_free.leading(jax.random.key(0), model, x, 0.5, D)
    np.testing.assert_allclose(found.values, expected[:, ::-1], atol=1e-5)  # a hundred times the rounding of 1
    assert np.all(np.asarray(found.error) < 1e-4)


def test_repeated_eigenvalues_are_found_as_often_as_they_are_repeated():
    """Five equal ones, which Lanczos from one vector would find once; then the space is exhausted after three steps."""
    model = Partial(linear, jnp.asarray(rotated(SPECTRA["levels"], 3), jnp.float32))
    found = matrix_free.leading(jax.random.key(0), model, jnp.ones((1, D)), 1.0, 4)
    np.testing.assert_allclose(found.values, 0.9, rtol=0, atol=2e-6)
    assert np.all(np.asarray(found.error) < 1e-4)


def test_the_batch_of_tangents_and_of_points_changes_nothing():
    model, x = example()
    whole = matrix_free.leading(jax.random.key(0), model, x, 0.5, K, steps=4)
    part = matrix_free.leading(jax.random.key(0), model, x[:1], 0.5, K, steps=4, tangents=7)
    np.testing.assert_allclose(part.values, whole.values[:1], atol=1e-5)
    traces = matrix_free.traces(jax.random.key(0), model, x, 0.5, probes=8)
    traces_in_parts = matrix_free.traces(jax.random.key(0), model, x[:1], 0.5, probes=8, tangents=3)
    np.testing.assert_allclose(traces_in_parts.trace.value, traces.trace.value[:1], rtol=1e-5)
    np.testing.assert_allclose(traces_in_parts.squares.error, traces.squares.error[:1], rtol=1e-4)


def test_new_parameters_and_noise_need_no_new_program():
    x = jnp.ones((1, D))
    runs = [
        matrix_free.traces(jax.random.key(0), Partial(linear, scale * jnp.eye(D)), x, t, probes=2)
        for scale, t in ((1.0, 0.5), (2.0, 0.25))
    ]
    compiled = matrix_free._traces._cache_size()
    runs.append(matrix_free.traces(jax.random.key(1), Partial(linear, 3 * jnp.eye(D)), x, 0.1, probes=2))
    assert matrix_free._traces._cache_size() == compiled
    np.testing.assert_allclose([run.trace.value[0] for run in runs], [2 * D, 8 * D, 30 * D], rtol=1e-6)


def test_traces_are_within_their_errors(x64):
    model, x = example()
    jacobian = jacobians(model, x, 0.5)
    found = matrix_free.traces(jax.random.key(5), model, x, 0.5, probes=400)
    exact = np.trace(jacobian, axis1=1, axis2=2), np.sum(jacobian**2, axis=(1, 2))
    for sampled, expected in zip(found, exact, strict=True):
        # Four comparisons of means of 400 in each precision: 4.5 standard errors are passed once in 2e4 files.
        np.testing.assert_array_less(np.abs(sampled.value - expected), 4.5 * np.asarray(sampled.error))
        assert np.all(np.abs(sampled.value - 1.1 * expected) > 4.5 * np.asarray(sampled.error))  # 10 % off is seen
    # The standard error, from its formula: twice the squares off the diagonal of the symmetric part.
    part = symmetric(jacobian)
    off = np.sum(part**2, axis=(1, 2)) - np.sum(np.diagonal(part, axis1=1, axis2=2) ** 2, axis=1)
    np.testing.assert_allclose(found.trace.error, np.sqrt(2 * off / 400), rtol=0.15)  # 4 standard errors of a variance


def test_probes_are_different_at_different_points():
    model = Partial(linear, jnp.asarray(rotated(SPECTRA["even"], 0), jnp.float32))
    found = matrix_free.traces(jax.random.key(0), model, jnp.ones((2, D)), 1.0, probes=2)
    assert abs(float(found.trace.value[0] - found.trace.value[1])) > 1e-3


def test_quadrature_has_the_moments_of_its_probe():
    """A Gauss quadrature of q nodes is exact for degree 2q - 1, here of the measure seen by each sign vector."""
    model, x = example()
    part = symmetric(jacobians(model, x, 0.5))
    steps = 4
    found = quadrature.density(jax.random.key(2), model, x, 0.5, probes=3, steps=steps)
    nodes, weights = (np.asarray(leaf, np.float64) for leaf in found)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-6)
    assert nodes.shape == (POINTS, 3, steps)
    for point in range(POINTS):
        signs = jax.random.rademacher(jax.random.fold_in(jax.random.key(2), point), (3, D), jnp.float32)
        for probe, start in enumerate(np.asarray(signs, np.float64) / D**0.5):
            vector = start
            for power in range(1, 2 * steps + 1):
                vector = part[point] @ vector
                moment = np.sum(weights[point, probe] * nodes[point, probe] ** power)
                # Rounding of float32, times the spread of powers (the largest eigenvalue is 2.2).
                close = abs(moment - start @ vector) < 1e-5 * 2.2**power
                assert close == (power < 2 * steps)


def test_counts_above_a_threshold(x64):
    model, x = example()
    part = symmetric(jacobians(model, x, 0.5))
    values = np.linalg.eigvalsh(part)
    at = np.array([-1.0, 0.0, 0.7, 1.5])
    found = quadrature.density(jax.random.key(3), model, x, 0.5, probes=64, steps=24)
    below = quadrature.cumulative(found, jnp.asarray(at))
    exact = np.mean(values[:, :, None] <= at, axis=1)
    # Beside the error over probes, staircases of 24 nodes are wrong by a part of the weight of one.
    np.testing.assert_array_less(np.abs(below.value - exact), 4.5 * np.asarray(below.error) + 1 / 24)
    assert np.all(np.asarray(below.error) < 0.02)
    assert np.all(np.abs(below.value[:, 1] - (1 - exact[:, 1])) > 0.1)  # the wrong side is seen
    width = 0.3
    grid = np.linspace(-3, 4, 701)
    smooth = quadrature.smoothed(found, jnp.asarray(grid), width)
    kernels = np.exp(-((grid - values[:, :, None]) ** 2) / (2 * width**2)) / np.sqrt(2 * np.pi * width**2)
    np.testing.assert_allclose(smooth.value, kernels.mean(axis=1), atol=0.04)  # 4.5 standard errors of at most 0.008
    np.testing.assert_allclose(np.sum(smooth.value, axis=1) * 0.01, 1, atol=1e-4)


def test_a_spectrum_of_three_values_needs_three_nodes():
    """Beyond, there is no direction left: the other nodes have no weight, and nothing is divided by 0."""
    model = Partial(linear, jnp.asarray(rotated(SPECTRA["levels"], 3), jnp.float32))
    found = quadrature.density(jax.random.key(3), model, jnp.ones((1, D)), 1.0, probes=32, steps=10)
    assert all(np.all(np.isfinite(leaf)) for leaf in found)
    below = quadrature.cumulative(found, jnp.asarray([-0.01, 0.1, 0.5, 0.91]))
    exact = np.array([0, D - 20, D - 5, D]) / D
    np.testing.assert_array_less(np.abs(below.value[0] - exact), 4.5 * np.asarray(below.error[0]) + 1e-5)
    assert float(below.error[0, 1]) < 0.02


def test_a_plain_function_is_a_model():
    found = matrix_free.leading(jax.random.key(0), lambda x, t: x * jnp.arange(1, 6) * t, jnp.zeros((1, 5)), 2.0, 2)
    np.testing.assert_allclose(found.values, [[10, 8]], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": jnp.ones(3)}, r"x: shape is \(3,\)"),
        ({"x": jnp.ones((2, 0))}, r"x: shape is \(2, 0\)"),
        ({"x": jnp.ones((2, 3), int)}, "x: dtype is int"),
        ({"x": jnp.full((2, 3), jnp.nan)}, "x: has NaN"),
        ({"t": 0.0}, r"t: 0\.0 is not a noise variance"),
        ({"t": jnp.ones(2)}, "t: .* is not a noise variance"),
        ({"model": 3}, "model: int cannot be called"),
        ({"model": lambda x, t: x[:2]}, r"model: gives shape \(2,\) for a point of shape \(3,\)"),
        ({"k": 4}, "k must be from 1 to 3, got k = 4"),
        ({"steps": 3}, "steps must be >= 4, got steps = 3"),
        ({"tangents": 0}, "tangents must be >= 1"),
    ],
)
def test_what_cannot_be_used_is_named(change, message):
    arguments = {"model": lambda x, t: x, "x": jnp.ones((2, 3)), "t": 0.5, "k": 2} | change
    with pytest.raises(InputError, match=message):
        matrix_free.leading(jax.random.key(0), **arguments)


def test_counts_of_probes_and_steps_are_checked():
    x = jnp.ones((1, 3))
    with pytest.raises(InputError, match="probes must be >= 2, got probes = 1"):
        matrix_free.traces(jax.random.key(0), lambda x, t: x, x, 0.5, probes=1)
    with pytest.raises(InputError, match="steps must be from 1 to 3, got steps = 4"):
        quadrature.density(jax.random.key(0), lambda x, t: x, x, 0.5, steps=4)
