r"""Are generated samples copies of training points?

*Copied*.  With the two nearest distinct training points :math:`a_1, a_2` of a sample ``x``, it counts as copied where

.. math:: r(x)=\frac{\|x-a_1\|}{\|x-a_2\|}<\frac13. \tag{1}

*Chance*.  Points of the true distribution, which copy nothing, fall below 1/3 too.  Where the density is constant as
far as :math:`a_2`, given :math:`a_2` the point :math:`a_1` is uniform in the ball about ``x`` that ends there, hence

.. math:: P(r<c)=c^k \tag{2}

in ``k`` intrinsic dimensions: 1/3 of the points on a line, 1/9 in a plane, one in 59 000 with ``k = 10``.  Held-out
points measure this chance, whatever the distribution.

*Test*.  If the model were the true distribution, samples and held-out points would be exchangeable given the training
set; given how many of both are copied, the number among the samples is then hypergeometric.  The p-value is the upper
tail (Fisher's exact test): valid at every size, conservative where copies are few.

*Excess*.  If a fraction :math:`\pi` of the samples are copies and the others are like held-out points, of which
:math:`f_0` count as copied, then :math:`f=\pi+(1-\pi)f_0`, so

.. math:: \pi=\frac{f-f_0}{1-f_0}. \tag{3}

Scope.  Samples and held-out points are independent draws, and held-out points were not used in training.  Equal
training points are one point; points that are nearly equal, such as one image twice compressed, are not, and a copy of
them has a ratio near 1: look for them first.  Distances are Euclidean in the coordinates given: a shifted copy of an
image is not found.

Source.  (1) is the criterion of Bonnaire et al. (2025), arXiv:2505.17638, after Yoon et al. (2023) and Gu et al.
(2023), arXiv:2310.02664; (2) and (3) are derived here.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from geomem_jax.data.points import SMALLEST_SPREAD
from geomem_jax.denoisers.empirical import posterior
from geomem_jax.errors import InputError
from geomem_jax.neighbours import two_nearest
from geomem_jax.rows import check_rows, check_same_dimension
from geomem_jax.statistics import Estimate, critical_t, fraction_interval, median_interval

COPIED_BELOW = 1 / 3
ALPHA = 0.05


class MemorizationReport(NamedTuple):
    """What :func:`memorization_report` found; intervals are of 95 %.

    Attributes:
      ratio: ``(n,)`` ratio (1) of each sample; 0 for an exact copy.
      nearest: ``(n,)`` row of the nearest training point.
      held_out_ratio: ``(m,)`` ratio (1) of each held-out point.
      copied: fraction of samples that count as copied.
      held_out_copied: the same for held-out points: chance.
      excess: fraction of samples that copy beyond chance, (3); its interval is conservative.
      median_ratio: median of ``ratio``.
      held_out_median_ratio: median of ``held_out_ratio``.
      p_value: one-sided; small where samples are copied more often than held-out points.
    """

    ratio: np.ndarray
    nearest: np.ndarray
    held_out_ratio: np.ndarray
    copied: Estimate
    held_out_copied: Estimate
    excess: Estimate
    median_ratio: Estimate
    held_out_median_ratio: Estimate
    p_value: float


def distinct_first(train: np.ndarray) -> tuple[np.ndarray, int]:
    """Return an order of rows that begins with the first of each set of equal ones, and how many there are.

    Both parts of the order ascend.

    Raises:
      InputError: if fewer than two rows are distinct, or they differ so little that squares underflow.
    """
    plain = np.add(train, 0.0, order="C")  # -0 becomes 0: equal numbers are equal bytes
    _, first = np.unique(plain.view(np.dtype((np.void, plain[0].nbytes)))[:, 0], return_index=True)
    if len(first) < 2:
        raise InputError(f"train: all {len(train)} points are equal; give at least 2 distinct points")
    spread = np.ptp(train, axis=0).max()
    if spread < SMALLEST_SPREAD:
        raise InputError(f"train: points differ by {spread:.3g} at most, below {SMALLEST_SPREAD:g}; rescale all points")
    first.sort()
    repeated = np.ones(len(train), bool)
    repeated[first] = False
    return np.concatenate([first, np.flatnonzero(repeated)]), len(first)


def nearest_ratio(x: ArrayLike, train: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the nearest training point over that to the second nearest, (1), equal training points being one.

    Args:
      x: ``(n, ...)`` points; further axes, as of images, are flattened.
      train: ``(N, ...)`` training points, at least two of them distinct.

    Returns:
      Ratios ``(n,)`` in ``[0, 1]``, 0 where ``x`` equals a training point, and rows ``(n,)`` of the nearest, the first
      of equal ones.

    Raises:
      InputError: as :func:`memorization_report`.
    """
    queries, points = check_rows(x, "x"), check_rows(train, "train", 2)
    check_same_dimension(queries, "x", points, "train")
    order, count = distinct_first(points)
    found = two_nearest(jnp.asarray(points[order]), count, jnp.asarray(queries))
    nearest, second = np.asarray(found.distance, np.float64).T
    # Distinct points can be so near that both squares underflow: x is a copy of them.
    ratio = np.divide(nearest, second, out=np.zeros_like(nearest), where=second > 0)
    return ratio, order[np.asarray(found.row)[:, 0]]


def memorization_report(samples: ArrayLike, train: ArrayLike, held_out: ArrayLike) -> MemorizationReport:
    """Find how many samples are copies of training points, and whether chance explains it.

    Args:
      samples: ``(n, ...)`` generated points, independent draws; further axes, as of images, are flattened.
      train: ``(N, ...)`` training points, at least two of them distinct.
      held_out: ``(m, ...)`` points of the true distribution that the model was not trained on.

    Returns:
      A :class:`MemorizationReport`; :func:`describe` puts it into words.

    Raises:
      InputError: if an array is empty, not numeric, or has NaN, infinite or huge values; if dimensions differ; if there
        are fewer than two distinct training points, or they differ so little that squares underflow.
    """
    generated, points, fresh = (
        check_rows(samples, "samples"),
        check_rows(train, "train", 2),
        check_rows(held_out, "held_out"),
    )
    check_same_dimension(generated, "samples", points, "train")
    check_same_dimension(fresh, "held_out", points, "train")
    ratio, nearest = nearest_ratio(np.concatenate([generated, fresh]), points)
    ratio, fresh_ratio = np.split(ratio, [len(generated)])
    count, fresh_count = (int(np.count_nonzero(values < COPIED_BELOW)) for values in (ratio, fresh_ratio))
    return MemorizationReport(
        ratio,
        nearest[: len(generated)],
        fresh_ratio,
        fraction_interval(count, len(generated)),
        fraction_interval(fresh_count, len(fresh)),
        excess_interval(count, len(generated), fresh_count, len(fresh)),
        median_interval(ratio, (0.0, 1.0)),
        median_interval(fresh_ratio, (0.0, 1.0)),
        _p_value(count, len(generated), fresh_count, len(fresh)),
    )


def _p_value(count: int, n: int, fresh_count: int, m: int) -> float:
    """Probability of at least ``count`` copies among ``n`` samples, given all copies among ``n + m`` points."""
    return float(stats.hypergeom.sf(count - 1, n + m, count + fresh_count, n))


def excess_interval(count: int, n: int, fresh_count: int, m: int) -> Estimate:
    """Estimate the fraction beyond chance, (3), if ``count`` of ``n`` samples count as copied.

    Of ``m`` held-out points ``fresh_count`` do.  Intervals of 97.5 % of both fractions hold together in 95 % of cases.
    """
    fraction, chance = (fraction_interval(*of, 1 - ALPHA / 2) for of in ((count, n), (fresh_count, m)))

    def beyond(copied: float, by_chance: float) -> float:
        return max(0.0, (copied - by_chance) / (1 - by_chance)) if by_chance < 1 else 0.0

    return Estimate(
        beyond(fraction.value, chance.value), beyond(fraction.lower, chance.upper), beyond(fraction.upper, chance.lower)
    )


def _percent(estimate: Estimate) -> str:
    value, lower, upper = (f"{100 * number:.3g} %" for number in estimate)
    return f"{value} [{lower}, {upper}]"


def describe(report: MemorizationReport) -> str:
    """Put a report into words: how many samples are copies, against how many held-out points, and what follows."""
    n, m = len(report.ratio), len(report.held_out_ratio)
    count = int(np.count_nonzero(report.ratio < COPIED_BELOW))
    median, fresh_median = (
        "{:.3g} [{:.3g}, {:.3g}]".format(*of) for of in (report.median_ratio, report.held_out_median_ratio)
    )
    parts = [
        f"{_percent(report.copied)} of {n} samples count as copies of a training point: more than three times nearer "
        f"to it than to any other. Of {m} held-out points {_percent(report.held_out_copied)} do, by chance.",
    ]
    if report.p_value <= ALPHA:
        parts.append(
            f"The model copies (p = {report.p_value:.2g}): {_percent(report.excess)} of its samples beyond chance."
        )
    else:
        parts.append(
            f"No copying beyond chance is found (p = {report.p_value:.2g}); at most {100 * report.excess.upper:.3g} % "
            "of the samples can be such copies."
        )
        if count and _p_value(count, n, 0, m) > ALPHA:
            # The p-value without held-out copies is a product of count factors, each at most n / (n + m).
            needed = math.ceil(n * (ALPHA ** (-1 / count) - 1))
            parts.append(f"So few held-out points could not have shown otherwise: hold out at least {needed}.")
    parts.append(f"The median ratio of distances is {median}, of held-out points {fresh_median} (95 % intervals).")
    return " ".join(parts)


def mean_participation(x: ArrayLike, train: ArrayLike, t: float) -> Estimate:
    r"""Mean participation ratio :math:`Y=\sum_\mu w_\mu^2` of the exact posterior over training points.

    1 where one training point explains each point alone, ``1 / N`` where all explain it alike; a memorizing sampler
    passes from one to the other (:mod:`geomem_jax.participation`).

    Args:
      x: ``(n, ...)`` points at noise variance ``t``: states of a sampler, or samples with noise of that variance added.
      train: ``(N, ...)`` training points; equal ones share their weight.
      t: noise variance ``> 0``.

    Returns:
      The mean over points and its interval by Student's ``t``, approximate, cut to ``[0, 1]``; nan ends for one point.

    Raises:
      InputError: as :func:`memorization_report`, or if ``t`` is not finite and positive.
    """
    queries, points = check_rows(x, "x"), check_rows(train, "train")
    check_same_dimension(queries, "x", points, "train")
    if not (np.isfinite(t) and t > 0):
        raise InputError(f"t: {t} is not a noise variance; give a positive number")
    ratios = np.asarray(posterior(jnp.asarray(points), len(points), jnp.asarray(queries), t).participation, np.float64)
    if len(ratios) < 2:
        return Estimate(float(ratios[0]), np.nan, np.nan)
    mean = float(ratios.mean())
    error = float(critical_t(ALPHA, 1, len(ratios) - 1) * ratios.std(ddof=1) / np.sqrt(len(ratios)))
    return Estimate(mean, max(0.0, mean - error), min(1.0, mean + error))
