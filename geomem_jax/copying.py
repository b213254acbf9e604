r"""How many samples of every member of an ensemble are copies of its training points, in one compiled program.

Samples are drawn by the probability-flow equation from pure noise, at the noise levels of Karras et al. between the
largest and the smallest at which members are trained, and a last step to zero (:mod:`geomem_jax.sampling`, which states
the biases).  A sample is a copy where it is three times nearer to one of its member's own distinct training points than
to any other (:mod:`geomem_jax.memorization`); the same count of held-out points is what chance gives.

The starting points depend on the key and on the training set, not on the dataset size or on what was sampled before: so
what changes from one training step or one size to the next is the network, and a run that is resumed goes on with the
same numbers.  Members of different training sets share nothing.

Source.  The criterion is that of :mod:`geomem_jax.memorization`.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from geomem_jax.denoisers.trainable import Params, Trainable
from geomem_jax.memorization import COPIED_BELOW, distinct_first
from geomem_jax.neighbours import nearest
from geomem_jax.sampling import noise_levels, probability_flow, pure_noise
from geomem_jax.training import Data, Members

SAMPLES = 128  # of each member: a fraction of 1/2 has a standard error of 4 %
# Of the sampler; with four times as many, of 128 samples of a network on the ladder three at most change side.
STEPS = 20


class Plan(NamedTuple):
    """With what every member is sampled and compared.

    Attributes:
      rows: ``(R, n)`` rows of the points, the distinct ones of each training set first and in its order.
      counts: ``(S,)`` how many of them are the distinct training points of a member.
      key: of the starting points.
      levels: ``(k,)`` noise standard deviations, descending to 0.
    """

    rows: jax.Array
    counts: jax.Array
    key: jax.Array
    levels: jax.Array


def plan(data: Data, members: Members, key: jax.Array, noise_range: tuple[float, float]) -> Plan:
    """Find the distinct training points of every member, and lay out the noise levels.

    Args:
      data: points and training sets, on the host or one device.
      members: the ensemble.
      key: of the starting points.
      noise_range: smallest and largest noise *standard deviation* at which members are trained.

    Raises:
      InputError: if all points of a training set are equal, or nearly so.
    """
    points, train = np.asarray(data.points), np.asarray(data.train)
    rows, count = np.empty_like(train), np.empty(len(members.seed), np.int32)
    seeds, sizes = np.asarray(members.seed), np.asarray(members.size)
    for seed, own in enumerate(train):
        order, distinct = distinct_first(points[own])
        rows[seed] = own[order]
        # Sizes are nested: the distinct ones among the first k are those whose first row is below k.
        of = seeds == seed
        count[of] = np.searchsorted(order[:distinct], sizes[of])
    levels = jnp.asarray(noise_levels(*noise_range, STEPS), data.points.dtype)
    return Plan(jnp.asarray(rows), jnp.asarray(count), key, levels)


def _fraction(points: jax.Array, rows: jax.Array, count: jax.Array, x: jax.Array) -> jax.Array:
    """Fraction of ``(B, d)`` points that are copies of the first ``count`` rows; nan where that has no meaning."""
    first, second = nearest(points[rows], count, x, 2).distance.T
    copies = (first == 0) | (first < COPIED_BELOW * second)
    known = (count >= 2) & jnp.all(jnp.isfinite(x))
    return jnp.where(known, jnp.mean(copies), jnp.nan)


def _in_turn(data: Data, plan: Plan, seeds: jax.Array, counts: jax.Array, x: jax.Array) -> jax.Array:
    """Fractions ``(S,)`` of points ``(S, B, d)``, one member after another: one training set at a time is gathered."""
    return jax.lax.map(lambda one: _fraction(data.points, plan.rows[one[0]], *one[1:]), (seeds, counts, x))


@partial(jax.jit, static_argnames=("model", "mesh", "samples"))
def measure(
    model: Trainable, mesh: Mesh, data: Data, members: Members, params: Params, plan: Plan, samples: int = SAMPLES
) -> jax.Array:
    """Sample every member and count the copies.

    Args:
      model: the denoiser, trained at all noise levels of the plan.
      mesh: as in training.
      data: points and training sets.
      members: the ensemble, ``(S,)``.
      params: of every member, usually the averaged ones.
      plan: of :func:`plan`.
      samples: how many of each member.

    Returns:
      ``(S,)`` fractions; nan where a sample is not finite, or a member has less than two distinct training points.
    """

    def sample(seed: jax.Array, params: Params, plan: Plan, points: jax.Array) -> jax.Array:
        x = pure_noise(jax.random.fold_in(plan.key, seed), (samples, points.shape[1]), plan.levels[0])
        return probability_flow(partial(model.denoise, params), x.astype(points.dtype), plan.levels)

    def on_device(members: Members, counts: jax.Array, params: Params, data: Data, plan: Plan) -> jax.Array:
        x = jax.vmap(sample, (0, 0, None, None))(members.seed, params, plan, data.points)
        return _in_turn(data, plan, members.seed, counts, x)

    spread = P("member")
    # As in a snapshot, devices along the batch axis would repeat the work of the first.
    return jax.shard_map(
        on_device, mesh=mesh, in_specs=(spread, spread, spread, P(), P()), out_specs=spread, check_vma=False
    )(members, plan.counts, params, data, plan)


@partial(jax.jit, static_argnames="mesh")
def by_chance(mesh: Mesh, data: Data, members: Members, plan: Plan) -> jax.Array:
    """Count the held-out points that pass for copies of each member's training points: ``(S,)`` fractions."""

    def on_device(members: Members, counts: jax.Array, data: Data, plan: Plan) -> jax.Array:
        return _in_turn(data, plan, members.seed, counts, data.points[data.held_out[members.seed]])

    spread = P("member")
    return jax.shard_map(on_device, mesh=mesh, in_specs=(spread, spread, P(), P()), out_specs=spread, check_vma=False)(
        members, plan.counts, data, plan
    )
