"""How fast are predictions for many spectra, and how fast is one exact average at finite size?

First claim: 100 000 spectra of 64 directions get their condensation time and, at that noise, the freeze-out sizes of
all directions under the linear and the empirical law in one jitted `vmap`, in less than 2 GB and at least 300 times
faster per spectrum than with `scipy.optimize.brentq` in a Python loop.  The loop is in float64, NumPy over directions
inside, and comes in three kinds, timed on few spectra (`timed_spectra`) of the same ensemble and quoted per spectrum:

- `roots`, on which the claim is made: one root per number, I(t) = log N for the time and for every direction and law
  the equation of the effective noise at kappa = variance + 2t, solved for log N;
- `gain_roots`, which knows only the gains: the root of rho(N) = 1/2, each gain with a root for kappa(N, t);
- `closed_forms`: one root for the time, and the sizes by formulas, since at fixed kappa those equations can be solved
  for N by hand.  Not a root finder for the sizes, but the fastest loop; the advantage over it is far smaller.

Second claim: after compilation `theory.finite_size_gain` takes less than 50 ms for 64 distinct variances at one point.
The mean over points is timed on the ladder of six variances (24 directions and 8 null ones).

Each record comes from a process of its own.  The exit status is 1 if predictions differ from the loops by more than
3e-5 (rounding of float32: 250 units in the last place), or finite-size gains from those of drawn training sets
by more than five standard errors and their own error.
"""

import sys
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from empirical_gains import interleave, peak_host_bytes, run
from scipy.optimize import brentq

import theory
from geomem_jax.data import bundled

D, N = 64, 10**4
LOG_N = float(np.log(N))
FINITE_N, FINITE_T = 1000, 0.2  # near condensation, and of 1000 points so that many training sets can be drawn
TOLERANCE = 3e-5
QUICK = [("spectra", 1000), ("finite_size_gain", 100)]
FULL = [("spectra", 10**5), ("finite_size_gain", 20000), ("mean_finite_size_gain", 20000)]


def information(v: np.ndarray, t: float) -> float:
    """Left side of I(t) = log N."""
    return 0.5 * np.log1p(v / t).sum()


def budget(v: np.ndarray, kappa: float, t: float) -> float:
    """Left side of the equation of the empirical effective noise."""
    return 0.5 * (np.log1p(v / kappa) - v * (kappa - t) / (kappa + v) ** 2).sum()


def root_time(v: np.ndarray) -> float:
    """Condensation time, a root in log t."""
    low, high = np.log(v.max()) - 2 * LOG_N - 1, np.log(v.sum() / (2 * LOG_N))
    return float(np.exp(brentq(lambda u: information(v, np.exp(u)) - LOG_N, low, high, rtol=1e-9)))


def brackets(v: np.ndarray, t: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Bounds of log sizes, linear and empirical: kappa lies between 2t and 2t + max v."""
    kappa, highest = 2 * t, 2 * t + v.max()
    linear = np.log((v / (v + highest)).sum()), np.log(2 * (v / (v + kappa)).sum())
    return linear, (1e-3 * budget(v, highest, t), information(v, t))


def roots(v: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Time and log sizes with one root per number."""
    t = root_time(v)
    bounds, empirical_bounds = brackets(v, t)
    kappas = v + 2 * t
    linear = [
        brentq(lambda log_n, k=k: k * (1 - np.exp(-log_n) * (v / (v + k)).sum()) - t, *bounds, rtol=1e-9)
        for k in kappas
    ]
    empirical = [brentq(lambda log_n, k=k: budget(v, k, t) - log_n, *empirical_bounds, rtol=1e-9) for k in kappas]
    return t, np.array(linear), np.array(empirical)


def gain_roots(v: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Time and log sizes from the gains v/(v + kappa): nested roots."""
    t = root_time(v)
    free = v / (v + t)

    def linear(log_n: float) -> float:
        inverse_n = np.exp(-log_n)
        return brentq(lambda k: k * (1 - inverse_n * (v / (v + k)).sum()) - t, t, t + inverse_n * v.sum(), rtol=1e-9)

    def empirical(log_n: float) -> float:
        if information(v, t) <= log_n:
            return t
        highest = max(np.sqrt((v @ v + t * v.sum() / 2) / log_n), t)
        return brentq(lambda k: budget(v, k, t) - log_n, t, highest, rtol=1e-9)

    def sizes(noise: Callable[[float], float], bounds: tuple[float, float]) -> np.ndarray:
        low, high = bounds
        return np.array(
            [
                brentq(lambda log_n, i=i: v[i] / (v[i] + noise(log_n)) - free[i] / 2, low, high, rtol=1e-9)
                for i in range(len(v))
            ]
        )

    linear_bounds, empirical_bounds = brackets(v, t)
    return t, sizes(linear, linear_bounds), sizes(empirical, empirical_bounds)


def closed_forms(v: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Time by a root, log sizes by the formulas."""
    t = root_time(v)
    kappa = (v + 2 * t)[:, None]
    linear = np.log(kappa[:, 0] / (v + t) * (v / (v + kappa)).sum(axis=1))
    return t, linear, 0.5 * (np.log1p(v / kappa) - v * (kappa - t) / (kappa + v) ** 2).sum(axis=1)


def predict(v: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Time and log sizes of one spectrum by `theory`."""
    t = theory.condensation_time(v, N)
    return t, theory.freeze_out_sizes(v, t, "linear"), theory.freeze_out_sizes(v, t, "empirical")


def difference(found: tuple, expected: tuple) -> float:
    """Largest relative difference of times and sizes; that of sizes is the difference of their logarithms."""
    errors = [np.abs(found[0] / expected[0] - 1), *(np.abs(found[law] - expected[law]) for law in (1, 2))]
    return float(np.max([error.max() for error in errors]))  # nan if any is


def spectra(count: int) -> dict[str, object]:
    """Race for ``count`` power-law spectra of exponents 0.5 to 3."""
    exponents = jax.random.uniform(jax.random.key(0), (count, 1), minval=0.5, maxval=3.0)
    variances = jnp.arange(1.0, D + 1) ** -exponents
    jax.block_until_ready(variances)

    start = time.perf_counter()
    program = jax.jit(jax.vmap(predict)).lower(variances).compile()
    compile_s = time.perf_counter() - start
    found = jax.block_until_ready(program(variances))
    peak_host = peak_host_bytes()  # read before anything else is run

    found = tuple(np.asarray(part) for part in found)
    host = np.asarray(variances, np.float64)
    loops = {"roots": roots, "gain_roots": gain_roots, "closed_forms": closed_forms}
    few = min(count // 100, 300)
    timed = {"roots": few, "gain_roots": -(-few // 60), "closed_forms": few}
    results = {}

    def loop_over_spectra(name: str) -> None:
        results[name] = [loops[name](v) for v in host[: timed[name]]]

    calls = {"theory": partial(program, variances)} | {name: partial(loop_over_spectra, name) for name in loops}
    seconds = interleave(calls, repeats=7 if count >= 10**5 else 3)
    per_spectrum_us = {
        name: {kind: 1e6 * s / timed.get(name, count) for kind, s in both.items()} for name, both in seconds.items()
    }
    differences = {
        name: difference(tuple(part[: timed[name]] for part in found), tuple(map(np.array, zip(*result, strict=True))))
        for name, result in results.items()
    }
    ratios = {name: us["median_s"] / per_spectrum_us["theory"]["median_s"] for name, us in per_spectrum_us.items()}
    return {
        "spectra": count,
        "directions": D,
        "n": N,
        "compile_s": compile_s,
        "seconds": seconds["theory"],
        "timed_spectra": timed,
        "per_spectrum_us": {
            name: {"median": us["median_s"], "min": us["min_s"]} for name, us in per_spectrum_us.items()
        },
        "times_theory": ratios,
        "at_least_300_times_faster": ratios["roots"] >= 300,
        "peak_host_mb": peak_host / 1e6,
        "below_2_gb": peak_host < 2e9,
        "variances_mb": variances.nbytes / 1e6,
        "largest_relative_difference": differences,
        "agrees": all(largest <= TOLERANCE for largest in differences.values()),
    }


def simulated_gains(
    generator: np.random.Generator, v: np.ndarray, n: int, t: float, x: np.ndarray | None, sets: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean gains over drawn training sets and their standard errors; without ``x`` each set has a point of its own."""
    gains = []
    for _ in range(sets):
        y = np.sqrt(v) * generator.standard_normal((n, len(v)))
        point = np.sqrt(v + t) * generator.standard_normal(len(v)) if x is None else x
        energies = ((y - point) ** 2).sum(axis=1) / (2 * t)
        weights = np.exp(energies.min() - energies)
        weights /= weights.sum()
        gains.append((weights @ y**2 - (weights @ y) ** 2) / t)
    return np.mean(gains, axis=0), np.std(gains, axis=0, ddof=1) / np.sqrt(sets)


def finite_size(name: str, sets: int) -> dict[str, object]:
    """Time one exact average and compare it with ``sets`` training sets."""
    generator = np.random.default_rng(0)
    x = None
    if name == "finite_size_gain":
        v = np.arange(1.0, D + 1) ** -1.0
        x = np.sqrt(v + FINITE_T) * generator.standard_normal(D)
    else:
        v = np.asarray(bundled.ladder().variances)
    variances = v.astype(np.float32)

    def evaluate() -> tuple[jax.Array, jax.Array]:
        if x is None:
            return theory.mean_finite_size_gain(variances, FINITE_N, FINITE_T)
        return theory.finite_size_gain(variances, FINITE_N, FINITE_T, x.astype(np.float32))

    start = time.perf_counter()
    found, error = jax.block_until_ready(evaluate())
    first_call_s = time.perf_counter() - start
    peak_host = peak_host_bytes()
    seconds = interleave({name: evaluate}, repeats=20 if name == "finite_size_gain" else 7)[name]
    mean, standard_error = simulated_gains(generator, v, FINITE_N, FINITE_T, x, sets)
    allowed = 5 * standard_error + np.asarray(error)
    over = np.abs(np.asarray(found) - mean)[v > 0] / allowed[v > 0]
    return {
        "directions": len(v),
        "distinct_variances": len(np.unique(v)),
        "n": FINITE_N,
        "t": FINITE_T,
        "compile_s": first_call_s - seconds["median_s"],
        "milliseconds": {"median": 1e3 * seconds["median_s"], "min": 1e3 * seconds["min_s"]},
        **({"below_50_ms": seconds["median_s"] < 0.05} if name == "finite_size_gain" else {}),
        "peak_host_mb": peak_host / 1e6,
        "simulated_sets": sets,
        "mean_gain": float(mean.mean()),
        "largest_standard_error": float(standard_error.max()),
        "largest_stated_error": float(jnp.max(error)),
        "largest_difference_over_allowed": float(over.max()),
        "agrees": bool(np.all(over <= 1)),
    }


def measure(quantity: str, count: int) -> dict[str, object]:
    """Measure one quantity: of ``count`` spectra, or checked with ``count`` training sets."""
    machine = {"quantity": quantity, "device": jax.devices()[0].device_kind, "jax": jax.__version__}
    return machine | (spectra(count) if quantity == "spectra" else finite_size(quantity, count))


if __name__ == "__main__":
    sys.exit(run(__file__, __doc__, measure, QUICK, FULL))
