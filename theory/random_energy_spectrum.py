r"""The spectrum of the score under the random-energy predictor: responses, dimension, gaps.

Model.  That of :mod:`theory.random_energy`: condensation times :math:`t_c`, participation ratios :math:`Y` and
freeze-out sizes :math:`N_i^*`.

Results.  The response of the score to the probe :math:`\sqrt t\,e_i` from the origin, with fluctuations that are
independent at its two ends, in units of the response :math:`1/t` across the data:

.. math:: (t\varsigma_i)^2=\Bigl(\frac t{t+\sigma_i^2}\Bigr)^2
          +\sum_j\frac{\sigma_j^2}{t+\sigma_j^2}\,\bigl[Y(0,t)+Y(\sqrt te_i,t)\bigr]; \tag{1}

the number of directions that are seen above a cut :math:`\epsilon` and alive,

.. math:: \hat m=\#\Bigl\{i:\frac{\sigma_i^2}{\sigma_i^2+t}>\epsilon,\;N>N_i^*(t)\Bigr\}; \tag{2}

and the position of the largest drop in the descending :math:`\min(t\varsigma_i,1)`, which tells in a spectrum without
directions which of two groups is missing (:func:`gap_positions`).

Scope.  Qualitative.  (1) adds fluctuations that the two ends share while :math:`\sigma_i^2\lesssim t` (along null
directions they cancel exactly: :math:`t\varsigma_i=1`), and takes the mean and the posterior covariance of unbounded
Gaussian data: normalized data respond to a short probe by :math:`|\sigma_i^2/t-1|`, at every ``N``.  It is off by
more than three times around the transitions in either case.
Source.  Reconstructed from arXiv 2410.08727, whose published code plots a variant of (1); derivation: DERIVATIONS.md,
section R.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._inputs import ArrayLike
from .random_energy import checked, condensed, log_sizes, probe_times, time_at_point


def _responses(variances: jax.Array, log_n: jax.Array, t: jax.Array, normalized: bool) -> jax.Array:
    """Responses of all directions, eq. (1)."""
    origin = condensed(t, time_at_point(variances, log_n, jnp.zeros_like(variances), normalized))
    probes = condensed(t, probe_times(variances, log_n, t, normalized))
    return jnp.sqrt((t / (t + variances)) ** 2 + jnp.sum(variances / (t + variances)) * (origin + probes))


_jit = partial(jax.jit, static_argnames="normalized")


@_jit
def _singular_values(variances: jax.Array, log_n: jax.Array, t: jax.Array, normalized: bool) -> jax.Array:
    one = partial(_responses, variances, normalized=normalized)
    return jnp.vectorize(one, signature="(),()->(d)")(log_n, t)


@_jit
def _largest_gap(variances: jax.Array, log_n: jax.Array, t: jax.Array, normalized: bool) -> jax.Array:
    # A direction that responds more than the null directions is lost among them, not a gap of its own.
    seen = jnp.minimum(_singular_values(variances, log_n, t, normalized), 1)
    descending = -jnp.sort(-seen, axis=-1)
    # The first drop is none: a flat spectrum has its largest drop there, at index 0.
    drops = jnp.diff(descending, axis=-1, prepend=descending[..., :1])
    return jnp.argmin(drops, axis=-1)


@_jit
def _dimension_count(
    variances: jax.Array, log_n: jax.Array, t: jax.Array, cut: jax.Array, normalized: bool
) -> jax.Array:
    def one(log_n: jax.Array, t: jax.Array, cut: jax.Array) -> jax.Array:
        visible = variances / (variances + t) > cut
        return jnp.sum(visible & (log_n > log_sizes(variances, t, normalized)))

    return jnp.vectorize(one)(log_n, t, cut)


def singular_values(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    *,
    log_n: ArrayLike | None = None,
    normalized: bool = True,
) -> jax.Array:
    r"""Return the responses :math:`t\varsigma_i=\sqrt t\,\|s(\sqrt te_i)-s(0)\|` of the score to the probes, eq. (1).

    Arguments and errors are those of :func:`theory.random_energy.probe_condensation_times`; responses (no unit;
    1 across the data), in the order of ``variances``, shape ``s + (d,)``.
    """
    return _singular_values(*checked(variances, n, t, log_n), normalized)


def dimension_count(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    cut: ArrayLike = 0.5,
    *,
    log_n: ArrayLike | None = None,
    normalized: bool = True,
) -> jax.Array:
    r"""Count the directions that are visible and alive, eq. (2).

    Arguments and errors are those of :func:`theory.random_energy.probe_condensation_times`; a direction is visible
    where its gain exceeds ``cut``, in (0, 1), which broadcasts with them.  Integers, shape ``s``.

    Example:
      >>> int(dimension_count([0.5, 0.1, 0.1, 0.001], log_n=5.0, t=0.02))  # the first is lost, the last not seen
      2
    """
    if not isinstance(cut, jax.core.Tracer) and not np.all((np.asarray(cut) > 0) & (np.asarray(cut) < 1)):
        raise ValueError(f"cut must be > 0 and < 1, got cut = {cut}")
    v, size, noise = checked(variances, n, t, log_n)
    return _dimension_count(v, size, noise, jnp.asarray(cut, v.dtype), normalized)


def largest_gap(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    *,
    log_n: ArrayLike | None = None,
    normalized: bool = True,
) -> jax.Array:
    r"""Return after how many of the descending :math:`\min(t\varsigma_i,1)` the largest drop lies.

    (Responses above those across the data are cut to these.)  What a position means: :func:`gap_positions`.
    Arguments and errors are those of :func:`theory.random_energy.probe_condensation_times`; integers, shape ``s``, 0
    where there is no drop.
    """
    return _largest_gap(*checked(variances, n, t, log_n), normalized)


class GapPositions(NamedTuple):
    """Where the largest drop of a descending spectrum of two groups of variances lies, and what that means.

    Attributes:
      whole_manifold: both groups are seen, as one.
      high_separated: the high variances are seen apart from all others.
      high_lost: only the low variances are still seen.
    """

    whole_manifold: int
    high_separated: int
    high_lost: int


def gap_positions(dimension: int, high: int, low: int) -> GapPositions:
    r"""Return what the positions of the largest drop mean: :math:`d-m_1-m_2`, :math:`d-m_1` and :math:`d-m_2`.

    With :math:`m_1=m_2` the last two coincide: the spectrum alone cannot tell them apart.

    Args:
      dimension: number ``d`` of directions, null directions included.
      high: number :math:`m_1` of directions of high variance.
      low: number :math:`m_2` of directions of low, not zero, variance.

    Raises:
      ValueError: if a group is empty or the groups do not fit.

    Example:
      >>> gap_positions(30, high=2, low=5)
      GapPositions(whole_manifold=23, high_separated=28, high_lost=25)
    """
    if high < 1 or low < 1 or high + low > dimension:
        raise ValueError(f"need high >= 1, low >= 1 and high + low <= dimension, got {dimension=}, {high=}, {low=}")
    return GapPositions(dimension - high - low, dimension - high, dimension - low)
