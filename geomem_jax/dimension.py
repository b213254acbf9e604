r"""How many dimensions a denoiser leaves free at a point, read from the spectrum of its score there.

Input.  For every one of ``B`` points the singular values :math:`s_1\ge\dots\ge s_d` of :math:`t\nabla s=G-1`, with the
Jacobian ``G`` of the denoiser: 1 in a *frozen* direction (normal to the data), :math:`t/(t+v)` in one of variance
``v``, near 0 where the data are free.  With ``k`` frozen directions the dimension is :math:`d-k`.  It is the dimension
*at the noise t*: directions of variance far below ``t`` are frozen.  No function here calls a model.

Singular values of scores stacked at noised copies of a point (the normal bundle) do as well: all ``d`` of them, the
mean score subtracted first, and in the same unit.  Those of ``K`` scores at noise of standard deviation :math:`\delta`
are :math:`\delta\sqrt{K-1}/t` times larger.

*Clear gaps* (:func:`clear_gaps`).  The largest drop :math:`s_k-s_{k+1}` always exists, in noise too.  So let
:math:`D_1\ge D_2\ge\dots` be the drops of one spectrum by size.  The ``j`` largest stand out, for the largest
:math:`j\le\min(8,d/4)` with

.. math:: D_j\ge4\max(D_{j+1},\tfrac1{100}), \tag{1}

and where there is no such ``j`` there is *no gap*.  A gap is clear if the part of it below 1 is as large: no direction
is more than frozen, but the errors of a network reach beyond.  Several levels of variance are no obstacle, and the
false rate is known.  Of spectra with a single bulk (Wigner matrices, Gaussian matrices of one to four times as many
columns as rows, 1 plus a Gaussian matrix) fewer than 1 in 200 show a clear gap (measured: 1 in 1000 at 8 directions, 1
in 4000 at 12 to 64); of independent Gaussian values, which do not repel each other, 1 in 20 at 8 and 1 in 40 beyond.

*Total gap* (:func:`total_gap`).  The dimension is that of a clear gap which is both the outermost one and the largest
drop, with directions above it that are nearer to frozen than to those below (:math:`1-\mathrm{median}<D`).  The
literature takes the largest drop (:func:`largest_drop`).  With two levels of variance that is the inner gap once ``t``
exceeds the smaller one; on a manifold with a radius of curvature near the noise the outermost gap is that of the flat
space around it.  Neither is right for both, so where they differ there are several answers, and no one number: see
:func:`intermediate_gaps` for the clear gaps further in.  Where nothing above is frozen the drop is one inside the data.
A spectrum that is all free or all frozen has no gap; the soft dimension says which.

*Intervals* are over points, of 95 %: of the median of whole numbers, of the mean otherwise.  Points are not training
sets: they share one, and the interval does not know how the answer would change with another.

*Soft dimension*: the sum of gains, :math:`\mathrm{tr}\,G=\sum_iv_i/(v_i+t)` for Gaussian data.  *FLIPD*: smoothed data
obey the heat equation :math:`\partial_tp=\tfrac12\Delta p`, so that with the standard deviation :math:`\sigma^2=t`

.. math:: d+\frac{\partial\log p_t}{\partial\log\sigma}=d+t\,(\mathrm{tr}\nabla s+|s|^2)=\mathrm{tr}\,G+t|s|^2. \tag{2}

It is for points of the data.  At points of the noised data, drawn from :math:`p_t` itself, its mean is ``d`` whatever
the data, since :math:`\int p_t\,(\mathrm{tr}\nabla s+|s|^2)=\int\Delta p_t=0`.

Sources.  Largest drop: Stanczuk et al. (2022), arXiv:2212.12611.  Total and intermediate gaps: Ventura et al. (2024),
arXiv:2410.05898.  Cliff: Achilli et al. (2024), arXiv:2410.08727.  FLIPD: Kamkari et al. (2024), arXiv:2406.03537.
(1), its calibration and the condition of the total gap are derived here.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from geomem_jax.errors import InputError
from geomem_jax.statistics import critical_t, expanded_bootstrap, median_interval

CONTRAST = 4.0
RESOLUTION = 0.01
MOST_GAPS = 8
ALPHA = 0.05
ROUNDING = 1e-3  # by which values may fail to descend, relative to the largest


class Dimension(NamedTuple):
    """A dimension, or that there is none to be read off.

    Attributes:
      value: the estimate; nan where ``found`` is false.
      lower: lower end of the 95 % interval over points; nan where unknown.
      upper: upper end.
      confidence: how clear it is, the median over points of the drop at the dimension (of the largest one, at points
        without a gap) in units of the largest drop that is noise; nan where the estimator looks at no drop.
      found: false means *no gap*.
      points: ``(B,)``, the dimension at each point, nan where there is none.
    """

    value: float
    lower: float
    upper: float
    confidence: float
    found: bool
    points: np.ndarray


class Gaps(NamedTuple):
    """Drops of spectra; ``[:, k - 1]`` belongs to the one between the ``k``-th and the next value.

    Attributes:
      drop: ``(B, d - 1)``, the part above 1 left out.
      clear: ``(B, d - 1)`` whether it stands out, (1).
      noise: ``(B,)`` the largest drop that does not, at least the resolution; the second largest where none does.
      frozen: ``(B, d - 1)`` whether the values above are nearer to frozen than to those below.
    """

    drop: np.ndarray
    clear: np.ndarray
    noise: np.ndarray
    frozen: np.ndarray


def check_spectra(spectra: ArrayLike) -> np.ndarray:
    """Return spectra as float64 ``(B, d)``.

    Raises:
      InputError: unless they are finite, not negative and descending along the last axis, with ``B >= 1``, ``d >= 4``.
    """
    values = np.asarray(spectra, float)
    if values.ndim != 2 or len(values) < 1 or values.shape[1] < 4:
        raise InputError(f"spectra: shape {values.shape}; give (points, singular values), at least (1, 4)")
    if not (np.isfinite(values).all() and values.min() >= 0):
        raise InputError(f"spectra: smallest value {values.min():.3g}; singular values are finite and not negative")
    if np.any(np.diff(values) > ROUNDING * values.max()):
        raise InputError("spectra: values ascend somewhere; sort them in descending order along the last axis")
    return values


def clear_gaps(spectra: ArrayLike, *, resolution: float = RESOLUTION) -> Gaps:
    """Find the drops that stand out from the others, (1).

    Args:
      spectra: ``(B, d)`` singular values, descending.
      resolution: drops below it count as noise; lower it only for spectra without noise.

    Raises:
      InputError: as :func:`check_spectra`, or if ``resolution`` is not positive.
    """
    values = check_spectra(spectra)
    if not resolution > 0:
        raise InputError(f"resolution: {resolution}; give a positive number")
    ordered = np.sort(-np.diff(values), axis=1)[:, ::-1]
    most = min(MOST_GAPS, values.shape[1] // 4)
    enough = ordered[:, :most] >= CONTRAST * np.maximum(ordered[:, 1 : most + 1], resolution)
    number = np.max(np.where(enough, 1 + np.arange(most), 0), axis=1)  # of clear gaps
    noise = np.maximum(ordered[np.arange(len(values)), np.maximum(number, 1)], resolution)
    below_frozen = np.minimum(values, 1.0)
    drop = np.maximum(-np.diff(below_frozen), 0.0)
    last = np.arange(drop.shape[1])
    above = (below_frozen[:, last // 2] + below_frozen[:, (last + 1) // 2]) / 2  # median, as they descend
    return Gaps(drop, (drop >= CONTRAST * noise[:, None]) & (number > 0)[:, None], noise, 1 - above < drop)


def total_gap(spectra: ArrayLike, *, resolution: float = RESOLUTION) -> Dimension:
    """Dimension below the gap between frozen directions and all others.

    Args and errors: as :func:`clear_gaps`.

    Returns:
      The median over points that have such a gap; not found unless more than half of the points have one.
    """
    gaps = clear_gaps(spectra, resolution=resolution)
    outermost = np.cumsum(gaps.clear & gaps.frozen, axis=1) == 1
    largest = gaps.drop == gaps.drop.max(axis=1, keepdims=True)
    return _nth_gap(gaps, gaps.clear & gaps.frozen & outermost & largest, 0)


def intermediate_gaps(spectra: ArrayLike, *, resolution: float = RESOLUTION) -> list[Dimension]:
    """Dimensions below the clear gaps inside the outermost one, from there inwards: those of the larger variances.

    Args and errors: as :func:`clear_gaps`.

    Returns:
      Those found at more than half of the points, whether or not one of them is the largest drop.
    """
    gaps = clear_gaps(spectra, resolution=resolution)
    inside = np.cumsum(gaps.clear & gaps.frozen, axis=1) > 0  # at the outermost gap and further in
    found = (_nth_gap(gaps, gaps.clear & inside, nth) for nth in range(1, MOST_GAPS))
    return [dimension for dimension in found if dimension.found]


def _nth_gap(gaps: Gaps, chosen: np.ndarray, nth: int) -> Dimension:
    """Pool the ``nth`` chosen gap, counted from the outermost, over points."""
    num_values = chosen.shape[1] + 1
    place = np.argmax(np.cumsum(chosen, axis=1) > nth, axis=1)  # k - 1 of the nth chosen
    has = chosen.sum(axis=1) > nth
    points = np.where(has, num_values - 1.0 - place, np.nan)
    drop = np.where(has, gaps.drop[np.arange(len(place)), place], gaps.drop.max(axis=1))
    return pool_whole_numbers(points, float(np.median(drop / gaps.noise)), num_values)


def pool_whole_numbers(points: np.ndarray, confidence: float, dimension: int) -> Dimension:
    """Pool whole numbers over points, nan where there is none."""
    present = points[np.isfinite(points)]
    if 2 * len(present) <= len(points):
        return Dimension(np.nan, np.nan, np.nan, confidence, False, points)
    return Dimension(*median_interval(present, (0.0, float(dimension))), confidence, True, points)


def _mean(points: np.ndarray, confidence: float = np.nan) -> Dimension:
    """Pool real numbers over points; the interval is Student's."""
    mean, count = float(points.mean()), len(points)
    error = float(critical_t(ALPHA, 1, count - 1) * points.std(ddof=1) / np.sqrt(count)) if count > 1 else np.nan
    return Dimension(mean, mean - error, mean + error, confidence, True, points)


def largest_drop(spectra: ArrayLike, *, ratio: bool = False) -> np.ndarray:
    r"""Dimension at every point by the plain rule of the literature, :math:`d-\arg\max_k(s_k-s_{k+1})`, never nan.

    Args:
      spectra: ``(B, d)`` descending.
      ratio: take the largest ratio :math:`s_k/s_{k+1}` instead; by it the smallest of noisy values, a direction free
        by accident, often stands alone.

    Returns:
      ``(B,)`` whole numbers from 1 to ``d - 1``.
    """
    values = check_spectra(spectra)
    if ratio:
        values = np.log(np.maximum(values, np.finfo(float).tiny))
    return values.shape[1] - 1 - np.argmax(-np.diff(values), axis=1)


def threshold_dimension(spectra: ArrayLike, threshold: float = 0.5) -> Dimension:
    """Mean number of singular values below ``threshold``: directions of variance above ``t`` at 1/2.

    Its ``confidence`` is the drop at the threshold over the largest other one: below 1 a larger one is elsewhere.

    Raises:
      InputError: as :func:`check_spectra`, or if ``threshold`` is not in (0, 1).
    """
    values = check_spectra(spectra)
    if not 0 < threshold < 1:
        raise InputError(f"threshold: {threshold}; give a number between 0 and 1, of which 1 is frozen")
    above = np.count_nonzero(values >= threshold, axis=1)
    drop = np.pad(-np.diff(values), ((0, 0), (1, 1)))  # [:, k] after k values; none before the first and after the last
    rows = np.arange(len(values))
    own = drop[rows, above].copy()
    drop[rows, above] = 0
    confidence = float(np.median(own / np.maximum(drop.max(axis=1), RESOLUTION)))
    return _mean(values.shape[1] - above.astype(float), confidence)


def soft_dimension(traces: ArrayLike) -> Dimension:
    """Mean sum of gains.

    Args:
      traces: ``(B,)`` traces of the denoiser's Jacobian, sums of gains over any orthonormal basis.

    Raises:
      InputError: if they are not finite or not of shape ``(B,)``.
    """
    return _mean(_check_per_point(traces, "traces"))


def flipd(traces: ArrayLike, score_norms: ArrayLike, t: float) -> Dimension:
    """Mean over points of FLIPD, (2): the growth of the smoothed density with the noise.

    Args:
      traces: ``(B,)`` traces of the denoiser's Jacobian ``G``, that is ``d + t * trace(grad s)``.
      score_norms: ``(B,)`` Euclidean norms of the score at the same points.
      t: noise variance ``> 0``.

    Raises:
      InputError: as :func:`soft_dimension`, if shapes differ, or if ``t`` is not finite and positive.
    """
    trace, norm = _check_per_point(traces, "traces"), _check_per_point(score_norms, "score_norms")
    if len(trace) != len(norm):
        raise InputError(f"score_norms: {len(norm)} points, but traces has {len(trace)}; give both at the same points")
    if not (np.isfinite(t) and t > 0):
        raise InputError(f"t: {t} is not a noise variance; give a positive number")
    return _mean(trace + t * norm**2)


def _check_per_point(values: ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(values, float)
    if array.ndim != 1 or len(array) == 0 or not np.isfinite(array).all():
        raise InputError(f"{name}: shape {array.shape}; give finite numbers of shape (points,)")
    return array


def cliff(spectra: ArrayLike, *, skip: int = 5, factor: float = 10.0, average: bool = False) -> Dimension:
    r"""Cliff detector of *Losing dimensions*, as published.

    Of the values after the first ``skip``, counted from 0, second differences
    :math:`\delta_i=|s_{i+2}-2s_{i+1}+s_i|` above ``factor`` times the median of all points are spikes, each at the
    dimension :math:`d-(i+1+{\tt skip})`.  A cliff between two values makes two spikes, one on either side: the first
    says one dimension more than there is, the average one half more.

    Args:
      spectra: ``(B, d)`` descending, in any unit.
      skip: values to drop, the largest.
      factor: ``> 0``; the authors use 10 to 20.
      average: ``False``: the first spike of each point, as the text says, and their median.  ``True``: the mean over
        all spikes of all points together, as the authors' released code computes it; its interval resamples points.

    Returns:
      Found where more than half of the points (``average``: any) have a spike.  Its ``confidence`` is the median over
      points of the largest second difference over the threshold.

    Raises:
      InputError: as :func:`check_spectra`; if ``skip`` leaves fewer than three values or ``factor`` is not positive.
    """
    values = check_spectra(spectra)
    num_values = values.shape[1]
    if not 0 <= skip <= num_values - 3:
        raise InputError(f"skip: {skip} of {num_values} values; leave at least three")
    if not factor > 0:
        raise InputError(f"factor: {factor}; give a positive number")
    second = np.abs(np.diff(values[:, skip:], n=2))
    level = factor * np.median(second)
    spikes, at = second > level, num_values - 1.0 - skip - np.arange(second.shape[1])
    confidence = float(np.median(second.max(axis=1)) / max(level, np.finfo(float).tiny))
    count = spikes.sum(axis=1)
    if not average or not count.any():
        return pool_whole_numbers(np.where(count > 0, at[np.argmax(spikes, axis=1)], np.nan), confidence, num_values)
    sums = np.stack([spikes @ at, count], axis=1)
    points = np.where(count > 0, _ratio(sums), np.nan)
    pooled = expanded_bootstrap(sums, _ratio, seed=0)
    return Dimension(float(pooled.estimate), float(pooled.lower), float(pooled.upper), confidence, True, points)


def _ratio(sums: np.ndarray) -> np.ndarray:
    """First over second column, infinite without a spike: resamples of such points alone have no mean."""
    return np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), np.inf), where=sums[:, 1] > 0)
