"""The zoo: moments, dimensions by differentiation or by the rank of neighbours, and how draws relate to each other."""

import jax
import numpy as np
import pytest
import scipy.stats

from geomem_jax import model_free
from geomem_jax.data import manifolds
from geomem_jax.errors import InputError

KEY = jax.random.key(7)
AMBIENT = 9
ZOO = {
    "affine": (lambda: manifolds.affine(3, AMBIENT, KEY), 3),
    "two levels": (lambda: manifolds.two_level((2, 3), (1.0, 0.04), AMBIENT, KEY), 5),
    "sphere": (lambda: manifolds.sphere(3, AMBIENT, KEY), 3),
    "torus": (lambda: manifolds.torus(3, AMBIENT, KEY), 3),
    "squiggly": (lambda: manifolds.squiggly(2, AMBIENT, KEY), 2),
    "one wave": (lambda: manifolds.squiggly(2, AMBIENT, KEY, frequency=1, amplitude=0.5), 2),
    "spheres": (lambda: manifolds.spheres([1, 4], AMBIENT, KEY), 4),
    "hidden": (lambda: manifolds.hidden_manifold(3, AMBIENT, KEY), 3),
}
NUM_POINTS = 20_000
# Moments along the nine directions: 45 second ones and 9 means of eight manifolds; null directions are exact.
Z = scipy.stats.norm.isf(1e-4 / 2 / (8 * 54))
ROUNDING = 1e-7  # of float32: products of coordinates that are exactly 0 on a mixture are not zero but this


@pytest.fixture(scope="module", params=ZOO)
def drawn(request):
    build, dimension = ZOO[request.param]
    manifold = build()
    return manifold, dimension, manifold.source.draw(jax.random.key(1), NUM_POINTS, 500)


def test_moments_are_those_of_the_source(drawn):
    manifold, _, draw = drawn
    source = manifold.source
    assert np.all(np.diff(source.variances) <= 1e-12)
    np.testing.assert_allclose(source.basis.T @ source.basis, np.eye(AMBIENT), atol=1e-12)
    along = np.asarray(draw.train, float) @ source.basis
    null = source.variances < 1e-10
    assert np.abs(along[:, null]).max(initial=0) < 1e-5  # rounding of float32
    along, expected = along[:, ~null], np.diag(source.variances[~null])
    i, j = np.triu_indices(len(expected))
    products = along[:, i] * along[:, j] - expected[i, j]
    for values in (products, along):
        z = values.mean(axis=0) / np.maximum(values.std(axis=0, ddof=1) / np.sqrt(NUM_POINTS), ROUNDING)
        assert np.abs(z).max() < Z
    # Negative control: variances off by a tenth.
    wrong = products - 0.1 * expected[i, j]
    z = wrong.mean(axis=0) / np.maximum(wrong.std(axis=0, ddof=1) / np.sqrt(NUM_POINTS), ROUNDING)
    assert np.abs(z).max() > Z


def test_the_dimension_is_the_rank_of_small_neighbourhoods(drawn):
    manifold, dimension, draw = drawn
    assert manifold.dimension == dimension
    train, held_out = manifold.dimensions(jax.random.key(1), NUM_POINTS, 500)
    assert train.shape == (NUM_POINTS,)
    assert held_out.shape == (500,)
    found = model_free.local_pca(draw.train, 25, 100)
    own = train[np.linspace(0, NUM_POINTS, 100, endpoint=False).astype(int)]
    right = np.isfinite(found.points)
    # The small of two levels and the bends of the squiggly one need nearer neighbours than there are.
    assert right.mean() > 0.4
    assert np.mean(found.points[right] == own[right]) > 0.9
    assert set(train) == ({1, 4} if "spheres" in manifold.source.name else {dimension})


def test_draws_are_nested_in_size_and_held_out_points_apart(drawn):
    manifold, _, draw = drawn
    for n, m in ((7, 3), (NUM_POINTS, 0), (0, 5)):
        fewer = manifold.source.draw(jax.random.key(1), n, m)
        np.testing.assert_array_equal(fewer.train, draw.train[:n])
        np.testing.assert_array_equal(fewer.held_out, draw.held_out[:m])
    for part, whole in zip(
        manifold.dimensions(jax.random.key(1), 9, 4), manifold.dimensions(jax.random.key(1), 999, 500), strict=True
    ):
        np.testing.assert_array_equal(part, whole[: len(part)])
    assert not np.any(np.all(draw.held_out[:, None] == draw.train[:500], axis=-1))
    assert not np.array_equal(manifold.source.draw(jax.random.key(2), 3, 0).train, draw.train[:3])


def test_points_lie_where_they_should():
    key = jax.random.key(3)
    on_sphere = manifolds.sphere(5, 30, KEY).source.draw(key, 100, 0).train
    np.testing.assert_allclose(np.linalg.norm(on_sphere, axis=1), 1, atol=1e-6)
    mixture = manifolds.spheres([2, 5, 3], 30, KEY)
    points = np.asarray(mixture.source.draw(key, 300, 200).train)
    label, held_out = mixture.dimensions(key, 300, 200)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose((points @ points.T)[label[:, None] != label], 0, atol=1e-6)
    assert {np.linalg.matrix_rank(points[label == m], tol=1e-4) - m for m in (2, 5, 3)} == {1}
    # Shares: 500 points of three components, one in 10 000.
    counts = np.bincount(np.append(label, held_out))[[2, 3, 5]]
    assert np.all(np.abs(counts - 500 / 3) < 4.2 * np.sqrt(500 * 2 / 9))
    hidden = np.asarray(manifolds.hidden_manifold(4, 50, KEY).source.draw(key, 100, 0).train, float)
    assert np.linalg.matrix_rank(np.arctanh(hidden), tol=1e-3) == 4
    assert np.linalg.matrix_rank(hidden, tol=1e-3) > 20  # not flat


def test_covariance_of_the_hidden_manifold_against_quadrature():
    rng = np.random.default_rng(0)
    features = np.array([[0.1], [1.0], [1.5]]) * rng.standard_normal((3, 2))
    features = np.concatenate([features, -features[1:2], 2 * features[2:3]])  # correlations of -1 and 1 too
    nodes, weights = np.polynomial.hermite_e.hermegauss(150)
    weights /= weights.sum()
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
    values = np.tanh(grid @ features.T)
    expected = (values.T * np.outer(weights, weights).ravel()) @ values
    # The product rule errs by 1e-8 at the largest of these slopes, the series by less than 1e-9.
    np.testing.assert_allclose(manifolds.tanh_covariance(features), expected, atol=1e-7)
    assert np.abs(manifolds.tanh_covariance(1.01 * features) - expected).max() > 1e-3  # negative control


def test_a_thousand_dimensions(x64):
    manifold = manifolds.torus(16, 1000, KEY)
    points = manifold.source.draw(KEY, 40, 0).train
    assert points.shape == (40, 1000)
    assert points.dtype == (np.float64 if x64 else np.float32)
    np.testing.assert_allclose(np.sum(points**2, axis=1), 16, rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: manifolds.affine(0, 5, KEY), "dimension: 0"),
        (lambda: manifolds.affine(6, 5, KEY), "ambient: 5 dimensions; give 6"),
        (lambda: manifolds.two_level((2, 0), (1.0, 0.1), 5, KEY), "dimension: 0"),
        (lambda: manifolds.sphere(5, 5, KEY), "ambient: 5 dimensions; give 6"),
        (lambda: manifolds.torus(3, 5, KEY), "ambient: 5 dimensions; give 6"),
        (lambda: manifolds.squiggly(3, 5, KEY), "ambient: 5 dimensions; give 6"),
        (lambda: manifolds.squiggly(2, 5, KEY, frequency=0), "frequency: 0"),
        (lambda: manifolds.spheres([], 5, KEY), "dimensions: none"),
        (lambda: manifolds.spheres([2, 3], 6, KEY), "ambient: 6 dimensions; give 7"),
        (lambda: manifolds.hidden_manifold(6, 5, KEY), "ambient: 5 dimensions; give 6"),
        (lambda: manifolds.sphere(2, 5, KEY).source.draw(KEY, -1, 0), "number of points -1"),
    ],
)
def test_bad_input_is_refused_in_one_line(build, message):
    with pytest.raises(InputError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)
