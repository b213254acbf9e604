"""Dimensions from points alone, against the formulas as written, and how often their intervals cover."""

import jax
import numpy as np
import pytest
import scipy.spatial
import scipy.stats
import sklearn.decomposition

from geomem_jax import model_free
from geomem_jax.data import manifolds
from geomem_jax.errors import InputError

M, D, N = 3, 12, 600


@pytest.fixture(scope="module")
def flat():
    """Points of a Gaussian of three directions among twelve."""
    return np.asarray(manifolds.affine(M, D, jax.random.key(0)).source.draw(jax.random.key(1), N, 0).train)


def distances(points, neighbours):
    """Distances to the nearest other points by a tree, in float64."""
    found, _ = scipy.spatial.cKDTree(points.astype(float)).query(points.astype(float), neighbours + 1)
    return found[:, 1:]


def flat_torus(seed, n, m):
    """Points of a plane without a border, and hence of a sphere that is locally flat: circles, a long way round."""
    angles = np.random.default_rng(seed).uniform(0, 2 * np.pi, (n, m))
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


@pytest.mark.parametrize("neighbours", [2, 20])
def test_maximum_likelihood_is_the_formula(flat, neighbours, x64):
    near = distances(flat, neighbours)
    inverse = [np.mean([np.log(row[-1] / value) for value in row[:-1]]) for row in near]
    found = model_free.maximum_likelihood(flat, neighbours)
    # Distances are right to a few roundings of float32; their logarithms near 1 lose a digit.
    np.testing.assert_allclose(found.value, 1 / np.mean(inverse), rtol=1e-5)
    np.testing.assert_allclose(1 / found.points, inverse, atol=1e-5)
    half = scipy.stats.norm.ppf(0.975) * np.std(inverse, ddof=1) * np.sqrt(2 / N)
    np.testing.assert_allclose(found[1:3], 1 / (np.mean(inverse) + np.array([half, -half])), rtol=1e-5)
    # Negative control: the average of the estimates, not of their inverses, is another number.
    assert abs(np.mean(found.points) / found.value - 1) > 0.01


def test_two_neighbours_is_maximum_likelihood_of_the_censored_sample(flat):
    near = distances(flat, 2)
    logs = np.sort(np.log(near[:, 1] / near[:, 0]))
    kept, largest = logs[:540], logs[539]

    def minus_log_likelihood(m):
        return -(540 * np.log(m) - m * kept.sum() - (N - 540) * m * largest)

    best = scipy.optimize.minimize_scalar(minus_log_likelihood, bounds=(0.1, 20), method="bounded")
    found = model_free.two_neighbours(flat)
    np.testing.assert_allclose(found.value, best.x, rtol=1e-5)
    # The line through the origin of the paper is another estimate from the same order statistics: within the interval.
    line = -np.log1p(-np.arange(1, 541) / N)
    assert found.lower < (kept @ line) / (kept @ kept) < found.upper
    np.testing.assert_allclose(
        model_free.two_neighbours(flat, 0.0).value, model_free.maximum_likelihood(flat, 2).value, rtol=1e-12
    )


def test_local_pca_counts_the_eigenvalues_of_scikit_learn(x64):
    # A thick sheet: in places its small eigenvalues are above a twentieth of the largest, in others one or none is.
    points = [1.0, 1.0, 0.05, 0.035] * np.random.default_rng(2).standard_normal((N, 4))
    found = model_free.local_pca(points, 60, queries=60)
    queries = np.linspace(0, N, 60, endpoint=False).astype(int)
    _, rows = scipy.spatial.cKDTree(points).query(points[queries], 61)
    expected = []
    for row in rows[:, 1:]:
        values = sklearn.decomposition.PCA().fit(points[row]).explained_variance_
        count = np.sum(values > values[0] / 20)
        expected.append(count if count == 4 or values[count - 1] >= 4 * values[count] else np.nan)
    np.testing.assert_array_equal(found.points, expected)
    assert 2 in expected
    assert 0 < np.isnan(expected).sum() < 30


@pytest.mark.parametrize("estimate", [model_free.maximum_likelihood, model_free.two_neighbours])
@pytest.mark.parametrize("m", [1, 2])
def test_intervals_cover_without_bias(estimate, m):
    # Flat, without a border: nothing but chance.  60 data sets; of intervals of 95 % or more, correct code misses more
    # than this once in 10 000 runs of the four cases.
    runs, missed, narrow = 60, 0, 0
    for seed in range(runs):
        found = estimate(flat_torus(seed, 600, m))
        missed += not found.lower < m < found.upper
        # Negative control: half the width, an error of the standard error by 2, misses often.
        middle = (found.lower + found.upper) / 2
        narrow += not abs(m - middle) < (found.upper - found.lower) / 4
    allowed = scipy.stats.binom.isf(1e-4 / 4, runs, 0.05)
    assert missed <= allowed < narrow


def test_estimates_on_the_zoo_are_near_the_truth_where_dimensions_are_few():
    for manifold in (manifolds.sphere(2, 20, jax.random.key(4)), manifolds.torus(2, 20, jax.random.key(5))):
        points = manifold.source.draw(jax.random.key(6), 1500, 0).train
        for found in (model_free.maximum_likelihood(points), model_free.two_neighbours(points)):
            assert found.lower < manifold.dimension < found.upper, manifold.source.name
        assert model_free.local_pca(points, 40, 100)[:3] == (2, 2, 2)


def test_more_dimensions_than_neighbours_can_tell_are_not_found():
    points = np.random.default_rng(7).standard_normal((300, 40))
    found = model_free.local_pca(points, 50, 40)
    assert not found.found
    assert np.isnan(found.value)
    # Of 19 directions that 20 points can span at most, all are found alike.
    many = np.random.default_rng(8).standard_normal((300, 200))
    assert not model_free.local_pca(many, 20, 40).found
    # Negative control: a count is there, and is wrong.
    rows = scipy.spatial.cKDTree(points).query(points[:1], 51)[1][0, 1:]
    values = np.linalg.svd(points[rows] - points[rows].mean(axis=0), compute_uv=False) ** 2
    assert np.sum(values > values[0] / 20) < 40


def test_equal_points_are_refused_by_distances_and_not_by_local_pca(flat):
    repeated = np.concatenate([flat, flat[:5], np.repeat(flat[5:6], 40, axis=0)])
    for estimate in (model_free.maximum_likelihood, model_free.two_neighbours):
        with pytest.raises(InputError, match="points: 51 of 645 equal another"):
            estimate(repeated)
    assert model_free.local_pca(repeated, 60, 100).value == M
    assert not model_free.local_pca(np.ones((50, 4)), 20).found


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: model_free.maximum_likelihood(np.eye(5), 5), "neighbours: 5 of 5 points; give 2 to 4"),
        (lambda: model_free.maximum_likelihood(np.eye(5), 1), "neighbours: 1"),
        (lambda: model_free.maximum_likelihood(np.ones(5)), "points: shape"),
        (lambda: model_free.two_neighbours(np.eye(5), 1.0), "discard: 1"),
        (lambda: model_free.local_pca(np.eye(5), 3, 0), "queries: 0"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
