r"""Freeze-out: which direction is frozen at which dataset size and noise, and how many data free them, from any law.

Definitions.  Direction :math:`i` is **frozen** when its gain is below half of that of infinite data,

.. math:: \rho_i=\frac{g_i}{\sigma_i^2/(\sigma_i^2+t)}<\tfrac12. \tag{1}

Its **freeze-out size** :math:`N_i^*(t)` has :math:`\rho_i=\tfrac12`: the direction is free for larger :math:`N`.  Its
**freeze-out time** :math:`t_i^*(N)` is the *largest* noise variance with :math:`\rho_i=\tfrac12`: the direction is free
for every larger :math:`t`.  (Below it the direction may be free again: both laws of effective noise can have a frozen
window in ``t``.)  A *law* gives the gains (:mod:`theory.laws`); frozen by the mean or by the median is a matter of the
law, :data:`theory.SCOPES`.

Results.  For :math:`g_i=\sigma_i^2/(\sigma_i^2+\kappa)` (:mod:`theory.effective_noise`), (1) reads
:math:`\kappa>\kappa_i:=\sigma_i^2+2t`.  Solving the equations of that module for :math:`N` at :math:`\kappa=\kappa_i`:

.. math:: N_i^{*,\rm lin}=\frac{\kappa_i}{\kappa_i-t}\sum_j\frac{\sigma_j^2}{\sigma_j^2+\kappa_i},\qquad
          \log N_i^{*,\rm emp}=\tfrac12\sum_j\Bigl[\log\Bigl(1+\frac{\sigma_j^2}{\kappa_i}\Bigr)
          -\frac{\sigma_j^2(\kappa_i-t)}{(\kappa_i+\sigma_j^2)^2}\Bigr]. \tag{2}

Both fall with :math:`\sigma_i^2` at fixed ``t``: fine detail freezes first as data get scarce.  The planted law has the
closed forms of :mod:`theory.planted` (4).  The predictor of the literature, ``"random_energy"``, has sizes and times
alone, :mod:`theory.random_energy` (4).  For every other law (1) is solved by a scan of sizes or times.

Scope.  As the law.  Directions of zero variance have size and time +inf.
Source.  Derived here.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from . import random_energy
from ._crossings import last_rise
from ._inputs import ArrayLike, as_log_size, as_positive, as_variances, working_dtype
from ._roots import decreasing_root
from .effective_noise import NOISES, empirical_budget, noise_of
from .laws import LAWS, Law, Parameters, check_parameters, function_of
from .planted import planted_sizes, planted_times

SCAN = 64  # sizes or times at which a law without a closed form is evaluated first


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


def _sizes_of_noise(law: str, variances: jax.Array, t: jax.Array) -> jax.Array:
    return jnp.where(variances > 0, _log_size(law, variances, t, variances + t), jnp.inf)


def _random_energy_sizes(variances: jax.Array, t: jax.Array, normalized: bool = True) -> jax.Array:
    return random_energy.log_sizes(variances, t, normalized)


_SIZES: dict[str, Callable[..., jax.Array]] = {  # closed forms: (variances, t, **keywords of the law)
    "population": partial(_sizes_of_noise, "population"),
    "linear": partial(_sizes_of_noise, "linear"),
    "empirical": partial(_sizes_of_noise, "empirical"),
    "planted": planted_sizes,
    "random_energy": _random_energy_sizes,
}


# Scans: (law, variances (d,), how many directions have each (d,), ...)


def _size_grid(variances: jax.Array, multiplicity: jax.Array, t: jax.Array) -> jax.Array:
    """Log sizes from one point to where every law but a pathological one is that of infinite data."""
    enough = jnp.sum(multiplicity * jnp.log1p(variances / t)) + jnp.log(jnp.sum(multiplicity)) + 10
    return jnp.linspace(0, 1, SCAN, dtype=t.dtype) * enough


def _surplus(law: Law, variances: jax.Array, log_n: jax.Array, t: jax.Array) -> jax.Array:
    """Relative gains less one half; positive where the variance is zero."""
    positive = jnp.where(variances > 0, variances, 1)
    return jnp.where(variances > 0, law(variances, log_n, t) * ((positive + t) / positive), 1) - 0.5


def _scanned_sizes(law: Law, variances: jax.Array, multiplicity: jax.Array, t: jax.Array) -> jax.Array:
    sizes = last_rise(
        lambda at, log_n: _surplus(law, at[0], log_n, at[1]), (variances, t), _size_grid(variances, multiplicity, t)
    )
    return jnp.where(variances > 0, sizes, jnp.inf)


@partial(jax.jit, static_argnums=(0, 1))
def _sizes(law: str | Law, parameters: Parameters, variances: jax.Array, t: jax.Array) -> jax.Array:
    if isinstance(law, str) and law in _SIZES:
        one = partial(_SIZES[law], variances, **dict(parameters))
    else:
        one = partial(_scanned_sizes, function_of(law, parameters), variances, _multiplicity(parameters, variances))
    return jnp.vectorize(one, signature="()->(d)")(t)


def _multiplicity(parameters: Parameters, variances: jax.Array) -> jax.Array:
    return jnp.asarray(dict(parameters).get("multiplicity", np.ones(variances.size)), variances.dtype)


def _compressed(
    law: str | Law, parameters: Parameters, variances: jax.Array
) -> tuple[Parameters, jax.Array, np.ndarray | slice]:
    """Distinct variances and where each direction is among them, for the law whose time grows with their number."""
    if law != "finite_size" or isinstance(variances, jax.core.Tracer):
        return parameters, variances, slice(None)
    values, labels, counts = np.unique(np.asarray(variances), return_inverse=True, return_counts=True)
    return (*parameters, ("multiplicity", tuple(counts.tolist()))), jnp.asarray(values), labels


def _check_law(law: str | Law) -> None:
    names = (*LAWS, *(name for name in _SIZES if name not in LAWS))
    if not callable(law) and law not in names:
        raise ValueError(f"law must be one of {', '.join(names)}, got {law!r}")


def freeze_out_sizes(variances: ArrayLike, t: ArrayLike, law: str | Law = "empirical", **parameters: Any) -> jax.Array:
    r"""Return the **logarithm** of every direction's freeze-out size, eq. (2).

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      t: noise variance ``> 0``, of any shape ``s``.
      law: a name in :data:`LAWS`, ``"random_energy"``, or any function of their signature.
      **parameters: keywords of the law, Python values (static under ``jit``): ``probe=0.0`` with ``"planted"``,
        ``normalized=False`` with ``"random_energy"``.

    Returns:
      :math:`\log N_i^*` in nats, shape ``s + (d,)``, not clipped where there is a closed form (a linear size may be
      below one point, a negative logarithm); -inf under ``"population"`` (never frozen); +inf where the variance is
      zero.  From a scan: -inf where the direction is free at one point already.

    Raises:
      ValueError: for variances that are negative or not finite, ``t`` not positive and finite, an unknown law, or a
        keyword out of its range.
      TypeError: for a keyword that the law does not take.

    Example:
      One direction, linear score, :math:`\sigma^2=t=1`: :math:`\kappa_i=3` and :math:`N^*=\tfrac32\cdot\tfrac14`.

      >>> float(jnp.exp(freeze_out_sizes([1.0], t=1.0, law="linear"))[0])
      0.375
    """
    _check_law(law)
    dtype = working_dtype(variances, t)
    checked = check_parameters(parameters), as_variances(variances, dtype)
    bound, distinct, labels = _compressed(law, *checked)
    return _sizes(law, bound, distinct, as_positive("t", t, dtype))[..., labels]


def _times_of_noise(law: str, variances: jax.Array, log_n: jax.Array) -> jax.Array:
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


def _planted_times(variances: jax.Array, log_n: jax.Array, probe: float = 1.0) -> jax.Array:
    if probe > 1:
        raise ValueError(f"probe must be at most 1 for freeze-out times, got {probe}")
    return planted_times(variances, log_n, float(probe))


def _random_energy_times(variances: jax.Array, log_n: jax.Array, normalized: bool = True) -> jax.Array:
    return random_energy.times(variances, log_n, normalized)


_TIMES: dict[str, Callable[..., jax.Array]] = {  # closed forms: (variances, log_n, **keywords of the law)
    "population": partial(_times_of_noise, "population"),
    "linear": partial(_times_of_noise, "linear"),
    "empirical": partial(_times_of_noise, "empirical"),
    "planted": _planted_times,
    "random_energy": _random_energy_times,
}


def _scanned_times(law: Law, variances: jax.Array, multiplicity: jax.Array, log_n: jax.Array) -> jax.Array:
    largest = jnp.max(variances)
    smallest = jnp.min(jnp.where(variances > 0, variances, jnp.where(largest > 0, largest, 1)))
    several = log_n > 0
    nats = jnp.where(several, log_n, 1)
    # Far above every condensation time, which is at most sum v/(2 log N); an onset is at twice that.
    highest = jnp.where(largest > 0, jnp.sum(multiplicity * variances), 1) * (1 + 2 / nats)
    grid = jnp.linspace(jnp.log(1e-3 * smallest), jnp.log(highest), SCAN, dtype=log_n.dtype)
    times = last_rise(lambda at, u: _surplus(law, at[0], at[1], jnp.exp(u)), (variances, nats), grid)
    found = jnp.isfinite(times)  # an infinite one has no derivative
    times = jnp.where(found, jnp.exp(jnp.where(found, times, 0)), jnp.where(times > 0, jnp.inf, 0))
    return jnp.where((variances > 0) & several, times, jnp.inf)


@partial(jax.jit, static_argnums=(0, 1))
def _times(law: str | Law, parameters: Parameters, variances: jax.Array, log_n: jax.Array) -> jax.Array:
    if isinstance(law, str) and law in _TIMES:
        one = partial(_TIMES[law], variances, **dict(parameters))
    else:
        one = partial(_scanned_times, function_of(law, parameters), variances, _multiplicity(parameters, variances))
    return jnp.vectorize(one, signature="()->(d)")(log_n)


def freeze_out_times(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    law: str | Law = "empirical",
    *,
    log_n: ArrayLike | None = None,
    **parameters: Any,
) -> jax.Array:
    r"""Return every direction's freeze-out time, the largest noise variance with half the relative gain.

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      n: dataset size ``>= 1``, of any shape ``s``.
      law: a name in :data:`LAWS`, ``"random_energy"``, or any function of their signature.
      log_n: logarithm of the dataset size in nats, instead of ``n``.
      **parameters: keywords of the law as in :func:`freeze_out_sizes`; a ``probe`` up to 1.

    Returns:
      Noise variances, shape ``s + (d,)``: 0 where the direction is never frozen (or only below a thousandth of the
      smallest variance); +inf where the variance is zero, and at ``n = 1`` but for the population and linear laws.

    Raises:
      ValueError: for variances that are negative or not finite, ``n < 1``, an unknown law, or a keyword out of its
        range.
      TypeError: unless one of ``n`` and ``log_n`` is given; for a keyword that the law does not take.
    """
    _check_law(law)
    dtype = working_dtype(variances)
    checked = check_parameters(parameters), as_variances(variances, dtype)
    bound, distinct, labels = _compressed(law, *checked)
    return _times(law, bound, distinct, as_log_size(n, log_n, dtype))[..., labels]


def _size_of_noise(law: str, variances: jax.Array, t: jax.Array, dimension: jax.Array) -> jax.Array:
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


def _scanned_size(
    law: Law, variances: jax.Array, multiplicity: jax.Array, t: jax.Array, dimension: jax.Array
) -> jax.Array:
    def one(t: jax.Array, dimension: jax.Array) -> jax.Array:
        def surplus(at: tuple[jax.Array, ...], log_n: jax.Array) -> jax.Array:
            variances, t, dimension = at
            return jnp.sum(multiplicity * law(variances, log_n, t))[None] - dimension

        size = last_rise(surplus, (variances, t, dimension), _size_grid(variances, multiplicity, t))[0]
        size = jnp.where(dimension > 0, size, -jnp.inf)
        reachable = jnp.sum(multiplicity * variances / (variances + t))
        return jnp.where(jnp.isnan(dimension), jnp.nan, jnp.where(dimension < reachable, size, jnp.inf))

    return jnp.vectorize(one)(t, dimension)


@partial(jax.jit, static_argnums=(0, 1))
def _dataset_size(
    law: str | Law, parameters: Parameters, variances: jax.Array, t: jax.Array, dimension: jax.Array
) -> jax.Array:
    if isinstance(law, str) and law in NOISES:
        return _size_of_noise(law, variances, t, dimension, **dict(parameters))
    multiplicity = _multiplicity(parameters, variances)
    return _scanned_size(function_of(law, parameters), variances, multiplicity, t, dimension)


def dataset_size_for(
    variances: ArrayLike,
    t: ArrayLike,
    *,
    soft_dimension: ArrayLike,
    law: str | Law = "empirical",
    **parameters: Any,
) -> jax.Array:
    r"""Return the **logarithm** of the dataset size that reaches a soft dimension: the inverse question.

    For the laws of effective noise, the noise with :math:`\sum_i\sigma_i^2/(\sigma_i^2+\kappa)=\hat m` goes into eq.
    (2); for others the largest size at which :math:`\sum_ig_i` rises through :math:`\hat m` is found by a scan.

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      t: noise variance ``> 0``.
      soft_dimension: target :math:`\hat m`, a count of directions; broadcast with ``t`` to a shape ``s``.
      law: a name in :data:`LAWS`, or any function of their signature.
      **parameters: keywords of the law as in :func:`freeze_out_sizes`.

    Returns:
      :math:`\log N` in nats, shape ``s``; +inf where infinite data do not reach the target, -inf where it is not
      positive (and, below the reach of infinite data, under ``"population"``).

    Raises:
      ValueError: for variances that are negative or not finite, ``t`` not positive and finite, a law that is unknown
        or has no gains, or a keyword out of its range.
      TypeError: for a keyword that the law does not take.
    """
    dtype = working_dtype(variances, t, soft_dimension)
    checked = check_parameters(parameters), as_variances(variances, dtype)
    bound, distinct, _ = _compressed(law, *checked)
    return _dataset_size(law, bound, distinct, as_positive("t", t, dtype), jnp.asarray(soft_dimension, dtype))
