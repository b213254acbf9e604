"""The networks of an ablation: width, training steps and the average of parameters, at two point classes.

One :func:`~geomem_jax.denoisers.mlp.edm_mlp` for every dataset size and training set, all of one width trained in one
compiled program (:mod:`geomem_jax.training`) and measured at a few steps with the average of their parameters, at the
last step also without.  A training that is interrupted begins anew and ends with the same numbers.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

import theory
from geomem_jax import cells, responses, sharding, snapshots, training
from geomem_jax.ablate import LADDER, Condition, Point
from geomem_jax.denoisers import mlp
from geomem_jax.directions import group_by_variance
from geomem_jax.results import POINT_CLASSES

T = 0.03
DEPTH, BATCH, LEARNING_RATE, WARMUP, CLIP, EMA_DECAY = 3, 128, 1e-3, 100, 1.0, 0.999
NOISE_RANGE = (0.05, 3.0)  # standard deviations


class Plan(NamedTuple):
    """What is trained.

    Attributes:
      widths: units per hidden layer, one ensemble each.
      steps: training steps at which is measured, ascending; all of the widest, the last of the others.
      sizes: dataset sizes.
      seeds: training sets.
    """

    widths: tuple[int, ...]
    steps: tuple[int, ...]
    sizes: tuple[int, ...]
    seeds: int


def plan(quick: bool, seeds: int) -> Plan:
    """Choose the ensembles; at most six training sets, the fewest with which an interval can cover 95 %."""
    if quick:
        return Plan((8, 32), (200, 3000), (4, 16, 64, 256), min(seeds, 2))
    return Plan((32, 128), (1000, 4000, 16_000), tuple(2**k for k in range(3, 12)), min(seeds, 6))


def conditions(chosen: Plan, width: int) -> list[Condition]:
    """List what is measured of the ensemble of one width."""
    widest = width == max(chosen.widths)
    last = chosen.steps[-1]
    measured = [(step, True) for step in (chosen.steps if widest else (last,))] + ([(last, False)] if widest else [])
    points: dict[Point, str] = {"held_out": "held-out", "train": "training"}
    return [
        Condition(
            "g",
            f"{name}, width {width}, {step} steps{'' if averaged else ', no EMA'}",
            LADDER,
            chosen.sizes,
            (T,),
            point=point,
            model="network",
            width=width,
            step=step,
            averaged=averaged,
        )
        for point, name in points.items()
        for step, averaged in measured
    ]


def measure(
    chosen: Plan, width: int, random_seed: int, points: int, after_block: Callable[[int], None]
) -> Iterator[tuple[Condition, np.ndarray]]:
    """Train the ensemble of one width.

    Args:
      chosen: the plan.
      width: which of its widths.
      random_seed: of the run; training sets are those of the other conditions.
      points: at which gains are measured.
      after_block: called about once a second with the steps taken.

    Yields:
      Conditions and their responses ``(S, k, g)``; nan of a network that failed.
    """
    wanted = conditions(chosen, width)
    source = responses.source_of(wanted[0])
    keys = jnp.stack([cells.seed_keys(random_seed, seed) for seed in range(chosen.seeds)])
    data = training.draw_data(source, list(keys[:, 0]), max(chosen.sizes), points)
    variances = source.variances
    model = mlp.edm_mlp(len(variances), width, DEPTH, float(np.mean(variances)))
    optimizer = training.optimizer("adam", LEARNING_RATE, clip=CLIP, warmup=WARMUP)
    recipe = training.Recipe(model, optimizer, BATCH, EMA_DECAY)
    members = training.grid_members(chosen.sizes, chosen.seeds, NOISE_RANGE)
    mesh = sharding.ensemble_mesh(len(chosen.sizes) * chosen.seeds, BATCH)
    root = jax.random.fold_in(jax.random.key(random_seed), cells.NETWORKS)
    basis, t = jnp.eye(len(variances), dtype=data.points.dtype), jnp.asarray([T], data.points.dtype)
    groups, reference = group_by_variance(variances), np.asarray(theory.wiener_gain(variances, T))
    steps = sorted({condition.step for condition in wanted})

    state = training.start(recipe, root, members)
    everywhere = sharding.put((data, keys[:, 1:], basis, t), mesh, PartitionSpec())
    for state in training.train(
        recipe, mesh, data, members, state, steps, lambda state: after_block(int(sharding.fetch(state.step)[0]))
    ):
        failed = sharding.fetch(state.failed) >= 0
        for averaged in (True, False):
            at = [c for c in wanted if c.averaged == averaged and c.step == int(sharding.fetch(state.step)[0])]
            if not at:
                continue
            params = state.ema if averaged else state.params
            on_mesh = sharding.put(members, mesh, PartitionSpec("member"))
            points_of, noise_keys, axes, noises = everywhere
            found = snapshots.measure(model, mesh, points_of, on_mesh, params, noise_keys, axes, noises, points)
            gain = np.array(sharding.fetch(found.gain), np.float64)  # (S, class, 1, d)
            gain[failed] = np.nan
            for condition in at:
                relative = gain[:, POINT_CLASSES.index(condition.point), 0] / reference
                shaped = relative.reshape(len(chosen.sizes), chosen.seeds, -1).swapaxes(0, 1)
                yield condition, responses.averaged(shaped, groups)
