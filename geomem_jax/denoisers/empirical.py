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

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

BLOCK = 2048  # training points per step: the (QUERIES, BLOCK) weights stay in a CPU's cache
QUERIES = 256  # points whose gains are computed together
CENTRED = 2048  # training points, evenly spaced, whose mean all are shifted by
GROUP = 32  # weights per group in the two-level search for the largest


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
    """Running sums over the weights relative to the largest so far, about the point that has it."""

    log_weight: jax.Array  # (B,) the largest log weight so far
    reference: jax.Array  # (B, d) the training point that has it
    mass: jax.Array  # (B,) sum of w, the reference (1) included
    mass_squared: jax.Array  # (B,) sum of w^2
    first: jax.Array  # (B, d) sum of w (y - reference)
    second: jax.Array  # (B, d) sum of w (y - reference)^2


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


def _add_block(sums: _Sums, x: jax.Array, block: jax.Array, offset: jax.Array) -> _Sums:
    """Add a block of training points; log weights are ``x . y - offset``, ``x`` already divided by ``t``."""
    dot = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    # Computed once: a compiler that forms the products again in each pass of the search may round them differently, and
    # the largest is then not found.
    products, offset = lax.optimization_barrier((dot(x, block.T), offset))
    log_weights = products - offset
    largest, nearest = _largest(log_weights)
    changed = largest > sums.log_weight
    log_weight = jnp.where(changed, largest, sums.log_weight)
    reference = jnp.where(changed[:, None], _rows(block, nearest), sums.reference)

    weights = jnp.exp(log_weights - log_weight[:, None])
    # The reference itself is left out; by its index, as a comparison of every row costs more than the exponentials.
    kept = jnp.where(changed, 0, 1).astype(weights.dtype)
    queries = jnp.arange(weights.shape[0])
    weights = weights.at[queries, nearest].multiply(kept, mode="promise_in_bounds", unique_indices=True)
    mass = jnp.sum(weights, axis=-1)
    raw_first, raw_second = dot(weights, block), dot(weights, block**2)
    first = raw_first - reference * mass[:, None]
    second = raw_second - reference * (raw_first + first)

    # Earlier sums, rescaled to the new largest weight and moved to the new reference.
    scale = jnp.exp(sums.log_weight - log_weight)
    move = sums.reference - reference
    moved_second = sums.second + move * (2 * sums.first + move * sums.mass[:, None])
    return _Sums(
        log_weight,
        reference,
        scale * sums.mass + mass + changed,
        scale**2 * sums.mass_squared + jnp.sum(weights**2, axis=-1) + changed,
        scale[:, None] * (sums.first + move * sums.mass[:, None]) + first,
        scale[:, None] * moved_second + second,
    )


def _posterior(data: jax.Array, count: jax.Array, centre: jax.Array, x: jax.Array, t: jax.Array) -> Posterior:
    """Posterior of up to QUERIES points; see :func:`posterior`."""
    size = data.shape[0]
    block = min(BLOCK, size)

    def step(index: jax.Array, sums: _Sums) -> _Sums:
        # The last block is moved back to end with the data; its rows that were seen before are masked.
        start = jnp.minimum(index * block, size - block)
        rows = start + jnp.arange(block)
        valid = (rows >= index * block) & (rows < count)
        # Rows that do not count are set to 0: a weight of 0 would not silence a nan or inf.
        points = jnp.where(valid[:, None], lax.dynamic_slice_in_dim(data, start, block) - centre, 0)
        offset = jnp.where(valid, jnp.sum(points**2, axis=-1) / (2 * t), jnp.inf)
        return _add_block(sums, x / t, points, offset)

    zeros = jnp.zeros(x.shape, x.dtype)
    empty = _Sums(zeros[:, 0] - jnp.inf, zeros, zeros[:, 0], zeros[:, 0], zeros, zeros)
    sums = lax.fori_loop(0, (count + block - 1) // block, step, empty)
    shift = sums.first / sums.mass[:, None]
    variance = jnp.maximum(sums.second / sums.mass[:, None] - shift**2, 0)
    return Posterior(centre + sums.reference + shift, variance / t, sums.mass_squared / sums.mass**2)


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
    # Any centre is right; a mean over all rows is as good as this one, and would cost as much as a product.
    spread = jnp.floor(jnp.linspace(0, 1, CENTRED, endpoint=False, dtype=x.dtype) * count).astype(int)
    centre = jnp.mean(data[jnp.minimum(spread, count - 1)], axis=0)
    x = x - centre
    chunks = -(-x.shape[0] // QUERIES)
    if chunks == 1:
        return _posterior(data, jnp.asarray(count), centre, x, jnp.asarray(t, x.dtype))
    padded = jnp.concatenate([x, jnp.zeros((chunks * QUERIES - x.shape[0], x.shape[1]), x.dtype)])
    result = lax.map(
        lambda chunk: _posterior(data, jnp.asarray(count), centre, chunk, jnp.asarray(t, x.dtype)),
        padded.reshape(chunks, QUERIES, -1),
    )
    return jax.tree.map(lambda leaf: leaf.reshape(chunks * QUERIES, *leaf.shape[2:])[: x.shape[0]], result)
