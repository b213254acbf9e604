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
training points.

Scope.  Leading order as the number of directions grows at fixed :math:`\log N/d`; at moderate ``d`` the transition is
rounded.  Gaussian data.
Source.  Rederived here; :math:`r=1` agrees with the collapse time of arXiv 2402.18491 and, for points on a manifold,
both times with arXiv 2502.09578.  For weak signals (all :math:`\sigma_i^2\ll t`) the criterion at a fixed
point tends to the random-energy expression of arXiv 2410.08727.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ._inputs import ArrayLike, as_log_size, as_positive, as_variances, working_dtype
from ._roots import decreasing_root


def planted_information(variances: jax.Array, t: jax.Array, probe: jax.Array | float) -> jax.Array:
    """Right-hand side of eq. (1) for one noise variance; nats."""
    signal = variances / t
    return 0.5 * jnp.sum(jnp.log1p(signal) + (1 - probe) * signal / (1 + signal))


def _time_of(variances: jax.Array, log_n: jax.Array, probe: jax.Array) -> jax.Array:
    """Solve eq. (2) for one dataset size, in the variable log t relative to the largest variance."""
    largest = jax.lax.stop_gradient(jnp.max(variances))
    scale = jnp.where(largest > 0, largest, 1)
    relative = variances / scale
    solvable = jnp.isfinite(log_n) & (log_n > 0)
    budget = jnp.where(solvable, log_n, 1)

    def excess(u: jax.Array) -> jax.Array:
        return planted_information(relative, jnp.exp(u), probe) - budget

    # The largest direction alone has half log(1 + 1/t), and every term is at most (2 - probe)/2 v/t.  A margin of a
    # nat: with one direction the root is that bound itself to rounding.
    smallest = jnp.log(jnp.finfo(relative.dtype).tiny)
    low = jnp.maximum(-2 * budget - 1, smallest)
    high = jnp.log((2 - probe) * jnp.sum(relative) / (2 * budget))
    high = jnp.maximum(high, low)
    root = scale * jnp.exp(decreasing_root(excess, low, high))
    # No root above the smallest number of this precision: the time is 0 to it.
    root = jnp.where(excess(low) > 0, root, 0)
    return jnp.where(solvable, root, jnp.where(log_n > 0, 0, jnp.inf))


@jax.jit
def _times(variances: jax.Array, log_n: jax.Array, probe: jax.Array) -> jax.Array:
    return jnp.vectorize(lambda log_n: _time_of(variances, log_n, probe))(log_n)


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
