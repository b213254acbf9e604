r"""Which directions freeze out at which dataset size: gains, sizes, times and dimension from any law.

Definitions.  A **law** is a function ``(variances, log_n, t) -> gains`` with ``variances`` of shape ``(d,)`` and the
other two scalars; :data:`LAWS` names those of this package and :data:`SCOPES` says of each whether it is exact or
asymptotic.  Direction :math:`i` is **frozen** when its gain is below half of that of infinite data,

.. math:: \rho_i=\frac{g_i}{\sigma_i^2/(\sigma_i^2+t)}<\tfrac12. \tag{1}

Its **freeze-out size** :math:`N_i^*(t)` has :math:`\rho_i=\tfrac12`: the direction is free for larger :math:`N`.  Its
**freeze-out time** :math:`t_i^*(N)` is the *largest* noise variance with :math:`\rho_i=\tfrac12`: the direction is free
for every larger :math:`t`.  (Below it the direction may be free again: both laws can have a frozen window in ``t``.)

Results.  For :math:`g_i=\sigma_i^2/(\sigma_i^2+\kappa)` (:mod:`theory.effective_noise`), (1) reads
:math:`\kappa>\kappa_i:=\sigma_i^2+2t`.  Solving the equations of that module for :math:`N` at :math:`\kappa=\kappa_i`:

.. math:: N_i^{*,\rm lin}=\frac{\kappa_i}{\kappa_i-t}\sum_j\frac{\sigma_j^2}{\sigma_j^2+\kappa_i},\qquad
          \log N_i^{*,\rm emp}=\tfrac12\sum_j\Bigl[\log\Bigl(1+\frac{\sigma_j^2}{\kappa_i}\Bigr)
          -\frac{\sigma_j^2(\kappa_i-t)}{(\kappa_i+\sigma_j^2)^2}\Bigr]. \tag{2}

Both fall with :math:`\sigma_i^2` at fixed ``t``: fine detail freezes first as data get scarce.

Scope.  As the law.  Directions of zero variance have size and time +inf.
Source.  Derived here.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ._inputs import ArrayLike, as_log_size, as_positive, as_variances, working_dtype
from ._roots import decreasing_root
from .effective_noise import NOISES, empirical_budget, noise_of

Law = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


class Scope(NamedTuple):
    """Where a law holds: ``exact``, or else asymptotic in the limit that ``limit`` names."""

    exact: bool
    limit: str


def population_law(variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
    """Gains of infinite data: exact for Gaussian data."""
    return variances / (variances + NOISES["population"](variances, log_n, t))


def linear_law(variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
    """Mean gains of the linear score: asymptotic, d to infinity at fixed d/N."""
    return variances / (variances + NOISES["linear"](variances, log_n, t))


def empirical_law(variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
    """Mean gains of the empirical score at held-out points: asymptotic, d to infinity at fixed log N/d."""
    return variances / (variances + NOISES["empirical"](variances, log_n, t))


LAWS: Mapping[str, Law] = MappingProxyType(
    {"population": population_law, "linear": linear_law, "empirical": empirical_law}
)
SCOPES: Mapping[str, Scope] = MappingProxyType(
    {
        "population": Scope(exact=True, limit=""),
        "linear": Scope(exact=False, limit="d -> infinity at fixed d/N"),
        "empirical": Scope(exact=False, limit="d -> infinity at fixed log N / d"),
    }
)


def _named(law: str) -> str:
    if law not in LAWS:
        raise ValueError(f"law must be one of {', '.join(LAWS)}, got {law!r}")
    return law


def _gain(law: str | Law, variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
    function = law if callable(law) else LAWS[_named(law)]
    return jnp.vectorize(lambda log_n, t: function(variances, log_n, t), signature="(),()->(d)")(log_n, t)


_jitted_gain = jax.jit(_gain, static_argnums=0)


def gain(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    law: str | Law = "empirical",
    *,
    log_n: ArrayLike | None = None,
) -> jax.Array:
    r"""Return the predicted mean gain of every direction.

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      n: dataset size ``>= 1``.
      t: noise variance ``> 0``; broadcast with ``n`` to a shape ``s``.
      law: a name in :data:`LAWS`, or any function of their signature.
      log_n: logarithm of the dataset size in nats, instead of ``n``.

    Returns:
      Gains (no unit), shape ``s + (d,)``.

    Raises:
      ValueError: for variances that are negative or not finite, ``t`` not positive and finite, ``n < 1``, or an
        unknown law.
      TypeError: unless ``t`` and one of ``n`` and ``log_n`` are given.

    Example:
      >>> gain([1.0, 1.0, 0.0], n=1000, t=1.0, law="population").tolist()
      [0.5, 0.5, 0.0]
    """
    if t is None:
        raise TypeError("give the noise variance t")
    dtype = working_dtype(variances, t)
    return _jitted_gain(law, as_variances(variances, dtype), as_log_size(n, log_n, dtype), as_positive("t", t, dtype))


def soft_dimension(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    law: str | Law = "empirical",
    *,
    log_n: ArrayLike | None = None,
) -> jax.Array:
    r"""Return the soft dimension :math:`\hat m=\sum_ig_i`, the trace of the denoiser's Jacobian.

    Arguments and errors are those of :func:`gain`; the result (a count of directions) has shape ``s``.

    Example:
      >>> soft_dimension([1.0, 1.0, 0.0], n=1000, t=1.0, law="population").item()
      1.0
    """
    return jnp.sum(gain(variances, n, t, law, log_n=log_n), axis=-1)


def _sum_over_directions(
    term: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    variances: jax.Array,
    noise: jax.Array,
    excess: jax.Array,
) -> jax.Array:
    """Sum ``term(variance_j, noise, excess)`` over j in memory of ``noise``: never a (d, d) array."""

    def add(total: jax.Array, variance: jax.Array) -> tuple[jax.Array, None]:
        return total + jax.checkpoint(term)(variance, noise, excess), None

    return lax.scan(add, jnp.zeros_like(noise), variances)[0]


def _log_size(law: str, variances: jax.Array, t: jax.Array, excess: jax.Array) -> jax.Array:
    """Log of the dataset size whose effective noise is ``t + excess``, eq. (2); ``excess`` of any shape."""
    if law == "population":
        return jnp.full_like(excess, -jnp.inf)
    noise = t + excess
    if law == "linear":
        resolved = _sum_over_directions(lambda v, noise, _: v / (v + noise), variances, noise, excess)
        return jnp.log(noise / excess) + jnp.log(resolved)
    return _sum_over_directions(empirical_budget, variances, noise, excess)


def _sizes(law: str, variances: jax.Array, t: jax.Array) -> jax.Array:
    def at_one_noise(t: jax.Array) -> jax.Array:
        sizes = _log_size(law, variances, t, variances + t)
        return jnp.where(variances > 0, sizes, jnp.inf)

    return jnp.vectorize(at_one_noise, signature="()->(d)")(t)


_jitted_sizes = jax.jit(_sizes, static_argnums=0)


def freeze_out_sizes(variances: ArrayLike, t: ArrayLike, law: str = "empirical") -> jax.Array:
    r"""Return the **logarithm** of every direction's freeze-out size, eq. (2).

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      t: noise variance ``> 0``, of any shape ``s``.
      law: a name in :data:`LAWS`.

    Returns:
      :math:`\log N_i^*` in nats, shape ``s + (d,)``, not clipped (a linear size may be below one point, a negative
      logarithm); -inf under ``"population"`` (never frozen); +inf where the variance is zero.

    Raises:
      ValueError: for variances that are negative or not finite, ``t`` not positive and finite, an unknown law.

    Example:
      One direction, linear score, :math:`\sigma^2=t=1`: :math:`\kappa_i=3` and :math:`N^*=\tfrac32\cdot\tfrac14`.

      >>> float(jnp.exp(freeze_out_sizes([1.0], t=1.0, law="linear"))[0])
      0.375
    """
    dtype = working_dtype(variances, t)
    return _jitted_sizes(_named(law), as_variances(variances, dtype), as_positive("t", t, dtype))


def _times_at_one_size(law: str, variances: jax.Array, log_n: jax.Array) -> jax.Array:
    r"""Largest roots of kappa(t) - 2t = variance, all directions at once.

    Direction i is frozen at t iff its variance is below ``width(t) = kappa(N, t) - 2t``, a function that all
    directions share.  A grid in t brackets the last crossing; a second grid resolves the maximum of ``width``,
    below which the window of a barely frozen direction is narrow; then (2) is solved for t.
    """
    if law == "population":
        return jnp.where(variances > 0, 0, jnp.full_like(variances, jnp.inf))
    largest = jnp.max(variances)
    # Frozen needs kappa > 2t.  Linear: kappa <= t + sum v/N.  Empirical: kappa > t only below t_c <= sum v/(2 log N).
    inverse_n = jnp.exp(-log_n)
    highest = jnp.sum(variances) * (inverse_n if law == "linear" else 0.5 / jnp.where(log_n > 0, log_n, 1))
    highest = jnp.where(highest > 0, highest, 1)
    smallest = jnp.min(jnp.where(variances > 0, variances, jnp.where(largest > 0, largest, 1)))
    lowest = jnp.maximum(1e-3 * jnp.minimum(smallest, highest), jnp.finfo(variances.dtype).tiny)

    def width(t: jax.Array) -> jax.Array:
        return noise_of(law, variances, log_n, t) - 2 * t

    coarse = jnp.geomspace(lowest, highest, 400)
    coarse_width = width(coarse)
    peak = jnp.argmax(coarse_width)
    fine = jnp.geomspace(coarse[jnp.maximum(peak - 1, 0)], coarse[jnp.minimum(peak + 1, coarse.size - 1)], 100)
    grid = lax.stop_gradient(jnp.concatenate([coarse, fine]))
    order = jnp.argsort(grid)
    widths = lax.stop_gradient(jnp.concatenate([coarse_width, width(fine)]))[order]
    grid = grid[order]
    # Suffix maxima fall with t, so that a search finds the last grid point where the direction is frozen.
    suffix = lax.cummax(widths, reverse=True)
    last = jnp.searchsorted(-suffix, -variances, side="left") - 1
    frozen = last >= 0
    low = grid[jnp.maximum(last, 0)]
    high = grid[jnp.minimum(last + 1, grid.size - 1)]

    def deficit(t: jax.Array) -> jax.Array:
        return _log_size(law, variances, t, variances + t) - log_n

    times = jnp.where(frozen, decreasing_root(deficit, low, high), 0)
    if law == "empirical":
        times = jnp.where(log_n > 0, times, jnp.inf)
    return jnp.where(variances > 0, times, jnp.inf)


def _times(law: str, variances: jax.Array, log_n: jax.Array) -> jax.Array:
    return jnp.vectorize(lambda log_n: _times_at_one_size(law, variances, log_n), signature="()->(d)")(log_n)


_jitted_times = jax.jit(_times, static_argnums=0)


def freeze_out_times(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    law: str = "empirical",
    *,
    log_n: ArrayLike | None = None,
) -> jax.Array:
    r"""Return every direction's freeze-out time, the largest noise variance with half the relative gain.

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      n: dataset size ``>= 1``, of any shape ``s``.
      law: a name in :data:`LAWS`.
      log_n: logarithm of the dataset size in nats, instead of ``n``.

    Returns:
      Noise variances, shape ``s + (d,)``: 0 where the direction is never frozen (or only below a thousandth of the
      smallest variance); +inf where the variance is zero, and for the empirical law at ``n = 1``.

    Raises:
      ValueError: for variances that are negative or not finite, ``n < 1``, an unknown law.
      TypeError: unless one of ``n`` and ``log_n`` is given.
    """
    dtype = working_dtype(variances)
    return _jitted_times(_named(law), as_variances(variances, dtype), as_log_size(n, log_n, dtype))


def _dataset_size(law: str, variances: jax.Array, t: jax.Array, dimension: jax.Array) -> jax.Array:
    def one(t: jax.Array, dimension: jax.Array) -> jax.Array:
        reachable = jnp.sum(variances / (variances + t))
        possible = (dimension > 0) & (dimension < reachable)
        target = jnp.where(possible, dimension, reachable / 2)

        def surplus(log_excess: jax.Array) -> jax.Array:
            return jnp.sum(variances / (variances + t + jnp.exp(log_excess))) - target

        # sum v/(v + kappa) <= sum v/kappa bounds the excess kappa - t from above; an excess below rounding is t.
        high = jnp.log(jnp.maximum(jnp.sum(variances) / target, t))
        low = jnp.log(t) + 2 * jnp.log(jnp.finfo(t.dtype).eps)
        low = jnp.minimum(low, high)
        size = _log_size(law, variances, t, jnp.exp(decreasing_root(surplus, low, high)))
        out_of_reach = jnp.where(dimension <= 0, -jnp.inf, jnp.inf)
        return jnp.where(possible, size, jnp.where(jnp.isnan(dimension), jnp.nan, out_of_reach))

    return jnp.vectorize(one)(t, dimension)


_jitted_dataset_size = jax.jit(_dataset_size, static_argnums=0)


def dataset_size_for(
    variances: ArrayLike, t: ArrayLike, *, soft_dimension: ArrayLike, law: str = "empirical"
) -> jax.Array:
    r"""Return the **logarithm** of the dataset size that reaches a soft dimension: the inverse question.

    The effective noise with :math:`\sum_i\sigma_i^2/(\sigma_i^2+\kappa)=\hat m` goes into eq. (2).

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      t: noise variance ``> 0``.
      soft_dimension: target :math:`\hat m`, a count of directions; broadcast with ``t`` to a shape ``s``.
      law: a name in :data:`LAWS`.

    Returns:
      :math:`\log N` in nats, shape ``s``; +inf where infinite data do not reach the target, -inf where it is not
      positive (and, below the reach of infinite data, under ``"population"``).

    Raises:
      ValueError: for variances that are negative or not finite, ``t`` not positive and finite, an unknown law.
    """
    dtype = working_dtype(variances, t, soft_dimension)
    return _jitted_dataset_size(
        _named(law),
        as_variances(variances, dtype),
        as_positive("t", t, dtype),
        jnp.asarray(soft_dimension, dtype),
    )
