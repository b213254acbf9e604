r"""The exact score of ``N`` points, averaged over training sets, at any size and dimension: no limit is taken.

Model.  ``N`` independent points of a Gaussian with variances :math:`\sigma_i^2`; the empirical score at a fixed point
:math:`x` with noise variance :math:`t`.  With the energy :math:`E(y)=\|x-y\|^2/2t` the weights are
:math:`w_\mu\propto e^{-E(y^\mu)}`, the gain is :math:`g_i=\mathrm{Var}_w(y_i)/t`, the participation ratio
:math:`Y=\sum_\mu w_\mu^2`.

Results.  Writing :math:`Z^{-2}=\int_0^\infty s\,e^{-sZ}ds` for the normalization makes the points independent.  With
averages over *one* point :math:`y`,

.. math:: \phi(s)=\mathbb E\,e^{-se^{-E}},\quad A_k(s)=\mathbb E\,y_i^k\,se^{-E}e^{-se^{-E}},\quad
          B(s)=\mathbb E\,s^2e^{-2E}e^{-se^{-E}},

.. math:: \mathbb E\,g_i=\frac{N(N-1)}t\int\bigl[A_2A_0-A_1^2\bigr]\phi^{N-2}\,d\log s,\qquad
          \mathbb E\,Y=N\int B\,\phi^{N-1}\,d\log s. \tag{1}

A training point :math:`y^0` that is known to be there (*planted*) has :math:`a=se^{-E(y^0)}`; among :math:`N-1` others

.. math:: \mathbb E\,g_i=\frac1t\int e^{-a}\Bigl\{(N-1)(N-2)\bigl[A_2A_0-A_1^2\bigr]\phi^{N-3}
          +(N-1)\,a\,\bigl[A_2-2y_i^0A_1+(y_i^0)^2A_0\bigr]\phi^{N-2}\Bigr\}\,d\log s. \tag{2}

The averages are closed forms under a Mellin-Barnes integral: the prior tilted by :math:`e^{-mE}` is Gaussian, with mass
:math:`M(m)`, means :math:`m\sigma_i^2x_i/(t+m\sigma_i^2)` and variances :math:`t\sigma_i^2/(t+m\sigma_i^2)`, and

.. math:: A_k(s)=\frac1{2\pi i}\int\Gamma(1-m)\,s^m\,\mathbb E[y_i^ke^{-mE}]\,dm,\qquad
          1-\phi(s)=\frac1{2\pi i}\int\frac{\Gamma(1-m)}m\,s^m\,M(m)\,dm. \tag{3}

At a training point plus noise of variance :math:`t`, nothing known but its position :math:`x`, averages are those at a
held-out :math:`x\sim p_t` with training sets weighted by :math:`Z/\mathbb E\,Z`, :math:`\mathbb E\,Z=N\,M(1)`:

.. math:: \mathbb E_{\rm train}\,g_i=\mathbb E_x\frac{N(N-1)}t\int\frac{A_2A_0-A_1^2}{N\,s\,M(1)}\phi^{N-2}\,d\log s,
          \qquad\mathbb E_{\rm train}\,Y=\mathbb E_x\int\frac B{s\,M(1)}\phi^{N-1}\,d\log s. \tag{4}

So both averages over :math:`x` need only its squared radii along the groups of equal variance: one chi-squared variable
each, from 8 fixed Latin hypercubes of little correlation (:mod:`theory._lattice`) whose spread gives the error.  For
training points they are stretched to where the integrand has its weight.  Another probe than 1 takes draws of three
numbers per group.

Numerics.  Every integral is evaluated by two rules, whose difference gives its error (to the power 3/2 for the outer
integral, where the better rule converges about twice as fast).  Directions of equal variance are integrated once.
Relative accuracy in float64: usually 1e-9; along one or two directions 1e-5, of the participation 3e-4.  About 1e-4 in
float32.

Scope.  Exact for Gaussian data, any :math:`N\ge1`, dimension and :math:`t`: at :math:`t\gg t_c` it is the Wiener gain,
as ``d`` grows at fixed :math:`\log N/d` it tends to the empirical law of :mod:`theory.effective_noise`.  (1) and (2)
hold for any data, (3) is Gaussian.
Source.  Derived here; derivation: DERIVATIONS.md, section F.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._inputs import ArrayLike, as_log_size, as_point, as_positive, as_variances, working_dtype
from ._lattice import chi_squared_quantiles, latin_hypercubes
from ._mellin import FAST, FINE, Estimate, Node, Point, Rule, integrate, stretch
from .planted import log_others

# Blocks whose spread gives the error of an average, points of each, more (divided by the number of groups) where they
# cost little, and points of each at training points with another noise than the nominal.
BLOCKS, POINTS, LIGHT, OTHER = 8, 12, 64, 64


def _gain_coefficients(p: Point, rule: Rule = FINE) -> Estimate:
    r"""Return four numbers per group: mean gains are :math:`a+bx_i^2+c\,x_ih_i+e\,h_i^2`, shape ``(4, g)``.

    :math:`h` is the offset of the planted point, see :func:`_offset`; without one :math:`c=e=0`.
    """
    less = jnp.exp(-p.log_n)  # 1/N
    wide = p.variances > p.t

    def integrand(node: Node) -> jax.Array:
        n_log_phi, first = node.n_log_phi[:, None], node.first[:, None]
        shared = node.share * first  # in this order, for N A_0 squared underflows where the weight is large
        own = jnp.exp(node.log_s + p.log_own)
        pairs = (1 - less) * jnp.exp((1 - 2 * less) * n_log_phi - own)
        with_own = own * jnp.exp((1 - less) * n_log_phi - own)
        ahead = jnp.where(wide, node.rest, -node.mean_of_tilt)  # times x, plus h: from the mean to the planted point
        return jnp.stack(
            [
                (pairs * shared + with_own) * node.spread,
                pairs * (node.square * shared - node.mean * (node.share * node.mean))
                + with_own * (node.square - 2 * ahead * node.mean + ahead**2 * first),
                2 * with_own * (ahead * first - node.mean),
                with_own * first * jnp.ones_like(node.spread),
            ],
            axis=1,
        )

    estimate = integrate(p, 1, rule, integrand)
    return Estimate(estimate.mean / p.t, estimate.error / p.t)


def _participation(p: Point, rule: Rule = FINE) -> Estimate:
    """Return the mean participation ratio."""
    less = jnp.exp(-p.log_n)

    def integrand(node: Node) -> jax.Array:
        own = jnp.exp(node.log_s + p.log_own)
        random = node.share * node.second * jnp.exp((1 - less) * node.n_log_phi - own)
        return random + own**2 * jnp.exp(node.n_log_phi - own)

    return integrate(p, 2, rule, integrand)


class _Groups(NamedTuple):
    """Directions of equal variance: the variances ``(g,)``, and of which group each direction is, ``(d,)``."""

    variances: jax.Array | np.ndarray
    labels: jax.Array | np.ndarray


def _grouped(variances: ArrayLike, dtype: np.dtype) -> _Groups:
    checked = as_variances(variances, dtype)
    if isinstance(variances, jax.core.Tracer):
        return _Groups(checked, jnp.arange(checked.size))
    # On the host, as arrays of jax would be traced inside a trace of other arguments.
    values, labels = np.unique(np.asarray(variances, dtype), return_inverse=True)
    return _Groups(values, labels.ravel())


class _Place(NamedTuple):
    """Where the score is evaluated: ``x`` ``(d,)``, a planted point if there is one, and the way there from ``x``."""

    x: jax.Array
    planted: jax.Array | None = None
    delta: jax.Array | None = None


def _offset(place: _Place, variances: jax.Array, t: jax.Array) -> jax.Array:
    """Coordinates of the planted point from ``x`` along wide directions, from 0 along others: small numbers both."""
    if place.planted is None or place.delta is None:
        return jnp.zeros_like(place.x)
    return jnp.where(variances > t, place.delta, place.planted)


def _at_place(groups: _Groups, place: _Place, log_n: jax.Array, t: jax.Array) -> tuple[Point, jax.Array]:
    """What averages at one place depend on, and whether there is one training point only."""
    alone = log_n <= 0
    random = jnp.where(alone, 0, log_n if place.delta is None else log_others(log_n))
    own = -jnp.inf if place.delta is None else -jnp.sum(place.delta**2) / (2 * t)
    sums = jnp.zeros((2, groups.variances.size), place.x.dtype)
    multiplicity, radius = sums.at[:, groups.labels].add(jnp.stack([jnp.ones_like(place.x), place.x**2]))
    own, bias = jnp.asarray(own, place.x.dtype), jnp.zeros((), place.x.dtype)
    return Point(jnp.asarray(groups.variances), multiplicity, radius, t, random, own, bias), alone


def _gain_at(groups: _Groups, place: _Place, log_n: jax.Array, t: jax.Array) -> Estimate:
    point, alone = _at_place(groups, place, log_n, t)
    variances = groups.variances[groups.labels]
    offset = _offset(place, variances, t)
    basis = jnp.stack([jnp.ones_like(place.x), place.x**2, place.x * offset, offset**2])
    mean, error = (part[:, groups.labels] for part in _gain_coefficients(point))
    mean, error = jnp.sum(mean * basis, axis=0), jnp.sum(error * jnp.abs(basis), axis=0)
    still = alone | (variances == 0)  # one point has no variance
    return Estimate(jnp.where(still, 0, mean), jnp.where(still, 0, error))


def _participation_at(groups: _Groups, place: _Place, log_n: jax.Array, t: jax.Array) -> Estimate:
    point, alone = _at_place(groups, place, log_n, t)
    mean, error = _participation(point)
    return Estimate(jnp.where(alone, 1, mean), jnp.where(alone, 0, error))


_Quantity = Callable[[_Groups, _Place, jax.Array, jax.Array], Estimate]


def _one_by_one(one: Callable[[jax.Array, jax.Array], Estimate], log_n: jax.Array, t: jax.Array) -> Estimate:
    """Estimates for every dataset size and noise variance, in the memory of one."""
    log_n, t = jnp.broadcast_arrays(log_n, t)
    found = lax.map(lambda pair: one(*pair), (log_n.ravel(), t.ravel()))
    return Estimate(*(part.reshape(t.shape + part.shape[1:]) for part in found))


@partial(jax.jit, static_argnums=0)
def _everywhere(quantity: _Quantity, groups: _Groups, place: _Place, log_n: jax.Array, t: jax.Array) -> Estimate:
    return _one_by_one(partial(quantity, groups, place), log_n, t)


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
    groups: _Groups,
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
                found = _participation(point, FAST)
            else:
                sums = jnp.stack([multiplicity, draw.radius, draw.cross, draw.square]) / multiplicity
                parts = _gain_coefficients(point, FAST)
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

    return _one_by_one(one, log_n, t)


def _without_null_directions(groups: _Groups) -> tuple[_Groups, np.ndarray]:
    """Groups without that of variance 0, label -1, which shifts all energies alike, and their multiplicities."""
    if isinstance(groups.variances, jax.core.Tracer):
        return groups, np.ones(groups.labels.size, int)
    first = int(groups.variances[0] == 0) if groups.variances.size > 1 else 0
    return _Groups(groups.variances[first:], groups.labels - first), np.bincount(np.asarray(groups.labels))[first:]


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


def _as_one_point(name: str, values: ArrayLike, groups: _Groups, dtype: np.dtype) -> jax.Array:
    if np.ndim(values) != 1:
        raise ValueError(f"{name} must have shape ({groups.labels.size},), got shape {np.shape(values)}")
    return as_point(name, values, groups.labels.size, dtype)


def _evaluate(
    quantity: _Quantity,
    variances: ArrayLike,
    n: ArrayLike | None,
    t: ArrayLike | None,
    x: ArrayLike | None,
    training_point: ArrayLike | None,
    log_n: ArrayLike | None,
) -> Estimate:
    if t is None or x is None:
        raise TypeError("give the noise variance t and the point x")
    dtype = working_dtype(variances, t, x)
    groups = _grouped(variances, dtype)
    place = _Place(_as_one_point("x", x, groups, dtype))
    if training_point is not None:
        planted = _as_one_point("training_point", training_point, groups, dtype)
        place = _Place(place.x, planted, planted - place.x)
    return _everywhere(quantity, groups, place, as_log_size(n, log_n, dtype), as_positive("t", t, dtype))


def _average(
    kernel: int,
    groups: _Groups,
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
    groups, multiplicity = _without_null_directions(_grouped(variances, dtype))
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
    groups = _Groups(variances, jnp.arange(variances.size))
    return _average(1, groups, of_each, point, probe, log_n, t).mean


def finite_size_gain(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    x: ArrayLike | None = None,
    *,
    training_point: ArrayLike | None = None,
    log_n: ArrayLike | None = None,
) -> Estimate:
    r"""Return the gains of the empirical score at a point, averaged exactly over training sets, eqs. (1) and (2).

    Args:
      variances: ``(d,)`` variances along the directions, ``>= 0``.
      n: dataset size ``>= 1``, the training point included.
      t: noise variance ``> 0``; broadcast with ``n`` to a shape ``s``.
      x: ``(d,)`` the point.
      training_point: ``(d,)`` a point known to be in the training set; by default nothing is known of it.
      log_n: logarithm of the dataset size in nats, instead of ``n``.

    Returns:
      Mean gains (no unit) and the numerical errors of their evaluation, both ``s + (d,)``.

    Raises:
      ValueError: for variances that are negative or not finite, points of another shape or not finite, ``t`` not
        positive and finite, ``n < 1``.
      TypeError: unless ``t``, ``x`` and one of ``n`` and ``log_n`` are given.

    Example:
      Two training points, one direction, noise far above the variance: half the Wiener gain.

      >>> round(float(finite_size_gain([1.0], n=2, t=1e4, x=[0.0]).mean[0]) * 1e4, 3)
      0.5
    """
    return _evaluate(_gain_at, variances, n, t, x, training_point, log_n)


def finite_size_participation(
    variances: ArrayLike,
    n: ArrayLike | None = None,
    t: ArrayLike | None = None,
    x: ArrayLike | None = None,
    *,
    training_point: ArrayLike | None = None,
    log_n: ArrayLike | None = None,
) -> Estimate:
    r"""Return the participation ratio :math:`\sum_\mu w_\mu^2` at a point, averaged exactly over training sets.

    Arguments and errors are those of :func:`finite_size_gain`; mean and error have shape ``s``.

    Example:
      >>> round(float(finite_size_participation([1.0], n=2, t=1e4, x=[0.0]).mean), 3)
      0.5
    """
    return _evaluate(_participation_at, variances, n, t, x, training_point, log_n)


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
