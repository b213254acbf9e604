"""The printed equations, solved the slow and obvious way: no code, bracket or solver in common with `theory`.

Everything is bisected in the logarithm of the unknown, in extended precision where the platform has it, so that a
relative error of 1e-9 (float64) is tested with digits to spare.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

FLOAT = np.longdouble
HALVINGS = 66  # of a bracket of 1e4 nats: 1.4e-16
WIDTH = 32  # spectra are padded with zero variances to one shape, which is compiled once

SPECTRA: dict[str, Any] = {
    "one direction": [1.3],
    "one among zeros": [1.3] + [0.0] * 31,
    "two equal": [0.7, 0.7] + [0.0] * 30,
    "ladder": np.repeat([1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 0], [4, 4, 4, 4, 4, 4, 8]),
    "twelve decades": [*(10.0 ** np.arange(-6, 7)), *np.zeros(19)],
    "weak among strong": [1e6, 1e6, 1e-6] + [0.0] * 29,
    "strong among weak": [1.0] + [0.1] * 31,
    "10 000 directions": np.arange(1, 10_001) ** -1.5,
}

Equation = Callable[..., np.ndarray]  # (variances, log N, t, kappa), zero at kappa


def root(f: Callable[[np.ndarray], np.ndarray], low: ArrayLike, high: ArrayLike) -> np.ndarray:
    """Return u in [low, high] where f, falling, passes zero (elementwise); an end where it has one sign."""
    below, above = np.broadcast_arrays(np.asarray(low, FLOAT), np.asarray(high, FLOAT))
    for _ in range(HALVINGS):
        middle = (below + above) / 2
        positive = f(middle) > 0
        below, above = np.where(positive, middle, below), np.where(positive, above, middle)
    return (below + above) / 2


def last(x: ArrayLike) -> np.ndarray:
    """Append the axis that runs over directions."""
    return np.asarray(x, FLOAT)[..., None]


def information(variances: ArrayLike, t: ArrayLike) -> np.ndarray:
    return np.sum(np.log1p(np.asarray(variances, FLOAT) / last(t)), axis=-1) / 2


def log_critical_size(variances: ArrayLike, t: ArrayLike, probe: ArrayLike) -> np.ndarray:
    v = np.asarray(variances, FLOAT)
    return information(v, t) + (1 - np.asarray(probe, FLOAT)) / 2 * np.sum(v / (v + last(t)), axis=-1)


def critical_time(
    variances: ArrayLike,
    log_n: ArrayLike,
    probe: float,
    critical_size: Callable[[ArrayLike, ArrayLike, float], np.ndarray] = log_critical_size,
) -> np.ndarray:
    """Condensation time (probe 1) and onset time (probe 0); exp(-1e4), which is 0 in every precision, at least."""
    size = np.asarray(log_n, FLOAT)
    return np.exp(root(lambda u: critical_size(variances, np.exp(u), probe) - size, -1e4 + 0 * size, 1e3))


def linear_equation(v: np.ndarray, log_n: ArrayLike, t: ArrayLike, kappa: ArrayLike) -> np.ndarray:
    k = np.asarray(kappa)
    return np.asarray(t) - k * (1 - np.exp(-np.asarray(log_n)) * np.sum(v / (v + last(kappa)), axis=-1))


def empirical_equation(v: np.ndarray, log_n: ArrayLike, t: ArrayLike, kappa: ArrayLike) -> np.ndarray:
    k = last(kappa)
    return np.sum(np.log1p(v / k) - v * (k - last(t)) / (k + v) ** 2, axis=-1) / 2 - log_n


EQUATIONS: dict[str, Equation] = {"linear": linear_equation, "empirical": empirical_equation}


def effective_noise(
    law: str, variances: ArrayLike, log_n: ArrayLike, t: ArrayLike, equation: Equation | None = None
) -> np.ndarray:
    """Kappa for every (log_n, t); another equation can be given, to see a wrong one rejected."""
    v = np.asarray(variances, FLOAT)
    size, noise = np.broadcast_arrays(np.asarray(log_n, FLOAT), np.asarray(t, FLOAT))
    f = equation or EQUATIONS[law]
    kappa = np.exp(root(lambda u: f(v, size, noise, np.exp(u)), np.log(noise), np.log(noise) + 400))
    return np.where(information(v, noise) > size, kappa, noise) if law == "empirical" else kappa


def relative_gain(law: str, variances: ArrayLike, variance: float, log_n: ArrayLike, t: ArrayLike) -> np.ndarray:
    v = FLOAT(variance)
    return (v + np.asarray(t, FLOAT)) / (v + effective_noise(law, variances, log_n, t))


def freeze_out_log_size(law: str, variances: ArrayLike, variance: float, t: ArrayLike) -> np.ndarray:
    """Find log N where the relative gain is one half: a root in N around a root in kappa."""
    noise = np.asarray(t, FLOAT)
    high = 200 + 0 * noise if law == "linear" else information(variances, noise)
    low = -high if law == "linear" else 0 * high
    return root(lambda size: 0.5 - relative_gain(law, variances, variance, size, noise), low, high)


def frozen_on(law: str, variances: ArrayLike, log_n: float, grid: np.ndarray) -> np.ndarray:
    """Whether each direction is frozen at each noise of a grid; shape (k, d)."""
    v, t = np.asarray(variances, FLOAT), np.asarray(grid, FLOAT)[:, None]
    return (v + t) / (v + effective_noise(law, v, log_n, grid)[:, None]) < 0.5


def freeze_out_times(law: str, variances: ArrayLike, log_n: float, grid: np.ndarray) -> np.ndarray:
    """Refine the last crossing that a dense scan of relative gains finds; 0 where there is none."""
    v = np.asarray(variances, FLOAT)
    frozen = frozen_on(law, v, log_n, grid)
    assert not frozen[-1].any(), "the grid must reach above every freeze-out time"

    def surplus(u: np.ndarray, variance: float) -> np.ndarray:
        return 0.5 - relative_gain(law, v, variance, log_n, np.exp(u))

    times = np.zeros(v.size, FLOAT)
    for variance in np.unique(v):
        (i, *_) = members = np.flatnonzero(v == variance)
        if variance > 0 and frozen[:, i].any():
            j = np.flatnonzero(frozen[:, i])[-1]
            ends = np.log(grid[j]), np.log(grid[j + 1])
            times[members] = np.exp(root(partial(surplus, variance=variance), *ends))
    return np.where(v > 0, times, np.inf)


def slope(f: Callable[[np.ndarray], np.ndarray], x: ArrayLike) -> np.ndarray:
    """Central difference of a reference function, good to 8 digits or so."""
    at = np.asarray(x, FLOAT)
    return (f(at + 1e-7) - f(at - 1e-7)) / 2e-7


def precision(x64: bool) -> np.dtype:
    return np.dtype(np.float64 if x64 else np.float32)


def allowed(dtype: np.dtype, condition: ArrayLike) -> np.ndarray:
    """Relative error that rounding explains: a few roundings, each amplified by the condition number.

    The condition number says by how much the result moves when a term of the equation is rounded.  In float64 the
    promise is 1e-9 whatever the condition.
    """
    bound = 16 * np.finfo(dtype).eps * (1 + np.asarray(condition, FLOAT))
    return np.minimum(bound, 1e-9) if dtype == np.float64 else bound
