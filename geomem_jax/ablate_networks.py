"""The networks of an ablation: width, training steps and the average of parameters, at three point classes.

One :func:`~geomem_jax.denoisers.mlp.edm_mlp` for every dataset size and training set, all of one width trained in one
compiled program (:mod:`geomem_jax.training`) and measured at a few steps with the average of their parameters, at the
last step also without.  A training that is interrupted begins anew and ends with the same numbers.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

import theory
from geomem_jax import cells, jacobian, responses, sharding, training
from geomem_jax.ablate import LADDER, Condition, Point
from geomem_jax.denoisers import mlp
from geomem_jax.denoisers.trainable import Params, Trainable
from geomem_jax.directions import group_by_variance

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
        return Plan((32,), (200, 3000), (4, 16, 64, 256), min(seeds, 2))
    return Plan((32, 128), (500, 2000, 8000), tuple(2**k for k in range(3, 11)), min(seeds, 6))


def conditions(chosen: Plan, width: int) -> list[Condition]:
    """List what is measured of the ensemble of one width."""
    widest = width == max(chosen.widths)
    last = chosen.steps[-1]
    measured = [(step, True) for step in (chosen.steps if widest else (last,))] + ([(last, False)] if widest else [])
    points: tuple[tuple[str, Point, float], ...] = (
        ("held-out", "held_out", 1.0),
        ("training", "train", 1.0),
        ("training, r = 0", "train", 0.0),
    )
    return [
        Condition(
            "g",
            f"{name}, width {width}, {step} steps{'' if averaged else ', no EMA'}",
            LADDER,
            chosen.sizes,
            (T,),
            point=point,
            probe=probe,
            model="network",
            width=width,
            step=step,
            averaged=averaged,
        )
        for name, point, probe in points
        for step, averaged in measured
    ]


@partial(jax.jit, static_argnames="model")
def _gains(model: Trainable, params: Params, x: jax.Array, t: jax.Array) -> jax.Array:
    """Gains ``(S, B, d)`` of networks with parameters of leading axis ``(S,)`` at points ``(S, B, d)`` of their own."""
    return jax.lax.map(lambda one: jacobian.gains(Partial(model.denoise, one[0]), one[1], t), (params, x))


def _points(condition: Condition, members: training.Members, data: training.Data, keys: jax.Array, b: int) -> jax.Array:
    """Points ``(S, b, d)`` of every network, with the noise of the other conditions; ``keys`` ``(R, 2)``."""
    train = condition.point == "train"

    def of(seed: jax.Array, size: jax.Array) -> jax.Array:
        rows, count = (data.train[seed], size) if train else (data.held_out[seed], data.held_out.shape[1])
        clean = data.points[rows[jnp.arange(b) % count]]
        noise = jax.random.normal(keys[seed, 0 if train else 1], clean.shape, clean.dtype)
        return clean + jnp.asarray((condition.probe * T) ** 0.5, clean.dtype) * noise

    return jax.vmap(of)(members.seed, members.size)


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
    groups, infinite = group_by_variance(variances), np.asarray(theory.wiener_gain(variances, T))
    t = jnp.asarray(T, data.points.dtype)
    start = training.start(recipe, jax.random.fold_in(jax.random.key(random_seed), cells.NETWORKS), members)

    def report(state: training.State) -> None:
        after_block(int(sharding.fetch(state.step)[0]))

    for state in training.train(recipe, mesh, data, members, start, sorted({one.step for one in wanted}), report):
        step, ema, params, failed = sharding.fetch((state.step, state.ema, state.params, state.failed))
        for condition in (one for one in wanted if one.step == int(step[0])):
            x = _points(condition, members, data, keys[:, 1:], points)
            gain = np.array(_gains(model, ema if condition.averaged else params, x, t), np.float64).mean(axis=1)
            gain[failed >= 0] = np.nan
            relative = (gain / infinite).reshape(len(chosen.sizes), chosen.seeds, -1).swapaxes(0, 1)
            yield condition, responses.averaged(relative, groups)
