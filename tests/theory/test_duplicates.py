"""Repeated training points: the printed equations solved another way, and simulated data sets."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import theory

from . import naive

# Multiplicities of the distinct points: three values each and six noises, which is compiled once.
MANY = np.repeat([1.0, 5.0, 30.0], [700, 200, 100])
LISTS = {"many": MANY, "one dominates": np.array([1e9, 1.0, 2.0, 1.0]), "few": np.array([3.0, 2.0, 1.0])}
LADDER = np.repeat([1.0, 0.3, 0.1, 0.03, 0.0], 8)
NOISES = np.array([1e-8, 3e-3, 0.05, 0.3, 1.0, 1e12])


def entropy(k: np.ndarray, m: float) -> float:
    """Point by point, and small terms by themselves."""
    scaled = np.asarray(k, naive.FLOAT) ** naive.FLOAT(m)
    q = scaled / scaled.sum()
    rest = (scaled.sum() - scaled) / scaled.sum()
    return float(-np.sum(q * np.where(q > 0.5, np.log1p(-np.minimum(rest, 0.5)), np.log(q))))


CASES = [(name, law) for name in LISTS for law in ("empirical", "linear")]

# Equations for kappa that rise with it, as printed, from (variances, k, t, kappa).
Equation = Callable[[np.ndarray, np.ndarray, float, float], float]


def empirical_equation(v: np.ndarray, k: np.ndarray, t: float, kappa: float) -> float:
    return float(entropy(k, t / kappa) - np.sum(np.log1p(v / kappa) - v * (kappa - t) / (kappa + v) ** 2) / 2)


def linear_equation(v: np.ndarray, k: np.ndarray, t: float, kappa: float, factor: float = 1.0) -> float:
    p = k / k.sum()
    delta = factor * kappa / t * np.sum(v / (v + kappa))
    return float(np.sum(p / (1 + p * delta)) - t / kappa)


EQUATIONS: dict[str, Equation] = {"empirical": empirical_equation, "linear": linear_equation}


def solve(equation: Equation, v: np.ndarray, k: np.ndarray, t: float) -> float:
    """Kappa, or t where the equation has no root above."""
    if equation(v, k, t, t * (1 + 1e-14)) >= 0:
        return t

    def of_log(u: float) -> float:
        return equation(v, k, t, math.exp(u))

    return math.exp(scipy.optimize.brentq(of_log, math.log(t), math.log(t) + 60, xtol=1e-14, rtol=1e-14))


def kappa_of(k: np.ndarray, law: str) -> np.ndarray:
    log_size = theory.effective_log_size(LADDER, k, NOISES, law)
    return np.asarray(theory.effective_noise(LADDER, log_n=log_size, t=NOISES, law=law))


@pytest.mark.parametrize(("name", "law"), CASES)
def test_kappa_solves_the_printed_equation(name: str, law: str) -> None:
    k = LISTS[name]
    with jax.enable_x64(True):
        found = kappa_of(k, law)
    # The references round p and the sums over 1000 points, 1e-13 on the right; 1e-9 as in test_effective_noise.
    np.testing.assert_allclose(found, [solve(EQUATIONS[law], LADDER, k, t) for t in NOISES], rtol=1e-9)


WRONG: dict[str, list[tuple[str, Equation]]] = {
    "empirical": [
        ("N points", lambda v, k, t, x: empirical_equation(v, np.ones(int(k.sum())), t, x)),
        ("M points", lambda v, k, t, x: empirical_equation(v, np.ones(k.size), t, x)),
        ("entropy of p", lambda v, k, t, x: empirical_equation(v, k, t, x) + entropy(k, 1) - entropy(k, t / x)),
        ("log of the sum", lambda v, k, t, x: empirical_equation(v, k, t, x) + math.log(np.sum(k ** (t / x)))),
        ("m of 1.05", lambda v, k, t, x: empirical_equation(v, k**1.05, t, x)),
    ],
    "linear": [
        ("N points", lambda v, k, t, x: linear_equation(v, np.ones(int(k.sum())), t, x)),
        ("M points", lambda v, k, t, x: linear_equation(v, np.ones(k.size), t, x)),
        ("1/sum p^2", lambda v, k, t, x: 1 - np.sum((k / k.sum()) ** 2) * np.sum(v / (v + x)) - t / x),
        ("delta of 1.05", lambda v, k, t, x: linear_equation(v, k, t, x, 1.05)),
        ("k^1.05", lambda v, k, t, x: linear_equation(v, k**1.05, t, x)),
    ],
}


@pytest.mark.parametrize(("law", "number"), [(law, i) for law in WRONG for i in range(5)])
def test_a_wrong_equation_is_noticed(law: str, number: int) -> None:
    _, wrong = WRONG[law][number]
    with jax.enable_x64(True):
        found = kappa_of(MANY, law)
    for i in (2, 3):
        assert abs(found[i] / solve(wrong, LADDER, MANY, NOISES[i]) - 1) > 1e-5


def test_limits_and_bounds() -> None:
    with jax.enable_x64(True):
        sizes = {(n, law): np.asarray(theory.effective_log_size(LADDER, LISTS[n], NOISES, law)) for n, law in CASES}
        t_c = theory.condensation_time(LADDER, log_n=entropy(MANY, 1))
        near = theory.effective_log_size(LADDER, MANY, t_c * np.array([1.01, 1.001, 1.0001, 0.999, 0.99, 0.98]))
        few = np.repeat([1, 3, 7], [10, 5, 5])
        of_few = np.exp(theory.effective_log_size(LADDER, few, NOISES, "linear"))
    for (name, law), log_size in sizes.items():
        p = LISTS[name] / LISTS[name].sum()
        assert np.all(log_size >= -np.log(np.sum(p**2)) - 1e-9)
        assert np.all(log_size <= math.log(p.size) + 1e-9)
        if law == "empirical":
            assert np.all(np.diff(log_size) <= 0)
            assert log_size[0] == pytest.approx(math.log(p.size), rel=1e-5)
            # Relative, also where one point outweighs the others and the entropy is 4e-8.
            assert log_size[-1] == pytest.approx(entropy(p, 1), rel=1e-12)
        else:
            assert log_size[-1] == pytest.approx(-np.log(np.sum(p**2)), rel=1e-9)
    # 32 directions: 20 points are fewer, 1000 are not.
    assert of_few[0] == pytest.approx(20, rel=1e-6)
    assert sizes["many", "linear"][0] < math.log(500)
    # Condensation where the information is the entropy of p.
    np.testing.assert_allclose(near[:3], entropy(MANY, 1), rtol=1e-12)
    assert np.all(np.diff(near[2:]) > 1e-4)


@pytest.mark.parametrize("law", EQUATIONS)
def test_what_the_size_does_not_depend_on(law: str) -> None:
    order = np.random.default_rng(0).permutation(MANY.size)
    p = MANY / MANY.sum()
    with jax.enable_x64(True):
        size = theory.effective_log_size(LADDER, MANY, NOISES, law)
        for k in (MANY[order], 7 * MANY, MANY.astype(int).tolist()):
            np.testing.assert_allclose(theory.effective_log_size(LADDER, k, NOISES, law), size, rtol=1e-11)
        scaled = theory.effective_log_size(1e3 * LADDER, MANY, 1e3 * NOISES, law)
        np.testing.assert_allclose(scaled, size, rtol=1e-11)
        equal = theory.effective_log_size(LADDER, np.full(50, 4), NOISES, law)
        np.testing.assert_allclose(equal, math.log(50), rtol=1e-11)
        np.testing.assert_array_equal(theory.effective_log_size(LADDER, [5], NOISES, law), 0)
        # No variance, nothing to condense or to resolve.
        nothing = entropy(p, 1) if law == "empirical" else -np.log(np.sum(p**2))
        np.testing.assert_allclose(theory.effective_log_size(0 * LADDER, MANY, NOISES, law), nothing, rtol=1e-11)


@pytest.mark.parametrize(("name", "law"), CASES)
def test_single_precision_is_single_precision(name: str, law: str) -> None:
    single = theory.effective_log_size(LADDER.astype(np.float32), LISTS[name], NOISES.astype(np.float32), law)
    with jax.enable_x64(True):
        double = theory.effective_log_size(LADDER, LISTS[name], NOISES, law)
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    assert np.all(np.asarray(single) >= 0)
    # Roundings of sums over 40 directions; a linear size is a difference of logs.
    np.testing.assert_allclose(single, double, rtol=1e-5, atol=0 if law == "empirical" else 1e-6)


def test_gradients_on_either_side_of_condensation() -> None:
    """Above, the size does not depend on the noise or the variances: exactly."""
    with jax.enable_x64(True):
        slope = jax.jit(jax.grad(lambda v, t, k: theory.effective_log_size(v, k, t), (0, 1)), static_argnums=2)
        few = (9, 1, 1)
        t_c = float(theory.condensation_time(LADDER, log_n=entropy(np.array(few), 1)))
        above = slope(LADDER, 1.01 * t_c, few)
        assert not any(np.any(g) for g in above)
        below = slope(LADDER, 0.99 * t_c, few)
        assert np.all(below[0][:-8] > 0)
        assert below[1] < 0
        nothing_to_condense = slope(0 * LADDER, t_c, few)
        assert not any(np.any(g) for g in nothing_to_condense)


def test_a_million_points() -> None:
    k = np.random.default_rng(0).integers(1, 50, 10**6)
    p = k / k.sum()
    assert float(theory.log_size_at_participation(k, 0.0)) == pytest.approx(-np.sum(p * np.log(p)), rel=1e-5)


def test_the_size_at_a_participation_ratio() -> None:
    participation = np.array([0.0, 0.3, 0.6, 0.9, 0.99, 1.0])
    for k in LISTS.values():
        single = theory.log_size_at_participation(k, participation.astype(np.float32))
        with jax.enable_x64(True):
            double = theory.log_size_at_participation(k, participation)
        assert (single.dtype, double.dtype) == (np.float32, np.float64)
        expected = [entropy(k, 1 - y) for y in participation]
        np.testing.assert_allclose(double, expected, rtol=1e-12)
        np.testing.assert_allclose(single, expected, rtol=1e-5)
    # It is what the self-consistent size is made of; any shape.
    with jax.enable_x64(True):
        size = theory.effective_log_size(LADDER, MANY, NOISES)
        y = 1 - NOISES / theory.effective_noise(LADDER, log_n=size, t=NOISES)
        found = theory.log_size_at_participation(MANY, y.reshape(2, 3))
        np.testing.assert_allclose(found, size.reshape(2, 3), rtol=1e-11)
        assert theory.effective_log_size(LADDER, MANY, np.ones((2, 1, 3)), "linear").shape == (2, 1, 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda k: theory.effective_log_size([1.0], k, 0.1),
        lambda k: theory.effective_log_size([1.0], k, 0.1, "linear"),
        lambda k: theory.log_size_at_participation(k, 0.1),
    ],
    ids=["empirical", "linear", "participation"],
)
def test_multiplicities_are_refused(call: Callable[[Any], Any]) -> None:
    whole = "multiplicities must be whole numbers >= 1, got multiplicities"
    for bad, text in [
        ([], "multiplicities must have shape (M,) with M >= 1, got shape (0,)"),
        (3, "multiplicities must have shape (M,) with M >= 1, got shape ()"),
        ([[1, 2]], "multiplicities must have shape (M,) with M >= 1, got shape (1, 2)"),
        ([1, 0], f"{whole}[1] = 0.0"),
        ([0.5, 0.5], f"{whole}[0] = 0.5"),
        ([2.0, 1.5], f"{whole}[1] = 1.5"),
        ([1, math.nan], f"{whole}[1] = nan"),
        ([math.inf], f"{whole}[0] = inf"),
    ]:
        with pytest.raises(ValueError, match="multiplicities") as caught:
            call(bad)
        assert str(caught.value) == text


def test_laws_and_participation_ratios_are_refused() -> None:
    for bad in ("population", "empirica"):
        with pytest.raises(ValueError, match=f"law must be one of linear, empirical, got '{bad}'"):
            theory.effective_log_size([1.0], [1, 2], 0.1, bad)
    for y in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="participation must be between 0 and 1, got participation ="):
            theory.log_size_at_participation([1, 2], y)


# Simulated data sets.

TENTH = np.repeat([1.0, 30.0], [900, 100])
HEAVY = np.floor(((np.arange(600) + 0.5) / 600) ** -1.1)  # rank^-1.1, from 2438 down to 1
SIMULATED = {"tenth": TENTH, "heavy": HEAVY}
SETS, POINTS = 80, 60
TWO = np.repeat([1.0, 0.2], 12)


def simulate(v: np.ndarray, k: np.ndarray, t: float, seed: int, sets: int = SETS) -> np.ndarray:
    """Per data set, means over held-out points: participation ratio, gains of the first and of the last half."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(sets):
        y = rng.normal(size=(k.size, v.size)) * np.sqrt(v)
        x = rng.normal(size=(POINTS, v.size)) * np.sqrt(v + t)
        exponent = np.log(k) + (x @ y.T - np.sum(y**2, axis=1) / 2) / t
        w = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        w /= w.sum(axis=1, keepdims=True)
        gains = ((w @ y**2 - (w @ y) ** 2) / t).mean(axis=0).reshape(2, -1).mean(axis=1)
        rows.append([np.mean(np.sum(w**2, axis=1)), *gains])
    return np.array(rows)


def compare(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log of the ratio of two means, and its standard error from the spread over data sets."""
    relative = [np.std(r, axis=0, ddof=1) / np.sqrt(len(r)) / np.mean(r, axis=0) for r in (a, b)]
    return np.log(np.mean(a, axis=0) / np.mean(b, axis=0)), np.hypot(*relative)


# Six comparisons of up to three numbers each: at most one in a hundred runs of other seeds would fail by chance.
Z = scipy.stats.norm.isf(0.01 / 2 / 18)
# Stated in theory.duplicates for a size that is found from the participation ratio, which then is that of the size.
STATED = np.array([0.05, 0.02, 0.02])


def rejected(repeated: np.ndarray, t: float, size: float, seed: int, sets: int = SETS) -> bool:
    """Whether so many distinct points respond in another way."""
    deviation, error = compare(repeated, simulate(TWO, np.ones(round(size)), t, seed, sets))
    return bool(np.any(np.abs(deviation) > STATED + Z * error))


@pytest.mark.parametrize("t", [0.5, 0.9])
@pytest.mark.parametrize("name", SIMULATED)
def test_repeats_respond_like_fewer_distinct_points(name: str, t: float) -> None:
    k = SIMULATED[name]
    repeated = simulate(TWO, k, t, seed=1)
    size = math.exp(theory.log_size_at_participation(k, float(repeated[:, 0].mean())))
    assert not rejected(repeated, t, size, seed=2)
    assert rejected(repeated, t, k.sum(), seed=3, sets=15)
    assert rejected(repeated, t, math.exp(entropy(k, 1)), seed=4)
    assert rejected(repeated, t, k.size, seed=5)


@pytest.mark.parametrize("name", SIMULATED)
def test_the_leading_order_far_below_condensation(name: str) -> None:
    """At a fifth of the condensation time, which is about 1 here: within 4 % of a gain."""
    k, t = SIMULATED[name], 0.2
    repeated = simulate(TWO, k, t, seed=1)

    def off(size: float) -> bool:
        deviation, error = compare(repeated, simulate(TWO, np.ones(round(size)), t, seed=6))
        return bool(np.any(np.abs(deviation[1:]) > 0.04 + Z * error[1:]))

    assert not off(math.exp(theory.effective_log_size(TWO, k, t)))
    assert off(k.sum())
    assert off(math.exp(entropy(k, 1)))


@pytest.mark.slow
@pytest.mark.parametrize("t", [0.5, 0.9])
@pytest.mark.parametrize("name", SIMULATED)
def test_the_exact_average_at_the_size_it_implies(name: str, t: float) -> None:
    """Nothing measured goes in: the participation ratio is that of the size, and the gains are within 2 %."""
    k = SIMULATED[name]
    log_size = theory.effective_log_size(TWO, k, t)
    for _ in range(6):
        previous = log_size
        participation = theory.mean_finite_size_participation(TWO, log_n=log_size, t=t)
        log_size = theory.log_size_at_participation(k, participation.mean)
    assert abs(log_size - previous) < 0.01
    repeated = simulate(TWO, k, t, seed=7, sets=250)
    measured, error = repeated.mean(axis=0), repeated.std(axis=0, ddof=1) / np.sqrt(len(repeated))

    def off(log_n: Any) -> bool:
        gains = np.asarray(theory.mean_finite_size_gain(TWO, log_n=log_n, t=t).mean)[[0, -1]]
        return bool(np.any(np.abs(np.log(gains / measured[1:])) > 0.02 + Z * error[1:] / measured[1:]))

    assert not off(log_size)
    assert off(math.log(k.sum()))
    assert off(math.log(k.size))
    assert off(entropy(k, 1))


def linear_gains(v: np.ndarray, k: np.ndarray, t: float, sets: int) -> np.ndarray:
    """Mean gains of the groups of 40 directions of one variance."""
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(sets):
        y = rng.normal(size=(k.size, v.size)) * np.sqrt(v)
        covariance = (y.T * (k / k.sum())) @ y
        gains.append(1 - t * np.diag(np.linalg.inv(covariance + t * np.eye(v.size))))
    return np.mean(gains, axis=0).reshape(4, 40).mean(axis=1)


@pytest.mark.parametrize("name", [*SIMULATED, "fewer points than directions"])
def test_linear_gains_of_repeated_points(name: str) -> None:
    v = np.repeat([1.0, 0.3, 0.1, 0.03], 40)
    k = SIMULATED.get(name, np.repeat([1.0, 30.0], [90, 10]))
    for t in (1.0, 0.1, 0.01):
        measured = linear_gains(v, k, t, 8)

        def deviation(log_n: Any, t: float = t, measured: np.ndarray = measured) -> float:
            predicted = np.asarray(theory.gain(v, log_n=log_n, t=t, law="linear"))[::40]
            return float(np.max(np.abs(predicted / measured - 1)))

        # 2 %: the law is good to O(1/d), and the standard errors of the group means are 1 % or less.
        assert deviation(theory.effective_log_size(v, k, t, "linear")) < 0.02
        wrong = [math.log(k.sum()), math.log(k.size)]
        if t < 1:  # at t = 1 it is near its limit of large noise
            wrong.append(-np.log(np.sum((k / k.sum()) ** 2)))
        assert all(deviation(log_n) > 0.02 for log_n in wrong)


def planted_weights(k: np.ndarray, t: float, probe: float, count: int) -> tuple[np.ndarray, Callable[[float], Any]]:
    """Weights of the first point near itself, and what (6) says with a dataset size; 16 directions of variance 1."""
    rng = np.random.default_rng(0)
    weights, points, centers = [], [], []
    for _ in range(count):
        y = rng.normal(size=(k.size, 16))
        x = y[0] + np.sqrt(probe * t) * rng.normal(size=16)
        exponent = np.log(k) - np.sum((x - y) ** 2, axis=1) / (2 * t)
        w = np.exp(exponent - exponent.max())
        weights.append(w[0] / w.sum())
        points.append(x)
        centers.append(y[0])

    def predicted(log_n: float) -> np.ndarray:
        at = {"training_point": np.array(centers), "point": np.array(points)}
        return np.asarray(theory.planted_response(np.ones(16), log_n=log_n, t=t, **at).weight)

    return np.array(weights), predicted


@pytest.mark.parametrize(("t", "probe"), [(6.0, 0.0), (4.0, 0.0), (6.0, 1.0)])
def test_a_point_with_copies_is_planted_among_fewer(t: float, probe: float) -> None:
    k = np.ones(1000)
    k[0] = 50
    weights, predicted = planted_weights(k, t, probe, 400)

    def z(log_n: float) -> float:
        difference = weights - predicted(log_n)
        return float(np.mean(difference) / np.std(difference, ddof=1) * np.sqrt(400))

    assert 0.1 < weights.mean() < 0.7
    assert abs(z(math.log(k.sum() / 50))) < scipy.stats.norm.isf(0.01 / 2 / 3)
    for wrong in (math.log(k.sum()), math.log(1000), math.log(k.sum() / 50) + 0.1, math.log(k.sum() / 50) - 0.1):
        assert abs(z(wrong)) > 4


def test_a_rare_point_among_condensed_ones_weighs_more() -> None:
    k = np.ones(1000)
    k[-50:] = 200
    assert math.log(k.sum()) > entropy(k, 1) + 2
    weights, predicted = planted_weights(k, 0.5, 1.0, 300)
    expected = predicted(math.log(k.sum()))
    assert weights.mean() - expected.mean() > 0.2
