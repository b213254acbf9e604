"""Wiener gain and mutual information: brute force, closed forms, identities, limits."""

import jax
import numpy as np
import pytest

import theory

from . import naive

NOISES = [1e-10, 1e-4, 1e-2, 1.0, 1e3]
LADDER = np.asarray(naive.SPECTRA["ladder"])


@pytest.mark.parametrize("name", naive.SPECTRA)
def test_brute_force(name: str, x64: bool) -> None:
    dtype = naive.precision(x64)
    v, t = np.asarray(naive.SPECTRA[name], dtype), np.asarray(NOISES, dtype)
    gains, nats = np.asarray(theory.wiener_gain(v, t)), np.asarray(theory.mutual_information(v, t))
    assert gains.dtype == nats.dtype == dtype
    exact = np.asarray(v, naive.FLOAT)
    error = np.abs(gains * (exact + t[:, None]) - exact) / np.where(exact > 0, exact, 1)
    np.testing.assert_array_less(error, naive.allowed(dtype, 0))
    # Positive terms: the sum is as good as its terms.
    error = np.abs(nats / naive.information(v, t) - 1)
    np.testing.assert_array_less(error, naive.allowed(dtype, 0))


def test_the_gain_is_that_of_a_linear_regression_of_point_on_noised_point() -> None:
    """The definition itself: the denoiser minimizes the squared error, here over 10 000 draws per direction."""
    rng = np.random.default_rng(0)
    v, t, draws = np.array([2.0, 1.0, 0.1, 0.0]), 0.5, 10_000
    y = rng.standard_normal((draws, 4)) * np.sqrt(v)
    x = y + np.sqrt(t) * rng.standard_normal((draws, 4))
    slope = np.sum(x * y, axis=0) / np.sum(x**2, axis=0)
    # Error of a regression slope: sqrt(mmse / (draws var x)), mmse = v t/(v + t); 4 comparisons, 5 sigma: 2e-6.
    error = np.sqrt(v * t / (v + t) / (draws * (v + t)))
    gains = np.asarray(theory.wiener_gain(v, t))
    assert np.all(np.abs(slope - gains) <= 5 * error)
    # Control: taking t for a standard deviation is a hundred sigma away.
    assert np.all(np.abs(slope - np.asarray(theory.wiener_gain(v, t**2)))[:3] > 5 * error[:3])


def test_the_derivative_of_information_is_half_the_estimation_error() -> None:
    """Guo, Shamai and Verdu: dI/d(1/t) = mmse/2, with mmse = t sum of gains; ties both modules together."""
    with jax.enable_x64(True):
        for t in (1e-3, 1.0, 50.0):
            slope = jax.grad(lambda snr: theory.mutual_information(LADDER, 1 / snr))(1 / t)
            np.testing.assert_allclose(slope, t * np.sum(theory.wiener_gain(LADDER, t)) / 2, rtol=1e-12)


def test_identities_and_limits(x64: bool) -> None:
    t = np.geomspace(1e-6, 1e6, 50)
    gains, nats = np.asarray(theory.wiener_gain(LADDER, t)), np.asarray(theory.mutual_information(LADDER, t))
    assert gains.shape == (50, 32)
    assert nats.shape == (50,)
    assert np.all((gains >= 0) & (gains <= 1))
    assert not gains[:, LADDER == 0].any()
    assert np.all(np.diff(gains[:, LADDER > 0], axis=0) < 0)
    assert np.all(np.diff(nats) < 0)
    rtol = float(naive.allowed(naive.precision(x64), 0))
    np.testing.assert_allclose(theory.wiener_gain(7e3 * LADDER, 7e3 * t), gains, rtol=rtol)
    np.testing.assert_allclose(theory.mutual_information(7e3 * LADDER, 7e3 * t), nats, rtol=rtol)
    np.testing.assert_allclose(theory.wiener_gain(LADDER[::-1], t), gains[:, ::-1], rtol=rtol)
    np.testing.assert_allclose(theory.mutual_information(LADDER[::-1], t), nats, rtol=rtol)
    # Weak signals: sum v/2t, with relative correction v/2t <= 5e-7.
    np.testing.assert_allclose(nats[-1], LADDER.sum() / (2 * t[-1]), rtol=5e-7 + rtol)
