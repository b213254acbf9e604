r"""The random-energy predictor of the literature: directions of high variance condense first.

Model.  At a fixed point :math:`x` the exact score of ``N`` points is a Boltzmann average at temperature ``t`` over the
energies :math:`x\cdot y^\mu-\|y^\mu\|^2/2`, taken for independent Gaussian numbers (random energy model) of variance

.. math:: V(x)=\frac g2\sum_j\sigma_j^4+\sum_i\sigma_i^2x_i^2,\qquad
          g=0\text{ for normalized data},\;\|y\|=1,\text{ else }1. \tag{1}

Results.  Condensation time and participation ratio at a point,

.. math:: t_c(x)=\sqrt{\frac{V(x)}{2\log N}},\qquad Y(x,t)=\max\Bigl(0,1-\frac t{t_c(x)}\Bigr); \tag{2}

along direction ``i``, at the *probe* :math:`x=\sqrt t\,e_i`, first of fixed length, then at its own noise :math:`t`,

.. math:: t_{c,i}(t)=\sqrt{\frac{\tfrac g2\sum_j\sigma_j^4+t\sigma_i^2}{2\log N}}, \tag{3}

.. math:: t_i^*=\frac{\sigma_i^2+\sqrt{\sigma_i^4+4g\log N\sum_j\sigma_j^4}}{4\log N}
          \;\xrightarrow{g=0}\;\frac{\sigma_i^2}{2\log N},\qquad
          \log N_i^*(t)=\frac{\sigma_i^2}{2t}+\frac g4\sum_j\frac{\sigma_j^4}{t^2}. \tag{4}

Direction ``i`` is alive iff :math:`t>t_i^*`, that is :math:`N>N_i^*(t)`.  Both grow with :math:`\sigma_i^2`: high
variance is lost first, as the noise falls and as data get scarce.

Scope.  Sharp only as :math:`\log N\to\infty`.
*Not normalized*: second order in :math:`\sigma^2/t` of :math:`\mathrm{KL}(\text{posterior}\,\|\,\text{prior})=\log N`,
hence weak signals, :math:`\sigma_i^2\ll t_c` for all ``i``, and :math:`d\gg\log N`.  At the origin (2) is high by a
factor :math:`1+\tfrac23\sum\sigma^6/(t\sum\sigma^4)` at first order, and by more than ten for few strong directions.
*Normalized*, with the variances of the normalized data: a probe meets one projection of the data, Gaussian but for the
curvature of the sphere, hence many directions, :math:`\sigma_i^2\ll1/(2\log N)`.  There the order is real, :math:`Y`
depends on :math:`t/t_i^*` and ``N`` alone, and the transition is rounded: :math:`Y` is 0.1 to 0.2, not 0, at
:math:`t_i^*` for ``N`` of 300 to 5000.
Source.  Reconstructed from arXiv 2410.08727 and its published code; derivation: DERIVATIONS.md, section R.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._inputs import ArrayLike, as_log_size, as_point, as_positive, as_variances, working_dtype


def _condensation(energy: jax.Array, scale: jax.Array, log_n: jax.Array) -> jax.Array:
    """Eq. (2) from V/scale^2: never, at 0, without energies that differ; always with one point."""
    varies = energy > 0
    time = scale * jnp.sqrt(jnp.where(varies, energy, 1) / (2 * jnp.where(log_n > 0, log_n, 1)))
    return jnp.where(log_n > 0, jnp.where(varies, time, 0), jnp.inf)


def time_at_point(variances: jax.Array, log_n: jax.Array, x: jax.Array, normalized: bool) -> jax.Array:
    """Condensation time of one point, eq. (2), in units of the largest term, for squares of variances overflow."""
    largest = jnp.max(variances)
    scale = lax.stop_gradient(jnp.maximum(largest, jnp.sqrt(largest) * jnp.max(jnp.abs(x))))
    scale = jnp.where(scale > 0, scale, 1)
    relative = variances / scale
    energy = jnp.sum(relative * x * (x / scale))
    if not normalized:
        energy += 0.5 * jnp.sum(relative**2)
    return _condensation(energy, scale, log_n)


def probe_times(variances: jax.Array, log_n: jax.Array, t: jax.Array, normalized: bool) -> jax.Array:
    """Condensation times of all probes ``(d,)``, eq. (3)."""
    largest = jnp.max(variances)
    scale = lax.stop_gradient(jnp.maximum(largest, jnp.sqrt(largest) * jnp.sqrt(t)))
    scale = jnp.where(scale > 0, scale, 1)
    relative = variances / scale
    energy = relative * (t / scale)
    if not normalized:
        energy += 0.5 * jnp.sum(relative**2)
    return _condensation(energy, scale, log_n)


def condensed(t: jax.Array, time: jax.Array) -> jax.Array:
    """Participation ratio below a condensation time, eq. (2)."""
    below = t < time
    return jnp.where(below, 1 - t / jnp.where(below, time, 1), 0)


def times(variances: jax.Array, log_n: jax.Array, normalized: bool) -> jax.Array:
    """Freeze-out times ``(d,)`` at one size, eq. (4): +inf where the variance is zero and at ``n = 1``."""
    nats = jnp.where(log_n > 0, log_n, 1)
    if normalized:
        time = variances / (2 * nats)
    else:
        largest = jnp.max(variances)
        scale = lax.stop_gradient(jnp.where(largest > 0, largest, 1))
        relative = variances / scale
        half = relative / (4 * nats)
        fourth = jnp.where(largest > 0, jnp.sum(relative**2), 1)
        time = scale * (half + jnp.sqrt(half**2 + fourth / (4 * nats)))
    return jnp.where((variances > 0) & (log_n > 0), time, jnp.inf)


def log_sizes(variances: jax.Array, t: jax.Array, normalized: bool) -> jax.Array:
    """Logarithms of the freeze-out sizes ``(d,)`` at one noise, eq. (4): +inf where the variance is zero."""
    signal = variances / t
    log_size = signal / 2
    if not normalized:
        log_size += jnp.sum(signal**2) / 4
    return jnp.where(variances > 0, log_size, jnp.inf)


_jit = partial(jax.jit, static_argnames="normalized")


@_jit
def _condensation_time(variances: jax.Array, log_n: jax.Array, x: jax.Array, normalized: bool) -> jax.Array:
    one = partial(time_at_point, variances, normalized=normalized)
    return jnp.vectorize(one, signature="(),(d)->()")(log_n, x)


@_jit
def _participation(variances: jax.Array, log_n: jax.Array, t: jax.Array, x: jax.Array, normalized: bool) -> jax.Array:
    return condensed(t, _condensation_time(variances, log_n, x, normalized))


@_jit
def _probe_condensation_times(variances: jax.Array, log_n: jax.Array, t: jax.Array, normalized: bool) -> jax.Array:
    one = partial(probe_times, variances, normalized=normalized)
    return jnp.vectorize(one, signature="(),()->(d)")(log_n, t)


@_jit
def _freeze_out_times(variances: jax.Array, log_n: jax.Array, normalized: bool) -> jax.Array:
    return jnp.vectorize(lambda log_n: times(variances, log_n, normalized), signature="()->(d)")(log_n)


@_jit
def _freeze_out_sizes(variances: jax.Array, t: jax.Array, normalized: bool) -> jax.Array:
    return jnp.vectorize(lambda t: log_sizes(variances, t, normalized), signature="()->(d)")(t)


def checked(
    variances: ArrayLike, n: ArrayLike | None, t: ArrayLike | None, log_n: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Check and convert variances, log size and noise."""
    if t is None:
        raise TypeError("give the noise variance t")
    dtype = working_dtype(variances, t)
    return as_variances(variances, dtype), as_log_size(n, log_n, dtype), as_positive("t", t, dtype)


def _as_points(x: ArrayLike | None, d: int, dtype: np.dtype) -> jax.Array:
    if x is None:
        raise TypeError("give the point x")
    return as_point("x", x, d, dtype)


def condensation_time(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    x: ArrayLike | None = None,
    *,
    log_n: ArrayLike | None = None,
    normalized: bool = True,
) -> jax.Array:
    r"""Return the condensation time :math:`t_c(x)` at a fixed point, eq. (2).

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``; of the normalized data where they are normalized.
      n: dataset size ``>= 1``.
      x: points, coordinates along the directions, of shape ``(..., d)``; the leading axes broadcast with ``n`` to
        a shape ``s``.
      log_n: logarithm of the dataset size in nats, instead of ``n``.
      normalized: whether all data points have the norm 1 (:math:`g=0`); static under ``jit``.

    Returns:
      Noise variances, shape ``s``; 0 where all energies are equal (normalized data at the origin), +inf at ``n = 1``.

    Raises:
      ValueError: for variances that are negative or not finite, ``n < 1``, points of another shape or not finite.
      TypeError: unless ``x`` and one of ``n`` and ``log_n`` are given.

    Example:
      >>> round(float(condensation_time([2.0], log_n=1.0, x=[0.0], normalized=False)), 6)  # sigma^2 / 2 sqrt(log N)
      1.0
    """
    dtype = working_dtype(variances, *(() if x is None else (x,)))
    v = as_variances(variances, dtype)
    return _condensation_time(v, as_log_size(n, log_n, dtype), _as_points(x, v.size, dtype), normalized)


def participation(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    x: ArrayLike | None = None,
    *,
    log_n: ArrayLike | None = None,
    normalized: bool = True,
) -> jax.Array:
    r"""Return the participation ratio :math:`Y(x,t)=\mathbb E\sum_\mu w_\mu^2` at a point, eq. (2).

    Arguments and errors are those of :func:`condensation_time`, with the noise variance ``t > 0``, which broadcasts
    with them.

    Returns:
      Ratios in [0, 1], shape ``s``: 0 above the condensation time, 1 at ``n = 1``.
    """
    if t is None:
        raise TypeError("give the noise variance t")
    dtype = working_dtype(variances, t, *(() if x is None else (x,)))
    v = as_variances(variances, dtype)
    size, noise = as_log_size(n, log_n, dtype), as_positive("t", t, dtype)
    return _participation(v, size, noise, _as_points(x, v.size, dtype), normalized)


def probe_condensation_times(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    *,
    log_n: ArrayLike | None = None,
    normalized: bool = True,
) -> jax.Array:
    r"""Return the condensation times :math:`t_{c,i}(t)` at the probes :math:`\sqrt t\,e_i`, eq. (3).

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``; of the normalized data where they are normalized.
      n: dataset size ``>= 1``.
      t: noise variance ``> 0`` that sets the length of the probe; broadcast with ``n`` to a shape ``s``.
      log_n: logarithm of the dataset size in nats, instead of ``n``.
      normalized: whether all data points have the norm 1 (:math:`g=0`); static under ``jit``.

    Returns:
      Noise variances, shape ``s + (d,)``; the probe is condensed where they exceed ``t``.  +inf at ``n = 1``.

    Raises:
      ValueError: for variances that are negative or not finite, ``t`` not positive and finite, ``n < 1``.
      TypeError: unless ``t`` and one of ``n`` and ``log_n`` are given.
    """
    return _probe_condensation_times(*checked(variances, n, t, log_n), normalized)


def probe_participations(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    *,
    log_n: ArrayLike | None = None,
    normalized: bool = True,
) -> jax.Array:
    r"""Return the participation ratios :math:`1-t/t_{c,i}(t)`, or 0, at the probes, eqs. (2) and (3).

    Arguments and errors are those of :func:`probe_condensation_times`; ratios in [0, 1], shape ``s + (d,)``.

    Example:
      Normalized data: :math:`1-\sqrt{t/t_i^*}`.

      >>> probe_participations([0.5, 0.25], log_n=1.0, t=0.0625).tolist()
      [0.5, 0.2928932309150696]
    """
    v, size, noise = checked(variances, n, t, log_n)
    return condensed(noise[..., None], _probe_condensation_times(v, size, noise, normalized))


def freeze_out_times(
    variances: ArrayLike, n: ArrayLike | None = None, *, log_n: ArrayLike | None = None, normalized: bool = True
) -> jax.Array:
    r"""Return the noise variances :math:`t_i^*(N)` below which the directions are lost, eq. (4).

    Arguments and errors are those of :func:`probe_condensation_times`, without ``t``.

    Returns:
      Noise variances, shape ``s + (d,)``: +inf where the variance is zero and at ``n = 1``.
    """
    dtype = working_dtype(variances)
    return _freeze_out_times(as_variances(variances, dtype), as_log_size(n, log_n, dtype), normalized)


def freeze_out_sizes(variances: ArrayLike, t: ArrayLike, *, normalized: bool = True) -> jax.Array:
    r"""Return the **logarithm** of the sizes :math:`N_i^*(t)` below which the directions are lost, eq. (4).

    Arguments and errors are those of :func:`probe_condensation_times`, without ``n``.

    Returns:
      :math:`\log N_i^*` in nats, shape ``s + (d,)``; +inf where the variance is zero.
    """
    dtype = working_dtype(variances, t)
    return _freeze_out_sizes(as_variances(variances, dtype), as_positive("t", t, dtype), normalized)
