r"""What a result of training says about five statements, each with numbers and 95 % intervals over training sets.

All at the smallest noise variance of the result, after the last snapshot unless said otherwise, with :math:`\rho` the
gain over that of infinite data and :math:`S=\sum_ig_i` over the directions of positive variance.  A dataset size counts
as

- *memorized* if :math:`\rho` at noised training points, averaged over distinct variances and training sets, is below
  1/2;
- *learned* if :math:`S` at held-out points is within 10 % of that of infinite data, and so at all larger sizes;
- *between* if it is neither, and lies between a size that is memorized and one that is learned.

A ratio of :math:`S` to that of the exact empirical score or of the linear law is the geometric mean over the sizes in
question in each training set.  *Agrees*: its interval overlaps 1 within 10 %; *apart*: it does not.  The interval
over few training sets is wide, and where it decides nothing, nor does the reading.

The five are of networks.  Linear denoisers have the same gains at every point, so that "memorized" would say nothing of
them; but theory predicts their gains at every step, and the one reading of them is whether it agrees: the ratio of
:math:`S` to the prediction, averaged over steps and sizes.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr

from geomem_jax.freeze_out import FROZEN_BELOW, FreezeOut, freeze_out_sizes, kendall_tau
from geomem_jax.gains import distinct_variances, is_complete, relative_gain
from geomem_jax.statistics import Estimate, critical_t, expanded_percentile, percentile_interval
from geomem_jax.trained_results import at_step, is_predicted, measured_steps

TOLERANCE = 0.1  # relative difference of gains that counts as agreement
PLACES = {"train": "training points", "held_out": "held-out points"}


class Reading(NamedTuple):
    """One statement and what the result says of it.

    Attributes:
      statement: in words.
      holds: ``None`` if undecided.
      numbers: on which this rests, in words.
    """

    statement: str
    holds: bool | None
    numbers: str

    def line(self) -> str:
        """Write the reading as one line."""
        verdict = {True: "holds", False: "does not hold", None: "undecided"}[self.holds]
        return f"{self.statement}: {verdict}: {self.numbers}"


def _student(values: np.ndarray) -> Estimate:
    """Mean of one number per training set with Student's interval; nan ends with one."""
    count = len(values)
    if count < 2:
        return Estimate(float(np.mean(values)) if count else np.nan, np.nan, np.nan)
    half = float(critical_t(0.05, 1, count - 1)) * float(np.std(values, ddof=1)) / np.sqrt(count)
    mean = float(np.mean(values))
    return Estimate(mean, mean - half, mean + half)


def _show(estimate: Estimate, *, log: bool = False) -> str:
    value, lower, upper = np.exp(estimate) if log else estimate
    return f"{value:.3g}" + (f" [{lower:.3g}, {upper:.3g}]" if np.isfinite([lower, upper]).all() else "")


def _all(answers: list[bool | None]) -> bool | None:
    """One no is a no, one doubt a doubt."""
    if not answers or any(answer is None for answer in answers):
        return False if False in answers else None
    return all(answers)


def _sign(estimate: Estimate, at: float = 0.0) -> bool | None:
    """Whether an interval lies above ``at``; no if below, unknown if it holds it or there is none."""
    if estimate.lower > at:
        return True
    return False if estimate.upper < at else None


def _sizes_in_words(sizes: np.ndarray) -> str:
    return "N = " + ", ".join(str(size) for size in sizes) if len(sizes) else "no N"


class _Soft(NamedTuple):
    """Networks at the last snapshot, in the training sets in which all sizes are measured and finite.

    Attributes:
      sizes: ``(k,)``.
      train: ``(k,)`` relative gain at training points, averaged.
      networks: ``(k, S)`` sum of gains at held-out points.
      exact: ``(k, S)`` of the exact empirical score.
      linear: ``(k,)`` of the linear law.
      infinite: of infinite data.
    """

    sizes: np.ndarray
    train: np.ndarray
    networks: np.ndarray
    exact: np.ndarray
    linear: np.ndarray
    infinite: float


def _soft(view: xr.Dataset, at: int) -> _Soft:
    whole = np.flatnonzero(is_complete(view, "trained").all(axis=0))
    positive = distinct_variances(view).weights.any(axis=1)
    gain = view["gain"].isel(noise_variance=at, seed=whole, direction=np.flatnonzero(positive)).sum("direction")
    held_out = gain.sel(point="held_out").transpose("rung", "dataset_size", "seed").values.astype(float)
    rho = relative_gain(view, "trained", "train").values[:, at][:, whole]
    law = view["predicted_gain"].sel(law="linear").isel(noise_variance=at).values[:, positive].sum(axis=1)
    infinite = float(view["reference_gain"].values[at, positive].sum())
    train = rho.mean(axis=(1, 2)) if len(whole) else np.full(len(law), np.nan)
    return _Soft(view["dataset_size"].values, train, held_out[0], held_out[1], law.astype(float), infinite)


def _ratio(networks: np.ndarray, other: np.ndarray, chosen: np.ndarray) -> Estimate:
    """Log of the ratio of two ``(k, S)`` arrays, averaged over the sizes chosen in each training set."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _student(np.log(networks[chosen] / other[chosen]).mean(axis=0))


def _apart(log_ratio: Estimate) -> bool | None:
    """Whether a ratio differs from 1 by more than the tolerance; no where the interval is within it."""
    edge = np.log1p(TOLERANCE)
    if log_ratio.lower > edge or log_ratio.upper < -edge:
        return True
    return False if log_ratio.lower >= -edge and log_ratio.upper <= edge else None


def _order(view: xr.Dataset, t: float) -> Reading:
    answers, numbers = [], []
    for point, place in PLACES.items():
        sizes = freeze_out_sizes(view, "trained", point, t)
        tau = kendall_tau(sizes, -np.log(sizes.variance))
        estimate = Estimate(*(float(value) for value in (tau.estimate, tau.lower, tau.upper)))
        answers.append(_sign(estimate))
        found = "fewer than three sizes on the grid" if np.isnan(estimate.value) else f"tau = {_show(estimate)}"
        numbers.append(f"{found} at {place}")
    return Reading("1 small variances freeze first", _all(answers), ", ".join(numbers))


def _growth(early: FreezeOut, late: FreezeOut) -> Estimate:
    """Mean over variances of the change of log N*; outside the grid a size counts as its nearest end."""
    clipped = [
        (np.clip(found.log_value, *ends), np.clip(found.replicates, *ends))
        for found, ends in ((early, np.log(early.grid)), (late, np.log(late.grid)))
    ]
    change = float((clipped[1][0] - clipped[0][0]).mean())
    replicates = (clipped[1][1] - clipped[0][1]).mean(axis=1)  # the same training sets are resampled in both
    if late.num_seeds < 2 or early.num_seeds != late.num_seeds:
        return Estimate(change, np.nan, np.nan)
    lower, upper = percentile_interval(replicates, expanded_percentile(late.num_seeds))
    return Estimate(change, float(lower), float(upper))


def _with_training(first: xr.Dataset, last: xr.Dataset, t: float, steps: tuple[int, int]) -> Reading:
    statement = "2 freeze-out sizes grow with training"
    if steps[0] == steps[1]:
        return Reading(statement, None, "one snapshot")
    answers, numbers = [], []
    for point, place in PLACES.items():
        change = _growth(*(freeze_out_sizes(view, "trained", point, t) for view in (first, last)))
        answers.append(_sign(change))
        numbers.append(f"by a factor of {_show(change, log=True)} at {place}")
    between = f", from step {steps[0]} to {steps[1]}, mean over variances, sizes off the grid counted at its end"
    return Reading(statement, _all(answers), ", ".join(numbers) + between)


def _early(view: xr.Dataset, at: int, step: int) -> Reading:
    seeds = np.flatnonzero(is_complete(view, "trained")[-1])  # of the largest size
    excess = _student(relative_gain(view, "trained", "held_out").values[-1, at, seeds, -1])
    smallest, size = distinct_variances(view).variance[-1], view["dataset_size"].values[-1]
    numbers = f"{_show(excess)} times it at step {step}, variance {smallest:.3g}, N = {size}"
    return Reading("5 early gains of small variances exceed those of infinite data", _sign(excess, 1.0), numbers)


def _flow(dataset: xr.Dataset, at: int) -> Reading:
    """Whether the gains of linear denoisers are those of gradient flow, from training sets that are whole by now."""
    steps = measured_steps(dataset)
    now, positive = dataset.sel(training_step=steps), np.flatnonzero(distinct_variances(dataset).weights.any(axis=1))
    whole = np.flatnonzero((now["complete"].values == 1).all((0, 1)) & (now["failed"].values < 0).all(0))
    found = now["gain"].sel(point="held_out").isel(noise_variance=at, seed=whole, direction=positive).sum("direction")
    law = now["predicted_training_gain"].isel(noise_variance=at, direction=positive).sum("direction")
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log((found / law).transpose("training_step", "dataset_size", "seed").values.astype(float))
    estimate = _student(ratio.mean((0, 1)))
    apart = _apart(estimate)
    numbers = f"{_show(estimate, log=True)} times them, mean over steps and sizes"
    if len(whole):
        over_sets = ratio.mean(-1)
        step, size = np.unravel_index(np.abs(over_sets).argmax(), over_sets.shape)
        worst = f"{np.exp(over_sets[step, size]):.3g} at step {steps[step]}, N = {now['dataset_size'].values[size]}"
        numbers += f"; farthest {worst}"
    return Reading(FLOW, None if apart is None else not apart, numbers)


def readings(dataset: xr.Dataset) -> list[Reading]:
    """Read five statements off a result, or off one of linear denoisers that they learn as predicted.

    Args:
      dataset: of :mod:`geomem_jax.trained_results`.

    Raises:
      InputError: if no network is measured.
    """
    steps = measured_steps(dataset)
    at = int(np.argmin(dataset["noise_variance"].values))
    t = float(dataset["noise_variance"].values[at])
    if is_predicted(dataset):
        return [_flow(dataset, at)]
    first, last = (at_step(dataset, int(step)) for step in steps[[0, -1]])
    soft = _soft(last, at)
    memorized = soft.train < FROZEN_BELOW
    near = np.abs(soft.networks.mean(axis=1) / soft.infinite - 1) <= TOLERANCE
    learned = np.logical_and.accumulate(near[::-1])[::-1]
    # Sizes ascend: whatever is neither, above the first memorized and below the first learned one.
    inside = np.logical_or.accumulate(memorized) & learned.any()
    between = inside & ~memorized & ~learned
    linear = np.broadcast_to(soft.linear[:, None], soft.networks.shape)

    def ratios(chosen: np.ndarray) -> tuple[bool | None, bool | None, str]:
        exact, law = (_ratio(soft.networks, other, chosen) for other in (soft.exact, linear))
        numbers = (
            f"{_show(exact, log=True)} times the gains of the exact empirical score, "
            f"{_show(law, log=True)} times those of the linear law, {_sizes_in_words(soft.sizes[chosen])}"
        )
        return _apart(exact), _apart(law), numbers

    if memorized.any():
        from_exact, from_linear, numbers = ratios(memorized)
        agrees = None if from_exact is None else not from_exact
        third = Reading(MEMORIZED, _all([agrees, from_linear]), numbers)
    else:
        third = Reading(MEMORIZED, None, "no dataset size is memorized")
    if between.any():
        from_exact, from_linear, numbers = ratios(between)
        fourth = Reading(BETWEEN, _all([from_exact, from_linear]), numbers)
    else:
        fourth = Reading(BETWEEN, None, "no dataset size is between")
    return [
        _order(last, t),
        _with_training(first, last, t, (int(steps[0]), int(steps[-1]))),
        third,
        fourth,
        _early(first, at, int(steps[0])),
    ]


FLOW = "linear denoisers have the gains of gradient flow while they train"
MEMORIZED = "3 where networks memorized they have the gains of the exact empirical score, at held-out points"
BETWEEN = "4 between memorized and learned neither law holds"
