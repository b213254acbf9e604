"""Condensation and onset times and critical sizes: brute force, closed forms, identities, limits."""

import jax
import numpy as np
import pytest

import theory

from . import naive

LOG_SIZES = [*np.log([1.5, 2, 30, 1e6, 1e9, 1e300]), 1e4, 1e6]
NOISES = [1e-10, 1e-4, 1e-2, 1.0, 1e3]
PROBES = {1.0: theory.condensation_time, 0.0: theory.onset_time}
LADDER = np.asarray(naive.SPECTRA["ladder"])


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("name", naive.SPECTRA)
def test_times_solve_the_printed_equation(name: str, probe: float, x64: bool) -> None:
    dtype = naive.precision(x64)
    v = np.asarray(naive.SPECTRA[name], dtype)
    sizes = np.asarray(LOG_SIZES if v.size <= naive.WIDTH else [5.0, 1e4, 1e5], dtype)
    found = np.asarray(PROBES[probe](v, log_n=sizes))
    assert found.dtype == dtype
    expected = naive.critical_time(v, sizes, probe)
    # Log N and its sum are rounded; the unknown is log t in units of the largest variance.
    per_nat = np.abs(naive.slope(lambda size: np.log(naive.critical_time(v, size, probe)), sizes))
    condition = sizes * per_nat + np.abs(np.log(expected / v.max()))
    normal = expected > np.finfo(dtype).tiny * v.max()
    error = np.abs(found / np.where(normal, expected, 1) - 1)
    np.testing.assert_array_less(error[normal], naive.allowed(dtype, condition)[normal])
    assert np.sum(normal) >= 2
    assert not found[~normal].any()  # too small for the precision: 0, as documented


WRONG_SIZES = {
    "factor 2": lambda v, t, probe: 2 * naive.log_critical_size(v, t, probe),
    "without one half": lambda v, t, probe: naive.log_critical_size(v, t, probe) + naive.information(v, t),
    "sign of the probe term": lambda v, t, probe: naive.log_critical_size(v, t, 2 - probe),
    "missing probe term": lambda v, t, probe: naive.information(v, t),
    "standard deviation": lambda v, t, probe: naive.log_critical_size(v, t**2, probe),
    "one part in 1e8": lambda v, t, probe: (1 + 1e-8) * naive.log_critical_size(v, t, probe),
}


@pytest.mark.parametrize("wrong", WRONG_SIZES)
def test_a_wrong_equation_is_noticed(wrong: str) -> None:
    sizes = np.log([30, 1e6])
    with jax.enable_x64(True):
        found = np.asarray(theory.onset_time(LADDER, log_n=sizes))
    expected = naive.critical_time(LADDER, sizes, 0.0, WRONG_SIZES[wrong])
    assert np.all(np.abs(found / expected - 1) > 1e-9)


@pytest.mark.parametrize("name", naive.SPECTRA)
def test_critical_sizes_are_the_printed_sum(name: str, x64: bool) -> None:
    dtype = naive.precision(x64)
    v, t = np.asarray(naive.SPECTRA[name], dtype), np.asarray(NOISES, dtype)
    probe = np.array([0, 0.5, 1, 2, 30], dtype)[:, None]
    found = np.asarray(theory.log_critical_size(v, t, probe))
    expected = naive.log_critical_size(v, t, probe)
    assert found.shape == (5, 5)
    # Terms of both signs for r > 1: the error is relative to the sum of their moduli.
    moduli = naive.information(v, t) + (1 + probe) * np.sum(v / (v + t[:, None]), axis=-1)
    np.testing.assert_array_less(np.abs(found - expected), naive.allowed(dtype, 0) * moduli)


def test_one_direction_condenses_at_the_printed_time(x64: bool) -> None:
    # At n = 1e9 the bound that brackets the root is the root to rounding, in both precisions.
    n = np.array([1.5, 2, 3, 1e3, 1e6, 1e9])
    # log N is rounded and doubled: eps * 2 log N.
    expected = 8 / (n**2 - 1)
    bound = naive.allowed(naive.precision(x64), 2 * np.log(n) + np.abs(np.log(8 / expected)))
    np.testing.assert_array_less(np.abs(np.asarray(theory.condensation_time([8.0], n)) / expected - 1), bound)


def test_equal_directions_condense_at_the_printed_time() -> None:
    with jax.enable_x64(True):
        found = theory.condensation_time(np.full(32, 0.3), log_n=np.array([0.01, 5.0, 300.0]))
    np.testing.assert_allclose(found, 0.3 / np.expm1(2 * np.array([0.01, 5.0, 300.0]) / 32), rtol=1e-9)


@pytest.mark.parametrize("probe", PROBES)
def test_limits(probe: float, x64: bool) -> None:
    time = PROBES[probe]
    assert np.isposinf(time(LADDER, n=1))
    assert np.isposinf(time(LADDER, log_n=0.0))
    assert time(LADDER, log_n=np.inf) == 0
    assert time(np.zeros(32), n=5) == 0
    # One size among others is solved like one alone, to rounding.
    np.testing.assert_allclose(time(LADDER, n=[1.0, 10.0]), [np.inf, float(time(LADDER, n=10))], rtol=1e-5)


@pytest.mark.parametrize("probe", PROBES)
def test_symmetries(probe: float) -> None:
    time, n = PROBES[probe], np.geomspace(1.01, 1e12, 40)
    with jax.enable_x64(True):
        times = np.asarray(time(LADDER, n))
        assert np.all(np.diff(times) < 0)
        np.testing.assert_allclose(time(1e5 * LADDER, n), 1e5 * times, rtol=1e-12)
        np.testing.assert_allclose(time(np.random.default_rng(0).permutation(LADDER), n), times, rtol=1e-12)
        # The time is where that many points are critical.
        np.testing.assert_allclose(theory.log_critical_size(LADDER, times, probe), np.log(n), rtol=1e-12)
        # More signal condenses later (at larger noise), one direction after another.
        assert np.all(np.asarray(time(LADDER + 0.01, n)) > times)


def test_traps_appear_before_condensation() -> None:
    n = np.geomspace(1.01, 1e12, 40)
    with jax.enable_x64(True):
        onset, condensation = theory.onset_time(LADDER, n), theory.condensation_time(LADDER, n)
    assert np.all(np.asarray(onset) > np.asarray(condensation))
    # Strong signals (all variances far above t): the probe term is m/2 nats, so that t_o = e t_c.
    np.testing.assert_allclose(onset[-1] / condensation[-1], np.e, rtol=0.5)


def test_weak_signals_condense_like_the_random_energy_model() -> None:
    """At a fixed point x, equation (11) tends to V(x)/2t^2 = log N; at x ~ p_t information itself has that order."""
    sizes = np.array([1e-2, 1e-3, 1e-4])  # log N / d: weak signals are few nats per direction
    with jax.enable_x64(True):
        times = np.asarray(theory.condensation_time(np.ones(32), log_n=32 * sizes))
    # I = sum v/2t at leading order; the next term is -v/4t^2 per direction, a relative v/2t = log N/d.
    deviation = 1 / (2 * sizes * times) - 1
    np.testing.assert_allclose(deviation / sizes, 1, rtol=0.02)
    # V(x) = sum v^2/2 + sum v x^2 with x^2 = t + v: V/2t^2 = sum v/2t + 3v^2/4t^2, the same leading order;
    # with v/t = 2s + 2s^2 + ..., s = log N/d, its relative deviation from log N is 4s (1 + O(s)).
    energies = 32 * (0.5 + times + 1)
    random_energy = energies / (2 * times**2)
    np.testing.assert_allclose((random_energy / (32 * sizes) - 1) / (4 * sizes), 1, rtol=0.02)
