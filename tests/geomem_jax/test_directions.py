"""Vectors get the names of the directions that they were made of."""

import numpy as np
import pytest
from scipy.linalg import subspace_angles

from geomem_jax import dimension, directions
from geomem_jax.errors import InputError

D = 30
VARIANCES = np.repeat([0.0, 1.0, 0.09], [D - 7, 2, 5])
GROUPS = directions.group_by_variance(VARIANCES)


def orthogonal(generator, d=D):
    return np.linalg.qr(generator.normal(size=(d, d)))[0]


def test_groups_are_of_equal_variance_and_the_largest_first():
    assert [group.tolist() for group in GROUPS] == [[23, 24], [25, 26, 27, 28, 29]]
    # Rounding tells no variances apart, and is none.
    rounded = directions.group_by_variance([1.0, 0.09, 0.09 * (1 + 1e-9), 1e-18])
    assert [group.tolist() for group in rounded] == [[0], [2, 1]]
    with pytest.raises(InputError, match=r"variances: .* are not a list"):
        directions.group_by_variance([1.0, -1.0])


@pytest.mark.parametrize("k", [1, 3, 9])
def test_overlaps_and_angles_are_those_of_projectors(k):
    """Against projection matrices, and SciPy's angles; for batches of vectors."""
    generator = np.random.default_rng(k)
    basis = orthogonal(generator)
    vectors = np.stack([orthogonal(generator)[:, :k] for _ in range(4)]).reshape(2, 2, D, k)
    overlaps = directions.overlaps(vectors, basis, GROUPS)
    angles = directions.principal_angles(vectors, basis, GROUPS)
    held = directions.held(vectors, basis, GROUPS)
    assert overlaps.shape == (2, 2, k, 2)
    for index in np.ndindex(2, 2):
        for number, group in enumerate(GROUPS):
            projector = basis[:, group] @ basis[:, group].T
            expected = np.diag(vectors[index].T @ projector @ vectors[index])
            np.testing.assert_allclose(overlaps[index][:, number], expected, atol=1e-12)
            found = angles[number][index]
            assert found.shape == (min(k, len(group)),)
            np.testing.assert_allclose(found, np.sort(subspace_angles(vectors[index], basis[:, group])), atol=1e-12)
            np.testing.assert_allclose(held[index][number] * len(group), np.sum(np.cos(found) ** 2), atol=1e-12)
    everything = directions.overlaps(basis, basis, [*GROUPS, np.flatnonzero(VARIANCES == 0)])
    np.testing.assert_allclose(everything.sum(axis=-1), 1, atol=1e-12)


def test_small_angles_keep_their_digits():
    """An angle of 1e-9, whose cosine is 1 in float64."""
    basis, vector = np.eye(D), np.zeros((D, 1))
    vector[23], vector[0] = np.cos(1e-9), np.sin(1e-9)
    np.testing.assert_allclose(directions.principal_angles(vector, basis, GROUPS)[0], [1e-9], rtol=1e-9)


def test_a_lost_group_has_a_name_though_the_count_has_none():
    """Two groups of the same size: the position of the gap is the same, the overlaps are not."""
    variances = np.repeat([1.0, 0.09, 0.0], [3, 3, 10])
    groups = directions.group_by_variance(variances)
    basis = orthogonal(np.random.default_rng(0), 16)
    for lost in (0, 1):
        free = basis[:, groups[1 - lost]] @ orthogonal(np.random.default_rng(1), 3)
        complement = np.linalg.qr(np.hstack([free, np.random.default_rng(2).normal(size=(16, 13))]))[0]
        singular = np.repeat([0.05, 0.95], [3, 13])
        matrix = (complement * singular) @ complement.T
        values, vectors = np.linalg.eigh(matrix)
        assert dimension.largest_drop(values[None, ::-1]) == 3
        assert directions.free_groups(3, [3, 3]) == [(0,), (1,)]
        held = directions.held(vectors[:, :3], basis, groups)
        np.testing.assert_allclose(held, np.eye(2)[1 - lost], atol=1e-12)


def test_the_gap_stands_where_the_sizes_say():
    """The three positions of the paper: 23, 25, 28 of 30 with two and five directions; a stiff direction is none."""
    t = 0.01
    for free, position in (((0, 1), 23), ((1,), 25), ((0,), 28)):
        singular = np.ones(D)
        for number in free:
            singular[GROUPS[number]] = t / (VARIANCES[GROUPS[number]] + t)
        (found,) = dimension.largest_drop(np.sort(singular)[None, ::-1])
        assert found == D - position
        assert directions.free_groups(found, [2, 5]) == [free]
    singular = np.ones(D)
    singular[np.concatenate(GROUPS)[1:]] = 0.05  # a sphere: one of seven is stiff
    (found,) = dimension.largest_drop(np.sort(singular)[None, ::-1])
    assert found == 6
    assert directions.free_groups(found, [2, 5]) == []


@pytest.mark.parametrize(
    ("vectors", "basis", "message"),
    [
        (np.eye(4)[:, :2], np.eye(5), r"vectors: shape \(4, 2\) does not fit a basis of shape \(5, 5\)"),
        (np.ones(5), np.eye(5), r"vectors: shape \(5,\) does not fit"),
        (2 * np.eye(5), np.eye(5), "vectors: columns are not orthonormal, off by 3"),
        (np.eye(5), np.ones((5, 2)), "basis: columns are not orthonormal"),
        (np.full((5, 2), np.nan), np.eye(5), "vectors: columns are not orthonormal, off by nan"),
    ],
)
def test_what_cannot_be_matched_is_named(vectors, basis, message):
    for function in (directions.overlaps, directions.held, directions.principal_angles):
        with pytest.raises(InputError, match=message):
            function(vectors, basis, [np.array([0])])


def test_too_many_groups_are_refused():
    with pytest.raises(InputError, match="sizes: 13 groups"):
        directions.free_groups(1, [1] * 13)
