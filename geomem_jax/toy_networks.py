r"""The networks of the synthetic figure of arXiv 2410.08727, read as :mod:`geomem_jax.toy_gaps` reads the exact score.

The figure of the paper is one of trained networks.  These are its toy networks, trained as the preset ``paper-toy`` of
``geomem train`` says, but for fewer steps (:class:`Plan`): one for every dataset size and training set, all of the same
data in one compiled program (:mod:`geomem_jax.training`), measured with the average of their parameters.  Training
sets, points, noise and probes are those of the exact score.  A training that is interrupted begins anew and ends with
the same numbers.

How much has been memorized is told by the loss at noised training points and at fresh ones,
:math:`\tfrac1{td}|D(y+\sqrt t\,z,t)-y|^2`, the same of both for a network that knows nothing of its points in
particular.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from geomem_jax import cells, jacobian, responses, sharding, toy_gaps, training, training_job
from geomem_jax.config import TrainOptions
from geomem_jax.denoisers.trainable import Params, Trainable

LOSS_POINTS = 250  # of every class


class Plan(NamedTuple):
    """What is trained.

    Attributes:
      steps: training steps at which is measured, ascending.
      sizes: dataset sizes; the last is the reference.
      seeds: training sets, the first of those of the exact score.
    """

    steps: tuple[int, ...]
    sizes: tuple[int, ...]
    seeds: int


class Readings(NamedTuple):
    """What is measured at one training step; of a network that failed the counts are 0 and the losses nan.

    Attributes:
      step: training step.
      positions: with leading dimensions ``(size, seed)``.
      train_loss: ``(size, seed, time)``.
      held_out_loss: ``(size, seed, time)``.
    """

    step: int
    positions: toy_gaps.Positions
    train_loss: np.ndarray
    held_out_loss: np.ndarray


def plan(quick: bool, seeds: int) -> Plan:
    """Choose the ensembles: fewest and most points of the paper's figure, one in 66 of its training steps.

    In these 250 points have begun to be memorized; those of the networks of 25 points are.
    """
    if quick:
        return Plan((200,), (250, 4000), min(seeds, 1))
    return Plan((1000, 10_000, 30_000), (25, 250, 20_000), min(seeds, 2))


@partial(jax.jit, static_argnames="model")
def shifts(
    model: Trainable, params: Params, key: jax.Array, x: jax.Array, noised: jax.Array, t: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """:data:`geomem_jax.toy_gaps.Shifts` of a network."""
    denoise = Partial(model.denoise, params)
    exact = jacobian.full(denoise, noised, t) - jnp.eye(x.shape[1], dtype=x.dtype)
    probed = responses.differences(lambda at: jax.vmap(denoise, (0, None))(at, t), key, x, jnp.sqrt(t), one_sided=True)
    return exact, probed


@partial(jax.jit, static_argnames="model")
def losses(model: Trainable, params: Params, clean: jax.Array, noise: jax.Array, times: jax.Array) -> jax.Array:
    """Loss ``(T,)`` at points ``clean`` with standard normal ``noise``, both ``(B, d)``."""

    def at(t: jax.Array) -> jax.Array:
        denoised = jax.vmap(model.denoise, (None, 0, None))(params, clean + jnp.sqrt(t) * noise, t)
        return jnp.mean((denoised - clean) ** 2) / t

    return jax.lax.map(at, times)


def _read(
    model: Trainable, params: Params, data: cells.TrainingSet, size: int, chosen: toy_gaps.Plan
) -> tuple[toy_gaps.Positions, np.ndarray, np.ndarray]:
    """Positions and both losses of one network."""
    positions = toy_gaps.count_positions(partial(shifts, model, params), data, chosen)
    noise = jax.random.normal(jax.random.fold_in(data.held_out_key, 2), data.held_out.shape, data.train.dtype)
    times = jnp.asarray(chosen.times, data.train.dtype)
    train = data.train[: min(size, LOSS_POINTS)]
    found = [losses(model, params, clean, noise[: len(clean)], times) for clean in (train, data.held_out)]
    return positions, np.asarray(found[0]), np.asarray(found[1])


def _gather(parts: Sequence[np.ndarray], shape: tuple[int, ...], failed: np.ndarray, of_failed: float) -> np.ndarray:
    gathered = np.stack(parts)
    gathered[failed] = of_failed
    return gathered.reshape(*shape, *gathered.shape[1:])


def measure(
    chosen: Plan, gaps: toy_gaps.Plan, name: str, random_seed: int, after_block: Callable[[int], None]
) -> Iterator[Readings]:
    """Train and measure the networks of one kind of data.

    Args:
      chosen: what is trained.
      gaps: noise variances and points at which is measured.
      name: of the data, one of :data:`geomem_jax.toy_gaps.DATA`.
      random_seed: of the run.
      after_block: called about once a second with the steps taken.

    Yields:
      The readings at every step of the plan.
    """
    options = TrainOptions(
        preset="paper-toy",
        normalized=name == "normalized",
        sizes=",".join(str(size) for size in chosen.sizes),
        seeds=chosen.seeds,
        steps=chosen.steps[-1],
    )
    job = training_job.job_of(options.resolved())
    recipe, members = job.recipe, job.members
    source = toy_gaps.source(name)
    grid = cells.Grid(chosen.sizes, gaps.times, chosen.seeds, gaps.points, max(gaps.points, LOSS_POINTS), random_seed)
    drawn = [cells.draw(source, grid, seed) for seed in range(chosen.seeds)]
    keys = [cells.seed_keys(random_seed, seed)[0] for seed in range(chosen.seeds)]
    data = training.draw_data(source, keys, max(chosen.sizes), grid.held_out)
    mesh = sharding.ensemble_mesh(members.size.size, recipe.batch_size)
    start = training.start(recipe, jax.random.fold_in(jax.random.key(random_seed), cells.NETWORKS), members)

    def report(state: training.State) -> None:
        after_block(int(sharding.fetch(state.step)[0]))

    for state in training.train(recipe, mesh, data, members, start, chosen.steps, report):
        step, ema, failed, seeds, sizes = sharding.fetch(
            (state.step, state.ema, state.failed, members.seed, members.size)
        )
        read = [
            _read(recipe.model, jax.tree.map(lambda leaf, at=at: leaf[at], ema), drawn[seed], int(size), gaps)
            for at, (seed, size) in enumerate(zip(seeds, sizes, strict=True))
        ]
        positions, *losses = zip(*read, strict=True)
        gather = partial(_gather, shape=(len(chosen.sizes), chosen.seeds), failed=failed >= 0)  # seeds run fastest
        of_all = toy_gaps.Positions(*(gather(parts, of_failed=0) for parts in zip(*positions, strict=True)))
        yield Readings(int(step[0]), of_all, *(gather(parts, of_failed=np.nan) for parts in losses))
