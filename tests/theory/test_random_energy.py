"""The random-energy predictor: brute force, its weak-signal limit, where it holds on a sphere and where it does not."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import theory
from theory import random_energy, random_energy_spectrum

from . import naive
from .naive import FLOAT
from .test_transformations import D, program, quickly

KINDS = [True, False]  # normalized
LOG_SIZES = [1e-3, math.log(2), 6.0, 40.0, 1e4, 1e6]
NOISES = [1e-8, 1e-3, 0.2, 10.0, 1e4]
LADDER = np.asarray(naive.SPECTRA["ladder"])
# The toy of the paper, as it stands and on the unit sphere (mean squares of 4e6 points: 0.3521 and 0.0592).
TOY = np.repeat([1.0, 0.09, 0.0], [2, 5, 23])
TOY_SIZES = [250, 1000, 20_000]


def energy_variance(v: np.ndarray, x: np.ndarray, normalized: bool) -> np.ndarray:
    """Equation (1), one point per row."""
    constant = 0 if normalized else np.sum(v**2) / 2
    return constant + np.sum(v * np.asarray(x, FLOAT) ** 2, axis=-1)


def probe_time(v: np.ndarray, log_n: Any, t: Any, normalized: bool) -> np.ndarray:
    """Equation (3), which is equation (2) at the points sqrt(t) e_i; the last axis runs over directions."""
    constant = 0 if normalized else np.sum(v**2) / 2
    return np.sqrt((constant + naive.last(t) * v) / (2 * naive.last(log_n)))


def below(t: Any, time: np.ndarray) -> np.ndarray:
    return np.where(time > t, 1 - t / np.where(time > 0, time, 1), 0)


def assert_close(found: Any, expected: np.ndarray, dtype: np.dtype, scale: Any = None) -> None:
    """Compare sums of positive terms, which have no condition number; or with an error relative to ``scale``."""
    found = np.asarray(found)
    assert found.dtype == dtype
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(found), finite)
    bound = naive.allowed(dtype, 0) * np.broadcast_to(expected if scale is None else scale, expected.shape)[finite]
    np.testing.assert_array_less(np.abs(found[finite] - expected[finite]), bound + 1e-300)


# Another length is another program: the short and the long spectrum get the harder precision and all terms.
CASES = [(name, kind, double) for name in naive.SPECTRA for kind in KINDS for double in (False, True)]
CASES = [case for case in CASES if case[1:] == (False, False) or len(naive.SPECTRA[case[0]]) == naive.WIDTH]


@pytest.mark.parametrize(("name", "normalized", "double"), CASES)
def test_the_printed_formulas(name: str, normalized: bool, double: bool) -> None:
    dtype = naive.precision(double)
    v = np.asarray(naive.SPECTRA[name], dtype)
    exact = v.astype(FLOAT)
    sizes, noises = np.asarray(LOG_SIZES, dtype)[:, None], np.asarray(NOISES, dtype)
    x = (
        np.random.default_rng(0).standard_normal((3, 1, v.size)).astype(dtype)
        * np.array([1e-3, 1, 1e3], dtype)[:, None, None]
    )
    probe: Any = {"log_n": sizes, "t": noises, "normalized": normalized}
    with jax.enable_x64(double):
        at_points = random_energy.condensation_time(v, log_n=sizes[:, 0], x=x, normalized=normalized)
        expected = np.sqrt(energy_variance(exact, x, normalized) / (2 * sizes[:, 0].astype(FLOAT)))
        assert_close(at_points, expected, dtype)
        # 1 - t/t_c: a few roundings, absolute.
        t = (expected * np.array([[0.3], [0.9], [1.1]])).astype(dtype)
        ratio = random_energy.participation(v, log_n=sizes[:, 0], t=t, x=x, normalized=normalized)
        assert_close(ratio, below(t, expected), dtype, 1)

        expected = probe_time(exact, sizes, noises, normalized)
        assert_close(random_energy.probe_condensation_times(v, **probe), expected, dtype)
        ratios = below(noises[:, None], expected)
        assert_close(random_energy.probe_participations(v, **probe), ratios, dtype, 1)

        origin = np.sqrt(energy_variance(exact, np.zeros(v.size), normalized) / (2 * sizes.astype(FLOAT)))
        wiener = exact / (noises[:, None] + exact)
        dimension = np.sum(wiener, axis=-1)[:, None]
        square = (1 - wiener) ** 2 + dimension * (below(noises, origin)[..., None] + ratios)
        squared = np.asarray(random_energy_spectrum.singular_values(v, **probe)) ** 2
        # Ratios have absolute errors, 1 - v/(t + v) as it is computed here one in longdouble.
        assert_close(squared, square, dtype, 4 * (square + dimension) + 1e-18)
        for cut in (0.1, 0.5):
            counted = np.sum((wiener > cut) & (expected < noises[:, None]), axis=-1)
            np.testing.assert_array_equal(random_energy_spectrum.dimension_count(v, cut=cut, **probe), counted)


@pytest.mark.parametrize(("name", "normalized", "double"), CASES)
def test_freeze_out_is_where_the_probe_condenses(name: str, normalized: bool, double: bool) -> None:
    """Times and sizes against bisections of t_{c,i}(t) = t, in t and in N: the closed forms are not used."""
    dtype = naive.precision(double)
    v = np.asarray(naive.SPECTRA[name], dtype)
    exact = v.astype(FLOAT)
    some = np.arange(0, v.size, 1 if v.size <= naive.WIDTH else 499)
    constant = 0 if normalized else np.sum(exact**2) / 2
    sizes, noises = np.asarray(LOG_SIZES, dtype), np.asarray(NOISES[1:], dtype)

    def condensed(log_n: Any, t: Any) -> np.ndarray:
        return np.sqrt((constant + t * exact[some]) / (2 * log_n)) - t

    ends = np.full((sizes.size, some.size), -60.0), 60.0
    times = np.exp(naive.root(lambda u: condensed(naive.last(sizes), np.exp(u)), *ends))
    ends = np.full((noises.size, some.size), -60.0), 60.0
    log_sizes = np.exp(naive.root(lambda u: condensed(np.exp(u), naive.last(noises)), *ends))
    with jax.enable_x64(double):
        found = np.asarray(random_energy.freeze_out_times(v, log_n=sizes, normalized=normalized))[:, some]
        assert_close(found, np.where(v[some] > 0, times, np.inf), dtype)
        found = np.asarray(random_energy.freeze_out_sizes(v, noises, normalized=normalized))[:, some]
        assert_close(found, np.where(v[some] > 0, log_sizes, np.inf), dtype)


WRONG = {
    "factor of the fourth powers": lambda v, x, s: np.sqrt((1.05 * np.sum(v**2) / 2 + np.sum(v * x**2)) / (2 * s)),
    "normalized": lambda v, x, s: np.sqrt(np.sum(v * x**2) / (2 * s)),
    "standard deviation of x": lambda v, x, s: np.sqrt((np.sum(v**2) / 2 + np.sum(v * abs(x))) / (2 * s)),
    "one part in 1e8": lambda v, x, s: (1 + 1e-8) * np.sqrt((np.sum(v**2) / 2 + np.sum(v * x**2)) / (2 * s)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_formula_is_noticed(wrong: str) -> None:
    x = np.random.default_rng(0).standard_normal(32)
    with jax.enable_x64(True):
        found = random_energy.condensation_time(LADDER, log_n=6.0, x=x, normalized=False)
    with pytest.raises(AssertionError):
        assert_close(found, WRONG[wrong](LADDER, x, 6.0), np.dtype(np.float64))


# --- the statistics behind the formula ---------------------------------------------------------------------------


def draw(rng: np.random.Generator, v: np.ndarray, n: int, normalized: bool) -> np.ndarray:
    y = rng.standard_normal((n, v.size)) * np.sqrt(v)
    return y / np.linalg.norm(y, axis=1, keepdims=True) if normalized else y


def weights(y: np.ndarray, x: np.ndarray, t: float) -> np.ndarray:
    """Weights of the exact score at points ``x`` ``(k, d)``, shape ``(k, n)``."""
    energy = (x @ y.T - np.sum(y**2, axis=1) / 2) / t
    w = np.exp(energy - energy.max(axis=1, keepdims=True))
    return w / w.sum(axis=1, keepdims=True)


def mean_and_error(samples: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error over axis 0."""
    samples = np.asarray(samples)
    return samples.mean(axis=0), samples.std(axis=0, ddof=1) / np.sqrt(len(samples))


# Comparisons with simulation below: under 60 in all.  Correct code fails one of them with probability below 1e-4.
Z = 4.8


def energy_z(rng: np.random.Generator, normalized: bool, predicted_as: bool) -> float:
    v = np.repeat([0.075, 0.025], [10, 10]) if normalized else LADDER
    x = 0.3 * rng.standard_normal(v.size)
    y = draw(rng, v, 50_000, normalized)
    if normalized:
        v = np.mean(draw(rng, v, 200_000, True) ** 2, axis=0)  # the variances of the normalized data
    energy = y @ x - np.sum(y**2, axis=1) / 2
    mean, error = mean_and_error((energy - energy.mean()) ** 2)
    predicted = 2 * float(random_energy.condensation_time(v, log_n=1.0, x=x, normalized=predicted_as)) ** 2
    return float(abs(mean - predicted) / error)


@pytest.mark.parametrize("normalized", KINDS)
def test_energies_vary_as_much_as_is_assumed(normalized: bool) -> None:
    rng = np.random.default_rng(0)
    assert energy_z(rng, normalized, normalized) < Z
    assert energy_z(rng, normalized, not normalized) > Z  # the gate of the fourth powers matters


# --- the weak-signal limit ---------------------------------------------------------------------------------------


def relative_entropy(v: np.ndarray, t: Any, x: np.ndarray | float = 0.0) -> np.ndarray:
    """Of the posterior of Gaussian data at ``x`` to the prior: the criterion that the predictor expands."""
    noise = naive.last(t)
    v = np.asarray(v, FLOAT)
    return np.sum(np.log1p(v / noise) - v / (noise + v) + v * x**2 / (noise + v) ** 2, axis=-1) / 2


def exact_time(v: np.ndarray, log_n: Any, x: np.ndarray | float = 0.0) -> np.ndarray:
    size = np.asarray(log_n, FLOAT)
    return np.exp(naive.root(lambda u: relative_entropy(v, np.exp(u), x) - size, -60.0 + 0 * size, 60.0))


@pytest.mark.parametrize("at", ["origin", "point"])
def test_weak_signals_condense_where_the_relative_entropy_says(at: str) -> None:
    r"""The ratio of the times is 1 + c/t + O(1/t^2), with c = (2/3) sum v^3/sum v^2 at the origin.

    At a point V/2t^2 minus the entropy is sum(v^3/3 + v^2 x^2 t)/t^3 + ..., so that
    c/t = half of that over V/2t^2.
    """
    x = np.zeros(32) if at == "origin" else np.random.default_rng(1).standard_normal(32)
    sizes = np.array([1e-5, 1e-7, 1e-9])  # far fewer nats than directions
    with jax.enable_x64(True):
        found = np.asarray(random_energy.condensation_time(LADDER, log_n=sizes, x=x, normalized=False))
    expected = exact_time(LADDER, sizes, x)
    variance = energy_variance(LADDER, x, False)
    c = np.sum(LADDER**3 / 3 + LADDER**2 * x**2) / variance
    if at == "origin":
        np.testing.assert_allclose(c, 2 / 3 * np.sum(LADDER**3) / np.sum(LADDER**2))
    order = (found / expected - 1) * expected / c
    # The next order is t_c^-1 times a number of order 1: 1e-2, 1e-3, 1e-4.
    np.testing.assert_array_less(np.abs(order - 1), 3 / expected)
    assert np.all(expected[1:] > 9 * expected[:-1])
    assert np.all(np.abs(1.05 * found / expected - 1) * expected / c > 1.5)  # 5 % off: not this limit


# --- where it is off: few strong directions, not normalized ------------------------------------------------------


def test_the_toy_of_the_paper_condenses_ten_times_later() -> None:
    predicted = np.asarray(random_energy.condensation_time(TOY, TOY_SIZES, np.zeros(30), normalized=False))
    entropic = exact_time(TOY, np.log(TOY_SIZES))
    np.testing.assert_allclose(predicted, [0.304, 0.272, 0.227], atol=5e-4)
    np.testing.assert_allclose(entropic, [0.0175, 0.0108, 0.0042], atol=5e-5)
    assert np.all(predicted / entropic > 10)
    rng = np.random.default_rng(2)
    for n, time, early in zip(TOY_SIZES, entropic.astype(float), predicted, strict=True):
        # Only the seven directions of the manifold matter at the origin.
        ratios = [
            [np.sum(weights(y, np.zeros((1, 7)), t) ** 2) for t in (early / 2, time * 2, time / 2)]
            for y in (draw(rng, TOY[:7], n, False) for _ in range(100))
        ]
        mean, error = mean_and_error(ratios)
        claimed = random_energy.participation(TOY, n, [early / 2], np.zeros(30), normalized=False)
        np.testing.assert_allclose(claimed, 0.5, rtol=1e-5)
        assert mean[0] + Z * error[0] < 0.05  # where it says one half
        assert mean[1] + Z * error[1] < 0.5  # the half lies within a factor of two of the entropic time
        assert mean[2] - Z * error[2] > 0.5


# --- where it holds: many weak directions on a sphere ------------------------------------------------------------


def levels_participation(rng: np.random.Generator, n: int, deviation: float) -> tuple[np.ndarray, np.ndarray]:
    """The random energy model itself: ``n`` Gaussian levels of that standard deviation, in units of temperature."""
    energy = deviation * rng.standard_normal((2000, n))
    w = np.exp(energy - energy.max(axis=1, keepdims=True))
    return mean_and_error(np.sum(w**2, axis=1) / np.sum(w, axis=1) ** 2)


def sphere(copies: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations 1 and 0.4 of 30 and 120 directions, some times over; variances before and after."""
    v = np.repeat([1.0, 0.16], [30 * copies, 120 * copies])
    squares = np.mean(draw(np.random.default_rng(3), v, 20_000 // copies, True) ** 2, axis=0)
    high, low = squares[: 30 * copies].mean(), squares[30 * copies :].mean()
    return v, np.where(v == 1, high, low)


def sphere_participation(
    copies: int, n: int, fraction: float, seeds: int, probes: int = 30
) -> tuple[np.ndarray, np.ndarray, Any]:
    """Measured ratios at probes of both groups, their errors, and what is predicted, at a fraction of the high t*."""
    v, after = sphere(copies)
    m = 30 * copies
    t = fraction * float(random_energy.freeze_out_times(after, n)[0])
    x = np.sqrt(t) * np.eye(v.size)[[*range(probes), *range(m, m + probes)]]
    rng = np.random.default_rng(4)
    measured = [np.sum(weights(draw(rng, v, n, True), x, t) ** 2, axis=1) for _ in range(seeds)]
    by_group = np.reshape(measured, (seeds, 2, probes)).mean(axis=2)
    return *mean_and_error(by_group), np.asarray(random_energy.probe_participations(after, n, t))[[0, m]]


@pytest.mark.parametrize("n", [300, 1000])
def test_on_a_sphere_high_variance_condenses_first(n: int) -> None:
    """d = 150: the order is real, and the ratio right to 0.1, at a quarter of the high freeze-out time (1/2)."""
    mean, error, predicted = sphere_participation(1, n, 0.25, seeds=12)
    np.testing.assert_allclose(predicted, [0.5, 0], atol=1e-5)
    assert (mean[0] - mean[1]) / np.hypot(*error) > Z
    assert abs(mean[0] - 0.5) < 0.1
    assert error[0] < 0.03  # else the line above would say little
    assert mean[0] > 2 * mean[1]
    # A prediction for the variances before normalization, with t_i* fifty times larger, is refuted.
    v, after = sphere(1)
    t = 0.25 * float(random_energy.freeze_out_times(after, n)[0])
    assert float(random_energy.probe_participations(v, n, t)[0]) - mean[0] > 0.3


def test_rounding_and_curvature_are_what_separates_theory_and_measurement() -> None:
    """N Gaussian levels are above the sharp formula; curvature of the sphere lowers that, less with more directions."""
    n, rng = 300, np.random.default_rng(5)
    deviations, errors = [], []
    for copies, seeds, probes in ((1, 40, 30), (10, 12, 300)):
        mean, error, _ = sphere_participation(copies, n, 0.25, seeds, probes)
        level, level_error = levels_participation(rng, n, np.sqrt(2 * np.log(n) / 0.25))
        assert level - Z * level_error > 0.5  # rounding
        deviations.append(float(level - mean[0]))
        errors.append(float(np.hypot(error[0], level_error)))
    assert deviations[0] > Z * errors[0]
    assert abs(deviations[1]) < Z * errors[1]
    assert deviations[0] - deviations[1] > 3 * np.hypot(*errors)


def test_rounding_at_the_freeze_out_time() -> None:
    for n, low, high in ((300, 0.15, 0.25), (1000, 0.12, 0.22), (5000, 0.08, 0.17)):
        mean, error, predicted = sphere_participation(1, n, 1.0, seeds=6)
        assert predicted[0] < 1e-5
        assert low < mean[0] - 2 * error[0]
        assert mean[0] + 2 * error[0] < high


# --- the response spectrum: qualitative --------------------------------------------------------------------------


def responses(y: np.ndarray, directions: list[int], t: float) -> np.ndarray:
    """Measured t times the norm of the score's change from the origin to the probes, over their length."""
    x = np.sqrt(t) * np.eye(y.shape[1])[directions]
    change = (weights(y, x, t) - weights(y, 0 * x, t)) @ y - x
    return np.linalg.norm(change, axis=1) / np.sqrt(t)


@pytest.mark.parametrize("normalized", KINDS)
def test_the_response_is_qualitative_only(normalized: bool) -> None:
    rng, directions = np.random.default_rng(6), [0, 2, 29]
    t = 0.1 if not normalized else 0.012
    v = np.where(TOY == 1, 0.3521, np.where(TOY > 0, 0.0592, 0)) if normalized else TOY
    measured, error = mean_and_error([responses(draw(rng, TOY, 1000, normalized), directions, t) for _ in range(40)])
    predicted = np.asarray(random_energy_spectrum.singular_values(v, 1000, t, normalized=normalized))[directions]
    np.testing.assert_allclose(measured[2], 1, rtol=1e-12)  # null directions: both ends have the same weights
    ratio = measured / predicted
    assert max(ratio.max(), 1 / ratio.min()) > 3
    assert np.all(error < 0.2 * measured)
    # Far above every transition it is right: the Wiener response, of normalized data |v/t - 1| to the same order.
    far, _ = mean_and_error([responses(draw(rng, TOY, 20_000, normalized), directions, 4.0) for _ in range(4)])
    predicted = np.asarray(random_energy_spectrum.singular_values(v, 20_000, 4.0, normalized=normalized))[directions]
    np.testing.assert_allclose(far, predicted, atol=0.02)


def test_the_gap_moves_as_printed_and_at_every_size() -> None:
    """28, 23, 25 as noise falls; the exact score does the same, but at a noise that does not depend on N."""
    v = np.where(TOY == 1, 0.3521, np.where(TOY > 0, 0.0592, 0))
    noises = np.geomspace(1, 0.02, 30)
    whole, separated, lost = random_energy_spectrum.gap_positions(30, 2, 5)
    switches: dict[str, list[float]] = {"predicted": [], "measured": []}
    rng = np.random.default_rng(7)
    for n in (250, 20_000):
        gaps = np.asarray(random_energy_spectrum.largest_gap(v, n, noises))
        order = [int(g) for g in gaps[np.flatnonzero(np.diff(gaps, prepend=-1))]]
        assert order == [separated, whole, lost][: len(order)]
        assert len(order) >= 2
        frozen = float(random_energy.freeze_out_times(v, n)[0])
        assert np.all(gaps[noises > frozen] != lost)
        y = draw(rng, TOY[:7], n, True)  # without the null directions, which respond by 1
        for name, of in (("predicted", None), ("measured", y)):
            at = [t for t in np.geomspace(0.3, 0.005, 25) if gap(v, n, t, of) == lost]
            switches[name].append(max(at))
    assert switches["predicted"][0] > 1.4 * switches["predicted"][1]
    np.testing.assert_allclose(*switches["measured"], rtol=0.2)  # the grid: 19 %
    assert min(switches["measured"]) > 3 * max(switches["predicted"])


def test_responses_above_those_of_null_directions_are_not_a_gap_of_their_own() -> None:
    """Thirty high variances at 5.4, ten null directions at 1, 120 low variances at 0.23: the low ones are seen."""
    v = np.repeat([0.0201, 0.0033, 0.0], [30, 120, 10])
    response = np.sort(np.asarray(random_energy_spectrum.singular_values(v, 300, 1e-3)))[::-1]
    assert np.argmax(response[:-1] - response[1:]) + 1 == 30
    assert random_energy_spectrum.largest_gap(v, 300, 1e-3) == 40
    assert random_energy_spectrum.gap_positions(160, 30, 120).high_lost == 40


def gap(v: np.ndarray, n: int, t: float, y: np.ndarray | None) -> int:
    if y is None:
        return int(random_energy_spectrum.largest_gap(v, n, t))
    seen = np.sort(np.append(np.minimum(responses(y, list(range(7)), t), 1), np.ones(23)))[::-1]
    return int(np.argmax(seen[:-1] - seen[1:])) + 1


# --- ends, transformations, errors -------------------------------------------------------------------------------


@pytest.mark.parametrize("normalized", KINDS)
def test_limits(normalized: bool) -> None:
    v, x, of = LADDER, np.ones(32), partial(dict, normalized=normalized)
    assert np.all(np.isposinf(random_energy.freeze_out_times(v, 1, **of())))
    assert np.isposinf(random_energy.condensation_time(v, 1, x, **of()))
    assert random_energy.participation(v, 1, 0.1, x, **of()) == 1
    assert np.all(np.asarray(random_energy.probe_participations(v, 1, 0.1, **of())) == 1)
    assert random_energy.condensation_time(v, log_n=np.inf, x=x, **of()) == 0
    assert not np.any(np.asarray(random_energy.freeze_out_times(v, log_n=np.inf, **of()))[:24])
    assert np.isposinf(random_energy.freeze_out_times(v, 7, **of())[-1])
    assert np.isposinf(random_energy.freeze_out_sizes(v, 0.1, **of())[-1])
    zeros = np.zeros(32)
    assert random_energy.condensation_time(zeros, 5, x, **of()) == 0
    assert np.all(np.isposinf(random_energy.freeze_out_times(zeros, 5, **of())))
    np.testing.assert_array_equal(random_energy_spectrum.singular_values(zeros, 5, 0.1, **of()), 1)
    assert random_energy_spectrum.largest_gap(zeros, 5, 0.1, **of()) == 0
    assert random_energy_spectrum.largest_gap([1.0], 5, 0.1, **of()) == 0
    assert random_energy_spectrum.dimension_count(zeros, 5, 0.1, **of()) == 0


def test_normalized_data_at_the_origin_never_condense() -> None:
    assert random_energy.condensation_time(LADDER, 5, np.zeros(32)) == 0
    assert random_energy.participation(LADDER, 5, 1e-6, np.zeros(32)) == 0


@pytest.mark.parametrize("scale", [1e-24, 1e25])
def test_squares_of_variances_are_never_out_of_range(scale: float) -> None:
    """Sums of fourth powers overflow and vanish in float32; times scale with the variances."""
    v = np.asarray(naive.SPECTRA["twelve decades"]) * 1e-6
    assert not 1e-45 < scale**2 < 1e39
    x = np.ones(v.size)
    for normalized in KINDS:
        for function in (
            lambda v, c, k=normalized: random_energy.condensation_time(v, 100, np.sqrt(c) * x, normalized=k),
            lambda v, c, k=normalized: random_energy.probe_condensation_times(v, 100, c, normalized=k),
            lambda v, c, k=normalized: random_energy.freeze_out_times(v, 100, normalized=k),
        ):
            small, scaled = np.asarray(function(v, 1.0)), np.asarray(function(v * scale, scale))
            assert scaled.dtype == np.float32
            np.testing.assert_allclose(scaled, scale * small.astype(np.float64), rtol=1e-5)
        sizes = random_energy.freeze_out_sizes(v * scale, scale, normalized=normalized)
        np.testing.assert_allclose(sizes, random_energy.freeze_out_sizes(v, 1.0, normalized=normalized), rtol=1e-5)


def everything(v: jax.Array, log_n: jax.Array, t: jax.Array, normalized: bool) -> dict[str, jax.Array]:
    """Every function whose results move smoothly."""
    x = jnp.full(v.shape[-1], 3 * t)
    probe: Any = {"log_n": log_n, "t": t, "normalized": normalized}
    return {
        "condensation_time": random_energy.condensation_time(v, log_n=log_n, x=x, normalized=normalized),
        "participation": random_energy.participation(v, x=10 * x, **probe),
        "probe_condensation_times": random_energy.probe_condensation_times(v, **probe),
        "probe_participations": random_energy.probe_participations(v, **probe),
        "freeze_out_times": random_energy.freeze_out_times(v, log_n=log_n, normalized=normalized),
        "freeze_out_sizes": random_energy.freeze_out_sizes(v, t, normalized=normalized),
        "singular_values": random_energy_spectrum.singular_values(v, **probe),
    }


POINT = np.array([2.0, 0.5, 0.1, 0.02, 1.3, 0.03])  # four variances, log N and t; no ratio is at its kink


def test_derivatives() -> None:
    """Not normalized: every term is there."""

    def f(point: jax.Array) -> dict[str, jax.Array]:
        return everything(point[:4], point[4], point[5], normalized=False)

    with jax.enable_x64(True):
        value_and_derivatives = quickly(lambda point: (f(point), jax.jacrev(f)(point)))
        derivatives, step = value_and_derivatives(POINT)[1], 1e-5
        above, below = map(quickly(jax.vmap(f)), (POINT * (1 + step * np.eye(6)), POINT * (1 - step * np.eye(6))))
    for name, derivative in derivatives.items():
        found = np.asarray(derivative)
        difference = np.moveaxis(np.asarray(above[name]) - np.asarray(below[name]), 0, -1) / (2 * step)
        np.testing.assert_allclose(found * POINT, difference, rtol=1e-6, atol=1e-7, err_msg=name)
        assert np.any(np.abs(found * POINT) > 1e-3), name
    # The mapped results are those of one spectrum after the other.
    with jax.enable_x64(True):
        point = POINT * (1 + step * np.eye(6))[3]
        alone = value_and_derivatives(point)[0]
    for name, result in alone.items():
        np.testing.assert_allclose(above[name][3], result, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("normalized", KINDS)
def test_derivatives_are_finite_at_null_directions(normalized: bool) -> None:
    def f(v: jax.Array, s: jax.Array, t: jax.Array) -> dict[str, jax.Array]:
        return everything(v, s, t, normalized)

    def total(v: jax.Array, s: jax.Array, t: jax.Array) -> jax.Array:
        return sum(jnp.sum(jnp.where(jnp.isfinite(r), r, 0)) for r in f(v, s, t).values())

    with jax.enable_x64(True):
        v = jnp.array([[2.0, 0.5, 0.5, 0.0], [1.0, 3.0, 0.1, 0.2], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
        s, t = jnp.array([0.5, 2.0, 7.0, 1.0]), jnp.array([0.02, 0.1, 1.0, 2.0])
        gradients = quickly(jax.vmap(jax.grad(total, (0, 1, 2))))(v, s, t)
    assert all(np.all(np.isfinite(g)) for g in gradients)


def test_sizes_and_noises_broadcast() -> None:
    sizes, noises = np.array([[5.0], [50.0], [500.0]]), np.array([0.1, 0.2])

    def shape(function: Callable[..., jax.Array], *arguments: Any) -> tuple[int, ...]:
        return jax.eval_shape(lambda: function(LADDER, *arguments)).shape  # type: ignore[no-any-return]

    assert shape(random_energy.condensation_time, sizes[:, 0], np.ones((2, 1, 32))) == (2, 3)
    assert shape(random_energy.participation, sizes, noises, np.ones(32)) == (3, 2)
    assert shape(random_energy.freeze_out_times, sizes) == (3, 1, 32)
    assert shape(random_energy.freeze_out_sizes, noises) == (2, 32)
    assert shape(random_energy.probe_condensation_times, sizes, noises) == (3, 2, 32)
    assert shape(random_energy.probe_participations, sizes, noises) == (3, 2, 32)
    assert shape(random_energy_spectrum.singular_values, sizes, noises) == (3, 2, 32)
    assert shape(random_energy_spectrum.dimension_count, sizes, noises) == (3, 2)
    assert shape(random_energy_spectrum.largest_gap, sizes, noises) == (3, 2)


def test_ten_thousand_directions_make_no_square_array() -> None:
    for function in (
        lambda v: random_energy.probe_participations(v, 5, 0.1, normalized=False),
        lambda v: random_energy.freeze_out_times(v, 5, normalized=False),
        lambda v: random_energy.freeze_out_sizes(v, 0.1, normalized=False),
        lambda v: random_energy_spectrum.singular_values(v, 5, 0.1, normalized=False),
        lambda v: random_energy_spectrum.largest_gap(v, 5, 0.1),
        lambda v: random_energy_spectrum.dimension_count(v, 5, 0.1),
    ):
        assert program(function) <= 2 * D


def test_what_is_refused() -> None:
    v = [1.0, 0.5]
    for call in (
        lambda v=v, n=5, t=0.1: random_energy.participation(v, n, t, [0.0, 0.0]),
        lambda v=v, n=5, t=0.1: random_energy.probe_condensation_times(v, n, t),
        lambda v=v, n=5, t=0.1: random_energy.probe_participations(v, n, t),
        lambda v=v, n=5, t=0.1: random_energy_spectrum.singular_values(v, n, t),
        lambda v=v, n=5, t=0.1: random_energy_spectrum.dimension_count(v, n, t),
        lambda v=v, n=5, t=0.1: random_energy_spectrum.largest_gap(v, n, t),
    ):
        with pytest.raises(ValueError, match=r"variances must be .* got variances\[0\] = -1"):
            call(v=[-1.0, 1.0])
        with pytest.raises(ValueError, match="n must be >= 1, got n = 0"):
            call(n=0)
        with pytest.raises(ValueError, match=r"t must be .* got t = 0\.0"):
            call(t=0.0)
        with pytest.raises(TypeError, match="give the noise variance t"):
            call(t=None)
        with pytest.raises(TypeError, match="one of the two"):
            call(n=None)
    for call in (random_energy.freeze_out_sizes, random_energy.freeze_out_times):
        with pytest.raises(ValueError, match="variances must be"):
            call([math.nan], 2.0)
        with pytest.raises(ValueError, match=r"must be"):
            call(v, 0.0)
    with pytest.raises(TypeError, match="give the point x"):
        random_energy.condensation_time(v, 5)
    with pytest.raises(ValueError, match=r"x must have shape \(\.\.\., 2\), got shape \(3,\)"):
        random_energy.condensation_time(v, 5, [0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="x must be finite in float32"):
        random_energy.condensation_time(v, 5, [0.0, 1e50])
    for cut in (0, 1, math.nan):
        with pytest.raises(ValueError, match="cut must be > 0 and < 1, got cut"):
            random_energy_spectrum.dimension_count(v, 5, 0.1, cut)
    for groups in ((30, 0, 5), (30, 5, 0), (6, 3, 4)):
        with pytest.raises(ValueError, match="need high >= 1"):
            random_energy_spectrum.gap_positions(*groups)
    assert theory.random_energy is random_energy
