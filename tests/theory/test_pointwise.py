"""Condensation, annealed participation and breakdown at a point: printed formulas, quadrature, simulation."""

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import jax
import numpy as np
import pytest
from scipy.integrate import quad

import theory

from . import naive

FLOAT = naive.FLOAT
LADDER = np.asarray(naive.SPECTRA["ladder"], float)
Nats = Callable[[Any, Any, Any], np.ndarray]


def information_at(v: Any, t: Any, x: Any) -> np.ndarray:
    v, x, noise = np.asarray(v, FLOAT), np.asarray(x, FLOAT), naive.last(t)
    return np.sum(np.log1p(v / noise) - v / (noise + v) + v / (noise + v) * (x**2 / (noise + v)), axis=-1) / 2


def log_dispersion_at(v: Any, t: Any, x: Any) -> np.ndarray:
    v, x, noise = np.asarray(v, FLOAT), np.asarray(x, FLOAT), naive.last(t)
    pull = v / (noise + v) * (x**2 / (noise + 2 * v))
    return np.sum(np.log1p(v / noise) - np.log1p(2 * v / noise) / 2 + pull, axis=-1)


def time(nats: Nats, v: Any, log_n: Any, x: Any) -> np.ndarray:
    size = np.asarray(log_n, FLOAT)
    return np.exp(naive.root(lambda u: nats(v, np.exp(u), x) - size, -1e4 + 0 * size, 1e3))


TIMES: dict[str, tuple[Callable[..., jax.Array], Nats]] = {
    "condensation": (theory.condensation_time_at, information_at),
    "breakdown": (theory.clt_breakdown_time, log_dispersion_at),
}


@pytest.mark.parametrize("deviations", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("which", TIMES)
@pytest.mark.parametrize("name", naive.SPECTRA)
def test_times_solve_the_printed_equation(name: str, which: str, deviations: float, x64: bool) -> None:
    dtype = naive.precision(x64)
    v = np.asarray(naive.SPECTRA[name], dtype)
    point = (deviations * np.sqrt(v)).astype(dtype)
    function, nats = TIMES[which]
    # The naive roots of 10 000 directions take a second each.
    sizes = np.asarray([0.1, 2.0, 30.0, 1e4] if v.size <= naive.WIDTH else [2.0, 1e4], dtype)
    found = np.asarray(function(v, log_n=sizes, point=point))
    assert found.dtype == dtype
    expected = time(nats, v, sizes, point)
    # Log N and the sum are rounded; a time of weak signals comes from their squares, one of strong from their logs.
    per_nat = np.abs(naive.slope(lambda s: np.log(time(nats, v, s, point)), sizes))
    condition = sizes * per_nat + np.abs(np.log(expected / v.max())) + 4
    normal = expected > np.finfo(dtype).tiny * v.max()
    error = np.abs(found / np.where(normal, expected, 1) - 1)
    np.testing.assert_array_less(error[normal], naive.allowed(dtype, condition)[normal])
    assert np.sum(normal) >= sizes.size - 1
    assert not found[~normal].any()


WRONG: dict[str, tuple[str, Nats]] = {
    "factor": ("condensation", lambda v, t, x: 1.0001 * information_at(v, t, x)),
    "sign of the point": ("condensation", lambda v, t, x: 2 * information_at(v, t, 0) - information_at(v, t, x)),
    "information": ("condensation", lambda v, t, x: naive.information(v, t)),
    "one denominator": ("breakdown", lambda v, t, x: log_dispersion_at(v, t, 1.01 * x)),
    "factor of breakdown": ("breakdown", lambda v, t, x: 1.0001 * log_dispersion_at(v, t, x)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_equation_is_noticed(wrong: str) -> None:
    which, nats = WRONG[wrong]
    with jax.enable_x64(True):
        found = np.asarray(TIMES[which][0](LADDER, log_n=[2.0, 8.0], point=np.sqrt(LADDER)))
    assert np.all(np.abs(found / time(nats, LADDER, [2.0, 8.0], np.sqrt(LADDER)) - 1) > 1e-6)


def test_typical_points_condense_at_the_condensation_time() -> None:
    """x^2 = v + t turns the equation of a point into I(t) = log N; clean points condense later (at less noise)."""
    with jax.enable_x64(True):
        for log_n in (0.5, 3.0, 20.0):
            t_c = float(theory.condensation_time(LADDER, log_n=log_n))
            typical = theory.condensation_time_at(LADDER, log_n=log_n, point=np.sqrt(LADDER + t_c))
            np.testing.assert_allclose(typical, t_c, rtol=1e-12)
            assert theory.condensation_time_at(LADDER, log_n=log_n, point=np.sqrt(LADDER)) < t_c


@pytest.mark.parametrize("which", TIMES)
def test_limits(which: str, x64: bool) -> None:
    function, _ = TIMES[which]
    assert np.isposinf(function(LADDER, 1, point=LADDER))
    assert function(LADDER, log_n=np.inf, point=LADDER) == 0
    assert function(np.zeros(32), 5, point=LADDER) == 0
    points = np.stack([0 * LADDER, LADDER, 3 + LADDER])
    found = np.asarray(function(LADDER, np.array([[10.0], [1e6]]), point=points))
    assert found.shape == (2, 3)
    assert np.all(np.diff(found, axis=0) < 0)
    np.testing.assert_allclose(found[1, 2], function(LADDER, 1e6, point=points[2]), rtol=1e-5)
    np.testing.assert_allclose(function(1e5 * LADDER, 10, point=points[1] * 1e5**0.5), 1e5 * found[0, 1], rtol=1e-4)


def test_breakdown_comes_before_condensation() -> None:
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        for log_n in (0.1, 3.0, 30.0):
            points = rng.normal(size=(50, 32)) * rng.exponential(size=(50, 1))
            breakdown = np.asarray(theory.clt_breakdown_time(LADDER, log_n=log_n, point=points))
            assert np.all(breakdown > theory.condensation_time_at(LADDER, log_n=log_n, point=points))
            at = theory.log_annealed_participation(LADDER, log_n=log_n, t=breakdown, point=points)
            np.testing.assert_allclose(at, 0, atol=1e-10)


@pytest.mark.parametrize("name", naive.SPECTRA)
def test_annealed_participation_is_the_printed_product(name: str, x64: bool) -> None:
    dtype = naive.precision(x64)
    v = np.asarray(naive.SPECTRA[name], dtype)
    t = np.asarray([1e-10, 1e-3, 1.0, 1e4], dtype) * v.max()
    point = (2 * np.sqrt(v)).astype(dtype)
    found = np.asarray(theory.log_annealed_participation(v, log_n=np.asarray(3.0, dtype), t=t, point=point))
    dispersion = log_dispersion_at(v, t, point)
    bound = naive.allowed(dtype, 0) * (dispersion + 3)
    np.testing.assert_array_less(np.abs(found - (dispersion - FLOAT(3))), bound)
    assert np.all(found >= -3)


@pytest.mark.parametrize(("x", "t"), [(0.0, 0.01), (1.0, 0.3), (4.0, 1.0), (2.0, 50.0)])
def test_annealed_participation_in_one_dimension_by_quadrature(x: float, t: float) -> None:
    def moment(k: int) -> float:
        # e^{-kE} times the prior is a Gaussian bump of this centre and width.
        center, width = 1.3 * x / (1.3 + t / k), (1.3 * (t / k) / (1.3 + t / k)) ** 0.5
        prior = NormalDist(0, 1.3**0.5).pdf
        integrand = lambda y: prior(y) * np.exp(-k * (x - y) ** 2 / (2 * t))  # noqa: E731
        ends = center - 12 * width, center + 12 * width
        return float(quad(integrand, *ends, epsabs=0, epsrel=1e-12, points=[center])[0])

    with jax.enable_x64(True):
        found = theory.log_annealed_participation([1.3], 50, t, point=[x])
    expected = np.log(moment(2) / moment(1) ** 2 / 50)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


# Spectrum, point, N, t: all far above breakdown.
CASES = [
    ([1.0], [0.5], 1000, 0.3),
    ([1.0], [2.5], 2000, 1.0),
    ([1.0, 0.3, 0.1], [1.0, -0.5, 0.4], 3000, 0.4),
    ([1.0] * 4 + [0.1] * 4, [0.7] * 4 + [0.2] * 4, 6000, 1.0),
    ([0.2] * 16, [0.4] * 16, 6000, 0.5),
]
# Correct code fails somewhere with probability 1e-4.
Z = -NormalDist().inv_cdf(1e-4 / (2 * len(CASES)))
REPETITIONS = 250


@pytest.mark.parametrize("case", range(len(CASES)))
def test_annealed_participation_is_that_of_a_simulation(case: int) -> None:
    spectrum, point, n, t = CASES[case]
    v, x = np.asarray(spectrum), np.asarray(point)
    rng = np.random.default_rng(case)
    draws = np.empty(REPETITIONS)
    for r in range(REPETITIONS):
        energy = np.sum((x - rng.normal(size=(n, v.size)) * np.sqrt(v)) ** 2, axis=1) / (2 * t)
        w = np.exp(energy.min() - energy)
        draws[r] = np.sum(w**2) / np.sum(w) ** 2
    with jax.enable_x64(True):
        predicted = float(np.exp(theory.log_annealed_participation(v, n, t, point=x)))
    # The stated relative error, from log E e^{-kE} of a Gaussian.
    log_moment = [np.sum(-np.log1p(k * v / t) - k * x**2 / (t + k * v)) / 2 for k in range(4)]
    a2, a3 = (np.exp(log_moment[k] - k * log_moment[1]) for k in (2, 3))
    correction = (3 * (a2 - 1) - 2 * (a3 / a2 - 1)) / n
    assert abs(correction) < 0.05
    sem = np.std(draws, ddof=1) / np.sqrt(REPETITIONS)
    assert sem < 0.01 * predicted
    # What is left is of the second order.
    assert abs(np.mean(draws) - predicted * (1 + correction)) < Z * sem + 5 * correction**2 * predicted
    for wrong in (1.06, 1 / 1.06):
        assert abs(np.mean(draws) - wrong * predicted * (1 + correction)) > Z * sem


def test_points_condense_where_they_should() -> None:
    """At half the time of the origin the participation ratio tends to 1 - t/t_c = 1/2, at twice that time to 0."""
    rng = np.random.default_rng(9)
    below, above = [], []
    for d, repetitions in [(6, 400), (12, 300), (24, 100)]:
        n = int(np.exp(0.4 * d))
        t_c = float(theory.condensation_time_at([1.0] * d, n, point=[0.0] * d))
        energy = np.sum(rng.standard_normal((repetitions, n, d), dtype=np.float32) ** 2, axis=2) / 2
        energy -= energy.min(axis=1, keepdims=True)
        for t, ratios in [(t_c / 2, below), (2 * t_c, above)]:
            w = np.exp(-energy / t)
            ratios.append(np.mean(np.sum(w**2, axis=1) / np.sum(w, axis=1) ** 2))
    # Excess 0.27, 0.19, 0.11 over one half with errors of 0.01, 0.01, 0.03; 0.36, 0.17, 0.05 over 0.
    assert below[0] - 0.5 > 1.2 * (below[1] - 0.5)
    assert 0 < below[2] - 0.5 < 0.17
    assert above[0] > 1.5 * above[1] > 2.2 * above[2]
    assert above[2] < 0.1
