r"""The Jacobian of the empirical rung: all of it in the span of the training points, or that of the nearest ones.

Of :math:`N` training points of rank :math:`m` the Jacobian is the posterior covariance over :math:`t`, eq. (1) of
:mod:`geomem_jax.denoisers.empirical`, and vanishes outside their :math:`m`-dimensional span: one product of the weights
with the :math:`m^2` products of coordinates, and no differentiation.

Where few training points have nearly all the weight, the :math:`k` heaviest say it all.  With their weights
renormalized to one, mean :math:`\mu` and covariance :math:`C_k`, and :math:`\epsilon` the weight of the others,

.. math:: C=(1-\epsilon)C_k+\epsilon\,\mathbb E_{\rm rest}(y-\mu)(y-\mu)^\top-\epsilon^2\Delta\Delta^\top,\qquad
          \|G-C_k/t\|\le\epsilon R^2/t, \tag{1}

with :math:`\Delta` the mean of the others from :math:`\mu` and :math:`R` no less than any training point's distance
from it: both :math:`C_k` and the difference of the other two terms lie between 0 and :math:`R^2`.

Source.  Derived here.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from geomem_jax.denoisers.empirical import BLOCK, QUERIES, centred, in_chunks, posterior_about
from geomem_jax.errors import InputError


class Model(NamedTuple):
    """Training points in the coordinates of their span, made by :func:`fit`; ``model(x, t)`` denoises a point.

    Attributes:
      coordinates: ``(N, m)`` of the training points.
      size: how many of them, from the first, form the training set.
      basis: ``(d, m)`` orthonormal, in columns.
      origin: ``(d,)``.
    """

    coordinates: jax.Array
    size: jax.Array | int
    basis: jax.Array
    origin: jax.Array

    def __call__(self, x: jax.Array, t: jax.Array | float) -> jax.Array:
        """Denoise one point ``x`` ``(d,)`` by the plain formula; ``t`` is a noise variance."""
        dot = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
        energies = jnp.sum((self.coordinates - dot(x - self.origin, self.basis)) ** 2, axis=-1) / (2 * t)
        used = jnp.arange(len(energies)) < self.size
        weights = jax.nn.softmax(jnp.where(used, -energies, -jnp.inf))
        return self.origin + dot(self.basis, dot(weights, self.coordinates))


def fit(data: jax.Array | np.ndarray, size: int | None = None) -> Model:
    """Find the span of training points, outside of which the Jacobian vanishes.

    Directions along which they vary by less than the rounding of their coordinates do not count.  Leaving these out
    changes the weights by as much as that rounding does.

    Args:
      data: ``(N, d)`` training points, finite.
      size: how many, from the first, form the training set; all by default.  The span is that of all, so that
        ``model._replace(size=...)`` has other training sets in the same shapes.

    Raises:
      InputError: if there are no points, one is not finite, or ``size`` is not from 1 to N.
    """
    points = np.asarray(data)
    if points.ndim != 2 or not points.size:
        raise InputError(f"data must be points in rows, (N, d), got shape {points.shape}")
    if not np.isfinite(points).all():
        raise InputError(f"data: row {int(np.argmin(np.isfinite(points).all(axis=1)))} is not finite; leave it out")
    size = len(points) if size is None else size
    if not 1 <= size <= len(points):
        raise InputError(f"size must be from 1 to the {len(points)} points of data, got size = {size}")
    dtype = jnp.result_type(jnp.asarray(points[:1]), jnp.float32)  # float64 only where it is enabled
    blocks = [points[start : start + BLOCK].astype(np.float64) for start in range(0, len(points), BLOCK)]
    origin = points.mean(axis=0, dtype=np.float64)
    triangle = np.zeros((0, points.shape[1]))  # of the centred points; their covariance would have lost half the digits
    for block in blocks:
        triangle = np.asarray(np.linalg.qr(np.concatenate([triangle, block - origin]), mode="r"))
    _, roots, rows = np.linalg.svd(triangle, full_matrices=False)
    stds = roots / len(points) ** 0.5
    rounding = float(jnp.finfo(dtype).eps) * max(float(np.sum(block**2, axis=1).max()) for block in blocks) ** 0.5
    floor = max(rounding, len(stds) * np.finfo(np.float64).eps * stds[0])
    basis = rows[: max(1, np.count_nonzero(stds > floor))].T
    coordinates = np.concatenate([(block - origin) @ basis for block in blocks])
    return Model(
        jnp.asarray(coordinates, dtype), jnp.asarray(size), jnp.asarray(basis, dtype), jnp.asarray(origin, dtype)
    )


@jax.jit
def gains(model: Model, x: jax.Array, t: jax.Array | float, basis: jax.Array) -> jax.Array:
    """Gains at points ``(B, d)`` along the columns of ``basis`` ``(d, k)``, eq. (1): ``(B, k)``; ``t`` a variance."""
    along = jnp.matmul(model.basis.T, basis, precision=lax.Precision.HIGHEST)
    return _in_span(model, x, t, QUERIES, along, False)


@partial(jax.jit, static_argnames="queries")
def jacobian(model: Model, x: jax.Array, t: jax.Array | float, queries: int = QUERIES) -> jax.Array:
    r"""Jacobian of the denoiser in the span of the training points, the posterior covariance over ``t``.

    That in the full space is :math:`VJV^\top` with the basis :math:`V` of the model.  Sums are taken about the nearest
    training point as in :func:`posterior`, and eq. (2) bounds the error of :math:`J_{ij}` with
    :math:`\sqrt{J_{ii}J_{jj}}` for :math:`g`.  Memory is that of ``queries`` and of 64 training points or more, times
    :math:`m^2`.

    Args:
      model: training points.
      x: ``(B, d)`` points.
      t: noise variance ``> 0``.
      queries: points at a time.

    Returns:
      ``(B, m, m)``.
    """
    return _in_span(model, x, t, queries, None, True)


def _in_span(
    model: Model, x: jax.Array, t: jax.Array | float, queries: int, along: jax.Array | None, matrix: bool
) -> jax.Array:
    count, t = jnp.asarray(model.size), jnp.asarray(t, x.dtype)
    x = jnp.matmul(x - model.origin, model.basis, precision=lax.Precision.HIGHEST)
    centre, x = centred(model.coordinates, count, x)
    return in_chunks(lambda x: posterior_about(model.coordinates, count, centre, x, t, along, matrix).gain, x, queries)


class Nearest(NamedTuple):
    """The heaviest training points at every queried point, and what is lost by knowing no others.

    Attributes:
      rows: ``(B, k)`` in the training set, heaviest first.
      weight: ``(B, k)``, summing to one.
      left_out: ``(B,)`` share of the weight that all other training points have.
      error: ``(B,)`` bound on the spectral norm of what the Jacobian lacks, eq. (1), beyond rounding.
      gain: ``(B, k)`` eigenvalues of the Jacobian of the ``k`` points alone, descending; the others are 0.
    """

    rows: jax.Array
    weight: jax.Array
    left_out: jax.Array
    error: jax.Array
    gain: jax.Array


@partial(jax.jit, static_argnames="k")
def nearest(model: Model, x: jax.Array, t: jax.Array | float, k: int) -> Nearest:
    """Find the ``k`` training points of largest weight at points ``(B, d)``, and the Jacobian of these alone.

    Args:
      model: training points; at most ``N`` are found.
      x: ``(B, d)`` points.
      t: noise variance ``> 0``.
      k: how many; where the training set is smaller, weights of 0 fill up.
    """
    data, count, t = model.coordinates, jnp.asarray(model.size), jnp.asarray(t, x.dtype)
    size = data.shape[0]
    block = min(BLOCK, size)
    dot = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    centre, x = centred(data, count, dot(x - model.origin, model.basis))

    def points_of(index: jax.Array, start: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows = start + jnp.arange(block)
        valid = (rows >= index * block) & (rows < count)
        return jnp.where(valid[:, None], lax.dynamic_slice_in_dim(data, start, block) - centre, 0), valid

    def chunk(x: jax.Array) -> Nearest:
        def step(index: jax.Array, found: tuple) -> tuple:
            log_weight, rows, rest, radius = found
            start = jnp.minimum(index * block, size - block)
            y, valid = points_of(index, start)
            squares = jnp.sum(y**2, axis=-1)
            log_weights = jnp.where(valid, dot(x / t, y.T) - squares / (2 * t), -jnp.inf)
            candidates = jnp.concatenate([log_weight, log_weights], axis=1)
            log_weight, place = lax.top_k(candidates, k)
            others = candidates.at[jnp.arange(len(x))[:, None], place].set(-jnp.inf)
            rest = jnp.logaddexp(rest, jax.nn.logsumexp(others, axis=1))
            candidate_rows = jnp.concatenate([rows, jnp.broadcast_to(start + jnp.arange(block), log_weights.shape)], 1)
            rows = jnp.take_along_axis(candidate_rows, place, axis=1)
            return log_weight, rows, rest, jnp.maximum(radius, jnp.sqrt(jnp.max(squares)))

        nothing = jnp.full((len(x), k), -jnp.inf, x.dtype)
        empty = nothing, jnp.zeros(nothing.shape, int), nothing[:, 0], jnp.zeros((), x.dtype)
        log_weight, rows, rest, radius = lax.fori_loop(0, (count + block - 1) // block, step, empty)
        weight = jax.nn.softmax(log_weight, axis=1)
        # Not one less what is kept: that is lost in rounding when it is small.
        left_out = jax.nn.sigmoid(rest - jax.nn.logsumexp(log_weight, axis=1))

        def spectrum(query: tuple) -> tuple[jax.Array, jax.Array]:
            rows, weight = query
            y = jnp.where(weight[:, None] > 0, data[rows] - centre, 0)
            mean = dot(weight, y)
            deviations = jnp.sqrt(weight / t)[:, None] * (y - mean)
            gain = jnp.linalg.eigvalsh(dot(deviations, deviations.T))[::-1]
            return jnp.maximum(gain, 0), radius + jnp.linalg.norm(mean)

        gain, reach = lax.map(spectrum, (rows, weight))
        error = left_out * reach**2 / t
        return Nearest(rows, weight, left_out, error, gain)

    return in_chunks(chunk, x, QUERIES)
