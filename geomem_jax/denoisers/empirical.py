r"""The empirical rung: the exact score of ``N`` training points, and its gains in closed form.

With weights :math:`w_\mu\propto e^{-\|x-y^\mu\|^2/2t}` the denoiser is the posterior mean and its Jacobian the
posterior covariance over the noise variance,

.. math:: D(x,t)=\sum_\mu w_\mu y^\mu,\qquad
          g_i(x,t)=\frac1t\,\mathrm{Var}_w(u_i^\top y),\qquad Y=\sum_\mu w_\mu^2. \tag{1}

(:math:`\nabla_xw_\mu=w_\mu(y^\mu-D)/t`.)  So the gains in all directions need two moments, three matrix products
in all, and no differentiation.  The training points are streamed in blocks by online softmax: memory does not depend on
``N``, and no array of shape ``(N, N)`` or ``(B, N, d)`` exists.

Rounding.  At small ``t`` the variance is a small difference of large second moments.  It is therefore taken about
the training point of largest weight, whose own (exactly vanishing) term is left out of the products; what remains
to cancel carries only the weight of the other points, so that a collapsed posterior has a variance that is
small *and* accurate.  The error left is that of the weights,

.. math:: |\Delta g|\le10^{-4}+C\,\varepsilon\,\frac{\|x\|^2+\max_\mu\|y^\mu\|^2}{t}\,g,\qquad C=4, \tag{2}

with :math:`\varepsilon` the spacing of the working precision and norms taken about the mean of 2048 training points,
evenly spaced among all, while the relative error of the weights
:math:`\varepsilon(\|x\|^2+\max\|y\|^2)/t` is below 1 %.  Beyond that the weights themselves are lost: use float64.

Source.  (1) is Tweedie's formula of second order; the streaming variance is derived here.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

BLOCK = 2048  # training points per step: the (QUERIES, BLOCK) weights stay in a CPU's cache
QUERIES = 256  # points whose gains are computed together
CENTRED = 2048  # training points, evenly spaced, whose mean all are shifted by
GROUP = 32  # weights per group in the two-level search for the largest
PRODUCTS = 2**22  # of two coordinates that exist at a time: where they are many, fewer training points per step


class Posterior(NamedTuple):
    """What the training points say of each queried point.

    Attributes:
      mean: ``(B, d)`` denoised points D(x, t).
      gain: ``(B, d)`` gains along the coordinate axes.
      participation: ``(B,)`` sums of the squared weights; its inverse counts the points that share the response.
    """

    mean: jax.Array
    gain: jax.Array
    participation: jax.Array


def denoise(data: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
    """Denoise one point: the mean of ``data`` ``(N, d)`` weighted by its nearness to ``x`` ``(d,)``; ``t`` a variance.

    The plain formula for one point, to be batched with ``vmap`` and differentiated; for gains use :func:`posterior`.
    """
    energies = jnp.sum((data - x) ** 2, axis=-1) / (2 * t)
    return jax.nn.softmax(-energies) @ data


class _Sums(NamedTuple):
    """Running sums over the weights relative to the largest so far, about the point that has it.

    The points may be seen in fewer or other coordinates, ``k``, than those that their weights are computed from.
    """

    log_weight: jax.Array  # (B,) the largest log weight so far
    reference: jax.Array  # (B, k) the training point that has it
    mass: jax.Array  # (B,) sum of w, the reference (1) included
    mass_squared: jax.Array  # (B,) sum of w^2
    first: jax.Array  # (B, k) sum of w (y - reference)
    second: jax.Array  # (B, k) sum of w (y - reference)^2, or (B, k, k) that of all products


def _products(first: jax.Array, second: jax.Array, matrix: bool) -> jax.Array:
    """Products of coordinates ``(..., k)``: of the same, ``(..., k)``, or of all pairs, ``(..., k, k)``."""
    return first[..., :, None] * second[..., None, :] if matrix else first * second


def _each(values: jax.Array, like: jax.Array) -> jax.Array:
    """Values ``(B,)`` with as many axes as another array."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _largest(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Maximum over the last axis of ``(B, n)`` and where it is first attained.

    One pass over the array and two over a small part of it: plain reductions vectorize where argmax does not.
    """
    queries, size = values.shape
    width = GROUP if size % GROUP == 0 else size
    groups = values.reshape(queries, size // width, width)
    maxima = jnp.max(groups, axis=-1)
    largest = jnp.max(maxima, axis=-1)

    def first(candidates: jax.Array) -> jax.Array:
        last = candidates.shape[-1] - 1
        return jnp.min(jnp.where(candidates == largest[:, None], jnp.arange(last + 1), last), axis=-1)

    group = first(maxima)
    rows = jnp.arange(queries) * (size // width) + group
    return largest, group * width + first(_rows(groups.reshape(-1, width), rows))


def _rows(array: jax.Array, index: jax.Array) -> jax.Array:
    return array.at[index].get(mode="promise_in_bounds")


def _add_block(sums: _Sums, x: jax.Array, block: jax.Array, seen: jax.Array, offset: jax.Array, matrix: bool) -> _Sums:
    """Add a block of training points; log weights are ``x . y - offset``, ``x`` already divided by ``t``."""
    dot = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    # Computed once: a compiler that forms the products again in each pass of the search may round them differently, and
    # the largest is then not found.
    products, offset = lax.optimization_barrier((dot(x, block.T), offset))
    log_weights = products - offset
    largest, nearest = _largest(log_weights)
    changed = largest > sums.log_weight
    log_weight = jnp.where(changed, largest, sums.log_weight)
    reference = jnp.where(changed[:, None], _rows(seen, nearest), sums.reference)

    weights = jnp.exp(log_weights - log_weight[:, None])
    # The reference itself is left out; by its index, as a comparison of every row costs more than the exponentials.
    kept = jnp.where(changed, 0, 1).astype(weights.dtype)
    queries = jnp.arange(weights.shape[0])
    weights = weights.at[queries, nearest].multiply(kept, mode="promise_in_bounds", unique_indices=True)
    mass = jnp.sum(weights, axis=-1)
    raw_first = dot(weights, seen)
    if matrix and len(weights) < seen.shape[1]:  # fewer numbers than the products of all pairs are
        raw_second = dot(jnp.swapaxes(weights[:, :, None] * seen, 1, 2), seen)
    else:
        squares = _products(seen, seen, matrix).reshape(len(seen), -1)
        raw_second = dot(weights, squares).reshape(sums.second.shape)
    first = raw_first - reference * mass[:, None]
    second = raw_second - _products(reference, raw_first, matrix) - _products(first, reference, matrix)

    # Earlier sums, rescaled to the new largest weight and moved to the new reference.
    scale = jnp.exp(sums.log_weight - log_weight)
    move = sums.reference - reference
    moved_first = sums.first + move * sums.mass[:, None]
    moved_second = sums.second + _products(move, sums.first, matrix) + _products(moved_first, move, matrix)
    return _Sums(
        log_weight,
        reference,
        scale * sums.mass + mass + changed,
        scale**2 * sums.mass_squared + jnp.sum(weights**2, axis=-1) + changed,
        scale[:, None] * moved_first + first,
        _each(scale, second) * moved_second + second,
    )


def posterior_about(
    data: jax.Array,
    count: jax.Array,
    centre: jax.Array,
    x: jax.Array,
    t: jax.Array,
    along: jax.Array | None = None,
    matrix: bool = False,
) -> Posterior:
    """Posterior of up to QUERIES points, about a centre; see :func:`posterior`.

    Means and gains are along the columns of ``along`` ``(d, k)``, if given; with ``matrix`` the gains are the whole
    matrix, ``(B, k, k)``.
    """
    size, directions = data.shape[0], data.shape[1] if along is None else along.shape[1]
    block = min(max(PRODUCTS // directions**2, GROUP) if matrix else BLOCK, BLOCK, size)

    def step(index: jax.Array, sums: _Sums) -> _Sums:
        # The last block is moved back to end with the data; its rows that were seen before are masked.
        start = jnp.minimum(index * block, size - block)
        rows = start + jnp.arange(block)
        valid = (rows >= index * block) & (rows < count)
        # Rows that do not count are set to 0: a weight of 0 would not silence a nan or inf.
        points = jnp.where(valid[:, None], lax.dynamic_slice_in_dim(data, start, block) - centre, 0)
        offset = jnp.where(valid, jnp.sum(points**2, axis=-1) / (2 * t), jnp.inf)
        seen = points if along is None else jnp.matmul(points, along, precision=lax.Precision.HIGHEST)
        return _add_block(sums, x / t, points, seen, offset, matrix)

    zeros = jnp.zeros((x.shape[0], directions), x.dtype)
    zero = zeros[:, 0]
    empty = _Sums(zero - jnp.inf, zeros, zero, zero, zeros, _products(zeros, zeros, matrix))
    sums = lax.fori_loop(0, (count + block - 1) // block, step, empty)
    shift = sums.first / sums.mass[:, None]
    variance = sums.second / _each(sums.mass, sums.second) - _products(shift, shift, matrix)
    variance = variance if matrix else jnp.maximum(variance, 0)
    centre = centre if along is None else jnp.matmul(centre, along, precision=lax.Precision.HIGHEST)
    return Posterior(centre + sums.reference + shift, variance / t, sums.mass_squared / sums.mass**2)


def centred(data: jax.Array, count: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A centre of the training points, and points about it."""
    # Any centre is right; a mean over all rows is as good as this one, and would cost as much as a product.
    spread = jnp.floor(jnp.linspace(0, 1, CENTRED, endpoint=False, dtype=x.dtype) * count).astype(int)
    centre = jnp.mean(data[jnp.minimum(spread, count - 1)], axis=0)
    return centre, x - centre


def in_chunks(function: Callable[[jax.Array], Any], x: jax.Array, size: int) -> Any:
    """Apply a function of points ``(b, d)`` to ``(B, d)``, at most ``size`` at a time; the last chunk is padded."""
    count = x.shape[0]
    chunks = -(-count // size)
    if chunks <= 1:
        return function(x)
    size = -(-count // chunks)
    padded = jnp.concatenate([x, jnp.broadcast_to(x[-1:], (chunks * size - count, *x.shape[1:]))])
    result = lax.map(function, padded.reshape(chunks, size, *x.shape[1:]))
    return jax.tree.map(lambda leaf: leaf.reshape(chunks * size, *leaf.shape[2:])[:count], result)


@jax.jit
def posterior(data: jax.Array, count: jax.Array | int, x: jax.Array, t: jax.Array | float) -> Posterior:
    r"""Denoise points and find all their gains, eq. (1).

    One compiled program serves every ``count`` and ``t``.

    Args:
      data: ``(N, d)`` training points.
      count: how many rows of ``data``, from the first, form the training set; ``1 <= count <= N``.
      x: ``(B, d)`` points.
      t: noise variance ``> 0``.

    Returns:
      Means, gains along the coordinate axes and participation ratios at every point.  For gains along other
      orthonormal directions pass rotated data and points: distances do not change.
    """
    count, t = jnp.asarray(count), jnp.asarray(t, x.dtype)
    centre, x = centred(data, count, x)
    return in_chunks(lambda x: posterior_about(data, count, centre, x, t), x, QUERIES)
