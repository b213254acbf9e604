"""Fixed points that stand in for draws of a normal distribution: averages without random keys."""

from functools import lru_cache

import numpy as np


def _primes(count: int) -> np.ndarray:
    """Return the first primes, in order."""
    # The n-th prime is below n (log n + log log n) for n >= 6.
    limit = 15 if count < 6 else int(count * (np.log(count) + np.log(np.log(count)))) + 1
    prime = np.ones(limit, bool)
    prime[:2] = False
    for k in range(2, int(limit**0.5) + 1):
        if prime[k]:
            prime[k * k :: k] = False
    return np.flatnonzero(prime)[:count]


@lru_cache(maxsize=8)
def normal_points(count: int, dimensions: int) -> np.ndarray:
    r"""Return points spread evenly with respect to the standard normal law.

    A Kronecker lattice: coordinate :math:`j` of point :math:`k` is
    :math:`\Phi^{-1}\bigl((k+\tfrac12)\sqrt{p_j}\bmod1\bigr)` with :math:`p_j` the :math:`j`-th prime.  The mean of a
    smooth function over the points misses its expectation by little more than 1/count in few dimensions, the first ones
    best; in many by what independent draws would miss it, and a few pairs of coordinates are correlated by up to three
    times 1/sqrt(count).

    Args:
      count: number of points.
      dimensions: number of coordinates of each.

    Returns:
      Host array, float64, read-only, shape ``(count, dimensions)``.
    """
    from statistics import NormalDist  # not at import, which should cost little

    uniform = ((np.arange(count) + 0.5)[:, None] * np.sqrt(_primes(dimensions))) % 1
    points = np.array([*map(NormalDist().inv_cdf, uniform.ravel())]).reshape(count, dimensions)
    points.flags.writeable = False
    return points


@lru_cache(maxsize=8)
def latin_hypercubes(blocks: int, count: int, dimensions: int) -> np.ndarray:
    r"""Return blocks of random points, fixed once for all, spread evenly along every coordinate.

    A sliced Latin hypercube: every coordinate has one value in each of ``count`` equal parts of [0, 1] in
    a block, and one in each of ``blocks * count`` in all.  The mean over a block is an unbiased estimate of an
    integral over the cube, and its error, of order 1/sqrt(count) for independent points, is of order
    :math:`\mathrm{count}^{-3/2}` for smooth sums of functions of one coordinate.  Of 64 random orders of the parts that
    one is taken which is least correlated with the coordinates before, the 32 last ones at most.

    Args:
      blocks: number of blocks; the spread of their means gives the error of the mean of all, or more.
      count: number of points of each.
      dimensions: number of coordinates.

    Returns:
      Host array, float64, read-only, shape ``(blocks, count, dimensions)``.
    """
    rng = np.random.default_rng(0)
    # Along every coordinate: in each of `count` parts a random order of the blocks, in each block one of the parts.
    parts = np.zeros((blocks, count, dimensions), int)
    for block in parts:
        for j in range(dimensions):
            trials = rng.permuted(np.tile(np.arange(count), (64, 1)), axis=1)
            products = (trials - (count - 1) / 2) @ block[:, max(0, j - 32) : j]
            block[:, j] = trials[np.argmin(np.sum(products**2, axis=1))]
    orders = rng.permuted(np.tile(np.arange(blocks)[:, None, None], (1, count, dimensions)), axis=0)
    finer = np.take_along_axis(orders, parts, axis=1)
    points = (parts + (finer + rng.random(parts.shape)) / blocks) / count
    points.flags.writeable = False
    return points


def chi_squared_quantiles(levels: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Return quantiles of chi-squared variables, to 1e-5 of themselves for levels above 1e-3 (2e-3 at 1e-6).

    Args:
      levels: probabilities between 0 and 1, shape ``(..., g)``.
      degrees: ``(g,)`` degrees of freedom, whole numbers; 0 is a variable that is 0.

    Returns:
      Host array, float64, shape ``(..., g)``.
    """
    quantiles = np.zeros(levels.shape)
    for m in set(degrees.tolist()) - {0}:
        # The square root has a density of width 1 that has no singularity: interpolate its distribution.
        root = np.linspace(max(0, m**0.5 - 9), m**0.5 + 9, 2**16)
        log_density = (m - 1) * np.log(np.maximum(root, 1e-300)) - root**2 / 2
        density = np.exp(log_density - log_density.max())
        below = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
        quantiles[..., degrees == m] = np.interp(levels[..., degrees == m], below / below[-1], root) ** 2
    return quantiles
