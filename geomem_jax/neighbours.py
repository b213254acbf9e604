r"""The nearest training points of every query, streamed in blocks.

A block of training points is ranked by

.. math:: \tfrac12\|x-y\|^2-\tfrac12\|x\|^2=\tfrac12\|y\|^2-x\cdot y, \tag{1}

one matrix product; the distances of its winners are then formed from the differences themselves and held against
the best so far.  Memory does not depend on the number of training points, and no array of shape ``(B, N)`` or
``(B, N, d)`` exists.

Rounding.  (1) is a small difference of large numbers where a query nearly equals a training point; it only selects.
The distances come from :math:`x-y`, so that of an exact copy is exactly 0 and every distance is right to a few units in
the last place *for the point that it belongs to*.  Points whose squared distances differ by less than

.. math:: C\,\varepsilon\,\bigl(\|x\|^2+\max_\mu\|y^\mu\|^2\bigr),\qquad C=4, \tag{2}

with :math:`\varepsilon` the spacing of the working precision and norms taken about a mean of training points, may be
ranked in the wrong order within a block; no distance is too large by more than that.

Source.  Derived here.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

BLOCK = 2048  # training points per step: the (QUERIES, BLOCK) products stay in a CPU's cache
QUERIES = 256  # points whose neighbours are found together
CENTRED = 2048  # training points, evenly spaced, whose mean all are shifted by
GROUP = 32  # products per group in the two-level search; divides BLOCK


GATHERED = 2**22  # coordinates of winners that exist at a time, where more than two are wanted


class Neighbours(NamedTuple):
    """The ``k`` nearest training points of each query.

    Attributes:
      row: ``(B, k)`` rows of the training points, nearest first.
      distance: ``(B, k)`` Euclidean distances, ascending.
    """

    row: jax.Array
    distance: jax.Array


def _smallest_two(values: jax.Array) -> jax.Array:
    """Positions ``(B, 2)`` of the two smallest of ``(B, n)``, ``n`` a multiple of GROUP and at least twice that.

    They lie in the two groups of smallest minima, so that the whole array is passed over only once.
    """
    groups = values.reshape(len(values), -1, GROUP)
    _, group = lax.top_k(-jnp.min(groups, axis=-1), 2)
    members = jnp.take_along_axis(groups, group[..., None], axis=1).reshape(len(values), 2 * GROUP)
    _, place = lax.top_k(-members, 2)
    return jnp.take_along_axis(group, place // GROUP, axis=1) * GROUP + place % GROUP


def _smallest(values: jax.Array, k: int) -> jax.Array:
    """Positions ``(B, k)`` of the smallest of ``(B, n)``, ``n >= k``; where ``k`` is 2, as :func:`_smallest_two`."""
    return _smallest_two(values) if k == 2 else lax.top_k(-values, k)[1]


def _nearest(data: jax.Array, count: jax.Array, centre: jax.Array, x: jax.Array, k: int) -> Neighbours:
    """Neighbours of a chunk of queries; ``data`` of at least ``k`` and ``2 * GROUP`` rows, see :func:`nearest`."""
    size = data.shape[0]
    block = min(max(BLOCK, GROUP * -(-k // GROUP)), size)
    dot = partial(jnp.matmul, precision=lax.Precision.HIGHEST)

    def step(number: jax.Array, best: Neighbours) -> Neighbours:
        # The last block is moved back to end with the data; its rows that were seen before are masked.
        start = jnp.minimum(number * block, size - block)
        rows = start + jnp.arange(block)
        valid = (rows >= number * block) & (rows < count)
        points = lax.dynamic_slice_in_dim(data, start, block)
        # Rows that do not count are set to 0: an infinite rank would not silence a nan.
        centred = jnp.where(valid[:, None], points - centre, 0)
        rank = jnp.where(valid, jnp.sum(centred**2, axis=-1) / 2, jnp.inf) - dot(x - centre, centred.T)
        winners = _smallest(rank, k)
        apart = jnp.sqrt(jnp.sum((x[:, None] - points[winners]) ** 2, axis=-1))
        distance = jnp.concatenate([best.distance, jnp.where(valid[winners], apart, jnp.inf)], axis=1)
        row = jnp.concatenate([best.row, (start + winners).astype(int)], axis=1)
        _, order = lax.top_k(-distance, k)
        return Neighbours(*(jnp.take_along_axis(array, order, axis=1) for array in (row, distance)))

    empty = Neighbours(jnp.zeros((len(x), k), int), jnp.full((len(x), k), jnp.inf, x.dtype))
    return lax.fori_loop(0, (count + block - 1) // block, step, empty)


@partial(jax.jit, static_argnames="k")
def nearest(data: jax.Array, count: jax.Array | int, x: jax.Array, k: int) -> Neighbours:
    """Find the ``k`` nearest training points of every query.

    One compiled program serves every ``count``.

    Args:
      data: ``(N, d)`` training points; equal ones are distinct neighbours.
      count: how many rows of ``data``, from the first, form the training set; ``k <= count <= N``.
      x: ``(B, d)`` queries, of the dtype of ``data``.
      k: how many, at least 2.

    Returns:
      :class:`Neighbours`.
    """
    spread = jnp.floor(jnp.linspace(0, 1, CENTRED, endpoint=False, dtype=x.dtype) * count).astype(int)
    centre = jnp.mean(data[jnp.minimum(spread, count - 1)], axis=0)
    if data.shape[0] < BLOCK:
        least = GROUP * max(2, -(-data.shape[0] // GROUP))
        data = jnp.pad(data, ((0, least - data.shape[0]), (0, 0)))
    queries = QUERIES if k == 2 else max(1, min(QUERIES, GATHERED // (k * max(1, x.shape[1]))))
    chunks = -(-x.shape[0] // queries)
    padded = jnp.pad(x, ((0, chunks * queries - x.shape[0]), (0, 0)))
    found = lax.map(
        lambda chunk: _nearest(data, jnp.asarray(count), centre, chunk, k), padded.reshape(chunks, queries, -1)
    )
    return jax.tree.map(lambda leaf: leaf.reshape(chunks * queries, k)[: x.shape[0]], found)


@jax.jit
def two_nearest(data: jax.Array, count: jax.Array | int, x: jax.Array) -> Neighbours:
    """Find the two nearest training points of every query: :func:`nearest` with ``k = 2``."""
    return nearest(data, count, x, 2)
