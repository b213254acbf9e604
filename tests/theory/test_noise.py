"""Conventions of noise and of predictions: forward processes, decimal arithmetic, simulation, round trips."""

from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import theory
from theory import noise

from . import naive

LONG = naive.FLOAT
BETAS = np.linspace(1e-4, 2e-2, 1000)
DDPM = noise.ddpm(BETAS)
VP = noise.vp()
CONVENTIONS = {
    "VE": noise.VE,
    "EDM": noise.EDM,
    "OU": noise.OU,
    "VP": VP,
    "DDPM": DDPM,
    "FLOW": noise.FLOW,
}
# The smallest noise that the convention meets in practice, one of the order of the data, a large one.
CLOCKS = {
    "VE": [1e-6, 0.5, 1e4],
    "EDM": [2e-3, 0.5, 80.0],
    "OU": [1e-5, 0.5, 4.0],
    "VP": [1e-5, 0.3, 1.0],
    "DDPM": [0, 100, 999],
    "FLOW": [1e-4, 0.4, 0.99],
}
CASES = [(name, clock) for name, clocks in CLOCKS.items() for clock in clocks]
MODERATE = [(name, clocks[1]) for name, clocks in CLOCKS.items()]


def steps(name: str, clock: float, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The forward process as a chain x -> A x + B z, from its definition; the differential equations by midpoints."""
    if name == "DDPM":
        return np.sqrt(1 - BETAS[: int(clock) + 1]), np.sqrt(BETAS[: int(clock) + 1])
    if name == "FLOW":  # a straight line from data to noise, not a chain
        return np.array([1 - clock]), np.array([clock])
    h = clock / number
    middle = h * (np.arange(number) + 0.5)
    if name in ("VE", "EDM"):  # dx = dW in time t = sigma^2: dt = 2 sigma dsigma
        return np.ones(number), np.sqrt(h * (2 * middle if name == "EDM" else np.ones(number)))
    # dx = -rate/2 x dtime + sqrt(rate) dW by the trapezoid rule, of error (rate h/2)^2/12 per unit of log scale
    half = h * (2 * np.ones(number) if name == "OU" else 0.1 + 19.9 * middle) / 4
    return (1 - half) / (1 + half), np.sqrt(4 * half) / (1 + half)


def chain_moments(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Scale and standard deviation that a chain ends with."""
    variance = 0.0
    for factor, std in zip(a, b, strict=True):
        variance = factor**2 * variance + std**2
    return float(np.prod(a)), float(np.sqrt(variance))


def at(name: str, clock: float) -> noise.Noising:
    """Scale and standard deviation at a clock, by way of t."""
    return CONVENTIONS[name].noising(CONVENTIONS[name].t(clock))


@pytest.mark.parametrize(("name", "clock"), CASES)
def test_points_follow_the_forward_process(name: str, clock: float) -> None:
    scale, std = chain_moments(*steps(name, clock, 20_000))
    with jax.enable_x64(True):
        found = at(name, clock)
        t = float(CONVENTIONS[name].t(clock))
    # The steps of the trapezoid rule, at most rate h/2 = 5e-4 wide, cost 5 log scales x (5e-4)^2/12 = 1e-7; the
    # 20 000 roundings of the sums cost less.
    np.testing.assert_allclose([*found, found.t, t], [scale, std, (std / scale) ** 2, (std / scale) ** 2], rtol=4e-7)


# Scale and standard deviation in 120 decimal digits, from the definition of each convention.


def decimal_moments(name: str, clock: float) -> tuple[Decimal, Decimal]:
    c, beta = Decimal(float(clock)), Decimal("0.1")
    if name == "VE":
        return Decimal(1), c.sqrt()
    if name == "EDM":
        return Decimal(1), c
    if name == "FLOW":
        return 1 - c, c
    if name == "OU":
        squared = (-2 * c).exp()
    elif name == "VP":
        squared = (-(beta * c + (20 - beta) * c * c / 2)).exp()
    else:
        squared = Decimal(1)
        for beta in BETAS[: int(clock) + 1]:
            squared *= 1 - Decimal(float(beta))
    return squared.sqrt(), (1 - squared).sqrt()


GRIDS = {  # of one length, for which everything is compiled once
    "VE": np.geomspace(1e-30, 1e30, 25),
    "EDM": np.geomspace(1e-15, 1e15, 25),
    "OU": np.geomspace(1e-30, 40, 25),
    "VP": np.geomspace(1e-30, 1, 25),
    "DDPM": np.array([*range(12), *range(15, 990, 98), 997, 998, 999]),
    "FLOW": np.array([*np.geomspace(1e-15, 0.5, 15), *(1 - 2.0 ** np.arange(-20, -10))]),
}


@pytest.mark.parametrize("name", GRIDS)
def test_clocks_and_points_in_decimal_arithmetic(name: str, x64: bool) -> None:
    convention, dtype = CONVENTIONS[name], naive.precision(x64)
    clocks = np.asarray(GRIDS[name], dtype)
    with localcontext() as context:
        context.prec = 120
        moments = [decimal_moments(name, clock) for clock in clocks]
        variances = [(std / scale) ** 2 for scale, std in moments]
    expected = np.array([LONG(str(t)) for t in variances])
    found = np.asarray(convention.t(clocks))
    assert found.dtype == dtype
    # log(1 + t) is rounded before it is exponentiated; DDPM keeps log t.
    condition = np.log1p(expected) + (np.abs(np.log(expected)) if name == "DDPM" else 0)
    np.testing.assert_array_less(np.abs(found / expected - 1), naive.allowed(dtype, condition))
    # Back, and to the points, from t as this precision holds it.
    rounded = expected.astype(dtype)
    scales, stds = (np.array([LONG(str(m[i])) for m in moments]) for i in (0, 1))
    noising = convention.noising(rounded)
    np.testing.assert_array_less(np.abs(np.asarray(noising.scale) / scales - 1), naive.allowed(dtype, 0))
    np.testing.assert_array_less(np.abs(np.asarray(noising.std) / stds - 1), naive.allowed(dtype, 0))
    np.testing.assert_array_less(np.abs(np.asarray(noising.t) / expected - 1), naive.allowed(dtype, 0))
    back = np.asarray(convention.clock(rounded))
    assert back.dtype == dtype
    if name == "DDPM":  # log t, of 10 at most, is rounded, and rises by beta (1 + 1/t) > 0.01 per index
        np.testing.assert_allclose(back, clocks, rtol=0, atol=16 * np.finfo(dtype).eps * 10 / 0.01)
    else:
        np.testing.assert_array_less(np.abs(back / clocks.astype(LONG) - 1), naive.allowed(dtype, 0))


def test_a_difference_from_one_would_lose_the_smallest_noise() -> None:
    """What the tests above must notice in float32: 1 - abar and 1 - exp(-2 tau), formed naively."""
    one = np.float32(1)
    abar = np.cumprod(one - BETAS.astype(np.float32), dtype=np.float32)
    naive_ddpm = (one - abar[0]) / abar[0]
    naive_ou = one - np.exp(-2 * np.float32(1e-5))
    assert abs(naive_ddpm / float(DDPM.t(0)) - 1) > 1e-4
    assert abs(naive_ou / float(at("OU", 1e-5).std) ** 2 - 1) > 1e-3
    # The end of the schedule as a float32 table of abar gives it still counts as index 0.
    assert float(DDPM.clock(naive_ddpm)) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("name", GRIDS)
def test_round_trips(name: str, x64: bool) -> None:
    convention, dtype = CONVENTIONS[name], naive.precision(x64)
    t = np.geomspace(1.1e-4, 2e4, 25) if name == "DDPM" else np.geomspace(1e-25, 1e6, 25)
    t = t.astype(dtype)
    clocks = convention.clock(t)
    # The clock is rounded, amplified by d log t/d log clock: 2/(1 - time) in FLOW, k beta_k (1 + 1/t) < 40 in DDPM,
    # 1 + log(1 + t) or less elsewhere.  DDPM also rounds log t.
    amplified = {"FLOW": 2 * (1 + np.sqrt(t)), "DDPM": 40 + np.abs(np.log(t))}.get(name, np.log1p(t))
    allowed = naive.allowed(dtype, amplified)
    np.testing.assert_array_less(np.abs(np.asarray(convention.t(clocks)) / t - 1), allowed)
    np.testing.assert_array_less(np.abs(np.asarray(convention.noising(t).t) / t - 1), naive.allowed(dtype, 0))
    assert np.all(np.diff(np.asarray(clocks)) >= 0)


def test_the_indices_of_the_reference_schedule() -> None:
    # Indices 15 and 2 of the linear schedule, the noises at which images were probed in arXiv 2410.08727.
    np.testing.assert_allclose(DDPM.t([15, 2]), [4.0e-3, 3.6e-4], rtol=5e-3)
    np.testing.assert_allclose(DDPM.clock(DDPM.t([15, 2])), [15, 2], rtol=1e-4)


def test_fractional_indices_interpolate_log_t() -> None:
    with jax.enable_x64(True):
        t = np.asarray(DDPM.t(np.arange(1000)))
        geometric = [np.sqrt(t[0] * t[1]), t[700] ** 0.75 * t[701] ** 0.25]
        np.testing.assert_allclose(DDPM.t([0.5, 700.25]), geometric, rtol=1e-12)
        between = np.random.default_rng(0).uniform(0, 999, 200)
        np.testing.assert_allclose(DDPM.clock(DDPM.t(between)), between, rtol=1e-9)
        # As samplers of model libraries look up the index of a standard deviation.
        sigma = 0.3
        low = int(np.flatnonzero(np.sqrt(t) <= sigma)[-1])
        weight = (np.log(sigma) - np.log(t[low]) / 2) / (np.log(t[low + 1]) / 2 - np.log(t[low]) / 2)
        np.testing.assert_allclose(DDPM.clock(sigma**2), low + weight, rtol=1e-12)
        # Points between indices are those of their t, hence variance preserving.
        halfway = at("DDPM", 0.5)
        np.testing.assert_allclose(halfway.scale**2 + halfway.std**2, 1, rtol=1e-14)


# Simulation.  Independent directions of Gaussian data, of which one is weak.

VARIANCES = np.array([4.0, 1.0, 0.04])
SAMPLES = 40_000  # the scatter of x^2 is 1.4 of its mean: 5 % of a score is 7 standard errors
# Six predictions, three directions: correct code fails somewhere with probability 1e-4.
Z = float(scipy.stats.norm.isf(1e-4 / 2 / (len(CASES) * 6 * VARIANCES.size)))


class Sample(NamedTuple):
    """Simulated points with what they are made of: x = scale y + std z."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    scale: float
    std: float


def simulate(name: str, clock: float) -> Sample:
    """Run the forward process, noise and data apart (it is linear), with scale and std of the chain itself."""
    rng = np.random.default_rng(CASES.index((name, clock)))
    a, b = steps(name, clock, 50)
    scale, std = chain_moments(a, b)
    y = np.sqrt(VARIANCES) * rng.standard_normal((SAMPLES, VARIANCES.size))
    noise_part = np.zeros_like(y)
    for factor, size in zip(a, b, strict=True):
        noise_part = factor * noise_part + size * rng.standard_normal(y.shape, np.float32)
    return Sample(scale * y + noise_part, y, noise_part / std, scale, std)


def predict(name: str, clock: float, x: np.ndarray) -> noise.Prediction:
    """What the toolkit says at simulated points, from the posterior mean of Gaussian data, in float64."""
    with jax.enable_x64(True):
        noising = at(name, clock)
        scale, std = (float(m) for m in noising)
        return noise.from_denoised(x * (scale * VARIANCES / (scale**2 * VARIANCES + std**2)), x, noising)


def z_scores(sample: Sample, **predictions: Any) -> dict[str, np.ndarray]:
    """Deviation of each prediction from its meaning, in standard errors, per direction.

    The regression of target minus prediction on x has no slope; the score of the density of x has E[x score] = -1.
    """
    scale, std = sample.scale, sample.std
    targets = {
        "denoised": sample.y,
        "epsilon": sample.z,
        "v": scale * sample.z - std * sample.y,
        "velocity": sample.z - sample.y,
    }
    draws = {key: (target - np.asarray(predictions[key])) * sample.x for key, target in targets.items()}
    draws["score"] = np.asarray(predictions["score"]) * sample.x + 1
    draws["ve_score"] = np.asarray(predictions["ve_score"]) * sample.x / scale + 1
    return {key: d.mean(0) / (d.std(0, ddof=1) / np.sqrt(SAMPLES)) for key, d in draws.items()}


OUTPUTS = ("denoised", "epsilon", "score", "ve_score", "v", "velocity")


@pytest.mark.parametrize(("name", "clock"), CASES)
def test_predictions_are_conditional_means(name: str, clock: float) -> None:
    sample = simulate(name, clock)
    said = predict(name, clock, sample.x)
    deviations = z_scores(sample, **{key: getattr(said, key) for key in OUTPUTS})
    assert set(deviations) == set(OUTPUTS)
    for key, z in deviations.items():
        np.testing.assert_array_less(np.abs(z), Z, err_msg=key)


@pytest.mark.parametrize(("name", "clock"), MODERATE)
def test_wrong_predictions_are_noticed(name: str, clock: float) -> None:
    sample = simulate(name, clock)
    said = predict(name, clock, sample.x)
    right = {key: np.asarray(getattr(said, key)) for key in OUTPUTS}
    off = {key: 1.05 * value for key, value in right.items()}
    flipped = {key: -value for key, value in right.items()}
    swapped = right | {
        "denoised": right["denoised"] * sample.scale * 0.9,
        "epsilon": right["epsilon"] * sample.std,
        "v": right["velocity"],
        "velocity": right["v"],
    }
    # In the direction where it shows most: a v, for one, is nothing where data and noise have one variance.
    for wrong in (off, flipped):
        for key, z in z_scores(sample, **wrong).items():
            assert np.abs(z).max() > Z, key
    for key in ("denoised", "epsilon", "v", "velocity"):
        assert np.abs(z_scores(sample, **swapped)[key]).max() > Z, key
    if sample.scale < 0.9:  # the score at the convention's points is not that at the toolkit's
        wrong = right | {"score": right["ve_score"], "ve_score": right["score"]}
        assert np.abs(z_scores(sample, **wrong)["score"]).min() > Z
        assert np.abs(z_scores(sample, **wrong)["ve_score"]).min() > Z


def test_velocity_is_the_slope_of_the_straight_line() -> None:
    rng = np.random.default_rng(0)
    y, z = rng.standard_normal((2, 5))
    with jax.enable_x64(True):
        early, late = (at("FLOW", clock) for clock in (0.3, 0.3001))
        slope = ((late.scale * y + late.std * z) - (early.scale * y + early.std * z)) / 1e-4
        said = noise.from_velocity(slope, early.scale * y + early.std * z, early)
    np.testing.assert_allclose(said.denoised, y, rtol=1e-9)  # the rounding of a difference of step 1e-4
    np.testing.assert_allclose(said.epsilon, z, rtol=1e-9)


# Conversions to rounding: Gaussian data of any variance, every prediction into every other.

READINGS: dict[str, noise.Reading] = {
    "denoised": noise.from_denoised,
    "epsilon": noise.from_epsilon,
    "score": noise.from_score,
    "v": noise.from_v,
    "velocity": noise.from_velocity,
}
SPECTRUM = np.array([0.0, 1e-6, 1e-3, 1.0, 1e3, 1e6])


def coefficients(variances: Any, scale: Any, std: Any, xp: Any = np) -> dict[str, Any]:
    """Every prediction for Gaussian data is a factor times x, with the total variance below it."""
    total = scale**2 * variances + std**2
    return {
        "denoised": scale * variances / total,
        "epsilon": std / total,
        "score": -1 / total,
        "ve_score": -scale / total,
        "v": scale * std * (1 - variances) / total,
        "velocity": (std - scale * variances) / total,
    }


def bounds(source: str, exact: dict[str, np.ndarray], x: np.ndarray, scale: Any, std: Any) -> dict[str, np.ndarray]:
    """Roundings that each output may be off by: those of the two parts, as eq. (4) amplifies them, and their sums."""
    y, z = np.abs(exact["denoised"]), np.abs(exact["epsilon"])
    size = np.abs(x)
    if source == "denoised":
        of_y, of_z = y, (size + scale * y) / std
    elif source in ("epsilon", "score"):
        of_y, of_z = (size + std * z) / scale, z
    else:  # v and u determine both parts without a small denominator
        norm = scale**2 + std**2 if source == "v" else scale + std
        along_y, along_z = (scale, std) if source == "v" else (1.0, 1.0)
        given = np.abs(exact[source])
        of_y, of_z = (along_y * size + std * given) / norm, (along_z * size + scale * given) / norm
    return {
        "denoised": of_y,
        "epsilon": of_z,
        "score": of_z / std,
        "ve_score": of_z * scale / std,
        "v": scale * of_z + std * of_y,
        "velocity": of_z + of_y,
    }


@pytest.mark.parametrize("source", READINGS)
def test_conversions_lose_nothing_but_rounding(source: str, x64: bool) -> None:
    dtype = naive.precision(x64)
    pairs = [at(name, clock) for name, clock in CASES] + [noise.Noising(jnp.asarray(3.0), jnp.asarray(0.2))]
    scale, std = (np.array([float(m[i]) for m in pairs], dtype) for i in (0, 1))
    x = np.random.default_rng(1).standard_normal((scale.size, SPECTRUM.size)).astype(dtype)
    a, s, v = scale.astype(LONG)[:, None], std.astype(LONG)[:, None], SPECTRUM.astype(LONG)
    exact = {key: c * x.astype(LONG) for key, c in coefficients(v, a, s).items()}
    noising = noise.Noising(jnp.asarray(scale), jnp.asarray(std))
    found = READINGS[source](exact[source].astype(dtype), x, noising)
    bound = bounds(source, exact, x.astype(LONG), a, s)
    for key in OUTPUTS:
        value = np.asarray(getattr(found, key))
        assert value.dtype == dtype
        error = np.abs(value - exact[key])
        # Ten roundings; the square of scale and std below v is one more on each side.
        np.testing.assert_array_less(error, 10 * np.finfo(dtype).eps * bound[key] + 1e-300, err_msg=key)
        # The bound is tight enough to see a formula that is off by a part in ten thousand.
        if source in ("v", "velocity") or key == source:
            assert np.all(10 * np.finfo(dtype).eps * bound[key][:, 3] < 1e-4 * np.abs(bound[key][:, 3]))


@pytest.mark.parametrize(("name", "clock"), [(name, clocks[0]) for name, clocks in CLOCKS.items()])
def test_single_precision_keeps_its_digits_at_the_smallest_noise(name: str, clock: float) -> None:
    noising = at(name, clock)
    assert noising.scale.dtype == np.float32
    x = np.random.default_rng(2).standard_normal(50).astype(np.float32)
    scale, std = (LONG(float(m)) for m in noising)
    exact = {key: c * x.astype(LONG) for key, c in coefficients(LONG(1), scale, std).items()}
    epsilon = exact["epsilon"].astype(np.float32)
    direct = noise.from_epsilon(epsilon, x, noising)
    through_data = noise.from_denoised(direct.denoised, x, noising)
    for key in ("score", "ve_score", "epsilon"):
        np.testing.assert_allclose(getattr(direct, key), exact[key], rtol=1e-6)  # eight roundings
    # A detour over the denoiser would show: it leaves a rounding of |x|/std in an epsilon of std |x|.
    detour = np.abs(np.asarray(through_data.score) / exact["score"] - 1)
    assert detour.max() > 1e-4


def test_predictions_of_one_noise_per_point_or_one_for_all() -> None:
    t = np.array([1e-3, 1.0, 50.0])
    x = np.random.default_rng(3).standard_normal((3, 4)).astype(np.float32)
    all_at_once = noise.from_v(0.3 * x, x, noise.OU.noising(t))
    for i in range(3):
        one = noise.from_v(0.3 * x[i], x[i], noise.OU.noising(t[i]))
        for key in OUTPUTS:
            np.testing.assert_allclose(getattr(all_at_once, key)[i], getattr(one, key), rtol=1e-6)
    np.testing.assert_array_equal(all_at_once.noising.t, noise.OU.noising(t).t)
    numbers = noise.from_score([0.5, 0.25], [1.0, 2.0], noise.Noising(0.6, 0.8))  # type: ignore[arg-type]
    np.testing.assert_allclose(numbers.denoised, [1.32 / 0.6, 2.16 / 0.6], rtol=1e-6)


# A foreign model, written in its own convention, as this toolkit's denoiser.


def moments_of(name: str, clock: Any) -> tuple[Any, Any]:
    """Scale and standard deviation at a clock, as somebody else would write them."""
    if name == "VE":
        return 1.0, jnp.sqrt(clock)
    if name == "EDM":
        return 1.0, clock
    if name == "FLOW":
        return 1 - clock, clock
    if name == "OU":
        alpha_bar = jnp.exp(-2 * clock)
    elif name == "VP":
        alpha_bar = jnp.exp(-0.1 * clock - 9.95 * clock**2)
    else:
        alpha_bar = jnp.cumprod(1 - BETAS)[jnp.round(clock).astype(int)]
    return jnp.sqrt(alpha_bar), jnp.sqrt(1 - alpha_bar)


def foreign(name: str, kind: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    def model(x_conv: jax.Array, clock: jax.Array) -> jax.Array:
        return coefficients(jnp.asarray(VARIANCES), *moments_of(name, clock))[kind] * x_conv

    return model


POINT = np.array([1.0, -2.0, 0.3])


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_foreign_model_becomes_a_denoiser(name: str) -> None:
    convention = CONVENTIONS[name]
    models = [noise.as_denoiser(foreign(name, kind), convention, reading) for kind, reading in READINGS.items()]

    def all_kinds(x: jax.Array, t: jax.Array) -> jax.Array:
        return jnp.stack([denoise(x, t) for denoise in models])

    with jax.enable_x64(True):
        t = np.asarray(convention.t(np.asarray(CLOCKS[name])))
        both = jax.vmap(lambda t: (all_kinds(POINT, t), jax.jacfwd(all_kinds)(POINT, t)))
        found, gains = jax.jit(both)(t)
    wiener = VARIANCES / (VARIANCES + t[:, None, None])
    # The foreign model's own 1 - abar loses digits at the smallest noise (rounding over 2e-5, say), and an epsilon is
    # amplified at the largest.
    np.testing.assert_allclose(found, np.broadcast_to(wiener * POINT, found.shape), rtol=1e-7, atol=1e-10)
    diagonal = wiener[..., None] * np.eye(POINT.size)
    np.testing.assert_allclose(gains, np.broadcast_to(diagonal, gains.shape), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("kind", READINGS)
def test_the_wrong_reading_is_noticed(kind: str) -> None:
    for other, reading in READINGS.items():
        found = noise.as_denoiser(foreign("OU", kind), noise.OU, reading)(POINT, 0.5)
        assert (other == kind) == np.allclose(found, POINT * VARIANCES / (VARIANCES + 0.5), rtol=1e-3)


@pytest.mark.parametrize("wrong", ["EDM", "VP", "FLOW"])
def test_the_wrong_convention_is_noticed(wrong: str) -> None:
    denoise = noise.as_denoiser(foreign("OU", "epsilon"), CONVENTIONS[wrong], noise.from_epsilon)
    assert np.abs(np.asarray(denoise(POINT, 0.5)) / (POINT * VARIANCES / (VARIANCES + 0.5)) - 1).max() > 0.05


def test_a_convention_of_ones_own() -> None:
    """Three functions make a convention: the cosine schedule in its angle."""
    angle = noise.Convention(
        lambda t: noise.Noising(jnp.cos(jnp.arctan(jnp.sqrt(t))), jnp.sin(jnp.arctan(jnp.sqrt(t)))),
        lambda t: jnp.arctan(jnp.sqrt(t)),
        lambda phi: jnp.tan(phi) ** 2,
    )
    variances = jnp.asarray(VARIANCES)
    model = lambda x, phi: coefficients(variances, jnp.cos(phi), jnp.sin(phi))["v"] * x  # noqa: E731
    found = noise.as_denoiser(model, angle, noise.from_v)(jnp.ones(3), 0.5)
    np.testing.assert_allclose(found, VARIANCES / (VARIANCES + 0.5), rtol=1e-5)


# References.


def test_collapse_times_in_the_clock_of_biroli_et_al() -> None:
    # arXiv 2402.18491: one half log(1 + 1/(n^(2/d) - 1)), n = 20 000, d = 256, 1024, 4096.
    spectra = [np.arange(4096) < d for d in (256, 1024, 4096)]  # null directions add nothing
    times = [float(noise.OU.clock(theory.condensation_time(v.astype(float), n=20_000))) for v in spectra]
    np.testing.assert_allclose(times, [1.2988, 1.9775, 2.6671], atol=5e-5)


def test_speciation_times_are_half_a_logarithm() -> None:
    found = np.asarray(noise.speciation_time([np.e**4, 1.0, np.exp(-2), 0.0]))
    np.testing.assert_allclose(found[:3], [2, 0, -1], rtol=1e-6)
    assert np.isneginf(found[3])


def curvature(time: float, separation: float, inner: float) -> float:
    """Second difference, at 0, of the log density of two clusters noised for a time."""
    scale, std = np.exp(-time), np.sqrt(-np.expm1(-2 * time))
    width = np.sqrt(std**2 + scale**2 * inner)
    x = np.array([-1e-3, 0, 1e-3]) * width
    each = [scipy.stats.norm.logpdf(x, sign * scale * np.sqrt(separation), width) for sign in (-1, 1)]
    return float(np.diff(np.logaddexp(*each), 2)[0])


@pytest.mark.parametrize("inner", [0.0, 0.5, 1.0])
def test_two_clusters_part_at_the_speciation_time(inner: float) -> None:
    """Where the density gets a second peak; to relative order 1/variance, with the coefficient of the derivation."""
    deviations = []
    for largest in (30.0, 300.0):
        part = scipy.optimize.brentq(curvature, 0.1, 6, args=(largest - inner, inner), xtol=1e-12)
        deviations.append((part - float(noise.speciation_time([largest])[0])) * largest)
    # d tau = (1 - 2 inner)/2 Lambda, and second differences of step 1e-3 are good to 1e-6 of Lambda.
    np.testing.assert_allclose(deviations, (1 - 2 * inner) / 2, atol=0.02)


# The border and the transformations.


def test_what_is_refused() -> None:
    for convention in CONVENTIONS.values():
        for bad in (0.0, -1.0, np.nan, np.inf):
            with pytest.raises(ValueError, match=r"^t must be "):
                convention.clock(bad)
            with pytest.raises(ValueError, match=r"^t must be finite and > 0 in float32, got t = "):
                convention.noising(bad)
    for name, argument, bad in [
        ("VE", "t", -1.0),
        ("EDM", "sigma", np.inf),
        ("OU", "time", -1e-9),
        ("VP", "time", np.nan),
        ("FLOW", "time", 1.0001),
        ("DDPM", "index", 999.5),
        ("DDPM", "index", -1.0),
    ]:
        with pytest.raises(ValueError, match=f"^{argument} must be (between|finite)[^\n]*, got {argument} = {bad}$"):
            CONVENTIONS[name].t(bad)
    for t in (0.99e-4, 2.6e4):  # outside the schedule there is no index to ask a model for
        with pytest.raises(ValueError, match=r"^t must be between 9\.991e-05 and 24801\.8, got t = "):
            DDPM.clock(t)
    for betas, text in [
        ([0.1], "shape"),
        (np.ones((2, 2)), "shape"),
        ([0.1, 1.0], r"betas\[1\] = 1.0"),
        ([0.0, 0.1], r"betas\[0\] = 0.0"),
        ([0.1, np.nan], r"betas\[1\] = nan"),
    ]:
        with pytest.raises(ValueError, match=text):
            noise.ddpm(betas)
    for line in [(-0.1, 1.0), (2.0, 1.0), (0.0, 0.0), (0.1, np.inf), (np.nan, 1.0)]:
        with pytest.raises(ValueError, match="beta_min"):
            noise.vp(*line)
    for reading in READINGS.values():
        with pytest.raises(ValueError, match=r"one shape s \+ \(d,\), got shapes \(3,\) and \(2,\)"):
            reading(np.ones(3), np.ones(2), noise.VE.noising(1.0))
        with pytest.raises(ValueError, match="one shape"):
            reading(1.0, 1.0, noise.VE.noising(1.0))
        with pytest.raises(ValueError, match="std must be finite and > 0"):
            reading(np.ones(2), np.ones(2), noise.Noising(jnp.ones(()), jnp.zeros(())))
        with pytest.raises(ValueError, match="scale must be finite and > 0"):
            reading(np.ones(2), np.ones(2), noise.Noising(jnp.asarray(-1.0), jnp.ones(())))
    with pytest.raises(ValueError, match="variances"):
        noise.speciation_time([-1.0])


def test_no_noise_and_all_noise() -> None:
    for name in ("VE", "EDM", "OU", "VP", "FLOW"):
        assert CONVENTIONS[name].t(0) == 0
    assert np.isposinf(noise.FLOW.t(1))
    constant = noise.vp(2.0, 2.0)  # a constant rate 2 is the clock of OU
    np.testing.assert_allclose(constant.t(0.7), noise.OU.t(0.7), rtol=1e-6)
    np.testing.assert_allclose(constant.clock(0.7), noise.OU.clock(0.7), rtol=1e-6)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_traced_values_outside_give_nan(name: str) -> None:
    convention = CONVENTIONS[name]
    bad = jnp.array([-0.5, jnp.nan])
    assert np.all(np.isnan(jax.jit(convention.t)(bad)))
    assert np.all(np.isnan(jax.jit(convention.clock)(bad)))
    assert np.isnan(jax.jit(convention.noising)(bad).std).all()
    if name == "DDPM":
        assert np.all(np.isnan(jax.jit(convention.clock)(jnp.array([5e-5, 3e4]))))
    if name == "FLOW":
        assert np.isnan(jax.jit(convention.t)(1.5))


@pytest.mark.parametrize("name", CONVENTIONS)
def test_derivatives_and_batches(name: str) -> None:
    convention = CONVENTIONS[name]

    def all_functions(clock: jax.Array, t: jax.Array) -> jax.Array:
        return jnp.stack([convention.t(clock), convention.clock(t), *convention.noising(t)])

    # Not at an index, where the interpolation of DDPM has a kink.
    clocks = np.array([0.4, 100.4, 998.4] if name == "DDPM" else CLOCKS[name]) * (1 - 1e-4)
    t = np.array([2e-4, 0.3, 100.0])
    with jax.enable_x64(True):
        values, slopes = jax.jit(jax.vmap(lambda *at: jax.jvp(all_functions, at, at)))(clocks, t)
        batch = all_functions(clocks, t)
        up, down = (all_functions(clocks * (1 + h), t * (1 + h)) for h in (1e-6, -1e-6))
        numerical = (up - down) / 2e-6
    np.testing.assert_allclose(np.transpose(values), batch, rtol=1e-14)
    # Central differences of relative step h = 1e-6: rounding over h, and a curvature of (h/(1 - 0.99))^2 in FLOW.
    error = np.abs(np.transpose(slopes) - numerical)
    np.testing.assert_array_less(error, 1e-7 * np.abs(numerical) + 1e-9 * np.abs(batch))
    assert np.all(np.abs(np.transpose(slopes)[:2]) > 1e-2 * np.abs(batch[:2]))


def test_predictions_pass_through_transformations() -> None:
    x = jnp.arange(1.0, 5.0)

    def total(scale: jax.Array, std: jax.Array) -> jax.Array:
        said = noise.from_epsilon(0.3 * x, x, noise.Noising(scale, std))
        return jnp.sum(said.denoised)

    slope = jax.jit(jax.grad(total, (0, 1)))(0.8, 0.6)
    # sum (x - std e)/scale
    np.testing.assert_allclose(slope, [-(10 - 0.6 * 3) / 0.64, -3 / 0.8], rtol=1e-5)
    whole = jax.jit(lambda t: noise.from_v(x, x, noise.OU.noising(t)))(2.0)  # a Prediction is a pytree
    assert isinstance(whole, noise.Prediction)
    np.testing.assert_allclose(whole.noising.t, 2.0, rtol=1e-6)
