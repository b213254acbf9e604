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
    (Case((2.0, 0.5), 2, 1.5, (0.4, -1.0)), 48),
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
def traced(
    name: str, planted: bool, v: jax.Array, log_n: jax.Array, t: jax.Array, x: jax.Array, y0: jax.Array
) -> theory.finite_size.Estimate:
    function = {"gain": theory.finite_size_gain, "participation": theory.finite_size_participation}[name]

    def one(v: jax.Array, log_n: jax.Array, t: jax.Array, x: jax.Array, y0: jax.Array) -> theory.finite_size.Estimate:
        return function(v, t=t, x=x, log_n=log_n, training_point=y0 if planted else None)

    return jax.vmap(one)(v, log_n, t, x, y0)


class Found(NamedTuple):
    mean: np.ndarray
    error: np.ndarray


def evaluate(name: str, cases: list[Case], dtype: Any = np.float64) -> Found:
    """The exact average of every case; spectra padded to WIDTH, cases to ROWS."""
    mean, error = [], []
    for case in cases:  # the shape of the result
        shape = (WIDTH,) if name == "gain" else ()
        mean.append(np.full(shape, np.nan))
        error.append(np.full(shape, np.nan))
    for planted in (False, True):
        members = [k for k, case in enumerate(cases) if (case.planted is not None) == planted]
        for start in range(0, len(members), ROWS):
            rows = members[start : start + ROWS]
            chosen = [cases[k] for k in rows] + [cases[rows[0]]] * (ROWS - len(rows))
            with jax.enable_x64(dtype == np.float64):
                found = traced(
                    name,
                    planted,
                    np.array([padded(c.variances) for c in chosen], dtype),
                    np.array([np.log(c.n) for c in chosen], dtype),
                    np.array([c.t for c in chosen], dtype),
                    np.array([padded(c.x) for c in chosen], dtype),
                    np.array([padded(c.planted or c.x) for c in chosen], dtype),
                )
            assert found.mean.dtype == found.error.dtype == dtype
            for k, m, e in zip(rows, np.asarray(found.mean), np.asarray(found.error), strict=False):
                mean[k], error[k] = m, e
    return Found(np.array(mean), np.array(error))


def test_the_brute_force_has_converged() -> None:
    """Another grid, finer by a fifth: the references move by 1e-8 of themselves."""
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
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_brute_force(name: str, dtype: Any) -> None:
    cases = [case for case, _ in CASES]
    expected = brute_force()[name == "participation"]
    found = evaluate(name, cases, dtype)
    # The error is a bound, and small; 1e-8 for that of the reference.
    np.testing.assert_array_less(np.abs(found.mean - expected), found.error + 1e-8 * expected + 1e-300)
    assert np.all(found.error <= (1e-4 if dtype == np.float64 else 0.02) * expected)
    # What is promised of the value: more than the bound.
    tolerance = 1e-5 if dtype == np.float64 else 1e-3
    np.testing.assert_allclose(found.mean, expected, rtol=tolerance)
