r"""Error bars and tests when the sample is a handful of training sets.

Model.  ``S`` seeds are independent training sets; whatever was measured inside one of them (points,
directions of equal variance) is averaged first, so that the ``S`` numbers are independent and the error of
their mean is the spread over seeds.  ``S`` is small, 4 to 32, hence Student's ``t`` in place of the normal
and a bootstrap whose percentiles are corrected for small samples.

Scope.  The ``t`` quantiles assume that averages within a seed are nearly normal.  The bootstrap does not, but
its replicates never leave the range of the seeds: whatever the nominal confidence, an interval of ``S`` seeds
covers no more than about :math:`1 - 2^{1 - S}`, which passes 95 % at ``S = 6`` (:data:`MIN_SEEDS`).

Where the draws themselves are independent, as generated samples are, fractions and medians have exact intervals at
every size (:func:`fraction_interval`, :func:`median_interval`).

Source.  Hesterberg (2015), The American Statistician 69, 371 (expanded percentile interval).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

MIN_SEEDS = 6
"""The fewest seeds with which a bootstrap interval can cover 95 %."""
FAR = 50.0
"""A threshold of Student's t beyond which the normal part of a noncentral one is less than 0.1 % of it."""
BLOCK = 4_000_000
"""Resampled numbers held in memory at a time."""


class Estimate(NamedTuple):
    """A number with its interval.

    Attributes:
      value: the estimate.
      lower: lower end of the interval.
      upper: upper end.
    """

    value: float
    lower: float
    upper: float


class Bootstrap(NamedTuple):
    """An estimate (shape ``s``) with its interval over seeds.

    Attributes:
      estimate: the statistic of the mean over all seeds.
      lower: lower end of the interval; nan with one seed.
      upper: upper end; nan with one seed.
      replicates: ``(R, *s)``, the statistic of each resample; nan with one seed.
    """

    estimate: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    replicates: np.ndarray


def critical_z(alpha: float, comparisons: int) -> float:
    r"""Two-sided normal threshold with family-wise error rate ``alpha`` (Bonferroni).

    Returns:
      ``z`` with :math:`P(\max_k |Z_k| > z) \le \alpha` for ``comparisons`` standard normals, dependent or
      not.

    Example:
      >>> round(critical_z(0.05, 1), 2)
      1.96
    """
    return float(stats.norm.isf(alpha / (2 * comparisons)))


def critical_t(alpha: float, comparisons: int, degrees: ArrayLike) -> np.ndarray:
    """Two-sided Student threshold with family-wise error rate ``alpha`` (Bonferroni).

    Args:
      alpha: family-wise error rate.
      comparisons: how many tests share it.
      degrees: degrees of freedom, seeds less one, of any shape ``s``; nan where there are none (``<= 0``).

    Returns:
      Thresholds of shape ``s``.
    """
    return np.asarray(stats.t.isf(alpha / (2 * comparisons), np.asarray(degrees, float)))


def detectable_shift(alpha: float, comparisons: int, degrees: ArrayLike, power: float = 0.9) -> np.ndarray:
    r"""Shift of a mean that the test of :func:`critical_t` finds with probability ``power``.

    The shift :math:`\delta` solves :math:`P(T_{\nu, \delta} > t_{\rm crit}) = {\rm power}` for the noncentral
    Student :math:`T`; the common :math:`t_{\rm crit} + t_{\rm power}` is too small at few degrees of freedom,
    where the standard error itself is uncertain.  Beyond a threshold of :data:`FAR`, where the root is found in
    seconds, only that uncertainty matters, and :math:`\delta = t_{\rm crit}\sqrt{\chi^2_{\nu, {\rm power}} / \nu}`.

    Args:
      alpha: family-wise error rate.
      comparisons: how many tests share it.
      degrees: degrees of freedom, of any shape ``s``.
      power: probability of detection.

    Returns:
      Shifts of shape ``s``, in units of the *true* standard error of the mean.
    """
    degrees = np.asarray(degrees, float)
    threshold = critical_t(alpha, comparisons, degrees)
    far = threshold > FAR
    near = special.nctdtrinc(degrees, 1 - power, np.where(far, np.nan, threshold))
    return np.where(far, threshold * np.sqrt(stats.chi2.ppf(power, degrees) / degrees), near)


def gain_score(mean: np.ndarray, relative_error: np.ndarray, expected: np.ndarray) -> np.ndarray:
    r"""Deviation of a positive mean from its expectation in standard errors, for samples as skewed as they are wide.

    .. math:: Z = \frac{{\rm sign}(r - 1)}{\epsilon} \sqrt{2 (r - 1 - \log r)}, \qquad r = \frac{\bar x}{\mu}, \tag{1}

    the signed root of the deviance of Gamma samples whose standard error is :math:`\epsilon\bar x`.  Where
    :math:`\epsilon` is small it is the common :math:`(\bar x - \mu) / (\epsilon \bar x)`.  Where a mean is carried by
    few of many samples, its spread shrinks with it, and the common score of a mean that is low by chance is huge: at
    thresholds of 1e-5 Student's test of 16 exponential numbers rejects 50 times too often, of compound Poisson numbers
    with one event each 500 times, this one once or twice.

    Args:
      mean: of any shape, ``> 0``.
      relative_error: standard error of the mean over the mean, ``> 0``.
      expected: ``> 0``.

    Source.  Deviance of a Gamma mean: McCullagh and Nelder (1989), section 8.3.
    """
    ratio = mean / expected
    # Of two rounded numbers that agree, r - 1 - log r may come out negative.
    deviance = np.maximum(ratio - 1 - np.log(ratio), 0.0)
    return np.sign(ratio - 1) * np.sqrt(2 * deviance) / relative_error


def expanded_percentile(num_seeds: int, confidence: float = 0.95) -> float:
    r"""Lower percentile, as a fraction, of the expanded interval.

    .. math:: \Phi\Bigl(\sqrt{S / (S - 1)}\; t_{\alpha/2, S - 1}\Bigr), \qquad \alpha = 1 - {\rm confidence}.

    The root undoes the bootstrap's division by ``S`` where ``S - 1`` is due, and ``t`` pays for estimating
    the spread.
    """
    quantile = stats.t.ppf((1 - confidence) / 2, num_seeds - 1)
    return float(stats.norm.cdf(np.sqrt(num_seeds / (num_seeds - 1)) * quantile))


def percentile_interval(replicates: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``fraction`` and ``1 - fraction`` quantiles over axis 0, rounded outwards to a replicate.

    No interpolation, so that replicates of ``-inf`` and ``+inf`` (censored) are as good as any other number.
    """
    ordered = np.sort(replicates, axis=0)
    lower = int(np.floor(fraction * (len(ordered) - 1)))
    return ordered[lower], ordered[len(ordered) - 1 - lower]


def expanded_bootstrap(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    seed: int,
    *,
    confidence: float = 0.95,
    replicates: int = 2000,
) -> Bootstrap:
    """Resample seeds and return the expanded percentile interval of a statistic of their mean.

    Args:
      values: ``(S, *v)``, one entry per seed.
      statistic: maps means of shape ``(R, *v)`` to statistics of shape ``(R, *s)``, row by row.
      seed: seed of the resampling; the same seed and ``S`` resample the same seeds, so that statistics of
        several quantities are resampled jointly.
      confidence: nominal coverage.
      replicates: the number ``R`` of resamples.

    Returns:
      A :class:`Bootstrap` whose fields have shape ``s``.
    """
    num_seeds = len(values)
    estimate = statistic(values.mean(axis=0, keepdims=True))[0]
    if num_seeds < 2:
        unknown = np.full_like(estimate, np.nan)
        return Bootstrap(estimate, unknown, unknown, np.full((replicates, *estimate.shape), np.nan))
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=replicates) / num_seeds
    blocks = np.array_split(weights, 1 + replicates * values[0].size // BLOCK)
    resampled = np.concatenate([statistic(np.tensordot(block, values, axes=1)) for block in blocks])
    lower, upper = percentile_interval(resampled, expanded_percentile(num_seeds, confidence))
    return Bootstrap(estimate, lower, upper, resampled)


def fraction_interval(count: int, total: int, confidence: float = 0.95) -> Estimate:
    r"""Estimate a probability from ``count`` of ``total`` independent draws; interval of Clopper and Pearson (1934).

    In place of a bootstrap: resampled, a fraction is binomial about itself, so that the percentile interval has no
    width at 0 and 1 and near them covers the truth too seldom.  This one holds the probabilities that exact one-sided
    tests at half of :math:`1 -` ``confidence`` reject on neither side: it covers at least as often as it says, at
    every size.

    Args:
      count: draws that count, ``0 <= count <= total``.
      total: all draws, ``>= 1``.
      confidence: least coverage.

    Returns:
      The fraction and its interval.

    Example:
      >>> value, lower, upper = fraction_interval(0, 10)
      >>> value, lower, round(upper, 3)  # upper: 1 - 0.025**(1 / 10)
      (0.0, 0.0, 0.308)
    """
    # The tail of a binomial is an incomplete beta function of its probability.
    tail = (1 - confidence) / 2
    lower = special.betaincinv(count, total - count + 1, tail) if count else 0.0
    upper = special.betaincinv(count + 1, total - count, 1 - tail) if count < total else 1.0
    return Estimate(count / total, float(lower), float(upper))


def median_interval(values: np.ndarray, support: tuple[float, float], confidence: float = 0.95) -> Estimate:
    r"""Estimate a median from independent draws; interval between order statistics.

    With :math:`B` binomial of ``n`` draws and probability 1/2,

    .. math:: P(x_{(r)} \le {\rm median} \le x_{(n + 1 - r)}) \ge 1 - 2 P(B < r)

    for every distribution, with atoms or without; ``r`` is the largest rank at which this is at least ``confidence``.
    The percentile bootstrap tends to the same ranks, but covers too seldom where draws are few.

    Args:
      values: ``(n,)`` draws, ``n >= 1``.
      support: smallest and largest possible value, the ends where no rank will do (``n < 6`` at 95 %).
      confidence: least coverage.

    Returns:
      The sample median and its interval.

    Example:
      >>> median_interval(np.array([0.3, 0.1, 0.2]), (0.0, 1.0))
      Estimate(value=0.2, lower=0.0, upper=1.0)
    """
    ordered = np.sort(values)
    rank = int(stats.binom.ppf((1 - confidence) / 2, len(ordered), 0.5))
    lower, upper = (ordered[rank - 1], ordered[len(ordered) - rank]) if rank else support
    return Estimate(float(np.median(ordered)), float(lower), float(upper))


def concordance(measured: np.ndarray, predicted: np.ndarray, *, least: int = 3) -> np.ndarray:
    r"""Kendall's rank correlation of censored measurements with a prediction.

    .. math:: \tau = (C - D) / (C + D)

    counts the concordant and discordant pairs among those whose order is known on both sides.  A measurement
    of ``-inf`` (below the grid) or ``+inf`` (above it) is ordered against every other, but two that are
    censored on the same side are not ordered against each other: that pair is left out.  Counting it as a tie
    would push ``tau`` below 1 for a perfect prediction, only because the grid is short.  Without censoring
    and ties this is Kendall's ``tau``; with censoring it is ``2 c - 1`` for the concordance index ``c`` of
    Harrell et al. (1982).

    Args:
      measured: ``(R, g)``, ``R`` replicates of ``g`` measurements.
      predicted: ``(g,)``; equal predictions order nothing, so their pair is left out.
      least: measurements to be told apart; with two there is one pair, and ``tau`` is its sign.

    Returns:
      ``(R,)``; nan where fewer than ``least`` measurements can be told apart or no pair is left.
    """
    order = np.argsort(predicted)
    ranked, predicted = np.ascontiguousarray(measured[:, order].T), predicted[order]
    concordant, discordant = np.zeros((2, len(measured)), int)
    for row, larger in enumerate(np.searchsorted(predicted, predicted, side="right")):
        concordant += np.sum(ranked[larger:] > ranked[row], axis=0, dtype=np.int32)
        discordant += np.sum(ranked[larger:] < ranked[row], axis=0, dtype=np.int32)
    ascending = np.sort(measured, axis=1)
    distinguishable = 1 + np.count_nonzero(ascending[:, 1:] > ascending[:, :-1], axis=1)
    pairs = concordant + discordant
    usable = (distinguishable >= least) & (pairs > 0)
    return np.where(usable, (concordant - discordant) / np.maximum(pairs, 1), np.nan)
