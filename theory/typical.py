r"""Mean or typical: how the gain of the empirical score is distributed over points and training sets.

Model.  Below condensation the response at a point is shared by few training points.  Their weights follow the
Poisson-Dirichlet law of parameter :math:`m` (:mod:`theory.effective_noise`): :math:`w_k\propto\Gamma_k^{-1/m}` with
:math:`\Gamma_1<\Gamma_2<\dots` the points of a Poisson process of rate 1.  Along direction :math:`i` those points are
spread like independent normal variables :math:`\xi_k`, so that the gain is a number common to all directions, in law,
times its mean:

.. math:: g_i\overset d=\bar g_i\,\frac{V_m}m,\qquad V_m=\sum_kw_k\xi_k^2-\Bigl(\sum_kw_k\xi_k\Bigr)^2,\qquad
          \mathbb E\,V_m=m. \tag{1}

The quantile :math:`q` of the gain is therefore

.. math:: g_i^{(q)}=\bar g_i\,R_q(m),\qquad R_q(m)=Q_q(V_m)/m, \tag{2}

with :math:`R_q\to1` as :math:`m\to1` and :math:`m\log Q_q(V_m)\to\log q` as :math:`m\to0`, where the two nearest points
decide (:math:`\Gamma_1/\Gamma_2` is uniform): the mean stays of order one, carried by rare points half way between two
training points, while the median vanishes exponentially.

Which mean and which m.  To leading order :math:`\bar g_i` is the empirical law and :math:`m=t/\kappa`.  At finite size
the mean and :math:`m=1-\bar Y`, with :math:`\bar Y` the mean participation ratio, are known exactly
(:mod:`theory.mean_finite_size`), and (2) is far better with those.

Scope.  Held-out points.  The shape (1) is asymptotic, ``d`` to infinity at fixed :math:`\log N/d`.  With exact mean and
participation, at 24 to 72 directions and 30 to 3000 points, the median is good to 15 % from a fifth of :math:`t_c` up;
at a tenth, where it is a few hundredths of the mean, simulated medians are 1.1 to 1.4 times larger, lower quartiles
1.6 to 4.5 times.
Source.  Derived here; derivation: DERIVATIONS.md, section T.
"""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from ._inputs import ArrayLike, as_log_size, as_positive, as_variances, working_dtype
from ._lattice import normal_points
from .effective_noise import empirical_noise
from .mean_finite_size import Estimate, mean_finite_size_gain, mean_finite_size_participation

SAMPLES, TERMS = 4096, 24  # of the weights; those beyond are one continuum
KNOTS = 101


@lru_cache(maxsize=8)
def _log_quantiles(quantile: float) -> np.ndarray:
    """Return ``m log Q(V_m)`` on an even grid of m from 0 to 1."""
    normal = normal_points(SAMPLES, 3 * TERMS + 1)
    # Term by term: the lattice is best in its first coordinates, and the first terms decide.
    one, two, xi = (normal[:, start : 3 * TERMS : 3] for start in range(3))
    arrival = np.cumsum((one**2 + two**2) / 2, axis=1)
    # About the nearest point, whose own term then vanishes exactly.
    distance, first = xi - xi[:, :1], xi[:, :1]

    def log_quantile(m: float) -> float:
        log_weight = -np.log(arrival / arrival[:, :1]) / m
        # Relative to the second largest weight: at small m all but the largest are below the smallest number.
        scale = log_weight[:, 1:2]
        others = np.exp(log_weight[:, 1:] - scale)
        # Mean mass and mean squared mass of all further points.
        last, further = others[:, -1:], arrival[:, -1:]
        rest = last * further / (1 / m - 1)
        noise = normal[:, -1:] * last * np.sqrt(further / (2 / m - 1))
        total = 1 + np.exp(scale) * (others.sum(axis=1, keepdims=True) + rest)
        mean = np.sum(others * distance[:, 1:], axis=1, keepdims=True) + noise - rest * first
        square = np.sum(others * distance[:, 1:] ** 2, axis=1, keepdims=True) + rest * (1 + first**2)
        variance = square / total - np.exp(scale) * (mean / total) ** 2
        return float(m * np.quantile(np.log(variance) + scale, quantile))

    grid = np.linspace(0, 1, KNOTS)
    return np.array([np.log(quantile), *(log_quantile(m) for m in grid[1:-1]), 0.0])


def _log_ratio(quantile: float, m: jax.Array) -> jax.Array:
    """Log R_q(m), eq. (2), for m in (0, 1]."""
    table = jnp.asarray(_log_quantiles(quantile), m.dtype)
    return jnp.interp(m, jnp.linspace(0, 1, KNOTS, dtype=m.dtype), table) / m - jnp.log(m)


def typical_law(variances: jax.Array, log_n: jax.Array, t: jax.Array, quantile: float = 0.5) -> jax.Array:
    """Median (or another quantile) of the gains of the empirical score at held-out points, to leading order."""
    noise = empirical_noise(variances, log_n, t)
    several = jnp.isfinite(noise)  # one point has no spread
    m = jnp.where(several, t / jnp.where(several, noise, t), 1)
    return jnp.where(several, variances / (variances + noise) * jnp.exp(_log_ratio(quantile, m)), 0)


def check_quantile(quantile: float) -> None:
    """Refuse what is no quantile."""
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must be between 0 and 1, got {quantile}")


@partial(jax.jit, static_argnums=0)
def _gain_quantile(quantile: float, variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
    law = partial(typical_law, quantile=quantile)
    return jnp.vectorize(lambda log_n, t: law(variances, log_n, t), signature="(),()->(d)")(log_n, t)


def gain_quantile(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    quantile: float = 0.5,
    *,
    log_n: ArrayLike | None = None,
) -> jax.Array:
    r"""Return a quantile over points and training sets of the gains at held-out points, to leading order, eq. (2).

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      n: dataset size ``>= 1``.
      t: noise variance ``> 0``; broadcast with ``n`` to a shape ``s``.
      quantile: in (0, 1), a Python number; the median by default.
      log_n: logarithm of the dataset size in nats, instead of ``n``.

    Returns:
      Gains (no unit), shape ``s + (d,)``; the Wiener gain above condensation.

    Raises:
      ValueError: for variances that are negative or not finite, ``t`` not positive and finite, ``n < 1``, ``quantile``
        outside (0, 1).
      TypeError: unless ``t`` and one of ``n`` and ``log_n`` are given.

    Example:
      Far above condensation all points are alike.

      >>> gain_quantile([1.0, 1.0, 0.0], n=1000, t=1.0).tolist()
      [0.5, 0.5, 0.0]
    """
    if t is None:
        raise TypeError("give the noise variance t")
    check_quantile(quantile)
    dtype = working_dtype(variances, t)
    return _gain_quantile(
        quantile, as_variances(variances, dtype), as_log_size(n, log_n, dtype), as_positive("t", t, dtype)
    )


def finite_size_gain_quantile(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    quantile: float = 0.5,
    *,
    log_n: ArrayLike | None = None,
) -> Estimate:
    r"""Return a quantile of the gains at held-out points: the shape (2) with exact mean and participation ratio.

    Arguments and errors are those of :func:`gain_quantile`.

    Returns:
      Quantiles and the numerical error of their evaluation, both ``s + (d,)``; the error of the shape itself, see the
      scope of the module, is not in it.
    """
    check_quantile(quantile)
    mean, error = mean_finite_size_gain(variances, n, t, log_n=log_n)
    shared, shared_error = mean_finite_size_participation(variances, n, t, log_n=log_n)
    tiny = jnp.finfo(shared.dtype).tiny
    m = jnp.clip(1 - shared, tiny, 1)
    slope = jnp.vectorize(jax.grad(lambda m: _log_ratio(quantile, m)))(m)
    ratio = jnp.exp(_log_ratio(quantile, m))[..., None]
    relative = jnp.abs(slope * shared_error)[..., None]
    return Estimate(mean * ratio, (error + mean * relative) * ratio)
