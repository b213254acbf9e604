"""What a sweep needs to know about the data: where training sets come from and in which directions."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

MAX_BASIS = 20_000  # directions of a source with a basis: (d, d) float64 numbers, 3 GB


class Draw(NamedTuple):
    """One independent training set with points held out from it.

    Attributes:
      train: ``(n, d)``; the training set of size ``k <= n`` is its first ``k`` rows (nested in size).
      held_out: ``(m, d)``, disjoint from ``train``.
    """

    train: jax.Array
    held_out: jax.Array


class Source(NamedTuple):
    """A source of training sets, seen in its own directions.

    Attributes:
      name: shown in figures and reports.
      variances: ``(d,)`` variances along the directions, descending; all that a predictor is told.
      basis: ``(d, d)`` orthonormal, column ``i`` is direction ``i``; ``None`` if the directions are the axes.
      gaussian: whether the population is Gaussian, so that the Wiener gain is the gain of infinite data.
        Otherwise gains are *Gaussian-relative*.
      centred: whether the mean was estimated from data (the linear law then holds with ``N - 1`` for ``N``).
      max_points: how many points there are in all (training and held out); ``None`` if unlimited.
      draw: ``(key, num_train, num_held_out) -> Draw``, in the coordinates of the data, not of the directions.
      points: all points ``(M, d)``, of which draws are subsets; ``None`` if every draw has its own.
      rows: ``(key, num_train, num_held_out) -> (train, held_out)``, the rows of ``points`` that ``draw`` gives.
    """

    name: str
    variances: np.ndarray
    basis: np.ndarray | None
    gaussian: bool
    centred: bool
    max_points: int | None
    draw: Callable[[jax.Array, int, int], Draw]
    points: np.ndarray | None = None
    rows: Callable[[jax.Array, int, int], tuple[np.ndarray, np.ndarray]] | None = None
