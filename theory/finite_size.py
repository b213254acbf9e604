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

Numerics.  Every integral is evaluated by two rules, whose difference gives its error (to the power 3/2 for the outer
integral, where the better rule converges about twice as fast).  Directions of equal variance are integrated once.
Relative accuracy in float64: usually 1e-9; along one or two directions 1e-5, of the participation 3e-4.  About 1e-4 in
float32.

Scope.  Exact for Gaussian data, any :math:`N\ge1`, dimension and :math:`t`: at :math:`t\gg t_c` it is the Wiener gain,
as ``d`` grows at fixed :math:`\log N/d` it tends to the empirical law of :mod:`theory.effective_noise`.  (1) and (2)
hold for any data, (3) is Gaussian.  Averages over :math:`x` as well: :mod:`theory.mean_finite_size`.
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
from ._mellin import FINE, Estimate, Node, Point, Rule, integrate
from .planted import log_others


def gain_coefficients(p: Point, rule: Rule = FINE) -> Estimate:
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


def participation(p: Point, rule: Rule = FINE) -> Estimate:
    """Return the mean participation ratio."""
    less = jnp.exp(-p.log_n)

    def integrand(node: Node) -> jax.Array:
        own = jnp.exp(node.log_s + p.log_own)
        random = node.share * node.second * jnp.exp((1 - less) * node.n_log_phi - own)
        return random + own**2 * jnp.exp(node.n_log_phi - own)

    return integrate(p, 2, rule, integrand)


class Groups(NamedTuple):
    """Directions of equal variance: the variances ``(g,)``, and of which group each direction is, ``(d,)``."""

    variances: jax.Array | np.ndarray
    labels: jax.Array | np.ndarray


def grouped(variances: ArrayLike, dtype: np.dtype) -> Groups:
    """Groups in increasing order; under a trace, where equal variances cannot be told, one per direction."""
    checked = as_variances(variances, dtype)
    if isinstance(variances, jax.core.Tracer):
        return Groups(checked, jnp.arange(checked.size))
    # On the host, as arrays of jax would be traced inside a trace of other arguments.
    values, labels = np.unique(np.asarray(variances, dtype), return_inverse=True)
    return Groups(values, labels.ravel())


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


def _at_place(groups: Groups, place: _Place, log_n: jax.Array, t: jax.Array) -> tuple[Point, jax.Array]:
    """What averages at one place depend on, and whether there is one training point only."""
    alone = log_n <= 0
    random = jnp.where(alone, 0, log_n if place.delta is None else log_others(log_n))
    own = -jnp.inf if place.delta is None else -jnp.sum(place.delta**2) / (2 * t)
    sums = jnp.zeros((2, groups.variances.size), place.x.dtype)
    multiplicity, radius = sums.at[:, groups.labels].add(jnp.stack([jnp.ones_like(place.x), place.x**2]))
    own, bias = jnp.asarray(own, place.x.dtype), jnp.zeros((), place.x.dtype)
    return Point(jnp.asarray(groups.variances), multiplicity, radius, t, random, own, bias), alone


def _gain_at(groups: Groups, place: _Place, log_n: jax.Array, t: jax.Array) -> Estimate:
    point, alone = _at_place(groups, place, log_n, t)
    variances = groups.variances[groups.labels]
    offset = _offset(place, variances, t)
    basis = jnp.stack([jnp.ones_like(place.x), place.x**2, place.x * offset, offset**2])
    mean, error = (part[:, groups.labels] for part in gain_coefficients(point))
    mean, error = jnp.sum(mean * basis, axis=0), jnp.sum(error * jnp.abs(basis), axis=0)
    still = alone | (variances == 0)  # one point has no variance
    return Estimate(jnp.where(still, 0, mean), jnp.where(still, 0, error))


def _participation_at(groups: Groups, place: _Place, log_n: jax.Array, t: jax.Array) -> Estimate:
    point, alone = _at_place(groups, place, log_n, t)
    mean, error = participation(point)
    return Estimate(jnp.where(alone, 1, mean), jnp.where(alone, 0, error))


_Quantity = Callable[[Groups, _Place, jax.Array, jax.Array], Estimate]


def one_by_one(one: Callable[[jax.Array, jax.Array], Estimate], log_n: jax.Array, t: jax.Array) -> Estimate:
    """Estimates for every dataset size and noise variance, in the memory of one."""
    log_n, t = jnp.broadcast_arrays(log_n, t)
    found = lax.map(lambda pair: one(*pair), (log_n.ravel(), t.ravel()))
    return Estimate(*(part.reshape(t.shape + part.shape[1:]) for part in found))


@partial(jax.jit, static_argnums=0)
def _everywhere(quantity: _Quantity, groups: Groups, place: _Place, log_n: jax.Array, t: jax.Array) -> Estimate:
    return one_by_one(partial(quantity, groups, place), log_n, t)


def _as_one_point(name: str, values: ArrayLike, groups: Groups, dtype: np.dtype) -> jax.Array:
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
    groups = grouped(variances, dtype)
    place = _Place(_as_one_point("x", x, groups, dtype))
    if training_point is not None:
        planted = _as_one_point("training_point", training_point, groups, dtype)
        place = _Place(place.x, planted, planted - place.x)
    return _everywhere(quantity, groups, place, as_log_size(n, log_n, dtype), as_positive("t", t, dtype))


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
