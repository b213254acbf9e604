"""Averages over training sets and points: two routes to one number, their draws, single points answered one by one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import theory
from theory import mean_finite_size
from theory._lattice import chi_squared_quantiles, latin_hypercubes
from theory._mellin import Point

# Two routes to the average over noised training points: held-out points with weighted training sets at the nominal
# noise, and drawn training points at any other.  Columns: size; rows: noise.
ROUTES = np.array([[10.0, 1e3], [10.0, 1e3], [10.0, 1e3]]), np.array([[0.1], [0.3], [1.0]])
ROUTE_VARIANCES = np.array([1.0, 1.0, 1.0, 0.1, 0.1, 0.0])


def normal_limit(comparisons: int, degrees: int = 7) -> float:
    """Two-sided: correct code fails somewhere with probability 1e-3; errors are estimated from eight blocks."""
    return float(stats.t.isf(1e-3 / (2 * comparisons), degrees))


def route(probe: float) -> tuple[np.ndarray, np.ndarray]:
    found = theory.mean_finite_size_gain(ROUTE_VARIANCES, *ROUTES, "train", probe=probe)
    return np.asarray(found.mean)[..., [0, 3]], np.asarray(found.error)[..., [0, 3]]


@pytest.mark.slow  # drawn training points take ten times the work of weighted training sets
def test_drawn_training_points_and_weighted_training_sets_agree() -> None:
    nominal, error = route(1.0)
    assert nominal.shape == (3, 2, 2)
    drawn, drawn_error = route(1 + 1e-5)
    limit = normal_limit(nominal.size)
    z = (nominal - drawn) / np.hypot(error, drawn_error)
    assert np.all(np.abs(z) < limit)
    assert np.all(error < 0.02 * nominal)
    # Errors are not overstated either, and another noise is noticed.
    assert np.sqrt(np.mean(z**2)) > 0.2
    other, other_error = route(1.2)
    assert np.max(np.abs(other - nominal) / np.hypot(error, other_error)) > limit


def test_weights_of_stretched_radii() -> None:
    """An expectation in closed form: of exp(-chi^2/2) in all, each factor (1 + 1)^(-m/2)."""
    v, m, t = jnp.array([1.0, 0.3, 0.1]), jnp.array([4.0, 4.0, 4.0]), jnp.array(0.01)
    point = Point(v, m, m * (v + t), t, jnp.log(10.0), jnp.array(-jnp.inf), jnp.array(1.0))
    chi = chi_squared_quantiles(latin_hypercubes(8, 64, 3), np.array([4, 4, 4]))
    draw = jax.jit(mean_finite_size._stretched, static_argnums=1)(point, 1, jnp.asarray(chi, jnp.float32))
    assert np.all(np.asarray(draw.radius) < 0.8 * np.asarray((v + t) * chi))  # stretched by 0.5 to 0.6
    blocks = np.mean(draw.weight * np.exp(-0.5 * np.sum(draw.radius / (v + t), axis=-1)), axis=1)
    error = blocks.std(ddof=1) / np.sqrt(8)
    assert error < 0.02 * 2.0**-6
    assert abs(blocks.mean() - 2.0**-6) < normal_limit(1) * error + 1e-5 * 2.0**-6


@pytest.mark.slow
@pytest.mark.parametrize("point", ["held_out", "train"])
@pytest.mark.parametrize(
    ("v", "n", "t"),
    [((1.0,), 50, 0.1), ((1.0, 1.0, 1.0, 0.1, 0.1), 50, 0.3), (tuple(1 / np.arange(1.0, 21)), 1000, 0.3)],
)
def test_average_of_answers_at_drawn_points(v: tuple[float, ...], n: int, t: float, point: str) -> None:
    rng, train = np.random.default_rng(5), point == "train"
    y = rng.standard_normal((1500, len(v))) * np.sqrt(v)
    x = (y + np.sqrt(t) * rng.standard_normal(y.shape)).astype(np.float32)

    @jax.jit
    def answers(x: jax.Array, y: jax.Array) -> Any:
        def at(pair: tuple[jax.Array, jax.Array]) -> Any:
            planted = pair[1] if train else None
            gain = theory.finite_size_gain(v, n, t, pair[0], training_point=planted).mean
            return gain, theory.finite_size_participation(v, n, t, pair[0], training_point=planted).mean

        return jax.lax.map(at, (x, y))

    gains, shares = map(np.asarray, answers(x, y.astype(np.float32)))
    for drawn, average in [
        (gains[:, [0, -1]], [part[np.array([0, -1])] for part in theory.mean_finite_size_gain(v, n, t, point)]),
        (shares[:, None], theory.mean_finite_size_participation(v, n, t, point)),
    ]:
        mean, error = map(np.asarray, average)
        combined = np.hypot(error, drawn.std(axis=0) / np.sqrt(len(drawn)))
        assert np.all(np.abs(drawn.mean(axis=0) - mean) < normal_limit(18) * combined)


def test_points_of_averages() -> None:
    """Every block and their union have one value in each part; quantiles are those of scipy."""
    points = latin_hypercubes(8, 12, 40)
    assert points.shape == (8, 12, 40)
    parts = np.sort(np.floor(points * 12), axis=1)
    np.testing.assert_array_equal(parts, np.broadcast_to(np.arange(12)[:, None], parts.shape))
    union = np.sort(np.floor(points.reshape(96, 40) * 96), axis=0)
    np.testing.assert_array_equal(union, np.broadcast_to(np.arange(96)[:, None], union.shape))
    # The first coordinates hardly correlate: independent orders would by 0.3.
    first = [np.corrcoef(block[:, :5].T)[np.triu_indices(5, 1)] for block in points]
    assert np.sqrt(np.mean(np.square(first))) < 0.15
    levels, degrees = np.array([[1e-3], [0.03], [0.3], [0.9], [1 - 1e-6]]), np.array([1, 2, 3, 20, 1000, 0])
    found = chi_squared_quantiles(np.broadcast_to(levels, (5, 6)), degrees)
    np.testing.assert_allclose(found[:, :5], stats.chi2.ppf(levels, degrees[:5]), rtol=1e-5)
    assert not found[:, 5].any()


def test_null_directions_cost_and_change_nothing() -> None:
    with_null = theory.mean_finite_size_gain([1.0, 0.0, 0.5, 0.0], 20, 0.2, "train")
    without = theory.mean_finite_size_gain([1.0, 0.5], 20, 0.2, "train")
    for some, all_ in zip(without, with_null, strict=True):
        np.testing.assert_array_equal(np.asarray(all_)[[0, 2]], some)
        assert not np.asarray(all_)[[1, 3]].any()


@pytest.mark.slow
def test_without_variance_nothing_moves() -> None:
    assert not np.asarray(theory.mean_finite_size_gain([0.0, 0.0], 20, 0.2).mean).any()


def message(error: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("function", [theory.mean_finite_size_gain, theory.mean_finite_size_participation])
def test_means_are_refused(function: Callable[..., Any]) -> None:
    assert message(TypeError, lambda: function([1.0], 5)) == "give the noise variance t"
    assert message(ValueError, lambda: function([1.0], 5, 0.1, "origin")) == (
        "point must be 'held_out' or 'train', got 'origin'"
    )
    assert "probe must be finite and > 0" in message(ValueError, lambda: function([1.0], 5, 0.1, "train", probe=0.0))
