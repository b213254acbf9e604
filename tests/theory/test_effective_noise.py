"""The effective noise and the gains it gives: brute force, closed forms, identities, limits."""

import jax
import numpy as np
import pytest

import theory

from . import naive

LOG_SIZES = [*np.log([1.5, 2, 30, 1e6, 1e300]), 1e4, 1e6]
LAWS = ["population", "linear", "empirical"]
NOISES = [1e-10, 1e-4, 1e-2, 1.0, 1e3]
SOLVED = ["linear", "empirical"]
LADDER = np.asarray(naive.SPECTRA["ladder"])
SIZES = np.geomspace(1.0, 1e8, 30)


@pytest.mark.parametrize("law", SOLVED)
@pytest.mark.parametrize("name", naive.SPECTRA)
def test_kappa_solves_the_printed_equation(name: str, law: str, x64: bool) -> None:
    dtype = naive.precision(x64)
    v = np.asarray(naive.SPECTRA[name], dtype)
    big = v.size > naive.WIDTH
    sizes = np.asarray([30.0, 1e4] if big else LOG_SIZES, dtype)[:, None]
    t = np.asarray([1e-4] if big else NOISES, dtype)
    found = np.asarray(theory.effective_noise(v, log_n=sizes, t=t, law=law))
    assert found.dtype == dtype
    expected = naive.effective_noise(law, v, sizes, t)
    # What is rounded is log N and the sum over directions, relative to its terms; the unknown is log(kappa/t).
    per_nat = np.abs(naive.slope(lambda size: np.log(naive.effective_noise(law, v, size, t)), sizes))
    scale = sizes + naive.information(v, expected) if law == "empirical" else 1 + sizes
    condition = scale * per_nat + np.log(expected / t)
    np.testing.assert_array_less(np.abs(found / expected - 1), naive.allowed(dtype, condition))


WRONG = {
    "linear": {
        "factor 2": lambda v, s, t, k: naive.linear_equation(v, s - np.log(2), t, k),
        "sign": lambda v, s, t, k: t - k + k * np.exp(-s) * np.sum(v / (v + naive.last(k)), axis=-1) * -1,
        "t in the sum": lambda v, s, t, k: t - k + k * np.exp(-s) * np.sum(v / (v + naive.last(t)), axis=-1),
        "one point less": lambda v, s, t, k: naive.linear_equation(v, np.log(np.exp(s) - 1), t, k),
        "one part in 1e8": lambda v, s, t, k: naive.linear_equation(v, s * (1 + 1e-8), t, k),
    },
    "empirical": {
        "factor 2": lambda v, s, t, k: naive.empirical_equation(v, 2 * s, t, k),
        "sign": lambda v, s, t, k: 2 * naive.information(v, k) - 2 * s - naive.empirical_equation(v, s, t, k),
        "missing term": lambda v, s, t, k: naive.information(v, k) - s,
        "kappa stays at t_c": lambda v, s, t, k: naive.critical_time(v, s, 1.0) - k,
        "one part in 1e8": lambda v, s, t, k: naive.empirical_equation(v, s * (1 + 1e-8), t, k),
    },
}


@pytest.mark.parametrize(("law", "wrong"), [(law, wrong) for law in SOLVED for wrong in WRONG[law]])
def test_a_wrong_equation_is_noticed(law: str, wrong: str) -> None:
    sizes = np.log([4.0, 30.0])  # condensed at this noise, and below the rank or about it
    with jax.enable_x64(True):
        found = np.asarray(theory.effective_noise(LADDER, log_n=sizes, t=0.01, law=law))
    expected = naive.effective_noise(law, LADDER, sizes, 0.01, WRONG[law][wrong])
    assert np.all(np.abs(found / expected - 1) > 1e-9)


def test_closed_forms() -> None:
    """For equal variances v the linear equation is quadratic."""
    d, v, n, t = 32, 0.3, np.array([1.0, 8.0, 31.0, 32.0, 33.0, 1e6]), np.array([1e-6, 1e-2, 1.0])[:, None]
    with jax.enable_x64(True):
        linear = theory.effective_noise(np.full(d, v), n, t, "linear")
        population = theory.effective_noise(np.full(d, v), n, t, "population")
    # kappa^2 + kappa (v - t - v d/N) - t v = 0
    b = naive.FLOAT(v) - t - naive.FLOAT(v) * d / n
    root = np.sqrt(b**2 + 4 * naive.FLOAT(t) * v)
    quadratic = np.where(b < 0, (-b + root) / 2, 2 * t * naive.FLOAT(v) / (b + root))
    np.testing.assert_allclose(linear, np.asarray(quadratic, float), rtol=1e-9)
    np.testing.assert_array_equal(population, np.broadcast_to(t, (3, 6)))


@pytest.mark.parametrize("law", SOLVED)
def test_kappa_is_monotone_and_scales(law: str) -> None:
    t = np.geomspace(1e-4, 1e2, 25)[:, None]
    with jax.enable_x64(True):
        kappa = np.asarray(theory.effective_noise(LADDER, SIZES, t, law))
        several = kappa[:, 1:]  # of one point the empirical law is infinite
        assert np.all(several >= t)
        assert np.all(np.diff(several, axis=0) > 0)
        assert np.all(np.diff(several, axis=1) <= 0)
        assert np.any(np.diff(several, axis=1) < 0, axis=1)[0]
        np.testing.assert_allclose(
            theory.effective_noise(1e-5 * LADDER, SIZES, 1e-5 * t, law), 1e-5 * kappa, rtol=1e-11
        )
        order = np.random.default_rng(0).permutation(32)
        np.testing.assert_allclose(theory.effective_noise(LADDER[order], SIZES, t, law), kappa, rtol=1e-11)
        gains = np.asarray(theory.gain(LADDER, SIZES, t, law))
        np.testing.assert_allclose(theory.gain(LADDER[order], SIZES, t, law), gains[..., order], rtol=1e-11, atol=0)


@pytest.mark.parametrize("law", LAWS)
def test_gains_are_gains(law: str, x64: bool) -> None:
    t = np.geomspace(1e-4, 1e2, 25, dtype=naive.precision(x64))[:, None]
    gains = np.asarray(theory.gain(LADDER, SIZES, t, law))
    assert gains.shape == (25, 30, 32)
    assert np.all((gains >= 0) & (gains <= 1))
    wiener = np.asarray(theory.wiener_gain(LADDER, t))
    rounding = 1 + naive.allowed(naive.precision(x64), 0)
    assert np.all(gains <= wiener * rounding)
    np.testing.assert_allclose(
        theory.soft_dimension(LADDER, SIZES, t, law), gains.sum(axis=-1), rtol=float(rounding - 1)
    )
    # Participation 1 - t/kappa is a participation.
    participation = 1 - t / np.asarray(theory.effective_noise(LADDER, SIZES, t, law))
    assert np.all((participation >= 0) & (participation <= 1))


def test_limits_of_one_and_of_many_points(x64: bool) -> None:
    rtol = float(naive.allowed(naive.precision(x64), 0))
    t = np.array([1e-3, 1.0])
    for law in LAWS:
        np.testing.assert_allclose(theory.effective_noise(LADDER, log_n=1e6, t=t, law=law), t, rtol=rtol)
        np.testing.assert_allclose(
            theory.gain(LADDER, log_n=np.inf, t=t, law=law), theory.wiener_gain(LADDER, t), rtol=rtol
        )
    # One point: the softmax is constant, every gain is 0.
    assert np.all(np.isposinf(theory.effective_noise(LADDER, 1, t)))
    assert not np.any(theory.gain(LADDER, 1, t))
    # No variance: no information, nothing to condense.
    for law in LAWS:
        np.testing.assert_allclose(theory.effective_noise(np.zeros(32), 7, t, law), t, rtol=rtol)


def test_the_empirical_law_departs_continuously_at_the_condensation_time() -> None:
    with jax.enable_x64(True):
        condensation = theory.condensation_time(LADDER, 1000)
        ratio = np.array([1 + 1e-6, 1 - 1e-6, 0.5])
        kappa = np.asarray(theory.effective_noise(LADDER, 1000, condensation * ratio)) / float(condensation)
    assert kappa[0] == pytest.approx(1 + 1e-6, rel=1e-12)
    assert 1 - 1e-6 < kappa[1] < 1
    assert 0.5 < kappa[2] < 1  # kappa falls from t_c on, it does not stay there


def test_the_empirical_kappa_stays_finite_at_zero_noise() -> None:
    with jax.enable_x64(True):
        kappa = np.asarray(theory.effective_noise(LADDER, 1000, np.array([1e-12, 1e-9])))
        condensation = float(theory.condensation_time(LADDER, 1000))
    assert kappa[1] / kappa[0] == pytest.approx(1, rel=1e-6)
    assert 0.4 < kappa[0] / condensation < 0.9


def test_the_linear_kappa_below_the_rank_is_finite_at_zero_noise() -> None:
    with jax.enable_x64(True):
        kappa = np.asarray(theory.effective_noise(LADDER, np.array([12, 25]), 1e-12, "linear"))
    # 24 positive variances; N = 12: sum v/(v + kappa) = N; N = 25: kappa/t = N/(N - rank).
    assert np.sum(LADDER / (LADDER + kappa[0])) == pytest.approx(12, rel=1e-9)
    assert kappa[1] == pytest.approx(25e-12, rel=1e-6)


def test_a_law_of_the_users_own() -> None:
    def doubled(variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
        return variances / (variances + 2 * t) + 0 * log_n

    gains = theory.gain([1.0, 3.0], n=[5, 6], t=1.5, law=doubled)
    np.testing.assert_allclose(gains, [[0.25, 0.5]] * 2, rtol=1e-6)
    np.testing.assert_allclose(theory.soft_dimension([1.0, 3.0], n=5, t=1.5, law=doubled), 0.75, rtol=1e-6)
