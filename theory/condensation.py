r"""When the exact score of ``N`` points collapses onto single points: condensation and onset times, critical sizes.

Model.  The empirical score is a Boltzmann average over the training points with energies
:math:`\|x-y^\mu\|^2/2t`, in which the noise variance ``t`` plays the part of a temperature.  Data are Gaussian with
variances :math:`\sigma_i^2`, and :math:`I(t)=\tfrac12\sum_i\log(1+\sigma_i^2/t)`.

Results.  At a training point plus :math:`\sqrt r` times the nominal noise (*probe multiplicity* :math:`r`), the
weight :math:`e^{-r\|z\|^2/2}` of that point equals the expected weight of all :math:`N` others,
:math:`N\,\mathbb E_ye^{-\|x-y\|^2/2t}=N\prod_i(1+\sigma_i^2/t)^{-1/2}\exp[-\tfrac12\sum_ix_i^2/(t+\sigma_i^2)]`,
at the **critical size**

.. math:: \log N_c(t;r)=I(t)+\frac{1-r}2\sum_i\frac{\sigma_i^2}{\sigma_i^2+t}. \tag{1}

(Put :math:`x_i^2\to\sigma_i^2+rt`, the mean over data and noise.)  At :math:`r=1` it gives the **condensation time**
:math:`t_c`, at :math:`r=0` (the training point itself) the **onset time** :math:`t_o\ge t_c`:

.. math:: I(t_c)=\log N,\qquad I(t_o)+\tfrac12\sum_i\frac{\sigma_i^2}{\sigma_i^2+t_o}=\log N. \tag{2}

Below :math:`t_o` training points are traps; below :math:`t_c` typical points :math:`x\sim p_t` are dominated by few
training points.  The **basin** of a training point is what its weight still dominates: solving (1) for ``r``, and below
:math:`t_c`, where the others are condensed and (1) counts them too high, keeping the energy reached at :math:`t_c`,

.. math:: r^*=1-\frac{2\log N-2I(t)}{\sum_i\sigma_i^2/(\sigma_i^2+t)}\ (t_c\le t<t_o),\qquad
          r^*=\frac{t_c}t\ (t<t_c). \tag{3}

As :math:`t\to0` the basin is the set of points nearest to the training point: it reaches :math:`t_c` in squared
distance per direction.

Scope.  Leading order as the number of directions grows at fixed :math:`\log N/d`; at moderate ``d`` the transition is
rounded, and the median basin is larger than (3) below :math:`t_c` (by 60 % at 12 directions, 30 % at 24).  Gaussian
data.
Source.  Rederived here (DERIVATIONS.md, section P); :math:`r=1` agrees with the collapse time of arXiv 2402.18491 and,
for points on a manifold, both times with arXiv 2502.09578.  For weak signals (all :math:`\sigma_i^2\ll t`) the
criterion at a fixed point tends to the random-energy expression of arXiv 2410.08727.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ._inputs import ArrayLike, as_log_size, as_positive, as_variances, working_dtype
from ._roots import decreasing_root


def planted_terms(variances: jax.Array, t: jax.Array, probe: jax.Array | float) -> jax.Array:
    """Terms of eq. (1), element by element; nats."""
    signal = variances / t
    return 0.5 * (jnp.log1p(signal) + (1 - probe) * signal / (1 + signal))


def planted_information(variances: jax.Array, t: jax.Array, probe: jax.Array | float) -> jax.Array:
    """Right-hand side of eq. (1) for one noise variance; nats."""
    return jnp.sum(planted_terms(variances, t, probe))


def time_where(
    nats: Callable[[jax.Array, jax.Array], jax.Array], variances: jax.Array, log_n: jax.Array, bound: jax.Array
) -> jax.Array:
    """Solve ``nats(t, scale) = log N``, t in units of ``scale``, in the variable log t.

    ``nats`` falls with t, is at least (log v/t - 1)/2 for the largest variance v and at most ``bound``/t, both in
    the units of ``variances``.
    """
    largest = jax.lax.stop_gradient(jnp.max(variances))
    scale = jnp.where(largest > 0, largest, 1)
    solvable = jnp.isfinite(log_n) & (log_n > 0)
    budget = jnp.where(solvable, log_n, 1)

    tiny = jnp.finfo(variances.dtype).tiny

    def excess(u: jax.Array) -> jax.Array:
        # exp(log(tiny)) may round to less, which is then flushed to 0.
        return nats(jnp.maximum(jnp.exp(u), tiny), scale) - budget

    # A margin: with one direction the root is the bound itself to rounding.
    low = jnp.maximum(-2 * budget - 2, jnp.log(tiny))
    high = jnp.maximum(jnp.log(bound / scale / budget), low)
    root = scale * jnp.exp(decreasing_root(excess, low, high))
    # No root above the smallest number of this precision: the time is 0 to it.
    root = jnp.where(excess(low) > 0, root, 0)
    return jnp.where(solvable, root, jnp.where(log_n > 0, 0, jnp.inf))


def time_of_probe(variances: jax.Array, log_n: jax.Array, probe: jax.Array | float) -> jax.Array:
    """Noise variance at which ``log_n`` points are critical, eq. (1), for one dataset size and a probe up to 1."""

    def nats(t: jax.Array, scale: jax.Array) -> jax.Array:
        return planted_information(variances / scale, t, probe)

    return time_where(nats, variances, log_n, (2 - probe) / 2 * jnp.sum(variances))


@jax.jit
def _times(variances: jax.Array, log_n: jax.Array, probe: jax.Array) -> jax.Array:
    return jnp.vectorize(lambda log_n: time_of_probe(variances, log_n, probe))(log_n)


def _solve_for_time(variances: ArrayLike, n: ArrayLike | None, log_n: ArrayLike | None, probe: float) -> jax.Array:
    dtype = working_dtype(variances)
    # The probe is an argument, not a constant: one compiled program serves both times.
    return _times(as_variances(variances, dtype), as_log_size(n, log_n, dtype), jnp.asarray(probe, dtype))


def condensation_time(variances: ArrayLike, n: ArrayLike | None = None, *, log_n: ArrayLike | None = None) -> jax.Array:
    r"""Return the noise variance :math:`t_c` at which :math:`I(t_c)=\log N`, eq. (2).

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      n: dataset size ``>= 1``, of any shape ``s``.
      log_n: its logarithm in nats, instead of ``n``.

    Returns:
      Noise variances, shape ``s``: +inf at ``n = 1``; 0 where all variances vanish or the time is below the
      smallest number of the precision.

    Raises:
      ValueError: for variances that are negative or not finite, or ``n < 1``.
      TypeError: unless one of ``n`` and ``log_n`` is given.

    Example:
      One direction: :math:`t_c=\sigma^2/(N^2-1)`.

      >>> round(float(condensation_time([8.0], n=3)), 6)
      1.0
    """
    return _solve_for_time(variances, n, log_n, probe=1.0)


def onset_time(variances: ArrayLike, n: ArrayLike | None = None, *, log_n: ArrayLike | None = None) -> jax.Array:
    r"""Return the noise variance :math:`t_o` below which training points are traps, eq. (2).

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      n: dataset size ``>= 1``, of any shape ``s``.
      log_n: its logarithm in nats, instead of ``n``.

    Returns:
      Noise variances, shape ``s``, at least :func:`condensation_time`; +inf at ``n = 1``.

    Raises:
      ValueError: for variances that are negative or not finite, or ``n < 1``.
      TypeError: unless one of ``n`` and ``log_n`` is given.
    """
    return _solve_for_time(variances, n, log_n, probe=0.0)


@jax.jit
def _log_critical_size(variances: jax.Array, t: jax.Array, probe: jax.Array) -> jax.Array:
    return jnp.vectorize(lambda t, probe: planted_information(variances, t, probe))(t, probe)


def log_critical_size(variances: ArrayLike, t: ArrayLike, probe: ArrayLike = 1.0) -> jax.Array:
    r"""Return the log of the size at which a training point loses its hold on the noised point, eq. (1).

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      t: noise variance ``> 0``.
      probe: multiplicity ``r >= 0`` of the noise added to the training point: 1 for nominal noise, 0 for the
        training point itself.  Broadcast with ``t`` to a shape ``s``.

    Returns:
      :math:`\log N_c` in nats, shape ``s``; negative where even two points share the response (large ``probe``).

    Raises:
      ValueError: for variances that are negative or not finite, ``t`` not positive and finite, ``probe < 0``.
    """
    dtype = working_dtype(variances, t, probe)
    if not isinstance(probe, jax.core.Tracer) and not np.all(np.asarray(probe) >= 0):
        raise ValueError(f"probe must be >= 0, got probe = {probe}")
    return _log_critical_size(as_variances(variances, dtype), as_positive("t", t, dtype), jnp.asarray(probe, dtype))


def _basin_of(variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
    condensed = time_of_probe(variances, log_n, 1.0)
    resolved = jnp.sum(variances / (variances + t))
    missing = log_n - planted_information(variances, t, 1.0)
    annealed = 1 - 2 * missing / jnp.where(resolved > 0, resolved, 1)
    above = jnp.where(resolved > 0, jnp.maximum(annealed, 0), 0)
    return jnp.where(t < condensed, condensed / t, above)


@jax.jit
def _basins(variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
    return jnp.vectorize(partial(_basin_of, variances))(log_n, t)


def basin_multiplicity(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    *,
    log_n: ArrayLike | None = None,
) -> jax.Array:
    r"""Return how much noise around a training point is still attributed to that point, eq. (3).

    A ratio of energies, not of lengths: a typical point :math:`x=y+\sqrt{rt}\,z` belongs to the basin of the
    training point :math:`y` for :math:`r<r^*`.  Per direction the basin reaches :math:`r^*t` in squared distance.

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      n: dataset size ``>= 1``.
      t: noise variance ``> 0``; broadcast with ``n`` to a shape ``s``.
      log_n: logarithm of the dataset size in nats, instead of ``n``.

    Returns:
      Probe multiplicities :math:`r^*` (no unit), shape ``s``: 1 at the condensation time; 0 from the onset time
      up (no basin at all); :math:`t_c/t` below the condensation time; +inf at ``n = 1``.

    Raises:
      ValueError: for variances that are negative or not finite, ``t`` not positive and finite, ``n < 1``.
      TypeError: unless ``t`` and one of ``n`` and ``log_n`` are given.

    Example:
      One direction has :math:`t_c=\sigma^2/(N^2-1)`.

      >>> round(float(basin_multiplicity([8.0], n=3, t=0.5)), 5)
      2.0
    """
    if t is None:
        raise TypeError("give the noise variance t")
    dtype = working_dtype(variances, t)
    return _basins(as_variances(variances, dtype), as_log_size(n, log_n, dtype), as_positive("t", t, dtype))
