r"""Spectra of the score from its values at noised points: two estimators of the literature, on one scale.

Both stack scores :math:`s(x+p_j,t)` at probes :math:`p_j` about a point into a matrix and take its singular values.
For a linear score :math:`s=Jx` these are those of :math:`J` times the size of the probes.  Here they are divided by
that size and multiplied by :math:`t`, so that both estimate the singular values of :math:`t\nabla s=G-1`: 1 for a
frozen (normal) direction and near 0 for a free one.

*Orthogonal probes* (arXiv 2410.08727): :math:`p_j=\delta\sqrt d\,q_j` with the rows :math:`q_j` of a Haar random
orthogonal matrix, :math:`\delta` the standard deviation of each coordinate.  From the differences
:math:`[s(x+p_j)-s(x-p_j)]/2`

.. math:: \frac{t}{\delta\sqrt d}\,\mathrm{sv}(S)=\mathrm{sv}(t\nabla s)+O(\delta^2d), \tag{1}

exact for a linear score.  With the scores :math:`s(x+p_j)` themselves, as its code was released, the stack has
:math:`1\,s(x)^\top` added, of singular value :math:`t\|s(x)\|/\delta`: away from the points where the score vanishes
that is the largest, and the others are mixed with it.  The paper's noise has standard deviation :math:`\sqrt t` in
each coordinate, which is the default; its released code multiplies *orthonormal* rows by :math:`\sqrt t`, which are
probes of :math:`\delta=\sqrt{t/d}`.  Small probes feel the Jacobian where the model was not trained to be: nearer
to the point than the noise it was told of.

*Centred normal bundle* (arXiv 2212.12611): scores at ``K`` copies with independent normal noise, minus their mean,

.. math:: \frac{t}{\delta\sqrt{K-1}}\,\mathrm{sv}(S-1\bar s^\top). \tag{2}

The mean of the squares of these is right for a linear score, whatever ``K``; each is, as ``K`` grows: of a cluster of
``m`` equal values it makes a band between :math:`1\pm\sqrt{m/K}` (Marchenko and Pastur).  For a score that is not
linear it is a mean of Jacobians over the noise, which (1) is not.  Uncentred, the mean score adds a large value of
its own; the reference code of the paper and copies of it differ in this.

Memory is that of one point: (K, d) scores, and the model at ``batch`` probes at a time.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from geomem_jax.errors import InputError
from geomem_jax.products import Model, check_call, check_count, each_point

BATCH = 128  # probes at which the model is evaluated together


def _probe_std(probe_std: jax.Array | float | None, t: jax.Array) -> jax.Array:
    if probe_std is None:
        return jnp.sqrt(t)
    if not isinstance(probe_std, jax.core.Tracer) and not (jnp.ndim(probe_std) == 0 and 0 < probe_std < math.inf):
        raise InputError(f"probe_std: {probe_std} is not a standard deviation; give one positive number")
    return jnp.asarray(probe_std, t.dtype)


def _shifts(model: Model, points: jax.Array, t: jax.Array, batch: int) -> jax.Array:
    """The score times t, D - x, at every point."""
    return lax.map(lambda point: model(point, t) - point, points, batch_size=min(batch, len(points)))


def orthogonal(
    key: jax.Array,
    model: Model,
    x: jax.Array,
    t: jax.Array | float,
    probe_std: jax.Array | float | None = None,
    symmetrized: bool = True,
    batch: int = BATCH,
) -> jax.Array:
    """Singular values by orthogonal probes, eq. (1).

    Args:
      key: of the orthogonal matrices, one for each point.
      model: ``(x, t) -> x_hat`` for one point, as :func:`geomem_jax.matrix_free.leading`.
      x: points ``(B, d)``.
      t: noise variance ``> 0`` that the model is told.
      probe_std: standard deviation of each coordinate of the probes; ``sqrt(t)`` if not given.
        ``sqrt(t / d)`` for the released code.
      symmetrized: take half the difference of the scores at both sides; if not, the scores at one, as released.
      batch: probes at which the model is evaluated together.

    Returns:
      ``(B, d)``, descending; those of ``t grad s`` for a linear score, if symmetrized.

    Raises:
      InputError: as :func:`geomem_jax.products.check_call`, or if ``probe_std`` or ``batch`` is not positive.
    """
    model, x, t = check_call(model, x, t)
    check_count("batch", batch, 1)
    return _orthogonal(key, model, x, t, _probe_std(probe_std, t), symmetrized, batch)


@partial(jax.jit, static_argnames=("symmetrized", "batch"))
def _orthogonal(
    key: jax.Array, model: Model, x: jax.Array, t: jax.Array, probe_std: jax.Array, symmetrized: bool, batch: int
) -> jax.Array:
    d = x.shape[1]
    length = probe_std * d**0.5

    def at_point(key: jax.Array, point: jax.Array) -> jax.Array:
        probes = length * jax.random.orthogonal(key, d, dtype=x.dtype)
        stack = _shifts(model, point + probes, t, batch)
        if symmetrized:
            stack = (stack - _shifts(model, point - probes, t, batch)) / 2
        return jnp.linalg.svd(stack, compute_uv=False) / length

    return each_point(key, x, at_point)


def centred(
    key: jax.Array,
    model: Model,
    x: jax.Array,
    t: jax.Array | float,
    copies: int | None = None,
    probe_std: jax.Array | float | None = None,
    batch: int = BATCH,
) -> jax.Array:
    """Singular values of the centred normal bundle, eq. (2).

    Args:
      key: of the noise, other noise at each point.
      model: ``(x, t) -> x_hat`` for one point, as :func:`geomem_jax.matrix_free.leading`.
      x: points ``(B, d)``.
      t: noise variance ``> 0`` that the model is told.
      copies: noised copies K of each point ``>= 2``; ``4 d`` if not given, as in the source.
      probe_std: standard deviation of each coordinate of the noise; ``sqrt(t)`` if not given.
      batch: copies at which the model is evaluated together.

    Returns:
      ``(B, min(d, K))``, descending; with ``K <= d`` the last is 0, of the mean.

    Raises:
      InputError: as :func:`geomem_jax.products.check_call`, or if ``copies < 2``, or ``probe_std`` or ``batch`` is
        not positive.
    """
    model, x, t = check_call(model, x, t)
    copies = 4 * x.shape[1] if copies is None else copies
    check_count("copies", copies, 2)
    check_count("batch", batch, 1)
    return _centred(key, model, x, t, _probe_std(probe_std, t), copies, batch)


@partial(jax.jit, static_argnames=("copies", "batch"))
def _centred(
    key: jax.Array, model: Model, x: jax.Array, t: jax.Array, probe_std: jax.Array, copies: int, batch: int
) -> jax.Array:
    def at_point(key: jax.Array, point: jax.Array) -> jax.Array:
        noise = probe_std * jax.random.normal(key, (copies, len(point)), x.dtype)
        stack = _shifts(model, point + noise, t, batch)
        stack = stack - jnp.mean(stack, axis=0)
        return jnp.linalg.svd(stack, compute_uv=False) / (probe_std * (copies - 1) ** 0.5)

    return each_point(key, x, at_point)
