"""Information and condensation time from a denoising loss: Gaussian data, mixtures, isolated points, models, noise."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

import theory
from theory import information

from . import naive
from .test_transformations import largest_array, quickly

LADDER = np.asarray(naive.SPECTRA["ladder"])
SIZES = np.geomspace(1.5, 8.0, 8)


def wiener_loss(variances: Any, t: Any) -> np.ndarray:
    """Loss of the best linear denoiser, in extended precision; shape (k, d)."""
    v, noise = np.asarray(variances, naive.FLOAT), naive.last(t)
    return v * noise / (v + noise)


def gaussian_nats(variances: Any, t: Any) -> np.ndarray:
    return np.log1p(np.asarray(variances, naive.FLOAT) / naive.last(t)) / 2


VARIANCES = np.array([2.0, 0.5, 0.5, 0.1, 0.0])
T = np.geomspace(0.05, 20, 9)
LOSS = wiener_loss(VARIANCES, T).astype(float)


# ---------------------------------------------------------------------------------------------------------------------
# Gaussian data: exact on any grid

PADDED = ["ladder", "twelve decades", "weak among strong"]  # one shape
GRIDS = {
    "two points": np.array([1e-3, 4.0]),
    "decades": 10.0 ** np.arange(-4, 2),
    "uneven": np.array([1e-4, 3e-4, 0.03, 0.3, 0.5, 10.0]),
}


@pytest.mark.parametrize(("name", "grid"), [*itertools.product(PADDED, GRIDS), ("10 000 directions", "decades")])
def test_gaussian_directions_are_exact_on_any_grid(name: str, grid: str, x64: bool) -> None:
    dtype = naive.precision(x64)
    v = np.asarray(naive.SPECTRA[name], dtype)
    t = np.asarray(GRIDS[grid] * np.maximum(v.max(), 1), dtype)
    loss = wiener_loss(v, t).astype(dtype)
    found = np.asarray(theory.information_from_mmse(t, loss))
    assert found.dtype == dtype
    assert found.shape == loss.shape
    assert not found[:, v == 0].any()
    # Two points are 8 apart in log t, where 16 Gauss nodes leave 1e-9; otherwise roundings of a sum over 5 intervals.
    bound = 1e-9 if x64 else 32 * np.finfo(np.float32).eps
    error = np.abs(found / np.where(v > 0, gaussian_nats(v, t), 1) - (v > 0))
    assert np.max(error) < bound


@pytest.mark.parametrize("copies", [1, 7])
def test_the_total_of_equal_directions_is_exact(copies: int, x64: bool) -> None:
    v = np.full(copies, 0.3)
    t = np.array([1e-3, 0.2, 0.25])  # even where it ends below the variance
    found = theory.information_from_mmse(t, wiener_loss(v, t).sum(axis=1).astype(naive.precision(x64)))
    np.testing.assert_allclose(found, naive.information(v, t), rtol=1e-10 if x64 else 1e-5)


@pytest.mark.parametrize("name", PADDED)
def test_condensation_times_of_gaussian_directions(name: str, x64: bool) -> None:
    check_times(np.asarray(naive.SPECTRA[name], naive.precision(x64)), [0.02, 0.5, 0.98])


def test_condensation_times_of_ten_thousand_directions() -> None:
    with jax.enable_x64(True):
        check_times(np.asarray(naive.SPECTRA["10 000 directions"]), [0.3])


def check_times(v: np.ndarray, fractions: list[float]) -> None:
    t = (v.max() * 10.0 ** np.arange(-3, 4)).astype(v.dtype)
    ends = np.log(np.asarray(naive.information(v, t[[-1, 0]]), float))
    sizes = np.exp(np.interp(fractions, [0, 1], ends))[:, None].astype(v.dtype)
    found = np.asarray(theory.condensation_time_from_mmse(t, wiener_loss(v, t).astype(v.dtype), log_n=sizes))
    assert found.dtype == v.dtype
    assert found.shape == sizes.shape
    expected = naive.critical_time(v, sizes, 1.0)
    per_nat = np.abs(naive.slope(lambda size: np.log(naive.critical_time(v, size, 1.0)), sizes))
    # Roundings: of log N and the sum (times the condition), and of log(t[-1]/t), up to 14.
    np.testing.assert_array_less(np.abs(found / expected - 1), naive.allowed(v.dtype, sizes * per_nat + 14))


WRONG: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "one part in 1e8": lambda loss: (1 + 1e-8) * loss,
    "offset": lambda loss: loss + 1e-8,
    "power": lambda loss: loss ** (1 + 1e-7),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_loss_is_noticed(wrong: str) -> None:
    t = GRIDS["decades"]
    with jax.enable_x64(True):
        found = np.asarray(theory.information_from_mmse(t, WRONG[wrong](wiener_loss(LADDER, t)).astype(float)))
    error = np.abs(found.sum(axis=1) / naive.information(LADDER, t) - 1)
    assert np.all(error > 1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# Mixtures of Gaussians: loss and information by quadrature on a lattice of noised points


class Mixture(NamedTuple):
    weights: np.ndarray  # (m,)
    means: np.ndarray  # (m, d)
    covariances: np.ndarray  # (m, d, d)

    @property
    def covariance(self) -> np.ndarray:
        centred = self.means - self.weights @ self.means
        return np.einsum("m,mij->ij", self.weights, self.covariances + centred[:, :, None] * centred[:, None, :])


def mixture(weights: Any, means: Any, covariances: Any) -> Mixture:
    return Mixture(np.asarray(weights, float), np.asarray(means, float), np.asarray(covariances, float))


MIXTURES = {
    "two bumps": mixture([0.5, 0.5], [[-1], [1]], [[[0.05]], [[0.05]]]),
    "uneven bumps": mixture([0.2, 0.5, 0.3], [[-2], [0.1], [1]], [[[0.3]], [[0.02]], [[0.1]]]),
    "plane": mixture(
        [0.4, 0.35, 0.25],
        [[-1, 0], [1, 0.6], [0.2, -1.5]],
        [[[0.1, 0.05], [0.05, 0.2]], [[0.3, -0.1], [-0.1, 0.05]], [[0.02, 0], [0, 0.02]]],
    ),
}


def lattice(m: Mixture, t: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Noised points, their density (1,) and cell, and for every component its weight and posterior mean there.

    The trapezoid rule on an even lattice converges faster than any power for these densities: a step of a fifth of
    the narrowest standard deviation, out to 9 of the widest, leaves 1e-13.
    """
    d = m.means.shape[1]
    widths = [np.sqrt(t + np.linalg.eigvalsh(c)) for c in m.covariances]
    step = np.min(widths) / (5 if d == 1 else 2)
    reach = 9 if d == 1 else 6.5
    low = min(np.min(mean) - reach * np.max(w) for mean, w in zip(m.means, widths, strict=True))
    high = max(np.max(mean) + reach * np.max(w) for mean, w in zip(m.means, widths, strict=True))
    axis = np.arange(low, high, step)
    x = np.stack(np.meshgrid(*[axis] * d, indexing="ij"), axis=-1).reshape(-1, d)
    densities, posteriors = [], []
    for weight, mean, covariance in zip(m.weights, m.means, m.covariances, strict=True):
        noised = covariance + t * np.eye(d)
        inverse = np.linalg.inv(noised)
        r = x - mean
        exponent = np.einsum("ni,ij,nj->n", r, inverse, r) / 2
        densities.append(weight * np.exp(-exponent) / np.sqrt(np.linalg.det(2 * np.pi * noised)))
        posteriors.append(mean + r @ inverse @ covariance)
    return x, np.array(densities), np.array(posteriors), np.asarray(step**d)


def mixture_loss(m: Mixture, t: float, model: Mixture | None = None) -> np.ndarray:
    """Loss per axis at ``m`` of the best denoiser of ``model``, by default of ``m`` itself."""
    x, densities, posteriors, cell = lattice(m, t)
    if model is None:
        own = np.sum(densities[:, :, None] * posteriors, axis=0) / np.maximum(densities.sum(axis=0), 1e-300)[:, None]
    else:
        own = denoise(model, x, t)
    within = np.array([np.diag(c @ np.linalg.inv(c + t * np.eye(len(c))) * t) for c in m.covariances])
    return m.weights @ within + cell * np.sum(densities[:, :, None] * (posteriors - own) ** 2, axis=(0, 1))


def denoise(m: Mixture, x: np.ndarray, t: float) -> np.ndarray:
    weights, posteriors = [], []
    for weight, mean, covariance in zip(m.weights, m.means, m.covariances, strict=True):
        inverse = np.linalg.inv(covariance + t * np.eye(len(mean)))
        r = x - mean
        weights.append(
            math.log(weight) - np.einsum("ni,ij,nj->n", r, inverse, r) / 2 + np.linalg.slogdet(inverse)[1] / 2
        )
        posteriors.append(mean + r @ inverse @ covariance)
    relative = np.exp(np.array(weights) - np.max(weights, axis=0))
    return np.einsum("mn,mni->ni", relative / relative.sum(axis=0), np.array(posteriors))


def mixture_information(m: Mixture, t: float) -> float:
    """Entropy of the noised point less that of the noise."""
    _, densities, _, cell = lattice(m, t)
    p = np.sum(densities, axis=0)
    p = p[p > 0]
    return float(-cell * np.sum(p * np.log(p)) - m.means.shape[1] / 2 * math.log(2 * math.pi * math.e * t))


def gaussian_bound(m: Mixture, t: np.ndarray) -> np.ndarray:
    return np.asarray(naive.information(np.linalg.eigvalsh(m.covariance), t), float)


@pytest.fixture(scope="module")
def curves() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Noise variances at steps of a factor 2**(1/4), loss per axis, and information, of every mixture."""
    result = {}
    for name, m in MIXTURES.items():
        t = 2.0 ** np.arange(-5, 8.01, 0.25 if m.means.shape[1] == 1 else 0.5)
        loss = np.array([mixture_loss(m, noise) for noise in t])
        result[name] = t, loss, np.array([mixture_information(m, noise) for noise in t])
    return result


def test_the_quadrature_knows_one_gaussian() -> None:
    covariance = np.array([[0.5, 0.2], [0.2, 0.3]])
    m = mixture([0.3, 0.7], [[1, 2]] * 2, [covariance] * 2)
    for t in (0.03, 2.0):
        expected = np.diag(covariance @ np.linalg.inv(covariance + t * np.eye(2)) * t)
        np.testing.assert_allclose(mixture_loss(m, t), expected, rtol=1e-9)
        assert mixture_information(m, t) == pytest.approx(float(gaussian_bound(m, np.array([t]))[0]), rel=1e-8)


@pytest.mark.parametrize("total", [False, True], ids=["per direction", "total"])
@pytest.mark.parametrize("name", MIXTURES)
def test_the_information_of_a_mixture(curves: dict[str, Any], name: str, total: bool) -> None:
    t, loss, expected = curves[name]
    with jax.enable_x64(True):
        found = np.asarray(theory.information_from_mmse(t, loss.sum(axis=1) if total else loss))
    if not total:
        found = found.sum(axis=1)
    # At steps of 2**(1/4) interpolation leaves 2e-5 of these curves (order of convergence below); at 2**(1/2), 16
    # times that.  Below a variance of t[-1]/60, (3) is wrong by (v/t)^2/3 or so: 1e-4 of itself.
    np.testing.assert_allclose(found, expected, rtol=5e-4 if name == "plane" else 1e-4)
    # Control: a loss that is 0.2 % too large is noticed.
    with jax.enable_x64(True):
        wrong = np.asarray(theory.information_from_mmse(t, 1.002 * loss.sum(axis=1)))
    assert np.all(np.abs(wrong / expected - 1) > 5e-4)


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_condenses_below_the_gaussian_of_its_covariance(curves: dict[str, Any], name: str) -> None:
    t, loss, nats = curves[name]
    m = MIXTURES[name]
    assert np.all(nats < gaussian_bound(m, t))
    sizes = np.array([1.3, 2.0, math.exp(0.98 * nats[0])])
    true = [brentq(lambda u, s=s: mixture_information(m, math.exp(u)) - math.log(s), -4, 5, xtol=1e-10) for s in sizes]
    with jax.enable_x64(True):
        found = np.asarray(theory.condensation_time_from_mmse(t, loss.sum(axis=1), sizes))
        bound = np.asarray(theory.condensation_time(np.linalg.eigvalsh(m.covariance), sizes))
    # Information is right to 1e-4 (the plane: 3e-4), and log t moves by 2I/gain, at most 30 here, per unit of log I.
    np.testing.assert_allclose(found, np.exp(true), rtol=5e-3 if name == "plane" else 2e-3)
    # The bound is far outside that tolerance: it is the information that is recovered, not the covariance.
    assert np.all(bound > found)
    assert bound[-1] > 1.05 * found[-1]


def test_the_loss_of_a_model_bounds_from_above(curves: dict[str, Any]) -> None:
    m = MIXTURES["uneven bumps"]
    t, best, nats = curves["uneven bumps"]
    best = best[:, 0]
    models = {
        "too narrow": m._replace(covariances=0.3 * m.covariances),
        "shifted": m._replace(means=m.means + 0.2),
        "two of three": Mixture(m.weights[:2] / 0.7, m.means[:2], m.covariances[:2]),
    }
    sizes = np.array([1.3, 2.0, 4.0])
    for name, model in models.items():
        loss = np.array([mixture_loss(m, noise, model)[0] for noise in t])
        assert np.all(loss > best), name
        with jax.enable_x64(True):
            bound = np.asarray(theory.information_from_mmse(t, loss))
            late = np.asarray(theory.condensation_time_from_mmse(t, loss, sizes))
            true = np.asarray(theory.condensation_time_from_mmse(t, best, sizes))
        assert np.all(bound > nats), name
        assert np.all(late > true), name
        # The excess of information is half the integrated distance to the best denoiser.
        excess = np.trapezoid(((loss - best) / t), np.log(t)) / 2
        np.testing.assert_allclose((bound - nats)[0] - (bound - nats)[-1], excess, rtol=5e-3)


# ---------------------------------------------------------------------------------------------------------------------
# Order of convergence, and what closes the curve


def trapezoid(t: np.ndarray, loss: np.ndarray) -> np.ndarray:
    gain = loss / t
    steps = np.diff(np.log(t)) * (gain[1:] + gain[:-1]) / 4
    return np.append(np.cumsum(steps[::-1])[::-1], 0) + gain[-1] / 2


@pytest.mark.parametrize("data", ["ladder", "uneven bumps"])
def test_the_error_is_of_fourth_order_in_the_step(data: str) -> None:
    steps, top = 2.0 ** -np.arange(3), 2.0**14  # where the tail is 1e-4 nats, with an error below 1e-12
    errors: dict[str, list[float]] = {"theory": [], "trapezoid": []}
    for step in steps:
        t = top * 2.0 ** np.arange(-20, 0.1, step)
        if data == "ladder":
            loss, exact = wiener_loss(LADDER, t).sum(axis=1).astype(float), float(naive.information(LADDER, t[0]))
        else:
            m = MIXTURES[data]
            loss = np.array([mixture_loss(m, noise)[0] for noise in t])
            exact = mixture_information(m, t[0])
        with jax.enable_x64(True):
            errors["theory"].append(abs(float(theory.information_from_mmse(t, loss)[0] / exact - 1)))
        errors["trapezoid"].append(abs(float(trapezoid(t, loss)[0] / exact - 1)))
    order = {name: np.log2(np.array(error[:-1]) / error[1:]) for name, error in errors.items()}
    assert errors["theory"][0] < 3e-3  # steps of a factor 2
    assert abs(order["theory"][-1] - 4) < 0.6, (errors, order)
    assert order["trapezoid"][-1] < 2.5  # control: an integrand with a lower order is seen as one


def top_errors(variances: np.ndarray, tops: np.ndarray, total: bool) -> np.ndarray:
    """Missing nats above the largest noise, for a step of a factor 1.1 below it."""
    missing = []
    for top in tops:
        t = np.array([top / 1.1, top])
        loss = wiener_loss(variances, t).astype(float)
        found = np.asarray(theory.information_from_mmse(t, loss.sum(axis=1) if total else loss))
        missing.append(float(naive.information(variances, top) - np.sum(found[-1])))
    return np.array(missing)


def test_the_tail_of_a_total_is_of_third_order_and_too_small() -> None:
    tops = np.array([4.0, 8.0, 16.0, 32.0])
    with jax.enable_x64(True):
        missing = top_errors(LADDER, tops, total=True)
        assert np.all(np.abs(top_errors(LADDER, tops, total=False)) < 1e-12)  # exact by direction
    assert np.all(missing > 0)
    simple = naive.information(LADDER, tops) - wiener_loss(LADDER, tops).sum(axis=1) / (2 * tops)
    assert np.all(np.log2(missing[:-1] / missing[1:]) > 2.7)
    assert np.all(np.log2(simple[:-1] / simple[1:]) < 2.1)  # control: a constant loss is right to second order only
    assert np.all(missing < 0.1 * simple)


def test_the_tail_of_one_direction_is_a_lower_bound_for_any_data() -> None:
    tops = 2.0 ** np.arange(3, 9)
    for name, m in MIXTURES.items():
        # Along axes that are principal or not, and closed by one direction each.
        loss = np.array([mixture_loss(m, top) for top in tops])
        exact = np.array([mixture_information(m, top) for top in tops])
        with jax.enable_x64(True):
            closed = np.array(
                [
                    np.sum(theory.information_from_mmse([top / 2, top], [x / 2, x])[-1])
                    for top, x in zip(tops, loss, strict=True)
                ]
            )
        assert np.all(closed < exact), name
        assert np.all(closed > loss.sum(axis=1) / (2 * tops)), name
        order = np.log2((exact - closed)[:-1] / (exact - closed)[1:])
        # Third order in principal directions; along the plane's axes, off-diagonal covariance adds a second order.
        assert np.all(order > (1.8 if name == "plane" else 2.7)), (name, order)


# ---------------------------------------------------------------------------------------------------------------------
# Isolated points, null directions, noise of a measurement


def test_isolated_points_hold_the_logarithm_of_their_number() -> None:
    t = 2.0 ** np.arange(-9, 7.01, 0.5)
    z, cell = np.linspace(-10, 10, 4001, retstep=True)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    # Points at -1 and 1: the posterior variance is 1/cosh^2(x/t); at 1 + sqrt(t) z, by symmetry.
    x = (1 + np.sqrt(t)[:, None] * z) / t[:, None]
    loss = np.sum(density * cell / np.cosh(np.clip(x, -300, 300)) ** 2, axis=1).astype(np.float32)
    assert loss[0] == 0  # underflow is part of the case
    nats = np.asarray(theory.information_from_mmse(t, loss))
    assert np.all(np.isfinite(nats))
    np.testing.assert_allclose(nats[0], math.log(2), rtol=5e-3)
    found = np.asarray(theory.condensation_time_from_mmse(t, loss, [1.98, 2.02]))
    assert np.isfinite(found[0])
    assert np.isnan(found[1])  # never: two words do not tell three apart


def test_directions_without_variance_cost_nothing() -> None:
    """In float32, where the floor of the loss is nearest."""
    t, loss = T.astype(np.float32), LOSS.astype(np.float32)
    assert not np.any(np.asarray(theory.information_from_mmse(t, loss))[:, 4])
    assert not np.any(theory.information_from_mmse(t, 0 * loss))
    assert np.all(np.isnan(theory.condensation_time_from_mmse(t, 0 * loss, SIZES)))
    gradient = quickly(jax.grad(lambda m: jnp.sum(theory.information_from_mmse(t, m))))(jnp.asarray(loss))
    assert np.all(np.isfinite(gradient))


def test_noise_of_a_measurement_averages_out() -> None:
    """A loss known to 2 % at each of 53 noises, so that it rises and falls: no bias beyond that of its own mean."""
    rng = np.random.default_rng(0)
    t, sizes = np.geomspace(0.02, 50, 53), np.array([3.0, 20.0, 1e3])
    exact = wiener_loss(LADDER, t).sum(axis=1).astype(float)
    noisy = exact * (1 + 0.02 * rng.standard_normal((400, t.size)))
    assert np.mean(np.any(np.diff(noisy, axis=1) < 0, axis=1)) > 0.9

    def both(loss: jax.Array) -> tuple[jax.Array, jax.Array]:
        return theory.information_from_mmse(t, loss), theory.condensation_time_from_mmse(t, loss, sizes)

    with jax.enable_x64(True):
        nats, times = (np.asarray(result) for result in jax.jit(jax.vmap(both))(jnp.asarray(noisy)))
        expected = np.asarray(theory.condensation_time(LADDER, sizes))
        one = both(noisy[7])
        np.testing.assert_allclose(nats[7], one[0], rtol=1e-12)
        np.testing.assert_allclose(times[7], one[1], rtol=1e-12)
    assert np.all(np.diff(nats, axis=1) < 0)  # positive losses give falling information, whatever the noise
    error = nats[:, :40] / naive.information(LADDER, t[:40]).astype(float) - 1
    assert np.all(error.std(axis=0) < 0.02)
    # 1/mmse is interpolated: a bias of the order of the variance, 4e-4, beside a standard error of the mean.
    assert np.all(np.abs(error.mean(axis=0)) < 4e-4 + 4 * error.std(axis=0) / 20)
    scatter = times.std(axis=0) / expected
    assert np.all(scatter < 0.03)
    assert np.all(np.abs(times.mean(axis=0) / expected - 1) < 1e-3 + 4 * scatter / 20)


# ---------------------------------------------------------------------------------------------------------------------
# Range, transformations, refusals


def test_nothing_is_extrapolated(x64: bool) -> None:
    nats = np.asarray(theory.information_from_mmse(T, LOSS)).sum(axis=1)
    sizes = [nats[0], nats[-1], 1.0, 0.0, 0.999 * nats[-1], 1.001 * nats[0], 1e6, np.inf]
    times = np.asarray(theory.condensation_time_from_mmse(T, LOSS, log_n=np.array(sizes)))
    np.testing.assert_allclose(times[:2], T[[0, -1]], rtol=1e-5)
    assert T[0] < times[2] < T[-1]
    assert np.all(np.isnan(times[3:]))
    assert np.all(np.isnan(theory.condensation_time_from_mmse(T, LOSS, n=np.ones(8))))


def test_symmetries() -> None:
    with jax.enable_x64(True):
        nats = np.asarray(theory.information_from_mmse(T, LOSS))
        times = np.asarray(theory.condensation_time_from_mmse(T, LOSS, SIZES))
        np.testing.assert_allclose(theory.information_from_mmse(7e3 * T, 7e3 * LOSS), nats, rtol=1e-12)
        scaled = theory.condensation_time_from_mmse(7e3 * T, 7e3 * LOSS, SIZES)
        np.testing.assert_allclose(scaled, 7e3 * times, rtol=1e-12)
        np.testing.assert_allclose(theory.information_from_mmse(T, LOSS[:, ::-1]), nats[:, ::-1], rtol=1e-14)
        np.testing.assert_allclose(theory.condensation_time_from_mmse(T, LOSS[:, ::-1], SIZES), times, rtol=1e-12)
        np.testing.assert_allclose(times, theory.condensation_time(VARIANCES, SIZES), rtol=1e-9)


# Off the Gaussian line, and off the kinks of the limiter.
BENT = LOSS * (1 + 0.1 * np.sin(np.arange(LOSS.size).reshape(LOSS.shape)))
BENT[:, 4] = 0.3 * BENT[:, 1]


@pytest.mark.parametrize("loss", [BENT, BENT.sum(axis=1)], ids=["per direction", "total"])
def test_derivatives(loss: np.ndarray) -> None:
    point = np.concatenate([T, loss.ravel(), np.log(SIZES)])

    def both(x: Any) -> jax.Array:
        t, mmse, log_n = x[: T.size], x[T.size : -SIZES.size].reshape(loss.shape), x[-SIZES.size :]
        total = jnp.sum(theory.information_from_mmse(t, mmse)[2])
        if mmse.ndim == 2:  # times differ from information in what they do with the columns, not with a total
            total += jnp.sum(theory.condensation_time_from_mmse(t, mmse, log_n=log_n))
        return total

    with jax.enable_x64(True):
        of = quickly(jax.value_and_grad(both))
        gradient = np.asarray(of(point)[1])
        steps = 1e-6 * np.diag(point)
        numerical = [float(of(point + step)[0] - of(point - step)[0]) / (2 * step.sum()) for step in steps]
    # Differences of step 1e-6: rounding of 1e-16 over 1e-6 of values up to 30.
    np.testing.assert_allclose(gradient, numerical, rtol=1e-6, atol=1e-7)
    assert np.all(np.isfinite(gradient))
    assert np.sum(np.abs(gradient) > 0.02) > T.size


COMPILED: list[Any] = [information._information, information._time_of_curve]


def test_new_numbers_are_not_traced_again_and_memory_is_linear() -> None:
    def call(factor: float, sizes: np.ndarray) -> list[int]:
        theory.information_from_mmse(factor * T, LOSS)
        theory.condensation_time_from_mmse(T, factor * LOSS, sizes)
        return [function._cache_size() for function in COMPILED]

    first = call(1.0, SIZES)
    assert call(0.9, SIZES + 1) == first
    assert call(0.9, np.arange(3, 11)) == first
    theory.information_from_mmse(T[1:], LOSS[1:])  # another shape is another program, and is counted
    assert COMPILED[0]._cache_size() == first[0] + 1
    d, noises = 10_000, jnp.geomspace(0.1, 100, 5)

    def total(mmse: jax.Array) -> jax.Array:
        return theory.condensation_time_from_mmse(noises, mmse, log_n=jnp.array([3.0]))[0]

    loss = jnp.ones((5, d))
    assert largest_array(jax.make_jaxpr(total)(loss).jaxpr) < 1000 * d
    assert largest_array(jax.make_jaxpr(jax.grad(total))(loss).jaxpr) < 1000 * d


def test_the_arrays_decide_the_precision(x64: bool) -> None:
    single = np.asarray(T, np.float32), np.asarray(LOSS, np.float32)
    assert theory.information_from_mmse(*single).dtype == np.float32
    assert theory.information_from_mmse(T.tolist(), LOSS.tolist()).dtype == naive.precision(x64)


REFUSED: list[tuple[Any, Any, str]] = [
    (1.0, 1.0, "t must have shape (k,) with k >= 2, got shape ()"),
    ([1.0], [1.0], "t must have shape (k,) with k >= 2, got shape (1,)"),
    (np.ones((2, 2)), np.ones(2), "t must have shape (k,) with k >= 2, got shape (2, 2)"),
    ([1.0, 2.0], [1.0], "mmse must have shape (k,) or (k, d) with k = 2 as t, got shape (1,)"),
    ([1.0, 2.0], np.ones((2, 0)), "mmse must have shape (k,) or (k, d) with k = 2 as t, got shape (2, 0)"),
    ([1.0, 2.0], np.ones((2, 1, 1)), "mmse must have shape (k,) or (k, d) with k = 2 as t, got shape (2, 1, 1)"),
    ([0.0, 2.0], [1.0, 1.0], "t must be finite and > 0 in float32, got t[0] = 0.0"),
    ([1.0, math.inf], [1.0, 1.0], "t must be finite and > 0 in float32, got t[1] = inf"),
    ([2.0, 1.0], [1.0, 1.0], "t must be ascending in float32, got t[1] = 1.0"),
    ([1.0, 1.0 + 1e-9], [1.0, 1.0], "t must be ascending in float32, got t[1] = 1.0"),
    ([1.0, 2.0], [1.0, -0.5], "mmse must be finite and >= 0 in float32, got mmse[1] = -0.5"),
    ([1.0, 2.0], [[1.0, math.nan], [1.0, 1.0]], "mmse must be finite and >= 0 in float32, got mmse[0, 1] = nan"),
    ([1.0, 2.0], [[1.0, 0.5], [1.0, 2.0]], "mmse[-1] must be below t[-1] = 2.0, got mmse[-1][1] = 2.0"),
    (
        [1.0, 2.0],
        [1.0, 2.0],
        "mmse must grow more slowly than t at the largest noise (extend the grid to larger t), "
        "got mmse = 1.0, 2.0 at t = 1.0, 2.0",
    ),
]


@pytest.mark.parametrize(("t", "mmse", "text"), REFUSED)
def test_bad_curves_are_refused(t: Any, mmse: Any, text: str) -> None:
    for call in (theory.information_from_mmse, lambda t, mmse: theory.condensation_time_from_mmse(t, mmse, 2)):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole text is compared
            call(t, mmse)
        assert str(caught.value) == text


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="n must be >= 1, got n = 0"):
        theory.condensation_time_from_mmse(T, LOSS, 0)
    with pytest.raises(TypeError, match="one of the two"):
        theory.condensation_time_from_mmse(T, LOSS)
    with pytest.raises(TypeError, match="one of the two"):
        theory.condensation_time_from_mmse(T, LOSS, 2, log_n=1.0)


def test_traced_curves_are_not_checked() -> None:
    assert jax.jit(theory.information_from_mmse)(jnp.array([2.0, 1.0]), jnp.array([-1.0, math.nan])).shape == (2,)
    # The loss of a direction at its largest noise is above the noise: (3) has no value, and says so.
    found = jax.jit(lambda m: theory.information_from_mmse([1.0, 2.0], m))(jnp.array([[1.0], [3.0]]))
    assert np.all(np.isnan(found))
