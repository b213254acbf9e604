"""The Jacobian of the empirical rung in the span of the training points, against the posterior covariance in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import theory
from geomem_jax.denoisers import empirical_jacobian
from geomem_jax.errors import InputError

LADDER = np.repeat([1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32], 2)
RANK, D = len(LADDER), 30
EPSILON = np.finfo(np.float32).eps


def covariances(data: np.ndarray, x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
    """Jacobians and weights at single points, in float64 and about the posterior mean."""
    data, found, every = np.asarray(data, np.float64), [], []
    for point in np.asarray(x, np.float64):
        energy = ((data - point) ** 2).sum(axis=1) / (2 * t)
        weights = np.exp(energy.min() - energy)
        weights /= weights.sum()
        deviations = data - weights @ data
        found.append(deviations.T @ (weights[:, None] * deviations) / t)
        every.append(weights)
    return np.array(found), np.array(every)


def points(n: int, t: float, queries: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Points in a subspace that contains no axis, with a mean outside of it, and noised ones, half of them held out."""
    rng = np.random.default_rng(n)
    subspace = np.linalg.qr(rng.normal(size=(D, D)))[0][:, :RANK]
    clean = (rng.normal(size=(n + queries // 2, RANK)) * np.sqrt(LADDER)) @ subspace.T + 1
    x = np.concatenate([clean[: queries // 2], clean[n:]]) + np.sqrt(t) * rng.normal(size=(queries, D))
    return clean[:n], x


def in_full(model: empirical_jacobian.Model, matrix: jax.Array) -> np.ndarray:
    basis = np.asarray(model.basis, np.float64)
    return basis @ np.asarray(matrix, np.float64) @ basis.T


@pytest.mark.parametrize("size", [1, 31, 2500])
def test_equals_the_covariance_in_float64(size: int) -> None:
    data, x = points(2500, 0.3)
    with jax.enable_x64(True):
        model = empirical_jacobian.fit(data)._replace(size=size)
        found = in_full(model, empirical_jacobian.jacobian(model, jnp.asarray(x, jnp.float64), 0.3, 16))
        basis = np.linalg.qr(np.random.default_rng(0).normal(size=(D, 3)))[0]
        along = empirical_jacobian.gains(model, jnp.asarray(x, jnp.float64), 0.3, jnp.asarray(basis))
        mean = model(jnp.asarray(x[0], jnp.float64), 0.3)
    expected, weights = covariances(data[:size], x, 0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)  # sums of n terms
    np.testing.assert_allclose(along, np.einsum("ik,bij,jk->bk", basis, expected, basis), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(mean, weights[0] @ data[:size], rtol=1e-9)


def error_constant(found: np.ndarray, expected: np.ndarray, data: np.ndarray, x: np.ndarray, t: float) -> float:
    """Smallest C of the bound (2) of the empirical rung, with the root of the product of two gains for a gain."""
    centre = data.mean(axis=0)
    size = ((x - centre) ** 2).sum(axis=1) + ((data - centre) ** 2).sum(axis=1).max()
    gains = np.sqrt(np.maximum(np.einsum("bii->bi", expected), 1e-30))
    scale = EPSILON * size[:, None, None] / t * gains[:, :, None] * gains[:, None, :]
    return float(np.max((np.abs(found - expected) - 1e-4) / scale))


@pytest.mark.parametrize("factor", [2, 0.3, 0.03])
@pytest.mark.parametrize("n", [50, 3000])
def test_single_precision_is_within_the_bound(n: int, factor: float) -> None:
    t = factor * float(theory.condensation_time(LADDER, n))
    data, x = (part.astype(np.float32) for part in points(n, t))
    model = empirical_jacobian.fit(data)
    assert model.coordinates.shape == (n, RANK)
    expected, _ = covariances(data, x, t)
    found = in_full(model, empirical_jacobian.jacobian(model, jnp.asarray(x), t))
    assert expected.max() > 0.2
    assert error_constant(found, expected, data, x, t) <= 4
    # What is a percent off is noticed.
    assert error_constant(1.01 * found, expected, data, x, t) > 4


@pytest.mark.parametrize("size", [5, 3000])
def test_the_nearest_points(size: int) -> None:
    t, k = 0.06, 8
    data, x = (part.astype(np.float32) for part in points(3000, t))
    model = empirical_jacobian.fit(data)._replace(size=size)
    found = empirical_jacobian.nearest(model, jnp.asarray(x), t, k)
    expected, weights = covariances(data[:size], x, t)
    order = np.argsort(-weights, axis=1)[:, :k]
    kept = np.take_along_axis(weights, order, axis=1)
    np.testing.assert_allclose(found.weight[:, : min(k, size)], kept / kept.sum(axis=1, keepdims=True), atol=1e-4)
    left_out = np.array([np.sort(row)[: max(size - k, 0)].sum() for row in weights])  # smallest first: no cancellation
    np.testing.assert_allclose(found.left_out, left_out, rtol=1e-3, atol=1e-30)
    for row in range(len(x)):
        chosen, _ = covariances(data[order[row]], x[row : row + 1], t)
        np.testing.assert_allclose(found.gain[row], np.linalg.eigvalsh(chosen[0])[::-1][:k], rtol=1e-3, atol=1e-4)
        lacking = np.linalg.norm(expected[row] - chosen[0], 2)
        assert lacking <= found.error[row] * (1 + 1e-4) + 1e-12
    if size == 3000:
        assert (left_out > 0.1).any()
        assert (left_out < 1e-6).any()
        # As an estimate of what is lacking the bound is no more than some orders of magnitude off where much is.
        assert found.error[np.argmax(left_out)] < 1e3


def test_the_certificate_needs_the_distance() -> None:
    """Far points count more than near ones: weight left out alone is no bound."""
    data = np.concatenate([np.zeros((4, 3)), np.full((1, 3), 3.0)]).astype(np.float32)
    x = np.zeros((1, 3), np.float32)
    found = empirical_jacobian.nearest(empirical_jacobian.fit(data), jnp.asarray(x), 3.0, 4)
    lacking = np.linalg.norm(covariances(data, x, 3.0)[0][0], 2)
    assert 2 * found.left_out[0] < lacking <= found.error[0]


def test_spans() -> None:
    rng = np.random.default_rng(0)
    few = empirical_jacobian.fit(rng.normal(size=(4, 9)))
    assert few.coordinates.shape == (4, 3)  # less one for the mean
    same = empirical_jacobian.fit(np.ones((5, 3)))
    assert same.coordinates.shape == (5, 1)
    np.testing.assert_allclose(empirical_jacobian.jacobian(same, jnp.ones((2, 3)), 0.1), 0, atol=1e-12)
    whole = empirical_jacobian.fit(rng.integers(0, 255, (50, 3), dtype=np.uint8))
    assert whole.coordinates.shape == (50, 3)
    assert whole.coordinates.dtype == np.float32
    # Rounding of a large mean is no direction, and a direction just above it is one.
    for factor, rank in ((0.1, 1), (10, 2)):
        spread = rng.normal(size=(200, 2)) * [1, factor * EPSILON * 100]
        data = (spread + np.array([100, 0])).astype(np.float32)
        assert empirical_jacobian.fit(data).basis.shape == (2, rank)


@pytest.mark.parametrize(
    ("data", "size", "message"),
    [
        (np.zeros(3), None, r"data must be points in rows, \(N, d\), got shape \(3,\)"),
        (np.zeros((0, 3)), None, r"got shape \(0, 3\)"),
        (np.array([[0.0], [np.nan]]), None, "data: row 1 is not finite"),
        (np.zeros((2, 3)), 3, "size must be from 1 to the 2 points of data, got size = 3"),
        (np.zeros((2, 3)), 0, "got size = 0"),
    ],
)
def test_data_that_cannot_be_used(data: np.ndarray, size: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        empirical_jacobian.fit(data, size)
    assert "\n" not in str(caught.value)
