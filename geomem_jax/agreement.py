r"""Do two models that never shared a training point draw the same samples?

Two models are trained on disjoint halves of the data and sampled from the same starting noise.  If both learned the
distribution, they map the same noise to the same sample; if they memorized, each maps it to points of its own half,
which have nothing in common.

*Test*.  The null is that the pairing says nothing.  All cyclic shifts of one list against the other are then equally
likely, so that the fraction of the ``n`` shifts whose mean cosine is at least that of the pairs (no shift, itself among
them) is an exact p-value, no smaller than ``1 / n``.

Scope.  Cosines are taken about the mean of all samples: about any other origin all points lie more or less in one
direction.  Agreement is not quality: two models that draw one and the same sample for ever are at distance 0, which the
distances of what is not paired give away.

Source.  The experiment is that of Kadkhodaie et al. (2024), arXiv:2310.02557; the centre and the test are derived here.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from geomem_jax.errors import InputError
from geomem_jax.rows import check_rows
from geomem_jax.statistics import Estimate, median_interval

COLUMNS = 64  # coordinates whose Fourier transforms are held in memory together


class Agreement(NamedTuple):
    """How alike the paired samples of two models are.

    Attributes:
      cosine: ``(n,)`` cosine similarity of each pair.
      distance: ``(n,)`` Euclidean distance of each pair.
      unpaired_cosine: ``(n,)`` cosine of each sample of the first model with the next pair's of the second.
      unpaired_distance: ``(n,)`` distance of the same.
      median_cosine: median over pairs, with its 95 % interval.
      median_distance: median over pairs, with its 95 % interval.
      p_value: one-sided; small where pairs are more alike than what is not paired.
    """

    cosine: np.ndarray
    distance: np.ndarray
    unpaired_cosine: np.ndarray
    unpaired_distance: np.ndarray
    median_cosine: Estimate
    median_distance: Estimate
    p_value: float


def agreement(samples_a: ArrayLike, samples_b: ArrayLike) -> Agreement:
    """Compare samples that two models, trained on disjoint halves of the data, draw from the same starting noise.

    Args:
      samples_a: ``(n, ...)`` samples of one model, independent draws; further axes are flattened.
      samples_b: ``(n, ...)`` samples of the other, row by row from the same noise.

    Returns:
      An :class:`Agreement`.  A sample at the mean of all has no direction and cosine 0 with any other.

    Raises:
      InputError: if an array is empty or has NaN, infinite or huge values; if shapes differ or there are fewer than 2
        pairs.
    """
    a, b = check_rows(samples_a, "samples_a", 2).astype(float), check_rows(samples_b, "samples_b", 2).astype(float)
    if a.shape != b.shape:
        raise InputError(
            f"samples_b: {len(b)} points of {b.shape[1]} coordinates, but samples_a has {len(a)} of {a.shape[1]}; "
            "give pairs, row by row"
        )
    distance, unpaired_distance = (np.linalg.norm(a - other, axis=1) for other in (b, np.roll(b, -1, axis=0)))
    centre = (a.mean(axis=0) + b.mean(axis=0)) / 2
    for samples in (a, b):
        samples -= centre
        length = np.linalg.norm(samples, axis=1, keepdims=True)
        np.divide(samples, length, out=samples, where=length > 0)
    cosine, unpaired_cosine = (np.sum(a * other, axis=1) for other in (b, np.roll(b, -1, axis=0)))
    shifted = np.zeros(len(a))  # mean cosine at every shift, a circular correlation
    for start in range(0, a.shape[1], COLUMNS):
        block = slice(start, start + COLUMNS)
        product = np.conj(np.fft.rfft(a[:, block], axis=0)) * np.fft.rfft(b[:, block], axis=0)
        shifted += np.fft.irfft(product.sum(axis=1), len(a)) / len(a)
    # Equal means count as such although rounding tells them apart; the pairs themselves are shift 0.
    at_least = np.count_nonzero(shifted >= shifted[0] - 1e-12)
    return Agreement(
        cosine,
        distance,
        unpaired_cosine,
        unpaired_distance,
        median_interval(cosine, (-1.0, 1.0)),
        median_interval(distance, (0.0, np.inf)),
        at_least / len(a),
    )
