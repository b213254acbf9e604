"""What all rungs of a sweep share: its grid, the training set of every seed, and how the numbers of a cell are kept."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from geomem_jax.data.source import Source
from geomem_jax.sweep_spectra import Spectra

NETWORKS = 2**31 - 1  # folded into the key of a run for networks, as the numbers from 0 on are for training sets
SAMPLES = NETWORKS - 1  # likewise for what networks are sampled from


class Grid(NamedTuple):
    """What is measured.

    Attributes:
      sizes: dataset sizes, ascending.
      noise_variances: noise variances, ascending.
      seeds: number of independent training sets.
      points: points per training set and point class.
      held_out: held-out points per training set, at most ``points`` of them different.
      seed: seed of all random numbers.
      network_steps: training steps of the network rung; 0: there is none.
    """

    sizes: tuple[int, ...]
    noise_variances: tuple[float, ...]
    seeds: int
    points: int
    held_out: int
    seed: int
    network_steps: int = 0


class Summary(NamedTuple):
    """Statistics over points of one cell and point class, for every noise variance (leading axis)."""

    gain: jax.typing.ArrayLike
    gain_sem: jax.typing.ArrayLike
    gain_median: jax.typing.ArrayLike
    participation: jax.typing.ArrayLike
    soft_dimension: jax.typing.ArrayLike


class TrainingSet(NamedTuple):
    """One seed's data in direction coordinates, and the keys of its noise."""

    train: jax.Array
    held_out: jax.Array
    train_key: jax.Array
    held_out_key: jax.Array


def seed_keys(random_seed: int, seed: int) -> jax.Array:
    """Return the three keys of a training set: of its points, and of the noise at training and held-out points."""
    return jax.random.split(jax.random.fold_in(jax.random.key(random_seed), seed), 3)


def draw(source: Source, grid: Grid, seed: int) -> TrainingSet:
    """Draw the largest training set of a seed and its held-out points, rotated into the directions."""
    data_key, train_key, held_out_key = seed_keys(grid.seed, seed)
    drawn = source.draw(data_key, max(grid.sizes), grid.held_out)
    train, held_out = drawn.train, drawn.held_out
    if source.basis is not None:
        basis = jnp.asarray(source.basis, train.dtype)
        train, held_out = (
            jnp.matmul(points, basis, precision=jax.lax.Precision.HIGHEST) for points in (train, held_out)
        )
    return TrainingSet(train, held_out, train_key, held_out_key)


def cycled(array: jax.Array, count: int, points: int) -> jax.Array:
    """Take ``points`` rows among the first ``count``, from the beginning again where there are fewer."""
    return jnp.take(array, jnp.arange(points) % count, axis=0)


def summarize(gain: jax.Array, participation: jax.Array) -> Summary:
    """Summarize gains ``(B, d)`` and participation ratios over ``B`` points; one point has no standard error."""
    count = gain.shape[0]
    sem = jnp.std(gain, axis=0, ddof=1) / jnp.sqrt(count) if count > 1 else jnp.full(gain.shape[1], jnp.nan, gain.dtype)
    return Summary(
        jnp.mean(gain, axis=0),
        sem,
        jnp.median(gain, axis=0),
        jnp.mean(participation),
        jnp.mean(jnp.sum(gain, axis=-1)),
    )


def store(dataset: xr.Dataset, rung: str, point: str, size: int, seed: int, summary: Summary | Spectra) -> None:
    """Write the numbers of one cell and point class into a result."""
    at = {"rung": rung, "point": point, "dataset_size": size, "seed": seed}
    # By position, found once: to look labels up for every variable takes longer than some cells.
    where = {dimension: dataset.get_index(dimension).get_loc(label) for dimension, label in at.items()}
    for name, values in summary._asdict().items():
        dataset.variables[name][where] = np.asarray(values)
