"""Fixed points that stand in for draws of a normal distribution: averages without random keys."""

from functools import lru_cache
from statistics import NormalDist

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
    uniform = ((np.arange(count) + 0.5)[:, None] * np.sqrt(_primes(dimensions))) % 1
    points = np.array([*map(NormalDist().inv_cdf, uniform.ravel())]).reshape(count, dimensions)
    points.flags.writeable = False
    return points
