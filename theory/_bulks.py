"""Where bulks of eigenvalues begin and end, and the gaps that this leaves between the gains."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._inputs import ArrayLike, as_between, as_positive, working_dtype
from ._silverstein import Ensemble

_HALVINGS = 120  # at most: a root may lie far closer to one end of its bracket than to the other
_TOGETHER = 64  # brackets halved at a time: memory of that many times the number of distinct variances


class Bulks(NamedTuple):
    """Intervals that hold all positive eigenvalues but spikes, ascending; float64 NumPy arrays.

    Attributes:
      lower: ``(b,)`` lower edges.
      upper: ``(b,)`` upper edges.
      eigenvalues: ``(b,)`` number of eigenvalues in each, which does not fluctuate.
      lower_scale: ``(b,)`` scale of the fluctuations of the lowest eigenvalue of each, of order :math:`n^{-2/3}`.
      upper_scale: ``(b,)`` that of the highest.
    """

    lower: np.ndarray
    upper: np.ndarray
    eigenvalues: np.ndarray
    lower_scale: np.ndarray
    upper_scale: np.ndarray


class Population(NamedTuple):
    """An ensemble on the host, in float64: distinct variances, ascending, and how many directions per point."""

    variances: np.ndarray
    shares: np.ndarray
    points: float
    dimensions: float


def on_host(ensemble: Ensemble) -> Population:
    """Fetch an ensemble; null directions are left out.

    Raises:
      TypeError: if it is traced.
    """
    if any(isinstance(part, jax.core.Tracer) for part in ensemble):
        raise TypeError("bulks are counted on the host: call this outside of jit, vmap and grad")
    variances, counts, points, dimensions = (np.asarray(part, np.float64) for part in ensemble)
    distinct, which = np.unique(variances[variances > 0], return_inverse=True)
    shares = np.bincount(which, counts[variances > 0], distinct.size) / points
    return Population(distinct, shares, float(points), float(dimensions))


def _moment(population: Population, spike: np.ndarray, power: int) -> np.ndarray:
    """Sums of ``share variance^min(power, 2) / (spike - variance)^power`` for ``(g,)`` spikes."""
    v = population.variances
    return (1 / (spike[:, None] - v) ** power) @ (population.shares * v ** min(power, 2))


def _bisected(
    population: Population, low: np.ndarray, high: np.ndarray, power: int, level: float, rising: bool
) -> np.ndarray:
    """Where a monotone moment crosses a level, between ``low`` and ``high``."""
    for _ in range(_HALVINGS):
        middle = low + (high - low) / 2
        if np.all((middle == low) | (middle == high)):
            break
        with np.errstate(divide="ignore", invalid="ignore"):  # at a pole: decided by the sign of infinity, or nan
            above = (_moment(population, middle, power) > level) == rising
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return low + (high - low) / 2


def spike_edges(population: Population) -> np.ndarray:
    """Return the spikes that an edge of a bulk corresponds to, ascending: an even number of roots of (5)."""
    v, shares = population.variances, population.shares
    if v.size == 0:
        return v
    reach = np.sqrt(np.sum(shares * v**2))
    ends = [_bisected(population, v[:1] - reach, v[:1], 2, 1.0, True)]
    # Its two neighbours alone keep the moment above this; most intervals of a dense spectrum are done with.
    roots = np.cbrt(shares * v**2)
    wide = np.flatnonzero((roots[:-1] + roots[1:]) ** 3 < np.diff(v) ** 2)
    for some in np.array_split(wide, range(_TOGETHER, wide.size, _TOGETHER)):
        low, high = v[some], v[some + 1]
        bottom = _bisected(population, low, high, 3, 0.0, False)
        low, high, bottom = (part[_moment(population, bottom, 2) < 1] for part in (low, high, bottom))
        ends += [_bisected(population, low, bottom, 2, 1.0, False), _bisected(population, bottom, high, 2, 1.0, True)]
    ends.append(_bisected(population, v[-1:], v[-1:] + reach, 2, 1.0, False))
    return np.sort(np.concatenate(ends))


def bulks(ensemble: Ensemble) -> Bulks:
    r"""Return the bulks of the positive eigenvalues and their edges, (5) and (6) of :mod:`theory.random_matrix`.

    How many there are depends on the numbers, so that this is computed on the host in float64 whatever the precision
    of the ensemble, and cannot be traced or differentiated.

    The outermost of the sampled eigenvalues lies at ``upper + upper_scale * w`` or ``lower - lower_scale * w`` with
    :math:`w` of the Tracy-Widom law of real matrices: mean -1.2065, standard deviation 1.2680.  An edge at 0 (as many
    directions as points) has scale 0.

    Args:
      ensemble: from :func:`sample_covariance` or :func:`random_manifold`.

    Returns:
      The bulks.

    Raises:
      TypeError: for a traced ensemble.

    Example:
      >>> from theory.random_matrix import random_manifold
      >>> found = bulks(random_manifold([1.0] * 50 + [0.01] * 50, ambient=200))
      >>> found.lower.round(3).tolist(), found.upper.round(3).tolist(), found.eigenvalues.tolist()
      ([0.001, 0.253], [0.019, 2.253], [50.0, 50.0])
    """
    population = on_host(ensemble)
    v, shares, n = population.variances, population.shares, population.points
    ends = spike_edges(population)
    if v.size and abs(shares.sum() - 1) < 1e-12:
        ends[0] = 0  # as many directions as points: the lowest edge is at 0
    edges = ends * (1 + _moment(population, ends, 1))
    scales = np.cbrt(ends**4 * np.abs(_moment(population, ends, 3)) / n**2)
    above = np.array([np.sum(n * shares[v > end]) for end in ends[::2]])
    counted = np.minimum(above, n) - np.append(above[1:], 0)
    return Bulks(edges[::2], edges[1::2], counted, scales[::2], scales[1::2])


class Gaps(NamedTuple):
    """Gaps between bulks, and between the lowest bulk and 0, in descending order; float64 NumPy arrays.

    Attributes:
      above: ``(g,)`` lower edges of the bulks above the gaps.
      below: ``(g,)`` upper edges of the bulks below; 0 for the last, total gap.
      dimension: ``(g,)`` number of eigenvalues above the gap: the dimension that it shows.
    """

    above: np.ndarray
    below: np.ndarray
    dimension: np.ndarray


def gaps(ensemble: Ensemble) -> Gaps:
    """Return the intermediate gaps and the total gap of the eigenvalues.

    The latter only if some eigenvalues are 0, and not where there are as many points as positive variances, whose bulk
    reaches down to 0.

    On the host, as :func:`bulks`.

    Args:
      ensemble: from :func:`sample_covariance` or :func:`random_manifold`.

    Returns:
      The gaps; their heights and times follow from :func:`gap_height` and :func:`gap_times`.

    Raises:
      TypeError: for a traced ensemble.

    Example:
      >>> from theory.random_matrix import random_manifold
      >>> found = gaps(random_manifold([1.0] * 50 + [0.01] * 50, ambient=200))
      >>> found.dimension.tolist(), found.below.round(3).tolist()
      ([50.0, 100.0], [0.019, 0.0])
    """
    found = bulks(ensemble)
    dimension = np.cumsum(found.eigenvalues[::-1])
    below = np.append(found.upper[-2::-1], 0) if found.upper.size else found.upper
    if found.eigenvalues.sum() < float(ensemble.dimensions) and found.lower[:1].any():
        return Gaps(found.lower[::-1], below, dimension)
    return Gaps(found.lower[:0:-1], below[:-1], dimension[:-1])


class GapTimes(NamedTuple):
    """Noise variances at which a gap is seen, from large noise to small, and how high it is.

    Attributes:
      opens: noise below which it is at least as high as the resolution; nan if it never is.
      largest: noise at which it is highest; 0 for a total gap.
      closes: noise below which it is lower again; 0 for a total gap.
      height: its greatest height, a difference of gains.
    """

    opens: jax.Array
    largest: jax.Array
    closes: jax.Array
    height: jax.Array


def _edges(above: ArrayLike, below: ArrayLike, dtype: np.dtype) -> tuple[jax.Array, jax.Array]:
    a, b = as_positive("above", above, dtype), as_between("below", below, 0, np.inf, dtype)
    if not any(isinstance(edge, jax.core.Tracer) for edge in (a, b)) and bool(jnp.any(a <= b)):
        raise ValueError(f"above must exceed below, got above = {above}, below = {below}")
    return a, b


def gap_height(above: ArrayLike, below: ArrayLike, t: ArrayLike) -> jax.Array:
    r"""Return how far the gains on both sides of a gap are apart, (7) of :mod:`theory.random_matrix`.

    Args:
      above: :math:`a>0`, lower edge of the eigenvalues above the gap; without randomness simply a variance.
      below: :math:`b<a`, upper edge of those below; 0 for the total gap.
      t: noise variance ``> 0``; the three broadcast.

    Returns:
      The difference of gains, which is that of singular values of the score Jacobian, no unit.

    Raises:
      ValueError: for ``above`` or ``t`` not positive and finite, ``below`` negative or not finite.

    Example:
      >>> gap_height(1.0, 0.0, t=[1.0, 3.0]).tolist()
      [0.5, 0.25]
    """
    dtype = working_dtype(above, below, t)
    a, b = _edges(above, below, dtype)
    noise = as_positive("t", t, dtype)
    return noise / (a + noise) * ((a - b) / (b + noise))


@jax.jit
def _gap_times(a: jax.Array, b: jax.Array, delta: jax.Array) -> GapTimes:
    plus, minus = jnp.sqrt(a) + jnp.sqrt(b), jnp.sqrt(a) - jnp.sqrt(b)
    seen = minus >= delta * plus
    # The discriminant in four factors: exact where the gap is seen for a moment only.
    discriminant = plus * minus * (minus - delta * plus) * (plus - delta * minus)
    root = jnp.where(seen & (discriminant > 0), jnp.sqrt(jnp.where(discriminant > 0, discriminant, 1)), 0)
    opens = (plus * minus - delta * (a + b) + root) / (2 * delta)
    opens = jnp.where(seen, opens, jnp.nan)
    closes = jnp.where(b > 0, a * b / opens, jnp.where(seen, 0, jnp.nan))
    return GapTimes(*jnp.broadcast_arrays(opens, jnp.sqrt(a) * jnp.sqrt(b), closes, minus / plus))


def gap_times(above: ArrayLike, below: ArrayLike, resolution: ArrayLike) -> GapTimes:
    r"""Return when a gap opens, is highest and closes, (8) of :mod:`theory.random_matrix`.

    Args:
      above: :math:`a>0`, lower edge of the eigenvalues above the gap; without randomness simply a variance.
      below: :math:`b<a`, upper edge of those below; 0 for the total gap.
      resolution: height :math:`\Delta` from which on a gap is seen, between 0 and 1; the three broadcast.

    Returns:
      The times, in noise variances, and the greatest height.

    Raises:
      ValueError: for ``above`` not positive and finite, ``below`` negative or not finite, ``resolution`` not positive
        or above 1.

    Example:
      >>> times = gap_times(1.0, 0.25, resolution=0.2)
      >>> [round(float(time), 3) for time in times]
      [2.396, 0.5, 0.104, 0.333]
    """
    dtype = working_dtype(above, below, resolution)
    a, b = _edges(above, below, dtype)
    as_positive("resolution", resolution, dtype)
    delta = as_between("resolution", resolution, 0, 1, dtype)
    return _gap_times(a, b, delta)
