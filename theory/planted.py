r"""The exact score at training points plus noise: the weight of the planted point, and which directions it freezes.

Model.  The empirical score of :math:`N` training points, Gaussian with variances :math:`\sigma_i^2`, at
:math:`x=y+\sqrt{rt}\,z`: a training point :math:`y` plus noise of *probe multiplicity* ``r`` (1: nominal noise, 0: the
training point itself).  The planted point is one term of the Boltzmann average; the other :math:`N-1` (not :math:`N`)
are taken at their mean.

Results.  *Sample-wise*, at given :math:`y` and :math:`x`, the weight of the planted point and the gains are

.. math:: W=\bigl[1+(N-1)e^{-A}\bigr]^{-1},\qquad
          A=\tfrac12\sum_i\Bigl[\log\Bigl(1+\frac{\sigma_i^2}t\Bigr)+\frac{x_i^2}{t+\sigma_i^2}
          -\frac{(x_i-y_i)^2}t\Bigr], \tag{1}

.. math:: g_i=(1-W)\frac{\sigma_i^2}{t+\sigma_i^2}+W(1-W)\frac{(y_i-m_i)^2}t,\qquad
          m_i=\frac{\sigma_i^2x_i}{t+\sigma_i^2}: \tag{2}

:math:`A` is the information density :math:`\log p(y\mid x)/p(y)`, whose mean at :math:`r=1` is :math:`I(t)`, and (2)
is the variance over ``t`` of the mixture of :math:`y` and the posterior of infinite data.  *Mean field*: with
:math:`x_i^2\to\sigma_i^2+rt`, :math:`(x_i-y_i)^2\to rt` in (1), which gives :math:`A\to\log N_c(t;r)` of
:func:`theory.log_critical_size`, and in (2),

.. math:: g_i=(1-W)(1+c_iW)\frac{\sigma_i^2}{t+\sigma_i^2},\qquad c_i=\frac{t+r\sigma_i^2}{t+\sigma_i^2}. \tag{3}

At :math:`r=1` this is :math:`1-W^2` times the Wiener gain, the same for all directions.  The gain relative to the
Wiener gain is one half at

.. math:: \log(N_i^*-1)=\log N_c(t;r)-\operatorname{arsinh}c_i, \tag{4}

at :math:`r=1` the common :math:`\log(N^*-1)=I(t)+\log(\sqrt2-1)`.  At :math:`r<1` high variances freeze first (at
larger ``N``), by no more than a factor :math:`1+\sqrt2`.

Scope.  The mean weight over the other points is between (1) and (1) plus :math:`(1-W)^2\nu`, where
:math:`\nu=(NY_{\rm ann}-1)/(N-1)` is the relative variance of the sum over them
(:func:`theory.log_annealed_participation`).  At ``r = 0`` this is exact for practical purposes: at
:math:`W=\tfrac12` mean gains are 4 % high with 8 directions, 1 % with 16.  At ``r = 1`` the others are condensed near
and below the transition: mean gains from (2) are 10 to 15 % high at :math:`W=0.3`, 20 to 40 % at :math:`W=\tfrac12`, 50
to 100 % at :math:`W=0.8` (8 to 20 directions).  (3) neglects the spread of :math:`A` as well, which is of the order of
the root of the number of directions: leading order for :math:`\log N_i^*` as that number grows at fixed
:math:`\log N/d`; near the transition mean gains are up to 70 % high at these sizes.
Source.  Rederived here: DERIVATIONS.md, section P.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ._inputs import ArrayLike, as_log_size, as_point, as_positive, as_variances, working_dtype
from ._roots import decreasing_root
from .condensation import planted_information, planted_terms, time_of_probe


class PlantedResponse(NamedTuple):
    """Response of the exact score at a training point plus noise.

    Attributes:
      weight: share ``W`` of the planted point in the Boltzmann average, in [0, 1], shape ``s``.
      gain: gains of the directions (no unit), shape ``s + (d,)``.
    """

    weight: jax.Array
    gain: jax.Array


def log_others(log_n: jax.Array) -> jax.Array:
    """Log of N - 1; -inf for one point."""
    several = log_n > 0
    positive = jnp.where(several, log_n, 1)
    return jnp.where(several, positive + jnp.log(-jnp.expm1(-positive)), jnp.where(log_n == 0, -jnp.inf, jnp.nan))


def _response(
    variances: jax.Array, log_n: jax.Array, t: jax.Array, center: jax.Array, point: jax.Array
) -> PlantedResponse:
    total = variances + t
    wiener = variances / total
    distance = point - center
    density = 0.5 * jnp.sum(jnp.log1p(variances / t) + point * (point / total) - distance * (distance / t))
    odds = density - log_others(log_n)
    weight, rest = jax.nn.sigmoid(odds), jax.nn.sigmoid(-odds)
    deviation = center - wiener * point
    return PlantedResponse(weight, rest * wiener + weight * rest * deviation * (deviation / t))


@jax.jit
def _responses(
    variances: jax.Array, log_n: jax.Array, t: jax.Array, center: jax.Array, point: jax.Array
) -> PlantedResponse:
    one = jnp.vectorize(partial(_response, variances), signature="(),(),(d),(d)->(),(d)")
    return PlantedResponse(*one(log_n, t, center, point))


def planted_response(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    *,
    training_point: ArrayLike,
    point: ArrayLike,
    log_n: ArrayLike | None = None,
) -> PlantedResponse:
    r"""Return the weight of a training point, and the gains, at a point near it, eqs. (1) and (2).

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      n: dataset size ``>= 1``, the training point included.
      t: noise variance ``> 0``.
      training_point: ``(..., d)`` coordinates :math:`y` along the directions.
      point: ``(..., d)`` coordinates :math:`x` of where the score is probed.  Leading axes are broadcast with ``n``
        and ``t`` to a shape ``s``.
      log_n: logarithm of the dataset size in nats, instead of ``n``.

    Returns:
      A :class:`PlantedResponse`.

    Raises:
      ValueError: for variances that are negative or not finite, points of another length or not finite, ``t`` not
        positive and finite, ``n < 1``.
      TypeError: unless ``t`` and one of ``n`` and ``log_n`` are given.

    Example:
      Two points and a far probe: the other one is as good as the training point.

      >>> response = planted_response([1.0], n=2, t=1e6, training_point=[0.0], point=[0.0])
      >>> round(float(response.weight), 3)
      0.5
    """
    if t is None:
        raise TypeError("give the noise variance t")
    dtype = working_dtype(variances, t, training_point, point)
    checked = as_variances(variances, dtype)
    return _responses(
        checked,
        as_log_size(n, log_n, dtype),
        as_positive("t", t, dtype),
        as_point("training_point", training_point, checked.size, dtype),
        as_point("point", point, checked.size, dtype),
    )


# Everything below takes one dataset size and one noise variance: variances (d,), log_n (), t (); probe is a number.


def _probe_share(variances: jax.Array, t: jax.Array, probe: jax.Array | float) -> jax.Array:
    """Coefficients c of eq. (3)."""
    return (t + probe * variances) / (t + variances)


def planted_law(variances: jax.Array, log_n: jax.Array, t: jax.Array, probe: jax.Array | float = 1.0) -> jax.Array:
    """Mean gains of the empirical score at training points plus noise, eq. (3): asymptotic, at fixed log N/d."""
    odds = planted_information(variances, t, probe) - log_others(log_n)
    weight, rest = jax.nn.sigmoid(odds), jax.nn.sigmoid(-odds)
    return rest * (1 + weight * _probe_share(variances, t, probe)) * variances / (variances + t)


def planted_sizes(variances: jax.Array, t: jax.Array, probe: jax.Array | float = 1.0) -> jax.Array:
    """Log of the size at which the gain of each direction is half its Wiener gain, eq. (4); +inf at zero variance."""
    log_others = planted_information(variances, t, probe) - jnp.arcsinh(_probe_share(variances, t, probe))
    return jnp.where(variances > 0, jnp.logaddexp(log_others, 0), jnp.inf)


def planted_times(variances: jax.Array, log_n: jax.Array, probe: jax.Array | float = 1.0) -> jax.Array:
    r"""Noise variances at which eq. (4) holds, one per direction, for a probe up to 1.

    The right side of (4) falls with t then, from infinity to -arsinh 1: one root, or none and +inf where
    :math:`N-1\le\sqrt2-1`.  +inf at zero variance; 0 below the smallest number of the precision.
    """
    budget = log_others(log_n) + jnp.arcsinh(jnp.ones_like(log_n))
    if isinstance(probe, float) and probe == 1:  # the same c for all: one root
        return jnp.where(variances > 0, time_of_probe(variances, jnp.maximum(budget, 0), 1.0), jnp.inf)
    largest = lax.stop_gradient(jnp.max(variances))
    scale = jnp.where(largest > 0, largest, 1)
    relative = variances / scale
    solvable = jnp.isfinite(budget) & (budget > 0)
    needed = jnp.where(solvable, budget, 1)

    tiny = jnp.finfo(relative.dtype).tiny

    def excess(u: jax.Array) -> jax.Array:
        t = jnp.maximum(jnp.exp(u), tiny)  # exp(log(tiny)) may round to less, which is then flushed to 0

        # Over the directions one by one: never a (d, d) array.
        def add(total: jax.Array, variance: jax.Array) -> tuple[jax.Array, None]:
            return total + planted_terms(variance, t, probe), None

        total, _ = lax.scan(jax.checkpoint(add), jnp.zeros_like(t), relative)
        return total - jnp.arcsinh(_probe_share(relative, t, probe)) + jnp.arcsinh(jnp.ones_like(t)) - needed

    # As for a common share of 1; and arsinh 1 - arsinh c <= 1 - c <= (1 - r) v/t.
    low = jnp.maximum(-2 * needed - 2, jnp.log(tiny))
    bound = (2 - probe) / 2 * jnp.sum(relative) + (1 - probe) * relative
    low = jnp.full_like(relative, low)
    high = jnp.maximum(jnp.log(bound / needed), low)
    times = jnp.where(excess(low) > 0, scale * jnp.exp(decreasing_root(excess, low, high)), 0)
    times = jnp.where(solvable, times, jnp.where(budget > 0, 0, jnp.inf))
    return jnp.where(variances > 0, times, jnp.inf)
