r"""The noise variance at which smoothed training points describe the data best, from nearest neighbours.

Model.  Data are Gaussian with variances :math:`\sigma_i^2`, of which :math:`m` are not zero; :math:`N` training points
:math:`y^\mu` smoothed with noise of variance ``t`` along these :math:`m` directions have the density
:math:`\hat p_t(y)=N^{-1}\sum_\mu\mathcal N(y;y^\mu,tI_m)`.

Results.  Where a fresh point :math:`y` is dominated by its nearest training point,
:math:`-\log\hat p_t(y)=\log N+\tfrac m2\log2\pi t+\min_\mu\|y-y^\mu\|^2/2t`, and
:math:`\mathrm{KL}(p_0\|\hat p_t)` has its minimum at the **best-generalization time**

.. math:: t_g=\frac1m\,\mathbb E\min_\mu\|y-y^\mu\|^2. \tag{1}

Every direction that is not of zero variance counts once in :math:`m`, however small its variance: the loss is
:math:`\tfrac12\log t` nats in each, and smoothing a fine direction away costs as much as a coarse one.  (:math:`t_g`
therefore jumps when a variance reaches zero.)  With :math:`F(u)` the probability that one point lies within :math:`u`
of :math:`y`,

.. math:: \mathbb E\min_\mu\|y-y^\mu\|^2=\mathbb E_y\int u\,N F'(u)[1-F(u)]^{N-1}du,\qquad
          F(u)=\frac1{2\pi\mathrm i}\int\frac{ds}s\,e^{su}\prod_i\frac{e^{-sy_i^2/(1+2\sigma_i^2s)}}
          {\sqrt{1+2\sigma_i^2s}}. \tag{2}

:math:`F` is integrated along a parabola through its saddle on the real axis (relative error 1e-8), :math:`u` is
parametrized by the saddle, and the average over :math:`y` is one over a fixed lattice.  At leading order, with
:math:`\kappa` the condensation time of clean fresh points, :func:`theory.condensation_time_at` with
:math:`x_i^2=\sigma_i^2`,

.. math:: t_g\simeq\kappa\Bigl[1-\frac1m\sum_i\Bigl(\frac\kappa{\kappa+\sigma_i^2}\Bigr)^2\Bigr]<\kappa<t_c. \tag{3}

Scope.  (1) is near the minimum of the divergence (4 to 10 % below it at 16 to 40 directions) where
:math:`t_g<\kappa`, which at leading order it always is.  With few directions it is not: as :math:`N\to\infty` at fixed
``m`` outlying points dominate the mean and :math:`t_g/t_c` tends to a number above 1, infinite at one or two
directions.  For ``m`` equal variances :math:`t_g<t_c` up to about :math:`N=3` (``m`` = 3), 5 (4), 18 (6), 85 (8),
3600 (12), 3e5 (16), 2e9 (24).  Numerical error: 0.1 to 0.5 %, up to 1.5 % at ``N`` = 1e12 (3 % with up to
three directions there).
Source.  The order :math:`t_g<t_c<t_o` is stated in arXiv 2502.09578; (1) to (3) are derived here: DERIVATIONS.md,
section P.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from ._inputs import ArrayLike, as_log_size, as_variances, working_dtype
from ._lattice import normal_points
from .pointwise import time_at_point

_CROWDED, _EMPTY = 3.0, -13.0  # log N F at the ends of the integral over u: less than 3e-6 is left out
_NODES = 40  # of that integral
_ARC, _ARC_NODES = 7.0, 12  # reach of the parabola, in widths of the saddle, and its nodes
_SHARES = 4  # parts of the lattice, each stretched by its own factor


def _angle(real: jax.Array, imaginary: jax.Array, squared_modulus: jax.Array) -> jax.Array:
    """Argument of complex numbers above the real axis, to 1e-8; several times faster than arctan2."""
    tangent = imaginary / (jnp.sqrt(squared_modulus) + real)  # of half the angle
    for _ in range(2):
        tangent = tangent / (1 + jnp.sqrt(1 + tangent**2))
    odd = jnp.arange(19, 0, -2, dtype=tangent.dtype)
    return 8 * tangent * jnp.polyval(jnp.where(odd % 4 == 1, 1, -1) / odd, tangent**2)  # below tan(pi/8)


def _saddle(v: jax.Array, h: jax.Array, s: jax.Array) -> tuple[jax.Array, ...]:
    r"""Return what the integrand of (2), with pole, has at its saddle ``s``; :math:`h_i=y_i^2/\sigma_i^2`.

    The signals :math:`a_i=2\sigma_i^2s/(1+2\sigma_i^2s)`, the product ``s u``, the second and third derivatives of
    the exponent in log-free units (times :math:`s^2` and :math:`s^3`), and the log of the product over i.
    """
    a = 2 * v * s / (1 + 2 * v * s)
    position = 1 + 0.5 * jnp.sum(a + h * a * (1 - a))
    second = 1 + jnp.sum(a**2 * (0.5 + h * (1 - a)))
    third = -2 - jnp.sum(a**3 * (1 + 3 * h * (1 - a)))
    return a, position, second, third, -0.5 * jnp.sum(jnp.log1p(2 * v * s) + h * a)


def _nodes(v: jax.Array, h: jax.Array, log_n: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Place the nodes of the integral over u: log s, weights in log s, and whether s is within the precision.

    They are equidistant in log N F - 2 log s, with the saddle-point value for F: N F resolves the law of the nearest
    point, log s its upper tail at small N.  Fixed numbers of steps: the nodes need to be smooth, not exact.
    """

    def crowding(u: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, position, second, third, log_product = _saddle(v, h, jnp.exp(u))
        value = log_n + position + log_product - 0.5 * jnp.log(2 * jnp.pi * second)
        return value, -second - third / (2 * second)

    many = jax.vmap(crowding)
    # u beyond 50 largest variances and 6 deviations from the mean has probability below 1e-8 at any N.
    lowest = -jnp.log(50 + 6 * jnp.sqrt(jnp.sum(2 * v**2 * (1 + 2 * h))))
    highest = jnp.full_like(lowest, 0.8 * jnp.log(jnp.finfo(v.dtype).max))
    wanted = jnp.array([_CROWDED, _EMPTY], v.dtype)

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        middle = (ends[0] + ends[1]) / 2
        above = many(middle)[0] > wanted
        return jnp.where(above, middle, ends[0]), jnp.where(above, ends[1], middle)

    low, high = lax.fori_loop(0, 40, halve, (jnp.full(2, lowest), jnp.full(2, highest)))
    ends = (low + high) / 2

    table = jnp.linspace(ends[0], ends[1], 64)
    heights = many(table)[0] - 2 * table
    targets = jnp.linspace(heights[0], heights[-1], _NODES)
    u = jnp.interp(-targets, -heights, table)
    for _ in range(2):  # Newton
        value, slope = many(u)
        u = jnp.clip(u - (value - 2 * u - targets) / (slope - 2), ends[0], ends[1])
    return u, 1 / (2 - many(u)[1]), crowding(highest)[0] < _EMPTY


def _mean_nearest(v: jax.Array, h: jax.Array, log_n: jax.Array) -> jax.Array:
    """Mean squared distance of the point with coordinates ``v h`` (squared) to the nearest of N others, eq. (2)."""
    u, steps, representable = _nodes(*map(lax.stop_gradient, (v, h, log_n)))

    def density(u: jax.Array) -> tuple[jax.Array, jax.Array]:
        s = jnp.exp(u)
        a, position, second, third, log_product = _saddle(v, h, s)
        # s (1 + x + iy): the parabola that osculates the path of steepest descent.
        width, bend = map(lax.stop_gradient, (1 / jnp.sqrt(second), third / (6 * second)))
        y = jnp.arange(_ARC_NODES + 1) * (_ARC / _ARC_NODES) * width
        x, dx = bend * y**2, 2 * bend * y
        real, imaginary = 1 + a * x[:, None], a * y[:, None]
        modulus = real**2 + imaginary**2
        pull = 0.5 * h * a * (1 - a) / modulus
        exponent = position * x - jnp.sum(
            0.25 * jnp.log(modulus) + pull * (x[:, None] + a * (x**2 + y**2)[:, None]), axis=1
        )
        phase = position * y - jnp.sum(0.5 * _angle(real, imaginary, modulus) + pull * y[:, None], axis=1)
        weight = jnp.where(y == 0, 0.5, 1) * (_ARC / _ARC_NODES) * width / jnp.pi * jnp.exp(exponent)
        along, across = weight * (jnp.cos(phase) + jnp.sin(phase) * dx), weight * (jnp.cos(phase) * dx - jnp.sin(phase))
        without_pole = jnp.sum(along)  # F' / s and F over the same exponential
        with_pole = jnp.sum((along * (1 + x) - across * y) / ((1 + x) ** 2 + y**2))
        log_f = position + log_product + jnp.log(with_pole)
        f = jnp.minimum(jnp.exp(log_f), 1 - jnp.finfo(v.dtype).eps)
        ratio = jnp.where(f > 1e-6, -jnp.log1p(-f) / jnp.where(f > 1e-6, f, 1), 1 + f / 2)
        others = -jnp.expm1(-log_n) * jnp.exp(log_n + log_f) * ratio  # -(N - 1) log(1 - F)
        return position / s, jnp.exp(log_n + position + log_product - others) * without_pole * second

    squared, weights = jax.vmap(density)(u)
    weights = weights * steps
    return jnp.where(representable, jnp.sum(squared * weights) / jnp.sum(weights), 0)


def _batch(count: int, d: int) -> int:
    """Points that are averaged over side by side."""
    return max(1, min(count, 256 // d))


def _time_of(variances: jax.Array, log_n: jax.Array, points: jax.Array) -> jax.Array:
    """Average eq. (2) over y for one dataset size; ``points`` are squared normals of shape (count, d)."""
    largest = lax.stop_gradient(jnp.max(variances))
    v = variances / jnp.where(largest > 0, largest, 1)
    finite = jnp.isfinite(log_n)
    size = jnp.where(finite, log_n, 1)

    # Few outlying y carry the mean in few directions.  Parts of the lattice are stretched along the resolved
    # directions and weighted by the ratio of the densities of y and of all parts together.
    budget = lax.stop_gradient(jnp.maximum(size, 0.01))
    fixed = lax.stop_gradient(v)
    kappa = jnp.maximum(time_at_point(fixed, budget, fixed), jnp.finfo(v.dtype).tiny)
    resolved = (fixed / (fixed + kappa)) ** 2
    effective = jnp.maximum(jnp.sum(resolved), jnp.finfo(v.dtype).tiny)
    stretches = 1 + jnp.stack([0 * budget, *2 * [jnp.minimum(budget, 2)], budget]) / effective
    stretch = 1 + (stretches[:, None] - 1) * resolved
    # At leading order the distance grows with y_i^2 by this slope: subtracted, its mean being known to be 0.
    slope = (kappa / (fixed + kappa)) ** 2

    @jax.checkpoint
    def of_point(argument: tuple[jax.Array, jax.Array]) -> jax.Array:
        point, part = argument
        h = stretch[part] * point
        log_ratios = -0.5 * jnp.sum(jnp.log(stretch) + h * (1 / stretch - 1), axis=1)
        weight = _SHARES / jnp.sum(jnp.exp(log_ratios))
        return weight * (_mean_nearest(v, h, size) - jnp.sum(slope * v * (h - 1)))

    count, d = points.shape
    parts = jnp.arange(count) % _SHARES
    mean = jnp.mean(lax.map(of_point, (points, parts), batch_size=_batch(count, d)))
    rank = jnp.sum(variances > 0)
    time = jnp.where(largest > 0, largest, 1) * mean / jnp.maximum(rank, 1)
    return jnp.where((rank > 0) & finite, time, jnp.where(jnp.isnan(log_n), jnp.nan, 0))


@jax.jit
def _times(variances: jax.Array, log_n: jax.Array, points: jax.Array) -> jax.Array:
    one = partial(_time_of, variances, points=points)
    return lax.map(one, log_n.ravel()).reshape(log_n.shape)


def best_generalization_time(
    variances: ArrayLike, n: ArrayLike | None = None, *, log_n: ArrayLike | None = None
) -> jax.Array:
    r"""Return :math:`t_g=\mathbb E\min_\mu\|y-y^\mu\|^2/m`, eq. (1).

    It is the noise variance of best generalization only where it is below
    :func:`theory.condensation_time` (see Scope).

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      n: dataset size ``>= 1``, of any shape ``s``.
      log_n: its logarithm in nats, instead of ``n``.

    Returns:
      Noise variances, shape ``s``: 0 where all variances vanish or the time is below about 1e-30 (float32) of the
      largest.

    Raises:
      ValueError: for variances that are negative or not finite, or ``n < 1``.
      TypeError: unless one of ``n`` and ``log_n`` is given.

    Example:
      One training point is two standard deviations squared away.

      >>> round(float(best_generalization_time([1.0] * 8, n=1)), 2)
      2.0
    """
    dtype = working_dtype(variances)
    checked = as_variances(variances, dtype)
    d = checked.size
    count = max(16, min(4096, 2**14 // d))
    points = normal_points(count - count % _batch(count, d), d) ** 2  # what is left over would be a second program
    return _times(checked, as_log_size(n, log_n, dtype), jnp.asarray(points, dtype))
