r"""Phase diagrams of a result: over dataset size and noise variance, or dataset size and training step.

Every cell has three numbers: the phase (:mod:`geomem_jax.phases`), the share of frozen directions and the share of
frozen variance,

.. math:: \frac{|\{i:\rho_i<\tfrac12\}|}{|\{i:\sigma_i^2>0\}|},\qquad
          \frac{\sum_{i:\rho_i<1/2}\sigma_i^2}{\sum_i\sigma_i^2}, \tag{1}

with the relative gain :math:`\rho_i`, averaged over training sets, of each distinct variance.  They differ: half of the
directions may carry a hundredth of the variance.

*Copying, over training* (:func:`over_training`).  Samples of every network are held against its training points; what
counts is the fraction that copies beyond chance, (3) of :mod:`geomem_jax.memorization`.  Samples are what the whole way
from noise leaves, so one fraction serves all noise variances.

*Copying, over noise* (:func:`over_noise`).  A sampler that follows the exact empirical score visits, at noise variance
``t``, the law of noised training points, and copies once a single training point explains its state: where the mean
participation ratio at noised training points is 1/2 or more.  Theory puts this at the condensation time
:math:`t_c(N)` (:mod:`geomem_jax.participation`).  It is a property of ``N`` and ``t`` alone: also where gains are those
at held-out points, of which directions may then be frozen or free within *copying*.  At leading order no direction of
the empirical score is frozen outside it (:math:`\kappa>\sigma_i^2+2t` needs :math:`\kappa>t` and so :math:`t<t_c`): its
geometric memorization is what few directions round off, and the shares (1) say what happens within copying.  The
population and the linear score have Gaussian samples, so they copy nothing; networks of a sweep are not sampled, and
where all of their directions are frozen is *collapse*.

Linear denoisers that are trained have no samples either and count as not copying for the same reason.

Source.  Defined here; theory's times are those of :mod:`theory.condensation` and :mod:`theory.generalization`.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr

import theory
from geomem_jax import curves
from geomem_jax.errors import InputError
from geomem_jax.freeze_out import FROZEN_BELOW
from geomem_jax.gains import DistinctVariances, distinct_variances, grid_position, is_complete, relative_gain
from geomem_jax.memorization import excess_interval
from geomem_jax.participation import RUNG as WEIGHTED
from geomem_jax.participation import SMALLEST
from geomem_jax.phases import phase
from geomem_jax.statistics import Estimate, critical_t, expanded_bootstrap
from geomem_jax.trained_results import at_step, is_predicted, measured_steps

MOST_BEST = 9  # sizes
TRAINED = "trained"  # the rung of networks in a view of a training step


class Diagram(NamedTuple):
    """Phases and shares (1) over a grid.

    Attributes:
      dataset_size: ``(n,)``.
      other: ``(m,)`` noise variances or training steps.
      phase: ``(n, m)`` among :data:`geomem_jax.phases.PHASES`.
      frozen_directions: ``(n, m)``; nan where a gain is not known.
      frozen_variance: ``(n, m)``.
      copied: ``(n, m)`` fraction copied beyond chance, or mean participation ratio, with its interval; 0 where a
        model cannot copy.
    """

    dataset_size: np.ndarray
    other: np.ndarray
    phase: np.ndarray
    frozen_directions: np.ndarray
    frozen_variance: np.ndarray
    copied: curves.Interval


class Shares(NamedTuple):
    """Shares (1) against the dataset size, each with its interval over training sets."""

    directions: curves.Interval
    variance: curves.Interval


def frozen_shares(relative_gain: np.ndarray, groups: DistinctVariances) -> tuple[np.ndarray, np.ndarray]:
    """Shares (1) of directions and of variance, ``(*s)`` each, of relative gains ``(*s, g)``; nan where one is nan."""
    frozen = np.where(np.isnan(relative_gain), np.nan, relative_gain < FROZEN_BELOW)
    weights = groups.multiplicity, groups.multiplicity * groups.variance
    directions, variance = (frozen @ (weight / weight.sum()) for weight in weights)
    return directions, variance


def _diagram(dataset: xr.Dataset, other: np.ndarray, mean_gain: np.ndarray, copied: curves.Interval) -> Diagram:
    directions, variance = frozen_shares(mean_gain, distinct_variances(dataset))
    named = phase(mean_gain, copied.lower, copied.upper)
    return Diagram(dataset["dataset_size"].values, other, named, directions, variance, copied)


def _nothing(shape: tuple[int, ...]) -> curves.Interval:
    return curves.Interval(*np.zeros((3, *shape)))


def over_noise(dataset: xr.Dataset, rung: str, point: str = curves.POINT) -> Diagram:
    """Find the phases of a rung over (dataset size, noise variance).

    Args:
      dataset: of :mod:`geomem_jax.results`, possibly incomplete.
      rung: the score model.
      point: where its gains are measured.  Copying is decided at training points, whatever this is.

    Returns:
      A :class:`Diagram` of the sizes that are measured; of two points the empirical rung has no phase, as their
      participation ratio cannot fall below 1/2.

    Raises:
      InputError: if the result has no such rung or point class, or nothing is measured.
    """
    measured = is_complete(dataset, rung).any(axis=1)
    if not measured.any():
        raise InputError(f"no training set of this result is measured for the {rung} model; let the run finish")
    dataset = dataset.isel(dataset_size=measured)
    gain = curves.measured_relative_gain(dataset, rung, point).mean
    copied = _nothing(gain.shape[:-1])
    if rung == WEIGHTED:
        mean, lower, upper = curves.measured(dataset, "participation", rung, "train")
        mean[dataset["dataset_size"].values < SMALLEST] = np.nan
        # One training set has no interval; a ratio of 1 may be rounded up.
        ends = (np.where(np.isnan(end) | np.isnan(mean), mean, end) for end in (mean, lower, upper))
        copied = curves.Interval(*(np.clip(end, 0, 1) for end in ends))
    return _diagram(dataset, dataset["noise_variance"].values, gain, copied)


def copied_beyond_chance(copied: np.ndarray, chance: np.ndarray, samples: int, held_out: int) -> Estimate:
    """Fraction that copies beyond chance, from fractions ``(S,)`` of training sets.

    Its interval is the wider of two: that of all samples taken as independent, which is never empty, and Student's over
    training sets, which holds what differs between them.

    Args:
      copied: of ``samples`` samples of each network; empty or with nan: everything is nan.
      chance: of ``held_out`` held-out points of each.
      samples: how many.
      held_out: how many.
    """
    count = len(copied)
    if not count or not np.isfinite([copied, chance]).all():
        return Estimate(np.nan, np.nan, np.nan)
    totals = [round(float(fractions.sum()) * of) for fractions, of in ((copied, samples), (chance, held_out))]
    value, lower, upper = excess_interval(totals[0], count * samples, totals[1], count * held_out)
    if count > 1:
        excess = (copied - chance) / np.where(chance < 1, 1 - chance, np.inf)
        half = float(critical_t(0.05, 1, count - 1)) * excess.std(ddof=1) / np.sqrt(count)
        lower, upper = max(0.0, min(lower, excess.mean() - half)), min(1.0, max(upper, excess.mean() + half))
    return Estimate(value, float(lower), float(upper))


def _copied(dataset: xr.Dataset, step: int, complete: np.ndarray) -> np.ndarray:
    """Fractions beyond chance and their ends, ``(3, n)``, of the training sets that are ``complete`` ``(n, S)``."""
    copied, chance = dataset["copied"].sel(training_step=step), dataset["held_out_copied"]
    numbers = int(dataset.attrs["samples"]), int(dataset.attrs["held_out"])
    return np.transpose(
        [
            copied_beyond_chance(own[done].astype(float), fresh[done].astype(float), *numbers)
            for own, fresh, done in zip(copied.values, chance.values, complete, strict=True)
        ]
    )


def over_training(dataset: xr.Dataset, t: float, point: str) -> Diagram:
    """Find the phases of networks over (dataset size, training step), of the steps that are measured.

    Args:
      dataset: of :mod:`geomem_jax.trained_results`, with one snapshot measured or more.
      t: noise variance at which gains are measured, one of the grid.
      point: where they are.

    Raises:
      InputError: if the result has no such noise variance or point class.
    """
    at, steps = grid_position(dataset, "noise_variance", t), measured_steps(dataset)
    views = [at_step(dataset, int(step)) for step in steps]
    gain = np.stack([curves.measured_relative_gain(view, TRAINED, point).mean[:, at] for view in views], axis=1)
    if is_predicted(dataset):
        copied = _nothing(gain.shape[:-1])
    else:
        ends = [
            _copied(dataset, int(step), is_complete(view, TRAINED)) for step, view in zip(steps, views, strict=True)
        ]
        copied = curves.Interval(*np.stack(ends, axis=-1))
    return _diagram(dataset, steps, gain, copied)


def shares(view: xr.Dataset, rung: str, t: float, point: str) -> Shares:
    """Shares (1) of a rung against the dataset size at one noise variance, with intervals.

    Intervals are 95 %, by resampling the complete training sets of a size; with three they are their range.

    Args:
      view: a result, or a view of a training step.
      rung: the score model.
      t: noise variance, one of the grid.
      point: where gains are measured.

    Raises:
      InputError: if the result has no such rung, noise variance or point class.
    """
    groups, at = distinct_variances(view), grid_position(view, "noise_variance", t)
    rho, complete = relative_gain(view, rung, point).values[:, at], is_complete(view, rung)
    found = np.full((3, len(rho), 2), np.nan)
    for row, (gain, done) in enumerate(zip(rho, complete, strict=True)):
        if done.any():
            found[:, row] = expanded_bootstrap(
                gain[done], lambda means: np.stack(frozen_shares(means, groups), axis=-1), 0
            )[:3]
    return Shares(*(curves.Interval(*found[..., which]) for which in (0, 1)))


def _sizes_in_words(sizes: np.ndarray, first: bool, last: bool) -> str:
    """Name neighbouring sizes: all up to one, from one on, or a range."""
    if first and last:
        return "at every N"
    if first:
        return f"up to N = {sizes[-1]}"
    if last:
        return f"from N = {sizes[0]} on"
    return f"at N = {sizes[0]}" + (f" to {sizes[-1]}" if len(sizes) > 1 else "")


def along_sizes(phases: np.ndarray, sizes: np.ndarray) -> str:
    """Put the phases ``(n,)`` of ascending sizes into words.

    Example:
      >>> along_sizes(np.array(["copying", "copying", "generalization"]), np.array([10, 20, 40]))
      'copying up to N = 20, generalization from N = 40 on'
    """
    starts = np.flatnonzero(np.append(True, phases[1:] != phases[:-1]))
    ends = np.append(starts[1:], len(phases))
    return ", ".join(
        f"{phases[start]} {_sizes_in_words(sizes[start:end], start == 0, end == len(phases))}"
        for start, end in zip(starts, ends, strict=True)
    )


def trained_in_words(dataset: xr.Dataset, t: float) -> str:
    """Say in one sentence which phase networks of each size are in after the last step, at both kinds of points."""
    said = []
    for point, place in (("train", "training points"), ("held_out", "held-out points")):
        found = over_training(dataset, t, point)
        said.append(f"at {place} {along_sizes(found.phase[:, -1], found.dataset_size)}")
    return f"phases after {found.other[-1]} steps at noise variance t = {t:.3g}: {'; '.join(said)}"


class Times(NamedTuple):
    """Noise variances that theory predicts from the variances alone, ``(k,)`` each; nan where there is none.

    Attributes:
      dataset_size: ``(k,)``, not whole numbers, evenly spaced in the logarithm.
      condensation: :math:`t_c`, below which one training point explains a noised training point.
      onset: :math:`t_o`, below which training points are traps.
      best: :math:`t_g` of best generalization, where it is below :math:`t_c`.
    """

    dataset_size: np.ndarray
    condensation: np.ndarray
    onset: np.ndarray
    best: np.ndarray


def predicted_times(dataset: xr.Dataset) -> Times:
    """Predict the boundaries of the exact empirical score over the sizes of a result, from three points on.

    The best time, an integral that takes seconds to compile, is evaluated at :data:`MOST_BEST` sizes; between them its
    logarithm is interpolated.
    """
    variances, sizes = dataset["variance"].values, dataset["dataset_size"].values
    low, high = max(SMALLEST, sizes.min()), max(SMALLEST, sizes.max())
    dense, few = np.geomspace(low, high, 65), np.geomspace(low, high, MOST_BEST)
    condensation, onset, best = (
        np.asarray(time(variances, at), np.float64)
        for time, at in (
            (theory.condensation_time, dense),
            (theory.onset_time, dense),
            (theory.best_generalization_time, few),
        )
    )
    best = np.exp(np.interp(np.log(dense), np.log(few), np.log(best)))
    return Times(dense, condensation, onset, np.where(best < condensation, best, np.nan))


def noise_in_words(dataset: xr.Dataset) -> str:
    """Say in one sentence where over (N, t) the empirical score copies, and where other rungs are partly frozen.

    Args:
      dataset: of :mod:`geomem_jax.results`, with the empirical rung.

    Raises:
      InputError: if nothing is measured.
    """
    found = over_noise(dataset, WEIGHTED, "train")
    decided, copies = found.phase != "unknown", found.phase == "copying"
    times = np.asarray(theory.condensation_time(dataset["variance"].values, found.dataset_size))
    right = np.count_nonzero(((found.other < times[:, None]) == copies) & decided)
    said = (
        f"The empirical model copies training points in {np.count_nonzero(copies)} of {np.count_nonzero(decided)} "
        f"cells of dataset size and noise variance, below the condensation time t_c, which is right about {right} of "
        "them"
    )
    partly = []
    for rung in map(str, dataset["rung"].values):
        if rung not in ("population", WEIGHTED) and is_complete(dataset, rung).any():
            share = over_noise(dataset, rung).frozen_directions
            some = np.count_nonzero((share > 0) & (share < 1))
            partly.append(f"{some} of {np.count_nonzero(np.isfinite(share))} cells of the {rung} model")
    return f"{said}; some directions are frozen and some free in {' and '.join(partly)}." if partly else f"{said}."
