r"""The synthetic figure of arXiv 2410.08727, repeated with many points and training sets.

Data: 2 directions of standard deviation 1, 5 of 0.3 and 23 of 0.01, normalized or not.  Score: the exact empirical one
of N points (networks: :mod:`geomem_jax.toy_networks`).  Read: the *position* of the largest drop of the descending
singular values of :math:`t\nabla s`, how many lie above it: 23 if both groups are visible, 25 if the salient one is
lost, 28 if it alone is visible.

Two readings.  ``jacobian``: of the exact Jacobian at noised points.  ``released``: of the scores at one side of
orthonormal probes times :math:`\sqrt t` about clean points, as the paper's code has it.  In both the largest drop is
looked for among the last 11 values, which is what its figures show (singular values of the salient group that exceed
those of frozen directions lie outside).  Points: the origin, fresh ones, training ones.

The paper reads the position 25 as memorization.  A position that memorization makes is seen at small N and not at
20000 points, which are the reference here: its *share* of noise variances, points and training sets falls with N.
What it hides is another question: a gap counts directions, and on a sphere the radial one, a salient one at most
points, is frozen at any N.  Therefore the shares of both groups that are *visible*, in the span of the singular vectors
below the gap, are compared with those of the reference at the same noise.  Distance of two sizes: total variation
:math:`\tfrac12\sum_p|f_p-f'_p|` of the distributions of positions, mean over the noise variances at which the reference
has one of the three positions at most points.  Finite samples have a distance of their own; its size is that between
the two halves of the training sets at the reference (*control*).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from geomem_jax import cells, responses
from geomem_jax.data.source import Source
from geomem_jax.data.synthetic import linear_manifold
from geomem_jax.denoisers import empirical_jacobian
from geomem_jax.statistics import Bootstrap, expanded_bootstrap

VARIANCES = np.repeat([1.0, 0.09, 1e-4], [2, 5, 23])
SIZES = (250, 500, 1000, 20_000)
GROUPS = {"salient": VARIANCES == 1.0, "fine": VARIANCES == 0.09}
POSITIONS = {23: "both visible", 25: "salient lost", 28: "only salient visible"}
LOST = 25  # which the paper reads as salient directions that are lost
READINGS = ("jacobian", "released")
PLACES = {"origin": "origin", "held_out": "fresh points", "train": "training points"}
POINTS = tuple(PLACES)
DATA = ("Gaussian", "normalized")
SHOWN = 11


class Plan(NamedTuple):
    """What is measured.

    Attributes:
      sizes: dataset sizes; the last is the reference.
      times: noise variances, ascending.
      points: per training set, of the classes that have more than one.
      seeds: training sets.
    """

    sizes: tuple[int, ...]
    times: tuple[float, ...]
    points: int
    seeds: int


class Positions(NamedTuple):
    """What is read, ``...`` being any leading dimensions.

    Attributes:
      counts: ``(..., reading, point, time, d)``, over the points of a class; position p is at p.
      visible: ``(..., reading, point, time, group)``, which share of each of :data:`GROUPS` is visible, below the gap,
        summed over the points.
      kept: the same, summed over those points where the gap is at :data:`LOST`.
    """

    counts: np.ndarray
    visible: np.ndarray
    kept: np.ndarray


def plan(quick: bool, seeds: int) -> Plan:
    """Choose the grid: the noise of the paper, standard deviations from 0.01 to 1."""
    if quick:
        return Plan((250, 4000), tuple(np.geomspace(0.01, 1, 9).tolist()), 4, min(seeds, 4))
    return Plan(SIZES, tuple(np.geomspace(1e-4, 1, 17).tolist()), 8, min(seeds, 16))


def source(name: str) -> Source:
    """The data, a name of :data:`DATA`."""
    return linear_manifold(VARIANCES, normalized=name == "normalized")


Shifts = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""Of a score: ``(probe_key, x, noised, t)`` to ``t grad s`` in both readings, each ``(B, d, d)``: its Jacobian at the
points ``noised``, and differences at one side of orthonormal probes about ``x``."""


def count_positions(shifts: Shifts, data: cells.TrainingSet, chosen: Plan) -> Positions:
    """Count positions of one score at the points of one training set, and ask which directions are below the gap.

    Args:
      shifts: of the score.
      data: with ``chosen.points`` points of every class or more.
      chosen: the plan.

    Returns:
      Without leading dimensions.
    """
    d, dtype = data.train.shape[1], data.train.dtype
    clean = {
        "origin": jnp.zeros((1, d), dtype),
        "held_out": data.held_out[: chosen.points],
        "train": data.train[: chosen.points],
    }
    noise = jax.random.normal(data.held_out_key, (chosen.points, d), dtype)
    probe_key = jax.random.fold_in(data.held_out_key, 1)
    counts = np.zeros((len(READINGS), len(POINTS), len(chosen.times), d), np.int16)
    visible = np.zeros((*counts.shape[:3], len(GROUPS)), np.float32)
    kept = np.zeros_like(visible)
    for at_time, t in enumerate(chosen.times):
        for at_point, point in enumerate(POINTS):
            x = clean[point]
            noised = x if point == "origin" else x + jnp.asarray(t**0.5, dtype) * noise
            for at_reading, shift in enumerate(shifts(probe_key, x, noised, jnp.asarray(t, dtype))):
                shares, above = map(np.asarray, responses.visible(shift, d - SHOWN))
                where = at_reading, at_point, at_time
                counts[where] = np.bincount(above, minlength=d)
                of_groups = np.stack([shares[:, group].mean(axis=1) for group in GROUPS.values()], axis=1)
                visible[where], kept[where] = of_groups.sum(axis=0), of_groups[above == LOST].sum(axis=0)
    return Positions(counts, visible, kept)


def _exact(
    train: jax.Array, size: jax.Array, key: jax.Array, x: jax.Array, noised: jax.Array, t: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """:data:`Shifts` of the exact empirical score of the first ``size`` points."""
    d = x.shape[1]
    axes = jnp.eye(d, dtype=x.dtype)
    model = empirical_jacobian.Model(train, size, axes, jnp.zeros(d, x.dtype))
    probed = responses.probed(key, train, size, x, t, jnp.sqrt(t), one_sided=True)
    return empirical_jacobian.jacobian(model, noised, t) - axes, probed


def measure(chosen: Plan, random_seed: int, seed: int) -> Positions:
    """Measure the exact score of one training set, ``(reading, data, point, size, time)`` and, last, as above."""
    grid = cells.Grid(chosen.sizes, chosen.times, 1, chosen.points, chosen.points, random_seed)
    found = []
    for name in DATA:
        data = cells.draw(source(name), grid, seed)
        scores = [partial(_exact, data.train, jnp.asarray(size)) for size in chosen.sizes]
        of_size = zip(*(count_positions(score, data, chosen) for score in scores), strict=True)
        found.append([np.stack(part, axis=2) for part in of_size])
    return Positions(*(np.stack(part, axis=1) for part in zip(*found, strict=True)))


def fractions(counts: np.ndarray) -> np.ndarray:
    """Distributions over positions, of counts ``(..., d)``."""
    return counts / counts.sum(axis=-1, keepdims=True)


def sequence(counts: np.ndarray) -> list[int]:
    """The most frequent position over training sets as the noise falls, without repeats.

    Args:
      counts: ``(S, T, d)`` of one reading, data, point and size, times ascending.
    """
    found = np.argmax(fractions(counts).mean(axis=0), axis=-1)[::-1].tolist()
    return [position for place, position in enumerate(found) if place == 0 or found[place - 1] != position]


def share(counts: np.ndarray, position: int) -> Bootstrap:
    """How often a position is seen, over noise variances and points; interval over training sets ``(S, T, d)``."""
    return expanded_bootstrap(fractions(counts)[..., position].mean(axis=1), lambda means: means, seed=0)


def hidden(few: Positions, many: Positions) -> Bootstrap:
    """Compare what is visible at few points, where the gap is at :data:`LOST`, with the same noise at many points.

    Args:
      few: at few points, ``(S, ..., T, d or group)``.
      many: of the same training sets and places.

    Returns:
      Of either group the mean share that is visible at few points, over all points with that gap; that at many points,
      over the same noise variances and classes of points with the same weights; what was lost, their difference; and
      last, by how much more of the first group than of the second was lost: ``(3 group + 1,)`` with intervals over
      training sets, nan without such a gap.
    """
    points = many.counts.sum(axis=-1, keepdims=True)
    both = points > 0  # not of networks that failed
    weight = np.where(both, few.counts[..., [LOST]], 0)
    reference = weight * many.visible / np.where(both, points, 1)
    sums = [
        part.reshape(len(part), -1, part.shape[-1]).sum(axis=1)
        for part in (np.where(both, few.kept, 0), reference, weight)
    ]

    def shares(means: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            found = means[:, :-1] / means[:, -1:]
        lost = found[:, 2:] - found[:, :2]
        return np.column_stack([found, lost, lost[:, 0] - lost[:, 1]])

    return expanded_bootstrap(np.concatenate(sums, axis=1).astype(np.float64), shares, seed=0)


def fall(few: np.ndarray, many: np.ndarray, position: int) -> Bootstrap:
    """By how much a position is rarer with many points: the difference of its shares, paired by training set."""
    both = np.stack([fractions(counts)[..., position].mean(axis=1) for counts in (few, many)], axis=1)
    return expanded_bootstrap(both, lambda means: means[:, 0] - means[:, 1], seed=0)


def distance(counts: np.ndarray, reference: np.ndarray) -> Bootstrap:
    """Distance of the distributions at two sizes, both ``(S, T, d)``, with its interval over training sets."""
    both = np.stack([fractions(counts), fractions(reference)], axis=1)
    telling = np.isin(np.argmax(both[:, 1].mean(axis=0), axis=-1), list(POSITIONS))

    def variation(means: np.ndarray) -> np.ndarray:
        apart = np.abs(means[:, 0] - means[:, 1]).sum(axis=-1) / 2
        return apart[:, telling].mean(axis=-1) if telling.any() else np.full(len(means), np.nan)

    return expanded_bootstrap(both, variation, seed=0)


def control(reference: np.ndarray) -> float:
    """Distance between two halves of the training sets at the reference; nan with one."""
    half = len(reference) // 2
    return float(distance(reference[:half], reference[half : 2 * half]).estimate) if half else float("nan")
