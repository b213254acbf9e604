"""What a run found, for a reader who knows neither this package nor its words: which directions freeze first."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from geomem_jax.formatting import format_interval
from geomem_jax.freeze_out import FROZEN_BELOW, first_to_freeze, freeze_out_sizes, kendall_tau
from geomem_jax.gains import distinct_variances, is_complete
from geomem_jax.results import NETWORK
from geomem_jax.statistics import MIN_SEEDS
from geomem_jax.verdict import POINT

MODELS = {
    "linear": "linear: the best linear denoiser",
    "empirical": "empirical: the exact denoiser, to which perfect training leads",
    NETWORK: "network: small trained networks",
}
FIRST = {
    "fine first": "fine detail",
    "salient first": "salient directions",
    "undecided": "undecided",
    "no order": "not seen at these sizes",
}


class Answer(NamedTuple):
    """Of one model made from N points.

    Attributes:
      rung: the model.
      model: what it is, in words.
      first: which directions freeze first as data get scarce.
      num_sets: training sets at the best-measured dataset size.
      largest, smallest: size above which the directions of the largest and the smallest variance are free, with its
        interval.
      median: above which at half of the points those of the largest are.
    """

    rung: str
    model: str
    first: str
    num_sets: int
    largest: str
    smallest: str
    median: str


def answers(dataset: xr.Dataset, t: float) -> list[Answer]:
    """Say of every model made from N points in which order its directions freeze, and at which sizes.

    Args:
      dataset: a result, possibly incomplete.
      t: noise variance, one of the grid.

    Returns:
      One for each model that is measured.
    """
    said = []
    for rung, model in MODELS.items():
        if rung not in dataset["rung"].values or not is_complete(dataset, rung).any():
            continue
        found, median = (freeze_out_sizes(dataset, rung, POINT, t, statistic) for statistic in ("mean", "median"))
        largest, smallest, half = (
            format_interval((one.log_value[at], one.log_lower[at], one.log_upper[at]), one.grid)
            for one, at in ((found, 0), (found, -1), (median, 0))
        )
        first = FIRST[first_to_freeze(kendall_tau(found, -found.variance, least=2))]
        num_sets = int(is_complete(dataset, rung).sum(axis=1).max())
        said.append(Answer(rung, model, first, num_sets, largest, smallest, half))
    return said


def in_words(found: Sequence[Answer]) -> str:
    """Answer the question in a sentence or two: which directions freeze first, and in which of the models.

    Models of so few training sets that their intervals are mere ranges have a sentence of their own.
    """
    certain = [one for one in found if one.num_sets >= MIN_SEEDS]
    ranges = [one for one in found if one.num_sets < MIN_SEEDS]
    parts = [_of_models(certain, "as data get scarce")] if certain else []
    if ranges:
        most = max(one.num_sets for one in ranges)
        parts.append(_of_models(ranges, f"from {most} training set{'s' * (most > 1)} only", certain))
    return " ".join(parts)


def _of_models(found: Sequence[Answer], how: str, known: Sequence[Answer] = ()) -> str:
    models: dict[str, list[str]] = {}
    for one in found:
        models.setdefault(one.first, []).append(one.rung)
    said = {
        "fine detail": "fine detail (small variance) freezes first",
        "salient directions": "salient directions (large variance) freeze first",
        "undecided": "which directions freeze first is undecided",
        "not seen at these sizes": "which directions freeze first cannot be seen at these dataset sizes",
    }
    if len(models) == 1 and {one.first for one in known} == set(models):
        said = dict.fromkeys(said, "the same holds")
    places = {first: " and ".join(rungs) + f" model{'s' * (len(rungs) > 1)}" for first, rungs in models.items()}
    text = "; ".join(f"{said[first]} in the {where}" for first, where in places.items())
    return f"{text[0].upper()}{text[1:]}, {how}."


def unlearned(dataset: xr.Dataset, t: float) -> str:
    """Say where networks move along directions without variance so far that small variances cannot be read.

    There a perfect model does not move at all.  A direction is called free above half the gain of infinite data; where
    what has not been learned alone gives that gain, this means nothing.

    Args:
      dataset: a result with networks.
      t: noise variance, one of the grid.

    Returns:
      A sentence; nothing if every direction has variance, or no network is measured, or none moves so far.
    """
    null = dataset["variance"].values == 0
    if not null.any() or not is_complete(dataset, NETWORK).any():
        return ""
    gain = dataset["gain"].sel(rung=NETWORK, point=POINT).transpose("noise_variance", "dataset_size", "seed", ...)
    moved = gain.values[:, is_complete(dataset, NETWORK)][..., null].mean(axis=-1)
    noise, smallest = dataset["noise_variance"].values, distinct_variances(dataset).variance[-1]
    hidden = (moved >= FROZEN_BELOW * (smallest / (smallest + noise))[:, None]).sum(axis=1)
    ends = {int(np.argmin(np.abs(noise - t))), int(np.argmax(noise))}
    if not hidden.any():
        return ""
    counts = [f"{hidden[at]} of {moved.shape[1]} at t = {noise[at]:.3g}" for at in sorted(ends, key=noise.item)]
    return (
        f"Some networks have not learned to stand still along the {null.sum()} directions without variance, and move "
        f"there as far as half of what infinite data give variance {smallest:.3g} ({' and '.join(counts)}): whether "
        "small variances are frozen in them cannot be said."
    )
