r"""Mutual information between a data point and its noised version, of Gaussian data and of any data.

Model.  :math:`x=y+\sqrt t\,z`, ``t`` a noise variance.  The training set is a random codebook of :math:`N` words.  A
noised point tells :math:`I(t)=I(y;x)` nats about the point it came from; while :math:`I(t)<\log N` it cannot tell which
word that was, and nothing is memorized: the **condensation time** has :math:`I(t_c)=\log N`.

Results.  For Gaussian :math:`y` of variances :math:`\sigma_i^2`

.. math:: I(t) = \tfrac12\sum_i\log\Bigl(1+\frac{\sigma_i^2}t\Bigr)\quad\text{(nats)}. \tag{1}

For **any** data the smallest denoising loss :math:`{\rm mmse}(t)=\mathbb E\|y-\mathbb E[y\mid x]\|^2` is the derivative
of the information, with :math:`\gamma=1/t`:

.. math:: I(t)=\tfrac12\int_0^{1/t}{\rm mmse}\,d\gamma, \qquad
          I=\sum_iI_i,\quad I_i=\tfrac12\int_0^{1/t}{\rm mmse}_i\,d\gamma, \tag{2}

:math:`{\rm mmse}_i` being the loss along direction :math:`i` and :math:`I_i` the nats that it takes of the budget
:math:`\log N`.  From values on a grid, :math:`1/{\rm mmse}` is interpolated as a function of :math:`\gamma`, of which
it is linear for one Gaussian direction (and for equal ones): there (2) is exact on any grid.  Above the largest noise
:math:`t_k` the integral is closed with that line, its slope being :math:`r^{-1}=s\,t_k/{\rm mmse}(t_k)`:

.. math:: I(t_k)\simeq-\tfrac r2\log(1-s),\qquad r={\rm mmse}(t_k)/(s\,t_k). \tag{3}

One direction has :math:`r=1`, the least slope there can be: (3) is a lower bound for any data.  Of a total curve the
slope is that over the last factor of 2 in t.  As :math:`s\to0` both are :math:`{\rm mmse}(t_k)/2t_k`.

A model's own loss.  Any denoiser has, at every ``t`` and in every direction, loss = mmse + (distance to the posterior
mean)² >= mmse.  So :math:`I_{\rm model}(t)\ge I(t)` and :math:`t_{c,\rm model}\ge t_c`: upper bounds, as is (1) with
the covariance of any data, which is (2) with the loss of the best linear denoiser.  Of several denoisers the smallest
loss at every ``t`` bounds best.  Assumed are a loss averaged over points that the model was neither trained nor chosen
on (on its training points it can be below the mmse, and its information then stops at the log of their number) and a
grid that reaches up to where (3) is a small part.

Scope.  (1) and (2) are exact, (1) an upper bound for other data of the same covariance.  Interpolation: relative error
of fourth order in the step of log t, at steps of a factor of 2 up to 2e-3 for total losses of Gaussian spectra and
mixtures, 3e-2 for isolated points (their mmse falls exponentially).  (3): exact for equal Gaussian directions, else of
third order in :math:`1/t_k` (second along directions that are not principal ones), for Gaussian data always too small.
That memorization sets in where :math:`I=\log N` is leading order in the number of directions.
Derivation: DERIVATIONS.md, section I.
Source.  (1): Shannon.  (2): Guo, Shamai and Verdu (2005), arXiv cs/0412108.  (3) and its bound are derived here; the
bound is a case of the single-crossing property of Guo, Wu, Shamai and Verdu (2011), arXiv 1004.3332.  The criterion
:math:`I(t_c)=\log N` is that of Biroli et al. (2024), arXiv 2402.18491, for the collapse time.
"""

from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._inputs import ArrayLike, as_log_size, as_loss_curve, as_positive, as_variances, working_dtype
from ._roots import decreasing_root


@lru_cache(maxsize=1)  # not at import, which should cost little
def _rule() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [-1, 1], exact to rounding for a Gaussian at steps of a decade."""
    return np.polynomial.legendre.leggauss(16)


@jax.jit
def _mutual_information(variances: jax.Array, t: jax.Array) -> jax.Array:
    return 0.5 * jnp.sum(jnp.log1p(variances / t[..., None]), axis=-1)


def mutual_information(variances: ArrayLike, t: ArrayLike) -> jax.Array:
    r"""Return :math:`I(t)=\tfrac12\sum_i\log(1+\sigma_i^2/t)` in nats, eq. (1).

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      t: noise variance ``> 0``, of any shape ``s``.

    Returns:
      Information in nats, shape ``s``.

    Raises:
      ValueError: for variances that are negative or not finite, or ``t`` that is not positive and finite.

    Example:
      >>> round(float(mutual_information([3.0, 3.0, 0.0], t=1.0)), 4)  # two directions of half log 4
      1.3863
    """
    dtype = working_dtype(variances, t)
    return _mutual_information(as_variances(variances, dtype), as_positive("t", t, dtype))


class _Knots(NamedTuple):
    """Points of a cubic interpolant of 1/mmse in the signal-to-noise ratio, ordered by falling noise.

    Attributes:
      snr: ``(k,)``, ``t[-1] / t``: 1 and above.
      inverse: ``(k, d)``, 1/mmse in units of its smallest value.
      slope: ``(k, d)``, of ``inverse`` with respect to ``snr``.
    """

    snr: jax.Array
    inverse: jax.Array
    slope: jax.Array


def _slopes(x: jax.Array, y: jax.Array) -> jax.Array:
    """Slopes of the parabolas through three neighbours, limited so that the cubics between points are monotone."""
    step = jnp.diff(x)[:, None]
    secant = jnp.diff(y, axis=0) / step
    if len(secant) == 1:
        return jnp.repeat(secant, 2, axis=0)
    weight = step[1:] / (step[:-1] + step[1:])
    inner = weight * secant[:-1] + (1 - weight) * secant[1:]
    # An end takes the slope of its parabola at the end itself.
    parabolic = jnp.concatenate([2 * secant[:1] - inner[:1], inner, 2 * secant[-1:] - inner[-1:]])
    before, after = jnp.concatenate([secant[:1], secant]), jnp.concatenate([secant, secant[-1:]])
    # Enough for a monotone cubic (Fritsch and Carlson): a slope between 0 and three times either secant.
    rising = jnp.clip(parabolic, 0, 3 * jnp.minimum(before, after))
    falling = jnp.clip(parabolic, 3 * jnp.maximum(before, after), 0)
    return jnp.where(jnp.sign(before) * jnp.sign(after) > 0, jnp.where(after > 0, rising, falling), 0)


def _integral(left: _Knots, right: _Knots, snr: jax.Array) -> jax.Array:
    """Integrate the interpolant of mmse from ``left``, one point, to an ``snr`` between it and ``right``."""
    step = right.snr - left.snr
    span = jnp.log(snr / left.snr)  # the integrand is smooth in the logarithm
    nodes, weights = _rule()
    x = left.snr * jnp.exp(0.5 * span * (1 + nodes.astype(snr.dtype)[:, None]))
    p = (x - left.snr) / step
    from_left = (1 + 2 * p) * left.inverse + p * step * left.slope
    from_right = (3 - 2 * p) * right.inverse - (1 - p) * step * right.slope
    integrand = x / ((1 - p) ** 2 * from_left + p**2 * from_right)
    return 0.5 * span * jnp.sum(weights.astype(snr.dtype)[:, None] * integrand, axis=0)


def _tail_factor(s: jax.Array) -> jax.Array:
    """Compute -log(1 - s)/s for s >= 0; by its series where the derivative of the quotient cancels."""
    small = s < 1e-3
    quotient = -jnp.log1p(-jnp.where(small, 0.5, s)) / jnp.where(small, 0.5, s)
    return jnp.where(small, 1 + s * (1 / 2 + s * (1 / 3 + s * (1 / 4 + s / 5))), quotient)


def _interpolate(t: jax.Array, mmse: jax.Array) -> tuple[_Knots, jax.Array, jax.Array]:
    """Return the interpolant, the nats that a unit of its integral is worth, and the nats at every knot; per column."""
    losses = mmse if mmse.ndim == 2 else mmse[:, None]
    snr = t[-1] / t[::-1]
    largest = lax.stop_gradient(jnp.max(losses, axis=0))  # only a unit: the result does not depend on it
    relative = losses[::-1] / jnp.where(largest > 0, largest, 1)
    # A loss of 0 has no inverse; the floor is worth this fraction of the largest loss.
    floor = jnp.finfo(t.dtype).tiny ** 0.5
    inverse = 1 / jnp.where(relative > floor, relative, floor)
    knots = _Knots(snr, inverse, _slopes(snr, inverse))
    nats_per_unit = 0.5 * largest / t[-1]

    gain = losses[-1] / t[-1]
    # Of a total, the secant over a factor of 2 in t: over a shorter way the noise of a measured loss would count more.
    # A loss that falls with t is such noise: slope 0, that of many directions.
    far = jnp.minimum(jnp.sum(t > t[-1] / 2), len(t) - 1)
    secant = jnp.maximum((inverse[far] / inverse[0] - 1) / (snr[far] - 1), 0)
    tail = 0.5 * gain * _tail_factor(gain if mmse.ndim == 2 else secant)
    left, right = jax.tree.map(lambda knot: knot[:-1], knots), jax.tree.map(lambda knot: knot[1:], knots)
    steps = nats_per_unit * jax.vmap(_integral)(left, right, right.snr)
    return knots, nats_per_unit, jnp.cumsum(jnp.concatenate([tail[None], steps]), axis=0)


@jax.jit
def _information(t: jax.Array, mmse: jax.Array) -> jax.Array:
    return _interpolate(t, mmse)[2][::-1].reshape(mmse.shape)


def information_from_mmse(t: ArrayLike, mmse: ArrayLike) -> jax.Array:
    r"""Return the information of any data from its denoising loss, eq. (2) closed with (3).

    Args:
      t: ``(k,)`` noise variances, ascending, ``k >= 2``; steps of a factor of 2 or less are advised.  Extend a
        grid that ends too low with the loss :math:`\sum_i\sigma_i^2t/(\sigma_i^2+t)` of the best linear denoiser,
        which at ``t`` well above all variances is the mmse.
      mmse: squared denoising error per point, ``>= 0``: ``(k,)`` in total, ``(k, d)`` along orthonormal directions.
        Principal directions leave the smallest error in (3).  With the loss of a model the result is an upper bound on
        the information, up to (3).

    Returns:
      Nats, of the shape of ``mmse``; those of the directions add up to the information.

    Raises:
      ValueError: for another shape, ``t`` not positive, finite and ascending, ``mmse`` negative or not finite, or one
        that cannot be closed by (3): of a direction, ``mmse[-1] >= t[-1]`` (worse than no denoising); of a total,
        one that grows as fast as ``t`` at the largest noise.

    Example:
      One Gaussian direction of variance 3; :math:`\tfrac12\log4` at ``t = 1``:

      >>> [round(float(nats), 4) for (nats,) in information_from_mmse([1.0, 6.0], [[0.75], [2.0]])]
      [0.6931, 0.2027]
    """
    return _information(*as_loss_curve(t, mmse, working_dtype(t, mmse)))


@jax.jit
def _time_of_curve(t: jax.Array, mmse: jax.Array, log_n: jax.Array) -> jax.Array:
    knots, nats_per_unit, by_column = _interpolate(t, mmse)
    nats = jnp.sum(by_column, axis=1)
    rounding = 8 * jnp.finfo(t.dtype).eps  # a size that was computed from an end of the curve is on it

    def time(log_n: jax.Array) -> jax.Array:
        index = jnp.clip(jnp.searchsorted(nats, log_n) - 1, 0, len(nats) - 2)
        left, right = jax.tree.map(lambda knot: knot[index], knots), jax.tree.map(lambda knot: knot[index + 1], knots)

        def budget_left(log_snr: jax.Array) -> jax.Array:
            spent = nats[index] + jnp.sum(nats_per_unit * _integral(left, right, jnp.exp(log_snr)))
            return log_n - spent

        log_snr = decreasing_root(budget_left, jnp.log(left.snr), jnp.log(right.snr))
        reached = (log_n > 0) & (log_n >= nats[0] * (1 - rounding)) & (log_n <= nats[-1] * (1 + rounding))
        return jnp.where(reached, t[-1] * jnp.exp(-log_snr), jnp.nan)

    return jnp.vectorize(time)(log_n)


def condensation_time_from_mmse(
    t: ArrayLike, mmse: ArrayLike, n: ArrayLike | None = None, *, log_n: ArrayLike | None = None
) -> jax.Array:
    r"""Return the noise variance at which the information of any data, from its denoising loss, is :math:`\log N`.

    Args:
      t: ``(k,)`` noise variances, ascending, as in :func:`information_from_mmse`.
      mmse: ``(k,)`` or ``(k, d)`` squared denoising error.  With the loss of a model the result is an upper bound on
        :math:`t_c`, up to (3).
      n: dataset size ``>= 1``, of any shape ``s``.
      log_n: its logarithm in nats, instead of ``n``.

    Returns:
      Noise variances, shape ``s``; nan outside ``[t[0], t[-1]]``: nothing is extrapolated.  That is so for
      ``n = 1``, and for sizes above ``exp(I(t[0]))``, which the curve does not resolve.

    Raises:
      ValueError: as :func:`information_from_mmse`, or for ``n < 1``.
      TypeError: unless one of ``n`` and ``log_n`` is given.

    Example:
      One Gaussian direction of variance 3, two points: :math:`\log2=\tfrac12\log(1+3/t)` at ``t = 1``.

      >>> round(float(condensation_time_from_mmse([0.5, 6.0], [[3 / 7], [2.0]], n=2)), 4)
      1.0
    """
    dtype = working_dtype(t, mmse)
    return _time_of_curve(*as_loss_curve(t, mmse, dtype), as_log_size(n, log_n, dtype))
