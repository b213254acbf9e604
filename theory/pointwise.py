r"""Condensation at a given point: when few training points dominate it, and how many share it before.

Model.  That of :mod:`theory.condensation`, at a point :math:`x` that is given and not in the training set.  Coordinates
are those along the directions.

Results.  Among infinitely many points the posterior of :math:`x` is Gaussian with means
:math:`\sigma_i^2x_i/(\sigma_i^2+t)` and variances :math:`\sigma_i^2t/(\sigma_i^2+t)`.  Of :math:`N` draws from the
prior any reach it while its relative entropy to the prior is below :math:`\log N`; :math:`x` **condenses** where

.. math:: \tfrac12\sum_i\Bigl[\log\Bigl(1+\frac{\sigma_i^2}t\Bigr)-\frac{\sigma_i^2}{t+\sigma_i^2}
          +\frac{\sigma_i^2x_i^2}{(t+\sigma_i^2)^2}\Bigr]=\log N. \tag{1}

(:math:`x_i^2\to\sigma_i^2+t`, a typical noised point: the condensation time :math:`t_c`.  :math:`x_i^2\to\sigma_i^2`, a
typical clean one: less.)  Above, sums over the training set are close to their means, and the participation ratio
:math:`Y=\sum_\mu w_\mu^2` to the **annealed** ratio
:math:`\mathbb E\sum_\mu e^{-2E_\mu}/(\mathbb E\sum_\mu e^{-E_\mu})^2`,

.. math:: Y_{\rm ann}(x,t)=\frac1N\prod_i\frac{1+\sigma_i^2/t}{\sqrt{1+2\sigma_i^2/t}}
          \exp\frac{\sigma_i^2x_i^2}{(t+\sigma_i^2)(t+2\sigma_i^2)}. \tag{2}

:math:`(NY_{\rm ann}-1)/N` is the relative variance of the sum of weights; :math:`Y_{\rm ann}=1` is the
**breakdown** time of the central limit theorem, which is above the time of (1).

Scope.  Gaussian data.  (1): leading order as the number of directions grows at fixed :math:`\log N/d`.  (2): its
relative error is :math:`[3(a_2-1)-2(a_3/a_2-1)]/N` with :math:`a_k=\mathbb Ee^{-kE}/(\mathbb Ee^{-E})^k`, so for
:math:`a_3\ll N`, in any number of directions; near and below breakdown it means nothing.
Source.  Rederived here (DERIVATIONS.md, section P).  For weak signals (1) is the random-energy expression of arXiv
2410.08727; breakdown and condensation are the two bandwidths of arXiv 2408.05807.
"""

from functools import partial

import jax
import jax.numpy as jnp

from ._inputs import ArrayLike, as_log_size, as_point, as_positive, as_variances, working_dtype
from .condensation import time_where


def _bent_log(a: jax.Array) -> jax.Array:
    """Return -log(1 - a) - a for 0 <= a < 1, which is a^2/2 + a^3/3 + ... where the two terms cancel."""
    small = jnp.minimum(a, 0.05)
    series = small**2 * jnp.polyval(1 / jnp.arange(10, 1, -1, dtype=a.dtype), small)
    return jnp.where(a < 0.05, series, -jnp.log1p(-jnp.maximum(a, 0.05)) - a)


def information_at(variances: jax.Array, t: jax.Array, squares: jax.Array) -> jax.Array:
    """Left side of eq. (1), nats; ``squares`` are the squared coordinates of the point."""
    total = variances + t
    share = variances / total
    # Where nearly all is signal, 1 - share has lost its digits.
    bent = jnp.where(share < 0.5, _bent_log(share), jnp.log1p(variances / t) - share)
    return 0.5 * jnp.sum(bent + share * (squares / total))


def log_dispersion_at(variances: jax.Array, t: jax.Array, squares: jax.Array) -> jax.Array:
    """Log of N times the participation ratio of eq. (2)."""
    signal = variances / t
    spread = 0.5 * jnp.log1p(signal / (1 + 2 * signal) * signal)
    return jnp.sum(spread + signal / (1 + signal) * (squares / (t + 2 * variances)))


def time_at_point(variances: jax.Array, log_n: jax.Array, squares: jax.Array) -> jax.Array:
    """Noise variance that solves eq. (1) for one dataset size and one point."""

    def nats(t: jax.Array, scale: jax.Array) -> jax.Array:
        return information_at(variances / scale, t, squares / scale)

    # log(1 + x) <= x and (t + v)^2 >= 4 t v.
    return time_where(nats, variances, log_n, jnp.sum(variances + squares / 4) / 2)


def breakdown_time_at_point(variances: jax.Array, log_n: jax.Array, squares: jax.Array) -> jax.Array:
    """Noise variance at which eq. (2) is 1, for one dataset size and one point."""

    def nats(t: jax.Array, scale: jax.Array) -> jax.Array:
        return log_dispersion_at(variances / scale, t, squares / scale)

    # As above, with s^2/(1 + 2s) <= s/2 and (t + v)(t + 2v) >= 5 t v.
    return time_where(nats, variances, log_n, jnp.sum(variances / 4 + squares / 5))


@jax.jit
def _times_at(variances: jax.Array, log_n: jax.Array, point: jax.Array) -> jax.Array:
    return jnp.vectorize(partial(time_at_point, variances), signature="(),(d)->()")(log_n, point**2)


def condensation_time_at(
    variances: ArrayLike, n: ArrayLike | None = None, *, point: ArrayLike, log_n: ArrayLike | None = None
) -> jax.Array:
    r"""Return the noise variance at which few training points dominate the given point, eq. (1).

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      n: dataset size ``>= 1``, broadcast with the leading axes of ``point`` to a shape ``s``.
      point: ``(..., d)`` coordinates along the directions.  The square roots of the variances stand for a typical
        clean point outside the training set.
      log_n: logarithm of the dataset size in nats, instead of ``n``.

    Returns:
      Noise variances, shape ``s``: +inf at ``n = 1``, 0 where all variances vanish.

    Raises:
      ValueError: for variances that are negative or not finite, a point of another length or not finite, ``n < 1``.
      TypeError: unless one of ``n`` and ``log_n`` is given.

    Example:
      The origin lies amid the data and condenses later than a point three deviations out.

      >>> origin, outlier = condensation_time_at([1.0] * 8, n=100, point=[[0.0] * 8, [3.0] * 8]).tolist()
      >>> origin < outlier
      True
    """
    dtype = working_dtype(variances, point)
    checked = as_variances(variances, dtype)
    return _times_at(checked, as_log_size(n, log_n, dtype), as_point("point", point, checked.size, dtype))


@jax.jit
def _log_annealed_participation(variances: jax.Array, log_n: jax.Array, t: jax.Array, point: jax.Array) -> jax.Array:
    log_dispersion = jnp.vectorize(partial(log_dispersion_at, variances), signature="(),(d)->()")
    return log_dispersion(t, point**2) - log_n


def log_annealed_participation(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    *,
    point: ArrayLike,
    log_n: ArrayLike | None = None,
) -> jax.Array:
    r"""Return the **logarithm** of the annealed participation ratio :math:`Y_{\rm ann}` at a point, eq. (2).

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      n: dataset size ``>= 1``.
      t: noise variance ``> 0``.
      point: ``(..., d)`` coordinates along the directions, outside the training set; leading axes are broadcast
        with ``n`` and ``t`` to a shape ``s``.
      log_n: logarithm of the dataset size in nats, instead of ``n``.

    Returns:
      :math:`\log Y_{\rm ann}` (natural logarithm), shape ``s``, at least :math:`-\log N`; not clipped: positive
      below :func:`clt_breakdown_time`, where it is no participation ratio.

    Raises:
      ValueError: for variances that are negative or not finite, a point of another length or not finite, ``t`` not
        positive and finite, ``n < 1``.
      TypeError: unless ``t`` and one of ``n`` and ``log_n`` are given.

    Example:
      At the origin, :math:`\sigma^2=t=1`: :math:`Y_{\rm ann}=2/(N\sqrt3)`.

      >>> y = jnp.exp(log_annealed_participation([1.0], n=100, t=1.0, point=[0.0]))
      >>> round(float(y), 5)
      0.01155
    """
    if t is None:
        raise TypeError("give the noise variance t")
    dtype = working_dtype(variances, t, point)
    checked = as_variances(variances, dtype)
    return _log_annealed_participation(
        checked,
        as_log_size(n, log_n, dtype),
        as_positive("t", t, dtype),
        as_point("point", point, checked.size, dtype),
    )


@jax.jit
def _breakdown_times_at(variances: jax.Array, log_n: jax.Array, point: jax.Array) -> jax.Array:
    return jnp.vectorize(partial(breakdown_time_at_point, variances), signature="(),(d)->()")(log_n, point**2)


def clt_breakdown_time(
    variances: ArrayLike, n: ArrayLike | None = None, *, point: ArrayLike, log_n: ArrayLike | None = None
) -> jax.Array:
    r"""Return the noise variance at which :math:`Y_{\rm ann}=1` at a point, eq. (2).

    Arguments, errors and shapes are those of :func:`condensation_time_at`; the result is at least as large.

    Example:
      >>> theirs = {"variances": [1.0] * 8, "n": 100, "point": [0.0] * 8}
      >>> bool(clt_breakdown_time(**theirs) > condensation_time_at(**theirs))
      True
    """
    dtype = working_dtype(variances, point)
    checked = as_variances(variances, dtype)
    return _breakdown_times_at(checked, as_log_size(n, log_n, dtype), as_point("point", point, checked.size, dtype))
