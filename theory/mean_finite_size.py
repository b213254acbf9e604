r"""The exact score of ``N`` points, averaged over training sets and over the points where it is evaluated.

Model.  That of :mod:`theory.finite_size`, in whose notation this is written; the point :math:`x` is random as well.

Results.  At a held-out :math:`x\sim p_t`, Gaussian with variances :math:`\sigma_i^2+t`, they are means of its eq. (1).
At a training point plus noise of variance :math:`t`, nothing known but its position :math:`x`, averages are those at a
held-out :math:`x\sim p_t` with training sets weighted by :math:`Z/\mathbb E\,Z`, :math:`\mathbb E\,Z=N\,M(1)`:

.. math:: \mathbb E_{\rm train}\,g_i=\mathbb E_x\frac{N(N-1)}t\int\frac{A_2A_0-A_1^2}{N\,s\,M(1)}\phi^{N-2}\,d\log s,
          \qquad\mathbb E_{\rm train}\,Y=\mathbb E_x\int\frac B{s\,M(1)}\phi^{N-1}\,d\log s. \tag{1}

So both averages over :math:`x` need only its squared radii along the groups of equal variance: one chi-squared variable
each, from 8 fixed Latin hypercubes of little correlation (:mod:`theory._lattice`) whose spread gives the error.  For
training points they are stretched to where the integrand has its weight.  Another probe than 1 takes draws of three
numbers per group.

Numerics.  Integrals as there, by coarser rules.  The error that is stated is theirs plus the standard error of the
average over points.

Scope.  Exact for Gaussian data, any :math:`N\ge1`, dimension and :math:`t`, up to the stated error.
Source.  Derived here; derivation: DERIVATIONS.md, section F.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._inputs import ArrayLike, as_log_size, as_positive, working_dtype
from ._lattice import chi_squared_quantiles, latin_hypercubes
from ._mellin import FAST, Estimate, Point, stretch
from .finite_size import Groups, gain_coefficients, grouped, one_by_one, participation
from .planted import log_others

# Blocks whose spread gives the error of an average, points of each, more (divided by the number of groups) where they
# cost little, and points of each at training points with another noise than the nominal.
BLOCKS, POINTS, LIGHT, OTHER = 8, 12, 64, 64


class _Draw(NamedTuple):
    """A point, as far as averages depend on it: sums over the directions of every group, shape ``(..., g)``.

    Attributes:
      radius: of ``x_i^2``.
      cross, square: of ``x_i h_i`` and ``h_i^2`` with the offset of the planted point, or 0.
      log_own: minus the energy of the planted point, -inf without one.
      weight: density over that of the draw.
    """

    radius: jax.Array
    cross: jax.Array
    square: jax.Array
    log_own: jax.Array
    weight: jax.Array


def _stretched(p: Point, kernel: int, chi: jax.Array) -> _Draw:
    """Draw radii of a point of variances ``v + t`` where the average has its weight; ``chi`` is ``(..., g)``."""
    theta = stretch(p, kernel)
    zero = jnp.zeros_like(chi)
    log_weight = 0.5 * jnp.sum(p.multiplicity * jnp.log(theta) + (1 - theta) * chi, axis=-1)
    own = jnp.full_like(log_weight, -jnp.inf)
    return _Draw((p.variances + p.t) * theta * chi, zero, zero, own, jnp.exp(log_weight))


def _planted(p: Point, probe: jax.Array, chi: jax.Array) -> _Draw:
    """Draw a training point and noise of variance ``probe * t``, from three numbers per group: ``(..., 3, g)``.

    These are the squared length of the point, and of the noise the part along the point and the squared rest.
    """
    length, along, rest = (chi[..., k, :] for k in range(3))
    noise = probe * p.t
    planted, delta = p.variances * length, noise * (along**2 + rest)
    inner = jnp.sqrt(p.variances * length * noise) * along
    wide = p.variances > p.t
    return _Draw(
        planted - 2 * inner + delta,
        jnp.where(wide, inner - delta, planted - inner),
        jnp.where(wide, delta, planted),
        -jnp.sum(delta, axis=-1) / (2 * p.t),
        jnp.ones(chi.shape[:-2], chi.dtype),
    )


@partial(jax.jit, static_argnums=0)
def _averaged(
    kernel: int,
    groups: Groups,
    multiplicity: jax.Array,
    chi: jax.Array,
    bias: jax.Array,
    probe: jax.Array | None,
    log_n: jax.Array,
    t: jax.Array,
) -> Estimate:
    """Gains (kernel 1) or participation (2) averaged over points ``chi``, ``(BLOCKS, count, ...)``."""

    def one(log_n: jax.Array, t: jax.Array) -> Estimate:
        alone = log_n <= 0
        random = jnp.where(alone, 0, log_n if probe is None else log_others(log_n))
        typical = multiplicity * (groups.variances + t)
        p = Point(jnp.asarray(groups.variances), multiplicity, typical, t, random, jnp.full_like(t, -jnp.inf), bias)
        draws = _stretched(p, kernel, chi) if probe is None else _planted(p, probe, chi)

        def at(draw: _Draw) -> Estimate:
            point = p._replace(radius=draw.radius, log_own=draw.log_own)
            if kernel == 2:
                found = participation(point, FAST)
            else:
                sums = jnp.stack([multiplicity, draw.radius, draw.cross, draw.square]) / multiplicity
                parts = gain_coefficients(point, FAST)
                found = Estimate(jnp.sum(parts.mean * sums, axis=0), jnp.sum(parts.error * jnp.abs(sums), axis=0))
            return Estimate(*(draw.weight * part for part in found))

        flat = jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:]), draws)
        mean, error = lax.map(at, flat)
        blocks = jnp.mean(mean.reshape(BLOCKS, -1, *mean.shape[1:]), axis=1)
        spread = jnp.std(blocks, axis=0, ddof=1) / np.sqrt(BLOCKS)
        mean, error = jnp.mean(blocks, axis=0), jnp.mean(error, axis=0) + spread
        if kernel == 2:
            return Estimate(jnp.where(alone, 1, mean), jnp.where(alone, 0, error))
        still = alone | (groups.variances[groups.labels] == 0) | (groups.labels < 0)
        return Estimate(*(jnp.where(still, 0, part[groups.labels]) for part in (mean, error)))

    return one_by_one(one, log_n, t)


def _without_null_directions(groups: Groups) -> tuple[Groups, np.ndarray]:
    """Groups without that of variance 0, label -1, which shifts all energies alike, and their multiplicities."""
    if isinstance(groups.variances, jax.core.Tracer):
        return groups, np.ones(groups.labels.size, int)
    first = int(groups.variances[0] == 0) if groups.variances.size > 1 else 0
    return Groups(groups.variances[first:], groups.labels - first), np.bincount(np.asarray(groups.labels))[first:]


def _draws(multiplicity: np.ndarray, planted: bool) -> np.ndarray:
    """Chi-squared variables ``(BLOCKS, count, g)``; if planted ``(BLOCKS, count, 3, g)``, see :func:`_planted`."""
    if not planted:
        count = max(POINTS, LIGHT // multiplicity.size)
        # The first coordinates are the least correlated ones, the last group has the largest variance.
        return chi_squared_quantiles(latin_hypercubes(BLOCKS, count, multiplicity.size)[..., ::-1], multiplicity)
    length, along, rest = np.split(latin_hypercubes(BLOCKS, OTHER, 3 * multiplicity.size), 3, axis=-1)
    one = np.sqrt(chi_squared_quantiles(np.abs(2 * along - 1), np.ones_like(multiplicity)))
    return np.stack(
        [
            chi_squared_quantiles(length, multiplicity),
            np.sign(along - 0.5) * one,
            chi_squared_quantiles(rest, multiplicity - 1),
        ],
        axis=-2,
    )


def _average(
    kernel: int,
    groups: Groups,
    multiplicity: np.ndarray,
    point: str,
    probe: float,
    log_n: jax.Array,
    t: jax.Array,
) -> Estimate:
    if point not in ("held_out", "train"):
        raise ValueError(f"point must be 'held_out' or 'train', got {point!r}")
    dtype = t.dtype
    train = point == "train"
    multiple = as_positive("probe", probe, dtype) if train else None
    # At the nominal noise a training point is a held-out one, and the training set weighted.
    nominal = not train or (not isinstance(probe, jax.core.Tracer) and float(probe) == 1)
    return _averaged(
        kernel,
        groups,
        jnp.asarray(multiplicity, dtype),
        jnp.asarray(_draws(multiplicity, not nominal), dtype),
        jnp.asarray(train and nominal, dtype),
        None if nominal else multiple,
        log_n,
        t,
    )


def _evaluate_mean(
    kernel: int,
    variances: ArrayLike,
    n: ArrayLike | None,
    t: ArrayLike | None,
    point: str,
    probe: float,
    log_n: ArrayLike | None,
) -> Estimate:
    if t is None:
        raise TypeError("give the noise variance t")
    dtype = working_dtype(variances, t)
    groups, multiplicity = _without_null_directions(grouped(variances, dtype))
    return _average(
        kernel, groups, multiplicity, point, probe, as_log_size(n, log_n, dtype), as_positive("t", t, dtype)
    )


def finite_size_law(
    variances: jax.Array,
    log_n: jax.Array,
    t: jax.Array,
    point: str = "held_out",
    probe: float = 1.0,
    multiplicity: tuple[int, ...] | None = None,
) -> jax.Array:
    """Mean gains of the empirical score, exact up to the error that :func:`theory.mean_finite_size_gain` states.

    Under ``jit``, where equal variances cannot be told, ``multiplicity`` says how many directions have each.
    """
    of_each = np.ones(variances.size, int) if multiplicity is None else np.array(multiplicity)
    groups = Groups(variances, jnp.arange(variances.size))
    return _average(1, groups, of_each, point, probe, log_n, t).mean


def mean_finite_size_gain(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    point: str = "held_out",
    *,
    probe: float = 1.0,
    log_n: ArrayLike | None = None,
) -> Estimate:
    r"""Return the gains of the empirical score, averaged over training sets and points.

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      n: dataset size ``>= 1``.
      t: noise variance ``> 0``; broadcast with ``n`` to a shape ``s``.
      point: ``"held_out"`` (a fresh point plus noise of variance ``t``) or ``"train"`` (a training point plus noise).
      probe: variance of the noise at training points in units of ``t``, ``> 0``; 1 is the nominal noise.  Held-out
        points do not use it.
      log_n: logarithm of the dataset size in nats, instead of ``n``.

    Returns:
      Mean gains and their errors, both ``s + (d,)``: numerical error plus the standard error of the average over
      points, from eight blocks (Student's t with 7 degrees of freedom); usually 0.1 to 1 % of a gain, a few times more
      at training points with another ``probe``.

    Raises:
      ValueError: for variances that are negative or not finite, ``t`` or ``probe`` not positive and finite, ``n < 1``,
        another ``point``.
      TypeError: unless ``t`` and one of ``n`` and ``log_n`` are given.
    """
    return _evaluate_mean(1, variances, n, t, point, probe, log_n)


def mean_finite_size_participation(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    point: str = "held_out",
    *,
    probe: float = 1.0,
    log_n: ArrayLike | None = None,
) -> Estimate:
    """Return the participation ratio of the empirical score, averaged over training sets and points.

    Arguments and errors are those of :func:`mean_finite_size_gain`; mean and error have shape ``s``.
    """
    return _evaluate_mean(2, variances, n, t, point, probe, log_n)
