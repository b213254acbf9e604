r"""The synthetic figure of arXiv 2410.08727, repeated with many points and training sets.

Data: 2 directions of standard deviation 1, 5 of 0.3 and 23 of 0.01, normalized or not.  Score: the exact empirical one
of N points.  Read: the *position* of the largest drop of the descending singular values of :math:`t\nabla s`, how many
lie above it: 23 if both groups are visible, 25 if the salient one is lost, 28 if it alone is visible.

Two readings.  ``jacobian``: of the exact Jacobian at noised points.  ``released``: of the scores at one side of
orthonormal probes times :math:`\sqrt t` about clean points, as the paper's code has it.  In both the largest drop is
looked for among the last 11 values, which is what its figures show (singular values of the salient group that exceed
those of frozen directions lie outside).  Points: the origin, fresh ones, training ones.

The paper reads the position 25 as memorization.  A position that memorization makes is seen at small N and not at
20000 points, which are the reference here: its *share* of noise variances, points and training sets falls with N.
Distance of two sizes: total variation
:math:`\tfrac12\sum_p|f_p-f'_p|` of the distributions of positions, mean over the noise variances at which the reference
has one of the three positions at most points.  Finite samples have a distance of their own; its size is that between
the two halves of the training sets at the reference (*control*).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from geomem_jax import cells, responses
from geomem_jax.data.synthetic import linear_manifold
from geomem_jax.denoisers import empirical_jacobian
from geomem_jax.statistics import Bootstrap, expanded_bootstrap

VARIANCES = np.repeat([1.0, 0.09, 1e-4], [2, 5, 23])
SIZES = (250, 500, 1000, 20_000)
POSITIONS = {23: "both visible", 25: "salient lost", 28: "only salient visible"}
READINGS = ("jacobian", "released")
POINTS = ("origin", "held_out", "train")
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


def plan(quick: bool, seeds: int) -> Plan:
    """Choose the grid: the noise of the paper, standard deviations from 0.01 to 1."""
    if quick:
        return Plan((250, 4000), tuple(np.geomspace(0.01, 1, 9).tolist()), 4, min(seeds, 4))
    return Plan(SIZES, tuple(np.geomspace(1e-4, 1, 17).tolist()), 8, min(seeds, 16))


def measure(chosen: Plan, random_seed: int, seed: int) -> np.ndarray:
    """Count positions of one training set, ``(reading, data, point, size, time, d)``; position p is at p."""
    d = len(VARIANCES)
    shape = (len(READINGS), len(DATA), len(POINTS), len(chosen.sizes), len(chosen.times), d)
    counts = np.zeros(shape, np.int16)
    grid = cells.Grid(chosen.sizes, chosen.times, 1, chosen.points, chosen.points, random_seed)
    for at_data, name in enumerate(DATA):
        data = cells.draw(linear_manifold(VARIANCES, normalized=name == "normalized"), grid, seed)
        dtype, axes = data.train.dtype, jnp.eye(d, dtype=data.train.dtype)
        clean = {
            "origin": jnp.zeros((1, d), dtype),
            "held_out": data.held_out,
            "train": data.train[: chosen.points],
        }
        noise = jax.random.normal(data.held_out_key, (chosen.points, d), dtype)
        probe_key = jax.random.fold_in(data.held_out_key, 1)
        for at_size, size in enumerate(chosen.sizes):
            model = empirical_jacobian.Model(data.train, jnp.asarray(size), axes, jnp.zeros(d, dtype))
            for at_time, t in enumerate(chosen.times):
                for at_point, point in enumerate(POINTS):
                    x = clean[point]
                    noised = x if point == "origin" else x + jnp.asarray(t**0.5, dtype) * noise
                    scale = jnp.asarray(t, dtype)
                    probed = responses.probed(
                        probe_key, data.train, model.size, x, scale, jnp.sqrt(scale), one_sided=True
                    )
                    shifts = empirical_jacobian.jacobian(model, noised, t) - axes, probed
                    for at_reading, shift in enumerate(shifts):
                        above = np.asarray(responses.visible(shift, d - SHOWN)[1])
                        counts[at_reading, at_data, at_point, at_size, at_time] = np.bincount(above, minlength=d)
    return counts


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
