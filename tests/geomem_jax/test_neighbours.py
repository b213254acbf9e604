"""Blocked nearest neighbours against all distances in float64, and what they cost in memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geomem_jax.neighbours import BLOCK, nearest, two_nearest

DIMENSION, QUERIES = 5, 300  # more queries than are found together, and not a multiple


def brute_force(data, x):
    """All distances (B, N), in float64 and from the differences."""
    return np.sqrt(((np.asarray(x, float)[:, None] - np.asarray(data, float)) ** 2).sum(axis=-1))


def points(n, kind, dtype):
    rng = np.random.default_rng(n)
    data = rng.standard_normal((n, DIMENSION))
    x = rng.standard_normal((QUERIES, DIMENSION))
    if kind == "far":  # far from the origin, half of the queries copies or nearly so
        x[::4] = data[rng.integers(n, size=len(x[::4]))]
        x[1::4] = data[rng.integers(n, size=len(x[1::4]))] + 1e-2 * x[1::4]
        data, x = data + 1000, x + 1000
    if kind == "cluster":  # many points nearer to each other than the ranking resolves
        data[: n // 2] = data[0] + 1e-5 * data[: n // 2]
        x[::2] = data[rng.integers(n // 2, size=len(x[::2]))]
    return data.astype(dtype), x.astype(dtype)


@pytest.mark.parametrize("kind", ["plain", "far", "cluster"])
@pytest.mark.parametrize("n", [2, 37, BLOCK + 452])
def test_neighbours_are_those_of_all_distances(n, kind, x64):
    dtype = np.float64 if x64 else np.float32
    data, x = points(n, kind, dtype)
    found = two_nearest(data, n, x)
    assert found.distance.dtype == dtype
    rows, distance = np.asarray(found.row), np.asarray(found.distance, float)
    every = brute_force(data, x)
    assert np.all(rows[:, 0] != rows[:, 1])
    # Each difference is rounded once and the sum of 5 squares 5 times: below 8 roundings in all.
    epsilon = np.finfo(dtype).eps
    chosen = np.take_along_axis(every, rows, axis=1)
    np.testing.assert_allclose(distance, chosen, rtol=8 * epsilon)
    assert np.all(distance[:, 0] <= distance[:, 1])
    # None farther than eq. (2) of the module allows; norms about the mean of training points.
    centre = data.mean(axis=0, dtype=float)
    norms = ((x - centre) ** 2).sum(axis=1) + ((data - centre) ** 2).sum(axis=1).max()
    excess = np.sort(chosen, axis=1) ** 2 - np.sort(every, axis=1)[:, :2] ** 2
    assert np.all(excess <= 4 * epsilon * norms[:, None])
    if kind == "far":
        np.testing.assert_array_equal(distance[::4, 0], 0)  # copies
        # Negative control: the expanded square of nearly equal points is off by the rounding of 5e6.
        near, copied = x[1::4], data[rows[1::4, 0]]
        expanded = np.sum(near**2, axis=1) - 2 * np.sum(near * copied, axis=1) + np.sum(copied**2, axis=1)
        assert np.abs(expanded / chosen[1::4, 0] ** 2 - 1).max() > 1e4 * epsilon
    if kind == "plain":
        # Negative control: a search over half of the points misses by far more.
        assert n == 2 or np.any(np.sort(every[:, : n // 2], axis=1)[:, 0] ** 2 - distance[:, 0] ** 2 > 0.01 * norms)


def test_rows_beyond_the_count_are_not_read(x64):
    data, x = points(BLOCK + 452, "plain", np.float64 if x64 else np.float32)
    data[1000:] = np.nan
    data[1001] = x[0]
    found = two_nearest(data, 1000, x)
    np.testing.assert_array_equal(found.row, np.argsort(brute_force(data[:1000], x), axis=1)[:, :2])


def test_equal_points_are_two_neighbours():
    data, x = points(37, "plain", np.float32)
    data[20] = data[3]
    found = two_nearest(data, 37, np.concatenate([data[3:4], x[1:]]))
    assert set(np.asarray(found.row[0]).tolist()) == {3, 20}
    np.testing.assert_array_equal(found.distance[0], 0)


def test_memory_does_not_depend_on_the_number_of_training_points():
    def temporary(n):
        shape = jax.ShapeDtypeStruct
        arguments = shape((n, 16), jnp.float32), shape((), jnp.int32), shape((QUERIES, 16), jnp.float32)
        return two_nearest.lower(*arguments).compile().memory_analysis().temp_size_in_bytes

    small, large = temporary(5_000), temporary(500_000)
    assert large == small
    assert large < 16e6 < 4 * QUERIES * 500_000  # bytes; the last is one (B, N) array


@pytest.mark.parametrize(("n", "k"), [(37, 37), (BLOCK + 452, 100), (BLOCK + 452, BLOCK + 52)])
def test_many_neighbours_are_those_of_all_distances(n, k, x64):
    dtype = np.float64 if x64 else np.float32
    data, x = points(n, "plain", dtype)
    x = x[:20] if k > BLOCK else x
    found = nearest(data, n, x, k)
    every = brute_force(data, x)
    # Distinct distances are farther apart than float32 rounds, except for a few pairs: distances, not rows.
    np.testing.assert_allclose(found.distance, np.sort(every, axis=1)[:, :k], rtol=1e-5)
    rows = np.asarray(found.row)
    assert all(len(set(row)) == k for row in rows.tolist())
    np.testing.assert_allclose(np.take_along_axis(every, rows, axis=1), found.distance, rtol=8 * np.finfo(dtype).eps)
