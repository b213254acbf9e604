r"""Dimension of a set of points from the points alone: what an estimate from a denoiser is to be held against.

With the distances :math:`T_1\le T_2\le\dots` from a point to the others, where the density is constant as far as
:math:`T_k`, the volumes :math:`T_j^m` are those of a Poisson process on the ``m``-dimensional manifold, hence

.. math:: \log(T_k/T_j),\quad j<k, \tag{1}

are ``k - 1`` independent exponential variables of mean ``1 / m`` in random order.

*Maximum likelihood* (:func:`maximum_likelihood`; Levina and Bickel) inverts their mean at each point; the average over
points is taken before the inverse (MacKay and Ghahramani), which removes the bias of few neighbours.

*Two neighbours* (:func:`two_neighbours`; Facco et al.) is ``k = 2`` with the largest tenth of the ratios, where the
density varies most, discarded.  Here they are censored: with the ``r`` smallest of ``N`` values kept, the sum

.. math:: T=\sum_{i\le r}x_{(i)}+(N-r)\,x_{(r)} \tag{2}

of ``r`` independent exponential variables gives :math:`\hat m=r/T`; the paper fits a line to the same order statistics.

*Local principal components* (:func:`local_pca`; Fukunaga and Olsen) count the eigenvalues of the covariance of the
``k`` nearest points above a twentieth of the largest.

Scope.  (1) needs :math:`T_k` below the distance over which density and tangent space vary, and fails in many
dimensions at any feasible number of points: 16 dimensions look like 14 at 5000 points.  The intervals do not contain
that bias.  Sums over points are wider than of independent ones, because neighbours share points: their variance is
taken twice as large, the measured factor being 1.4 to 1.9 in one to five dimensions with 2 to 20 neighbours.

Sources.  Levina and Bickel (2004), NIPS 17; MacKay and Ghahramani (2005), comments on it; Facco et al. (2017),
Scientific Reports 7, 12140; Fukunaga and Olsen (1971), IEEE Trans. Computers C-20, 176.  (2) is the textbook estimate
from a censored exponential sample.
"""

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from geomem_jax.dimension import ALPHA, CONTRAST, Dimension, pool_whole_numbers
from geomem_jax.errors import InputError
from geomem_jax.neighbours import Neighbours, nearest
from geomem_jax.rows import check_rows
from geomem_jax.statistics import critical_z

SHARED = 2.0  # variance of a sum over points, relative to independent ones
LEAST_EIGENVALUE = 0.05  # of a direction that counts, relative to the largest
# Sample eigenvalues of m equal variances among k points spread between (1 -+ sqrt(m / k))^2, Marchenko-Pastur: above
# this share of k the smallest falls below LEAST_EIGENVALUE times the largest.
MOST_OF_NEIGHBOURS = ((1 - LEAST_EIGENVALUE**0.5) / (1 + LEAST_EIGENVALUE**0.5)) ** 2


def _others(
    points: ArrayLike, neighbours: int, least: int, queries: int | None = None
) -> tuple[np.ndarray, Neighbours]:
    """Nearest other points of all points, or of ``queries`` of them spread evenly; ``neighbours`` each."""
    rows = check_rows(points, "points", 3)
    if not least <= neighbours < len(rows):
        raise InputError(f"neighbours: {neighbours} of {len(rows)} points; give {least} to {len(rows) - 1}")
    if queries is not None and queries < 1:
        raise InputError(f"queries: {queries}; give a positive number")
    own = np.arange(len(rows))
    if queries is not None and queries < len(rows):
        own = np.linspace(0, len(rows), queries, endpoint=False).astype(int)
    found = nearest(jnp.asarray(rows), len(rows), jnp.asarray(rows[own]), neighbours + 1)
    # A point itself is among its nearest, but not always first: it may have equals.  Where they crowd it out, none is
    # itself, and the farthest is dropped.
    itself = np.asarray(found.row) == own[:, None]
    keep = np.argsort(itself, axis=1, kind="stable")[:, :-1]
    return rows, Neighbours(*(jnp.take_along_axis(array, jnp.asarray(keep), axis=1) for array in found))


def _log_ratios(points: ArrayLike, neighbours: int) -> np.ndarray:
    """Logarithms (1), ``(N, k - 1)``."""
    _, found = _others(points, neighbours, 2)
    distance = np.asarray(found.distance, float)
    equal = np.count_nonzero(distance[:, 0] == 0)
    if equal:
        raise InputError(f"points: {equal} of {len(distance)} equal another; remove repetitions")
    return np.log(distance[:, -1:] / distance[:, :-1])


def maximum_likelihood(points: ArrayLike, neighbours: int = 20) -> Dimension:
    """Dimension from the distances to the nearest points, averaged as MacKay and Ghahramani do.

    Args:
      points: ``(N, ...)``, further axes flattened.
      neighbours: ``k``, from 2 to ``N - 1``.  Fewer look nearer: less bias, more noise.

    Returns:
      The estimate; its ``points`` are those at each point, without the average, and ``confidence`` is nan.

    Raises:
      InputError: as :func:`geomem_jax.rows.check_rows`; if ``neighbours`` is out of range or points are equal.
    """
    inverse = _log_ratios(points, neighbours).mean(axis=1)
    mean = inverse.mean()
    error = critical_z(ALPHA, 1) * np.sqrt(SHARED * inverse.var(ddof=1) / len(inverse))
    upper = 1 / (mean - error) if mean > error else np.inf
    with np.errstate(divide="ignore"):  # all neighbours at one distance: no end to the dimension
        return Dimension(float(1 / mean), float(1 / (mean + error)), float(upper), np.nan, True, 1 / inverse)


def two_neighbours(points: ArrayLike, discard: float = 0.1) -> Dimension:
    """Dimension from the ratios of the distances to the two nearest points.

    Args:
      points: ``(N, ...)``, further axes flattened.
      discard: fraction of the ratios, the largest, of which only the number is used.

    Returns:
      The estimate; its ``points`` are those of each ratio alone, and ``confidence`` is nan.

    Raises:
      InputError: as :func:`maximum_likelihood`, or if ``discard`` is not in [0, 1).
    """
    if not 0 <= discard < 1:
        raise InputError(f"discard: {discard}; give a fraction from 0 to below 1")
    logs = _log_ratios(points, 2)[:, 0]
    ordered = np.sort(logs)
    kept = max(1, round((1 - discard) * len(logs)))
    total = ordered[:kept].sum() + (len(logs) - kept) * ordered[kept - 1]
    lower, upper = SHARED * stats.gamma.ppf([ALPHA / 2, 1 - ALPHA / 2], kept / SHARED) / total
    with np.errstate(divide="ignore"):
        return Dimension(float(kept / total), float(lower), float(upper), np.nan, True, 1 / logs)


def local_pca(points: ArrayLike, neighbours: int = 100, queries: int = 500) -> Dimension:
    """Dimension from the eigenvalues of the covariance of each point's nearest ones.

    Args:
      points: ``(N, ...)``, further axes flattened.
      neighbours: ``k``, from 2 to ``N - 1``.  Up to ``0.4 k`` dimensions can be told.
      queries: at how many of the points, spread evenly over the rows.

    Returns:
      The median over queries of the number of eigenvalues above 1/20 of the largest; nothing at a query where the
      last of them is less than four times the next, or where there are more than ``0.4 k``.  Its ``confidence`` is the
      median of that ratio.

    Raises:
      InputError: as :func:`geomem_jax.rows.check_rows`; if ``neighbours`` or ``queries`` is out of range.
    """
    data, found = _others(points, neighbours, 2, queries)
    # One neighbourhood at a time, for the sake of memory.
    near = (data[rows].astype(float) for rows in np.asarray(found.row))
    values = np.stack([np.linalg.svd(part - part.mean(axis=0), compute_uv=False) for part in near]) ** 2
    largest = values[:, :1]
    count = np.count_nonzero(values > LEAST_EIGENVALUE * largest, axis=1)
    # What rounds to nothing is no divisor; after the last direction of the space there is nothing.
    floor = np.finfo(data.dtype).eps * neighbours * largest[:, 0]
    every = np.arange(len(values))
    following = np.append(values, np.zeros((len(values), 1)), axis=1)[every, count]
    last = values[every, np.maximum(count - 1, 0)]
    ratio = np.divide(last, np.maximum(following, floor), out=np.zeros(len(last)), where=floor > 0)
    clear = (ratio >= CONTRAST) & (count <= MOST_OF_NEIGHBOURS * neighbours)
    return pool_whole_numbers(np.where(clear, count, np.nan), float(np.median(ratio)), data.shape[1])
