"""Exact averages of finite training sets: quadrature over the training points, limits, errors, transformations.

Spectra are traced and padded with zero variances to one width, so that everything here is four compiled programs in
each precision; what is asserted of a call with concrete arguments says so.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import theory
from theory import finite_size
from theory._mellin import Point

WIDTH = 3
ROWS = 16  # cases of one program


# --- Brute force: sums over grids of training points. ---


class Case(NamedTuple):
    variances: tuple[float, ...]
    n: float
    t: float
    x: tuple[float, ...]
    planted: tuple[float, ...] | None = None


class Grid(NamedTuple):
    """Points ``(k, d)`` with probabilities ``(k,)``: equally spaced, so that sums converge faster than any power."""

    y: np.ndarray
    weight: np.ndarray


def grid(variances: tuple[float, ...], points: int) -> Grid:
    """Equally spaced points up to 7 standard deviations: the tail left out is 3e-12."""
    line = np.linspace(-7, 7, points)
    mass = np.exp(-(line**2) / 2)
    mass /= mass.sum()
    mesh = np.meshgrid(*[line * np.sqrt(v) for v in variances], indexing="ij")
    weight = np.ones(1)
    for _ in variances:
        weight = np.multiply.outer(weight, mass)
    return Grid(np.stack([m.ravel() for m in mesh], axis=-1), weight.ravel())


def energy(y: np.ndarray, case: Case) -> np.ndarray:
    return np.sum((y - np.array(case.x)) ** 2, axis=-1) / (2 * case.t)


def summed(case: Case, points: int) -> tuple[np.ndarray, float]:
    """Gains and participation, summed over all training sets on a grid: nothing is derived."""
    y, weight = grid(case.variances, points)
    free = int(case.n) - (case.planted is not None)
    boltzmann = np.exp(-energy(y, case))
    planted = np.array([case.planted] if case.planted is not None else np.zeros((0, len(case.x))))
    own = np.exp(-energy(planted, case))

    def spread(k: int, values: np.ndarray) -> np.ndarray:  # values of training point k on the axis k of the product
        return values.reshape([-1 if axis == k else 1 for axis in range(free)])

    total = sum((spread(k, boltzmann) for k in range(free)), start=own.sum())
    squares = sum((spread(k, boltzmann**2) for k in range(free)), start=(own**2).sum())
    probability = np.ones(())
    for k in range(free):
        probability = probability * spread(k, weight)
    gains = []
    for i in range(len(case.x)):
        first = sum((spread(k, boltzmann * y[:, i]) for k in range(free)), start=(own * planted[:, i]).sum())
        second = sum((spread(k, boltzmann * y[:, i] ** 2) for k in range(free)), start=(own * planted[:, i] ** 2).sum())
        gains.append(np.sum(probability * (second / total - (first / total) ** 2)) / case.t)
    return np.array(gains), float(np.sum(probability * squares / total**2))


def integrated(case: Case, points: int) -> tuple[np.ndarray, float]:
    """Equations (1) and (2) as printed, the averages over one point summed over a grid."""
    y, weight = grid(case.variances, points)
    e, own_e = energy(y, case), np.inf if case.planted is None else energy(np.array(case.planted), case)
    y0, n, step = np.array(case.planted or case.x), case.n, 0.2
    log_s = np.arange(-np.log(n) - 25, e.max() + 10, step)  # s Z is negligible below, phi and A_0 above
    gains, participation = np.zeros(len(case.x)), 0.0
    for part in np.array_split(log_s, -(-log_s.size // 40)):
        a = np.exp(np.minimum(part[:, None] - e, 300))
        falling = np.exp(-a)
        once = a * falling
        a0, b = once @ weight, (a * once) @ weight
        a1, a2 = once @ (weight[:, None] * y), once @ (weight[:, None] * y**2)
        phi = falling @ weight
        lost = np.where(phi > 0.5, -np.expm1(-a) @ weight, 0)
        log_phi = np.where(phi > 0.5, np.log1p(-lost), np.log(np.maximum(phi, 1e-300)))
        own = np.exp(np.minimum(part - own_e, 300))

        def others(count: float, log_phi: np.ndarray = log_phi, own: np.ndarray = own) -> np.ndarray:
            return np.exp(count * log_phi - own)

        pairs, free = a2 * a0[:, None] - a1**2, n - (case.planted is not None)
        random = free * (free - 1) * pairs * others(free - 2)[:, None]
        with_own = free * own[:, None] * (a2 - 2 * y0 * a1 + y0**2 * a0[:, None]) * others(free - 1)[:, None]
        more = (random + with_own).sum(axis=0)
        gains += more
        participation += np.sum(free * b * others(free - 1) + own**2 * others(free))
        if np.all(more < 1e-18 * gains):
            break
    return gains * step / case.t, float(participation * step)


# Grid points: a fifth more change nothing at 1e-8 (checked below).
SUMMED = [
    (Case((1.0,), 2, 0.3, (0.4,)), 400),
    (Case((1.0,), 2, 20.0, (1.0,)), 100),
    (Case((1.0,), 3, 0.5, (0.4,)), 80),
    (Case((2.0, 0.5), 2, 1.5, (0.4, -1.0)), 52),
    (Case((1.0,), 2, 0.1, (0.4,), (0.6,)), 1000),
    (Case((1.0,), 3, 0.3, (0.4,), (-0.5,)), 400),
    (Case((1.0,), 4, 0.5, (0.4,), (0.9,)), 80),
    (Case((2.0, 0.5), 2, 0.5, (0.4, -1.0), (0.0, -0.7)), 200),
    (Case((2.0, 0.5), 3, 1.5, (0.4, -1.0), (0.0, -0.7)), 48),
]
INTEGRATED = [
    (Case((1.0,), 2, 0.05, (0.4,)), 2000),
    (Case((1.0,), 3, 0.05, (1.4,)), 2000),
    (Case((1.0,), 5, 0.05, (0.0,)), 2000),
    (Case((1.0,), 5, 2.0, (-3.0,)), 300),
    (Case((1.0,), 60, 0.02, (1.0,)), 3000),
    (Case((1.0,), 1e3, 0.02, (2.5,)), 3000),
    (Case((1.0,), 1e6, 0.1, (5.0,)), 2000),
    (Case((2.0, 0.5), 5, 1.0, (0.4, -1.0)), 90),
    (Case((2.0, 0.5), 300, 1.0, (2.4, 1.0)), 90),
    (Case((1.0,), 5, 0.05, (0.4,), (0.5,)), 2000),
    (Case((1.0,), 60, 0.02, (1.0,), (1.2,)), 3000),
    (Case((1.0,), 1e3, 0.02, (2.5,), (2.2,)), 3000),
    (Case((2.0, 0.5), 5, 1.0, (0.4, -1.0), (1.0, -1.0)), 90),
]
CASES = [*SUMMED, *INTEGRATED]


@cache
def brute_force() -> tuple[np.ndarray, np.ndarray]:
    """Gains ``(case, WIDTH)`` and participation ``(case,)``."""
    found = [*(summed(*row) for row in SUMMED), *(integrated(*row) for row in INTEGRATED)]
    return np.stack([padded(gains) for gains, _ in found]), np.array([y for _, y in found])


def padded(values: Any) -> np.ndarray:
    return np.pad(np.asarray(values, float), (0, WIDTH - len(values)))


# --- The functions under test, every case in one call. ---


@partial(jax.jit, static_argnames=("name", "planted"))
def traced(name: str, planted: bool, *arguments: jax.Array) -> Any:
    function = {"gain": theory.finite_size_gain, "participation": theory.finite_size_participation}[name]

    def one(v: jax.Array, log_n: jax.Array, t: jax.Array, x: jax.Array, y0: jax.Array) -> Any:
        return function(v, t=t, x=x, log_n=log_n, training_point=y0 if planted else None)

    return jax.vmap(one)(*arguments)


class Found(NamedTuple):
    mean: np.ndarray
    error: np.ndarray


def arguments_of(cases: list[Case], dtype: Any) -> list[np.ndarray]:
    """Spectra padded to WIDTH, cases to ROWS."""
    rows = cases + [cases[0]] * (ROWS - len(cases))
    columns = [
        [padded(c.variances) for c in rows],
        [np.log(c.n) for c in rows],
        [c.t for c in rows],
        [padded(c.x) for c in rows],
        [padded(c.planted or c.x) for c in rows],
    ]
    return [np.array(column, dtype) for column in columns]


def evaluate(name: str, cases: list[Case], dtype: Any = np.float64) -> Found:
    """The exact average of every case."""
    mean = np.full((len(cases), WIDTH) if name == "gain" else len(cases), np.nan)
    error = mean.copy()
    for planted in (False, True):
        members = [k for k, case in enumerate(cases) if (case.planted is not None) == planted]
        for start in range(0, len(members), ROWS):
            rows = members[start : start + ROWS]
            with jax.enable_x64(dtype == np.float64):
                found = traced(name, planted, *arguments_of([cases[k] for k in rows], dtype))
            assert found.mean.dtype == found.error.dtype == dtype
            mean[rows], error[rows] = found.mean[: len(rows)], found.error[: len(rows)]
    return Found(mean, error)


def elsewhere(case: Case) -> Case:
    """The same with one more point, planted out of reach."""
    return case if case.planted is not None else case._replace(n=case.n + 1, planted=(1e3,) * len(case.x))


@pytest.mark.slow
def test_the_brute_force_has_converged() -> None:
    """A grid coarser by a sixth: the references move by 1e-8 of themselves."""
    for method, rows in [(summed, SUMMED), (integrated, INTEGRATED)]:
        for case, points in rows:
            finer, coarser = method(case, points), method(case, int(points / 1.2))
            np.testing.assert_allclose(coarser[0], finer[0], rtol=1e-8)
            np.testing.assert_allclose(coarser[1], finer[1], rtol=1e-8)


def test_printed_equations_are_the_sum_over_training_sets() -> None:
    for case, points in SUMMED:
        gains, participation = integrated(case, 90 if len(case.x) == 2 else 1000)
        expected = summed(case, points)
        np.testing.assert_allclose(gains, expected[0], rtol=1e-8)
        np.testing.assert_allclose(participation, expected[1], rtol=1e-8)


@pytest.mark.parametrize("name", ["gain", "participation"])
def test_brute_force(name: str) -> None:
    cases = [case for case, _ in CASES]
    expected = brute_force()[name == "participation"]
    found = evaluate(name, cases)
    rounding = 1e-8 * expected + 1e-300  # of the reference
    np.testing.assert_array_less(np.abs(found.mean - expected), found.error + rounding)
    np.testing.assert_allclose(found.mean, expected, rtol=1e-5 if name == "gain" else 5e-4)
    assert np.all(found.error <= 1e-2 * expected)  # a bound, and a useful one
    assert np.median(found.error[expected > 0] / expected[expected > 0]) < 1e-4


def test_single_precision() -> None:
    cases = [case for case, _ in CASES]
    expected, _ = brute_force()
    found = evaluate("gain", [elsewhere(case) for case in cases], np.float32)
    np.testing.assert_array_less(np.abs(found.mean - expected), found.error + 1e-8 * expected + 1e-30)
    np.testing.assert_allclose(found.mean, expected, rtol=1e-3)


# --- Limits. ---

V = (2.0, 0.5, 0.0)
X = (0.4, -1.0, 0.3)


def test_infinite_data() -> None:
    """Far above condensation the gain is that of infinite data and the participation the annealed one, at 1/N."""
    cases = [Case(V, n, t, X) for n in (1e6, 1e9, 1e12) for t in (0.3, 1.0, 30.0)]
    t = np.array([case.t for case in cases])[:, None]
    n, v, x = np.array([case.n for case in cases]), np.array(V), np.array(X)
    gains, participation = evaluate("gain", cases), evaluate("participation", cases)
    np.testing.assert_allclose(gains.mean, v / (v + t), rtol=1e-4, atol=1e-300)
    assert np.all(np.abs(gains.mean - v / (v + t)) <= gains.error + (v > 0) * 100 / n[:, None])

    def log_mass(m: int) -> np.ndarray:  # log E exp(-m E)
        return -0.5 * np.sum(np.log1p(m * v / t) + m * x**2 / (t + m * v), axis=-1)

    annealed = np.exp(log_mass(2) - 2 * log_mass(1)) / n
    np.testing.assert_allclose(participation.mean, annealed, rtol=1e-4)
    assert np.all(np.abs(participation.mean / annealed - 1) < 1e-6 + 100 / n)


def test_a_planted_point_is_forgotten_in_infinite_data() -> None:
    case = Case(V, 1e12, 1.0, X, (0.5, -1.2, 0.3))
    np.testing.assert_allclose(evaluate("gain", [case]).mean[0], np.array(V) / (np.array(V) + 1), rtol=1e-6)


def test_noise_above_everything() -> None:
    """Equal weights: the sample variance over t, (1 - 1/N) v/t, and 1/N."""
    cases = [Case(V, n, 1e6, X) for n in (2, 3, 10)] + [Case(V, n, 1e6, X, X) for n in (2, 3, 10)]
    n = np.array([2.0, 3, 10])
    gains = 1e6 * evaluate("gain", cases).mean / np.where(np.array(V) > 0, V, 1)
    np.testing.assert_allclose(gains[:3, :2], np.tile(1 - 1 / n[:, None], 2), rtol=1e-4)
    # sum w (y - mean)^2 with one point at x: (N-1)/N v - (N-1)/N^2 (v - x^2)
    planted = (1 - 1 / n)[:, None] * (1 - (1 - np.array(X)[:2] ** 2 / np.array(V)[:2]) / n[:, None])
    np.testing.assert_allclose(gains[3:, :2], planted, rtol=1e-4)
    np.testing.assert_allclose(evaluate("participation", cases).mean, np.tile(1 / n, 2), rtol=1e-4)


def test_one_point_and_no_variance() -> None:
    one = [Case(V, 1, t, X, planted) for t in (1e-3, 1.0, 1e3) for planted in (None, X)]
    for found in (evaluate("gain", one), evaluate("participation", one)):
        assert not found.error.any()
        assert np.all(found.mean == (1 if found.mean.ndim == 1 else 0))
    many = [Case((0.0, 0.0, 1.0), n, t, X, planted) for n in (2, 1e6) for t in (1e-2, 1.0) for planted in (None, X)]
    found = evaluate("gain", many)
    assert not found.mean[:, :2].any()
    assert not found.error[:, :2].any()
    assert np.all(found.mean[:, 2] > 0)


@pytest.mark.parametrize("name", ["gain", "participation"])
def test_distance_from_the_support_is_of_no_account(name: str) -> None:
    """All energies grow alike along a direction without variance: by up to 1e4 nats here."""
    cases = [case for case, _ in CASES if len(case.x) == 1]

    def away(case: Case, distance: float) -> Case:
        planted = None if case.planted is None else (*case.planted, 0.0)
        return case._replace(variances=(1.0, 0.0), x=(*case.x, distance), planted=planted)

    expected = evaluate(name, cases).mean
    for distance in (0.3, 3.0, 20.0):
        found = evaluate(name, [away(case, distance) for case in cases])
        np.testing.assert_allclose(found.mean, expected, rtol=1e-9)


def test_sizes_beyond_every_float() -> None:
    """log N = 1e3: infinite data at t = 1; at small t the plain density of points, as at N^2 times smaller t."""
    with jax.enable_x64(True):
        arguments = arguments_of([Case(V, 1, 1.0, X)] * ROWS, np.float64)
        arguments[1][:] = 1e3
        found = traced("gain", False, *arguments)
        participation = traced("participation", False, *arguments)
    np.testing.assert_allclose(found.mean[0], np.array(V) / (np.array(V) + 1), rtol=1e-6)
    assert np.all(np.asarray(participation.mean) < 1e-300)


def test_twelve_decades() -> None:
    """Directions far below the noise do not move the weights: their gain is v/t times 1 - Y."""
    cases = [Case((1e6, 1.0, 1e-6), n, t, (3e2, 0.4, 1e-3)) for n in (2, 50, 1e4, 1e9) for t in (1e-2, 1.0)]
    gains, participation = evaluate("gain", cases), evaluate("participation", cases)
    t = np.array([case.t for case in cases])
    assert np.all(gains.error <= 5e-2 * gains.mean)
    # A relative v/t = 1e-4 for the moved weights, and what is stated.
    expected, error = 1e-6 / t * (1 - participation.mean), 1e-6 / t * participation.error
    np.testing.assert_array_less(np.abs(gains.mean[:, 2] - expected), gains.error[:, 2] + error + 3e-4 * expected)


# --- Symmetries and transformations. ---


def test_units_and_order() -> None:
    cases = [case for case, _ in CASES if len(case.x) == 2]
    found = evaluate("gain", cases)

    def scaled(values: tuple[float, ...] | None, factor: float) -> Any:
        return None if values is None else tuple(factor * v for v in values)

    small = [
        Case(scaled(c.variances, 1e-6), c.n, 1e-6 * c.t, scaled(c.x, 1e-3), scaled(c.planted, 1e-3)) for c in cases
    ]
    np.testing.assert_allclose(evaluate("gain", small).mean, found.mean, rtol=1e-9)
    swapped = [Case(c.variances[::-1], c.n, c.t, c.x[::-1], c.planted and c.planted[::-1]) for c in cases]
    np.testing.assert_allclose(evaluate("gain", swapped).mean[:, :2], found.mean[:, 1::-1], rtol=1e-9)


def test_equal_variances_are_grouped_without_a_difference() -> None:
    """And jit and vmap make none: one call of concrete arguments against traced ones, for two sizes and noises."""
    v, x, n, t = (0.5, 2.0, 0.5), (0.4, 1.5, -0.7), np.array([[3.0], [1e3]]), np.array([1.0, 0.1])
    expected = evaluate("gain", [Case(v, *map(float, pair), x) for pair in np.broadcast(n, t)])
    with jax.enable_x64(True):
        found = theory.finite_size_gain(v, n, t, x)
    assert found.mean.shape == found.error.shape == (2, 2, 3)
    np.testing.assert_allclose(found.mean.reshape(4, 3), expected.mean, rtol=1e-9)


def test_derivatives() -> None:
    """Of a sum of gains by every argument against central differences."""
    arguments = [a[:1] for a in arguments_of([Case((2.0, 0.5, 0.1), 30, 0.2, (0.4, -1.0, 0.3))], np.float64)][:4]

    def total(v: jax.Array, log_n: jax.Array, t: jax.Array, x: jax.Array) -> jax.Array:
        found = jax.vmap(lambda v, s, t, x: theory.finite_size_gain(v, t=t, x=x, log_n=s).mean)(v, log_n, t, x)
        return jnp.sum(found * jnp.array([1.0, 2.0, 5.0]))

    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2, 3)))(*arguments)
        moved = []
        for k in range(4):
            for i in range(arguments[k].size):
                for sign in (1, -1):
                    other = [a.copy() for a in arguments]
                    other[k].flat[i] += sign * 1e-4
                    moved.append(
                        Case(tuple(other[0][0]), 1, float(other[2][0]), tuple(other[3][0]))._replace(
                            n=float(np.exp(other[1][0]))
                        )
                    )
        gains = evaluate("gain", moved).mean @ np.array([1.0, 2.0, 5.0])
    numerical = (gains[::2] - gains[1::2]) / 2e-4
    # The nodes do not move with the arguments in the gradient, but do in the difference: their error, 1e-7, over 1e-4.
    np.testing.assert_allclose(np.concatenate([np.ravel(g) for g in gradient]), numerical, rtol=2e-3, atol=1e-3)


# --- Many directions: the leading-order law, and the next order. ---

LADDER, NATS_PER_DIRECTION = np.array([1.0, 0.09]), 0.1


def multiplicities(d: int) -> np.ndarray:
    return np.array([d / 4, 3 * d / 4])


def kappa(d: int, t: float, next_order: bool) -> float:
    """Root of the law of `theory.effective_noise`, eq. (3), or of (F14) in its derivations, bisected."""
    m = multiplicities(d)

    def surplus(k: float) -> float:
        c, q = t / k, 1 / (t + t / k * LADDER)
        nats = np.sum(m * (np.log1p(LADDER / k) - LADDER * (k - t) / (k + LADDER) ** 2)) / 2
        energies = np.sum(m * ((LADDER * q) ** 2 / 2 + t * LADDER * (LADDER + t) * q**3))
        return nats - NATS_PER_DIRECTION * d + next_order * np.log(c * np.sqrt(2 * np.pi * energies))

    low, high = np.log(t), np.log(10 * t)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if surplus(np.exp(middle)) > 0 else (low, middle)
    return float(np.exp(low))


def at_typical_points(dimensions: list[int], t: float) -> np.ndarray:
    """Gains of both groups and participation where every x_i^2 has its mean, shape (dimension, 3)."""

    def one(m: jax.Array, log_n: jax.Array) -> jax.Array:
        squares = jnp.asarray(LADDER + t)
        point = Point(jnp.asarray(LADDER), m, m * squares, jnp.asarray(t), log_n, jnp.asarray(-jnp.inf), jnp.zeros(()))
        gains, participation = finite_size.gain_coefficients(point).mean, finite_size.participation(point).mean
        return jnp.append(gains[0] + gains[1] * squares, participation)

    with jax.enable_x64(True):
        m = jnp.array([multiplicities(d) for d in dimensions])
        return np.asarray(jax.jit(jax.vmap(one))(m, NATS_PER_DIRECTION * jnp.array(dimensions)))


@pytest.mark.slow
def test_the_law_of_many_directions_and_its_next_order() -> None:
    dimensions = [40, 160, 640, 2560]
    with jax.enable_x64(True):
        t = 0.3 * float(theory.condensation_time(np.repeat(LADDER, [10, 30]), log_n=4.0))
        kappas = theory.effective_noise(np.repeat(LADDER, [10, 30]), log_n=4.0, t=t)
    np.testing.assert_allclose(kappa(40, t, False), kappas, rtol=1e-9)
    exact = at_typical_points(dimensions, t)

    def deviation(next_order: bool) -> np.ndarray:
        k = np.array([kappa(d, t, next_order) for d in dimensions])[:, None]
        return exact / np.hstack([LADDER / (LADDER + k), 1 - t / k]) - 1

    leading, following = deviation(False), deviation(True)
    # As (log d)/d: 0.25 to 0.5 of the deviation is left at four times d, less and less.
    ratio = leading[1:] / leading[:-1]
    assert np.all((ratio > 0.25) & (ratio < 0.5))
    assert np.all(np.diff(ratio, axis=0) < 0)
    # As 1/d, and at most a tenth.
    assert np.all(np.abs(following) < 0.1 * np.abs(leading))
    assert np.all(np.abs(following) * np.array(dimensions)[:, None] < 2)


# --- What is refused, and points that are almost at the origin. ---


def message(error: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("function", [theory.finite_size_gain, theory.finite_size_participation])
def test_points_are_refused(function: Callable[..., Any]) -> None:
    v = [1.0, 0.5]
    assert message(TypeError, lambda: function(v, 5, x=v)) == "give the noise variance t and the point x"
    assert message(TypeError, lambda: function(v, 5, 0.1)) == "give the noise variance t and the point x"
    for bad, text in [
        ([1.0], "x must have shape (..., 2), got shape (1,)"),
        (0.0, "x must have shape (2,), got shape ()"),
        ([1.0, np.nan], "x must be finite in float32, got x[1] = nan"),
    ]:
        assert message(ValueError, lambda bad=bad: function(v, 5, 0.1, bad)) == text  # type: ignore[misc]
    assert "training_point must have shape (2,)" in message(
        ValueError, lambda: function(v, 5, 0.1, v, training_point=[[1.0, 2.0]])
    )
    assert message(ValueError, lambda: function(v, 5, 0.1, v, training_point=[np.inf, 2.0])) == (
        "training_point must be finite in float32, got training_point[0] = inf"
    )


def test_planted_gains_of_fine_directions_do_not_cancel(x64: bool) -> None:
    """Where v << t the planted point is near 0 and x is not: the stated error stays small against the gain."""
    v, t = [1.0, 1e-3, 1e-6, 1e-9], 0.1
    x, planted = np.array([0.9, 0.3, -0.3, 0.35]), np.array([1.1, 0.03, 1e-3, -2e-5])
    found = theory.finite_size_gain(v, 30, t, x, training_point=planted)
    assert np.all(np.asarray(found.error) < 2e-3 * np.asarray(found.mean))
    # Both the posterior variance and the squared coordinate are linear in a small variance.
    scaled = theory.finite_size_gain([1.0, 1e-3, 1e-6, 1e-11], 30, t, x, training_point=planted * [1, 1, 1, 0.1])
    np.testing.assert_allclose(np.asarray(scaled.mean)[3], np.asarray(found.mean)[3] / 100, rtol=3e-4)
