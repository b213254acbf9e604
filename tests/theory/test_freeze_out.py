"""Freeze-out sizes and times and the inverse question: brute force, windows, closed forms, identities."""

from functools import cache

import jax
import numpy as np
import pytest
from numpy.typing import ArrayLike

import theory

from . import naive

NOISES = [1e-8, 1e-3, 1.0, 1e3]
SOLVED = ["linear", "empirical"]
LADDER = np.asarray(naive.SPECTRA["ladder"])
PADDED = [name for name, v in naive.SPECTRA.items() if len(v) == naive.WIDTH]


def single(x: ArrayLike) -> np.ndarray:
    """Rounded to single precision, so that one answer by brute force, which takes seconds, serves both precisions."""
    return np.asarray(x, np.float32).astype(float)


@cache
def brute_force(name: str, law: str) -> dict[float, np.ndarray]:
    """Log N at every noise, for each variance."""
    v, t = single(naive.SPECTRA[name]), single(NOISES)
    return {variance: naive.freeze_out_log_size(law, v, variance, t) for variance in np.unique(v[v > 0]).tolist()}


@pytest.mark.parametrize("law", SOLVED)
@pytest.mark.parametrize("name", ["one direction", *PADDED])
def test_sizes_halve_the_relative_gain(name: str, law: str, x64: bool) -> None:
    dtype = naive.precision(x64)
    v, t = single(naive.SPECTRA[name]).astype(dtype), single(NOISES).astype(dtype)
    found = np.asarray(theory.freeze_out_sizes(v, t, law))
    assert found.dtype == dtype
    assert found.shape == (4, v.size)
    assert np.all(np.isposinf(found[:, v == 0]))
    for variance, expected in brute_force(name, law).items():
        for direction in np.flatnonzero(v == variance):
            error = np.abs(found[:, direction] - expected)
            if law == "linear":  # N is a product: its relative error is that of a few factors
                np.testing.assert_array_less(error, naive.allowed(dtype, np.abs(expected)))
            else:  # a sum whose terms cancel, down to the nats of a direction: relative to the terms
                terms = naive.information(v, naive.FLOAT(variance) + 2 * np.asarray(t, naive.FLOAT))
                np.testing.assert_array_less(error / expected, naive.allowed(dtype, 2 * terms / expected))


@pytest.mark.parametrize("law", SOLVED)
def test_sizes_of_10_000_directions(law: str) -> None:
    v = np.asarray(naive.SPECTRA["10 000 directions"])
    with jax.enable_x64(True):
        found = np.asarray(theory.freeze_out_sizes(v, 0.01, law))
    for direction in (0, 99, 9999):  # the printed closed form (the root in N is tested above)
        kappa = naive.FLOAT(v[direction]) + naive.FLOAT(0.02)
        if law == "linear":
            expected = np.log(kappa / (kappa - naive.FLOAT(0.01)) * np.sum(v / (v + kappa)))
        else:
            expected = naive.empirical_equation(v, naive.FLOAT(0), naive.FLOAT(0.01), kappa)
        assert found[direction] == pytest.approx(float(expected), rel=1e-9)
    assert np.all(np.diff(found) > 0)  # fine detail needs more data


WRONG_SIZES = {
    "kappa_i = v + t": lambda v, i, t: naive.empirical_equation(v, 0, t, v[i] + t),
    "kappa_i = 2 v": lambda v, i, t: naive.empirical_equation(v, 0, t, 2 * v[i]),
    "sign": lambda v, i, t: 2 * naive.information(v, v[i] + 2 * t) - naive.empirical_equation(v, 0, t, v[i] + 2 * t),
    "missing term": lambda v, i, t: naive.information(v, v[i] + 2 * t),
    "factor 2": lambda v, i, t: 2 * naive.empirical_equation(v, 0, t, v[i] + 2 * t),
}


@pytest.mark.parametrize("wrong", WRONG_SIZES)
def test_a_wrong_size_is_noticed(wrong: str) -> None:
    with jax.enable_x64(True):
        found = np.asarray(theory.freeze_out_sizes(LADDER, 0.01))[:24]
    expected = np.array([WRONG_SIZES[wrong](LADDER, i, naive.FLOAT(0.01)) for i in range(24)])
    assert np.all(np.abs(found / expected - 1) > 1e-9)


# Both laws from far below the rank to where nothing freezes, and inside the windows of the last test but one.
SCANS = [
    ("ladder", "linear", np.log(3.0)),
    ("ladder", "linear", 3.0),
    ("weak among strong", "linear", np.log(2.5)),
    ("twelve decades", "linear", np.log(8.0)),
    ("ladder", "empirical", np.log(30.0)),
    ("strong among weak", "empirical", 0.42),
    ("twelve decades", "empirical", 20.0),
    ("twelve decades", "empirical", 2.0),
]


def grid_of(v: np.ndarray, log_n: float) -> np.ndarray:
    """Noises from far below the weakest variance to above every bound on a freeze-out time."""
    return np.geomspace(1e-3 * v[v > 0].min(), v.sum() * (np.exp(-log_n) + 1 / log_n) + 1, 500)


@pytest.mark.parametrize(("name", "law", "log_n"), SCANS)
def test_times_are_the_last_crossing_of_a_dense_scan(name: str, law: str, log_n: float) -> None:
    v = np.asarray(naive.SPECTRA[name])
    expected = naive.freeze_out_times(law, v, log_n, grid_of(v, log_n)).astype(float)
    assert np.any((expected > 0) & np.isfinite(expected))
    with jax.enable_x64(True):
        found = np.asarray(theory.freeze_out_times(v, law=law, log_n=log_n))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    with jax.enable_x64(False):
        found = np.asarray(theory.freeze_out_times(v, law=law, log_n=log_n))
    # The size that belongs to a time is rounded; where it hardly depends on the time (the top of a window) the
    # time suffers: 16 eps (terms of the size)/(d size/d log t).
    for i in np.flatnonzero((expected > 0) & np.isfinite(expected)):
        terms = 1 + log_n + naive.information(v, v[i] + 2 * expected[i])
        condition = terms / abs(size_slope(law, v, v[i], expected[i]))
        assert abs(found[i] / expected[i] - 1) < naive.allowed(naive.precision(False), condition)


def log_size(law: str, v: np.ndarray, variance: ArrayLike, t: ArrayLike) -> np.ndarray:
    """The printed closed form (tested against a root in N above)."""
    kappa = np.asarray(variance, naive.FLOAT) + 2 * np.asarray(t)
    if law == "linear":
        return np.log(kappa / (kappa - t) * np.sum(v / (v + naive.last(kappa)), axis=-1))
    return naive.empirical_equation(v, naive.FLOAT(0), t, kappa)


def size_slope(law: str, v: np.ndarray, variance: ArrayLike, t: ArrayLike) -> np.ndarray:
    """Derivative of log N* with respect to log t."""
    return naive.slope(lambda u: log_size(law, v, variance, np.exp(u)), np.log(t))


@pytest.mark.parametrize(
    ("law", "name", "log_n", "direction"),
    [("linear", "ladder", 3.0, 23), ("empirical", "strong among weak", 0.42, 0)],
)
def test_frozen_windows_exist_and_their_upper_end_is_returned(
    law: str, name: str, log_n: float, direction: int
) -> None:
    """Free at small noise, frozen in a window above it and free again: a weak direction in the linear law (N above
    half the rank), a strong one among many weak ones in the empirical law."""
    v = np.asarray(naive.SPECTRA[name])
    grid = grid_of(v, log_n)
    frozen = naive.frozen_on(law, v, log_n, grid)[:, direction]
    starts = np.sum(~frozen[:-1] & frozen[1:])
    assert not frozen[0]
    assert starts == 1
    with jax.enable_x64(True):
        time = float(theory.freeze_out_times(v, law=law, log_n=log_n)[direction])
        sizes = np.asarray(theory.freeze_out_sizes(v, time * np.array([0.99, 1, 1.01]), law))[:, direction]
    assert sizes[1] == pytest.approx(log_n, rel=1e-9)
    assert sizes[0] > log_n > sizes[2]
    assert grid[frozen].max() <= time < grid[np.flatnonzero(frozen)[-1] + 1]


@pytest.mark.parametrize("d", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_times_of_many_directions(d: int, x64: bool) -> None:
    v = np.asarray(naive.SPECTRA["10 000 directions"][:d], naive.precision(x64))
    times = np.asarray(theory.freeze_out_times(v, log_n=50.0))
    assert times.dtype == naive.precision(x64)
    assert times[0] == 0
    frozen = np.flatnonzero(times > 0)
    for i in frozen[[0, frozen.size // 2, -1]]:
        time = naive.FLOAT(times[i])
        # Backward: the size at this time is N, and falls (as it does at the largest such time).
        size, above = log_size("empirical", v, v[i], time), log_size("empirical", v, v[i], 1.01 * time)
        terms = naive.information(v, v[i] + 2 * time)
        condition = (2 * terms + abs(size_slope("empirical", v, v[i], time))) / 50
        assert above < size
        assert abs(size / 50 - 1) < naive.allowed(naive.precision(x64), condition)


def test_population_never_freezes(x64: bool) -> None:
    sizes, times = theory.freeze_out_sizes(LADDER, 0.1, "population"), theory.freeze_out_times(LADDER, 5, "population")
    np.testing.assert_array_equal(sizes, np.where(LADDER > 0, -np.inf, np.inf))
    np.testing.assert_array_equal(times, np.where(LADDER > 0, 0.0, np.inf))


def test_closed_forms() -> None:
    with jax.enable_x64(True):
        # Equal variances v: N = d (v + 2t) v/(v + t)^2/2 in the linear law.
        v, d, t = 0.3, 32, np.array([1e-6, 0.1, 50.0])
        found = np.asarray(theory.freeze_out_sizes(np.full(d, v), t, "linear"))[:, 0]
        np.testing.assert_allclose(found, np.log(d * (v + 2 * t) * v / (2 * (v + t) ** 2)), rtol=1e-9, atol=1e-9)
        # Its inverse: with q = t/(v + t), N = d (1 - q^2)/2; no direction freezes at N >= d/2.
        n = np.array([1.0, 4.0, 15.9, 16.1])
        q = np.sqrt(np.maximum(1 - 2 * n / d, 0))
        times = [theory.freeze_out_times(np.full(d, v), size, "linear")[0] for size in n]
        np.testing.assert_allclose(times, q * v / (1 - q), rtol=1e-9)
        # As t -> 0 the empirical law has kappa = v: half of log 2 - 1/4 nats per direction.
        nats = np.asarray(theory.freeze_out_sizes(np.full(d, v), 1e-12))[0]
        assert nats == pytest.approx(d * (np.log(2) - 0.25) / 2, rel=1e-9)


def times_of(v: np.ndarray, law: str) -> np.ndarray:
    return np.stack([np.asarray(theory.freeze_out_times(v, n, law)) for n in (1.5, 5.0, 20.0)])


@pytest.mark.parametrize("law", SOLVED)
def test_symmetries(law: str) -> None:
    t = np.array([1e-4, 1e-2, 1.0, 10.0, 100.0])
    order = np.random.default_rng(0).permutation(32)
    with jax.enable_x64(True):
        sizes, times = np.asarray(theory.freeze_out_sizes(LADDER, t, law)), times_of(LADDER, law)
        scaled = theory.freeze_out_sizes(1e5 * LADDER, 1e5 * t, law)
        np.testing.assert_allclose(scaled, sizes, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(times_of(1e5 * LADDER, law), 1e5 * times, rtol=1e-11)
        permuted = theory.freeze_out_sizes(LADDER[order], t, law)
        np.testing.assert_allclose(permuted, sizes[:, order], rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(times_of(LADDER[order], law), times[:, order], rtol=1e-11)
    assert np.all(np.isposinf(times[:, LADDER == 0]))
    assert np.all(np.isposinf(sizes[:, LADDER == 0]))
    # Fine detail freezes first: at larger size, and at larger noise; more data freeze less.
    assert np.all(np.diff(sizes[:, :24:4], axis=1) > 0)
    assert np.all(np.diff(times[0, :24:4]) > 0)
    assert np.all(np.diff(times[:, :24], axis=0) <= 0)


def test_limits_in_the_number_of_points(x64: bool) -> None:
    positive = LADDER > 0
    assert np.all(np.isposinf(theory.freeze_out_times(LADDER, 1)))
    assert not np.any(theory.freeze_out_times(LADDER, 1e30)[positive])
    few = np.asarray(theory.freeze_out_times(LADDER, 1, "linear"))
    assert np.all(np.isfinite(few) == positive)
    assert np.all(few > 0)
    for n in (1e6, 1e30):
        assert not np.any(theory.freeze_out_times(LADDER, n, "linear")[positive])
    for law in ["population", *SOLVED, "planted", "random_energy", "typical"]:
        assert np.all(np.isposinf(theory.freeze_out_times(np.zeros(32), 2, law)))


def test_sizes_and_times_broadcast() -> None:
    times = np.asarray(theory.freeze_out_times(LADDER, np.array([[2.0, 3.0], [5.0, 1e9]])))
    assert times.shape == (2, 2, 32)
    np.testing.assert_allclose(times[1, 0], theory.freeze_out_times(LADDER, 5.0), rtol=1e-5)
    sizes = np.asarray(theory.freeze_out_sizes(LADDER, np.array([[0.1], [1.0]])))
    assert sizes.shape == (2, 1, 32)
    np.testing.assert_allclose(sizes[1, 0], theory.freeze_out_sizes(LADDER, 1.0), rtol=1e-5)


@pytest.mark.parametrize("law", SOLVED)
def test_the_dataset_size_is_the_inverse_of_the_soft_dimension(law: str, x64: bool) -> None:
    t = np.array([1e-4, 1e-2, 1.0], naive.precision(x64))[:, None]
    reach = np.sum(np.asarray(theory.wiener_gain(LADDER, t[:, 0])), axis=-1)[:, None]
    target = np.asarray(reach * np.array([0.05, 0.3, 0.7, 0.95]), naive.precision(x64))
    log_n = np.asarray(theory.dataset_size_for(LADDER, t, soft_dimension=target, law=law))
    assert log_n.shape == (3, 4)
    possible = log_n >= 0  # a target below the reach of one point has a negative logarithm
    assert possible.sum() >= 9
    size = np.where(possible, log_n, 1)
    returned = np.asarray(theory.soft_dimension(LADDER, t=t, law=law, log_n=size))
    per_nat = np.abs(naive.slope(lambda s: np.log(naive.effective_noise(law, LADDER, s, t)), size))
    condition = per_nat * (1 + size + naive.information(LADDER, t)) + np.log(
        naive.effective_noise(law, LADDER, size, t) / t
    )
    error = np.abs(returned / target - 1)
    np.testing.assert_array_less(error[possible], naive.allowed(naive.precision(x64), condition)[possible])
    assert np.all(np.diff(log_n, axis=1) > 0)


def test_targets_out_of_reach(x64: bool) -> None:
    target = np.array([-1.0, 0.0, 12.0, 24.0, 30.0])
    reach = float(np.sum(np.asarray(theory.wiener_gain(LADDER, 1e-3))))
    assert 12 < reach < 24
    for law in SOLVED:
        sizes = np.asarray(theory.dataset_size_for(LADDER, 1e-3, soft_dimension=target, law=law))
        np.testing.assert_array_equal(sizes[[0, 1, 3, 4]], [-np.inf, -np.inf, np.inf, np.inf])
        assert np.isfinite(sizes[2])
    sizes = np.asarray(theory.dataset_size_for(LADDER, 1e-3, soft_dimension=target, law="population"))
    np.testing.assert_array_equal(sizes, [-np.inf, -np.inf, -np.inf, np.inf, np.inf])
