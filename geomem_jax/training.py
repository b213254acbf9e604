r"""Ensembles of denoisers over dataset sizes and training sets, trained in one compiled program.

A *member* is one denoiser: its training set is the first ``size`` points of the order of its seed, so that seeds are
independent training sets and sizes are nested within a seed.  All members advance together, by ``vmap`` inside one
loop, sharded over the devices of a mesh (:mod:`geomem_jax.sharding`).  Each step draws a fresh batch,

.. math:: L=\frac1B\sum_b w(t_b)\,\frac{|D(y_b+\sqrt{t_b}\,z_b,\,t_b)-y_b|^2}d,

with points drawn with replacement and the noise standard deviation log-uniform in the range of the member.

The random numbers of a step depend on the member (root key, seed, size) and on the number of the step, on nothing
else: not on the other members, on how the steps are split into calls, or on the devices.  So a run that is
resumed from a saved state ends bit for bit where it would have ended, and a member trained alone agrees with the same
member of an ensemble to rounding.

A member whose loss or norm of the gradient is not finite keeps its last good state from then on; the others go on.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from geomem_jax import sharding
from geomem_jax.data.source import Source
from geomem_jax.denoisers.trainable import Params, Trainable
from geomem_jax.errors import InputError

BLOCK_S = 1.0  # seconds between two reports of progress
CACHE_BYTES = 2**21  # of a core of a CPU
LOSS_WINDOW = 100  # steps over which the running loss forgets


class Recipe(NamedTuple):
    """How every member is trained; hashable, a static argument of the compiled program.

    Attributes:
      model: the denoiser.
      optimizer: an optax transformation; it sees one member at a time, so a clip by global norm is per member.
      batch_size: points per step.
      ema_decay: decay of the average of parameters per step, reached from below as ``(1 + k) / (10 + k)``.
    """

    model: Trainable
    optimizer: optax.GradientTransformation
    batch_size: int
    ema_decay: float


class Data(NamedTuple):
    """Points, and which of them belong to whom.

    Attributes:
      points: ``(M, d)``, in the coordinates in which networks are trained.
      train: ``(R, n)`` rows of ``points``; the training set of size ``k`` of seed ``r`` is ``train[r, :k]``.
      held_out: ``(R, m)`` rows of ``points`` outside ``train[r]``.
    """

    points: jax.Array
    train: jax.Array
    held_out: jax.Array


class Members(NamedTuple):
    """The ensemble, arrays of shape ``(S,)``.

    Attributes:
      seed: which training set, a row of ``Data.train``.
      size: how many of its points.
      log_noise_low: log of the smallest noise *standard deviation* trained at.
      log_noise_high: log of the largest.
      width: hidden units in use, at most those of the model; ``None``: all.
    """

    seed: jax.Array
    size: jax.Array
    log_noise_low: jax.Array
    log_noise_high: jax.Array
    width: jax.Array | None = None


class State(NamedTuple):
    """All that training changes; leaves have the leading axis ``(S,)``.

    Attributes:
      params: parameters.
      ema: their average over steps, with which everything is measured.
      optimizer: state of the optimizer.
      key: the member's key.
      step: steps taken.
      loss: running mean of the loss over the last hundred steps or so.
      failed: the step at which the member was no longer finite, or -1.
    """

    params: Params
    ema: Params
    optimizer: optax.OptState
    key: jax.Array
    step: jax.Array
    loss: jax.Array
    failed: jax.Array


def draw_data(source: Source, keys: Sequence[jax.Array], largest: int, held_out: int) -> Data:
    """Draw one training set per key, as rows of one array of points.

    Args:
      source: the data.
      keys: of the training sets; each set is the one that ``source.draw`` gives with this key.
      largest: points of each.
      held_out: points held out from each.

    Raises:
      InputError: if the data hold fewer points.
    """
    if source.points is not None and source.rows is not None:
        rows = [source.rows(key, largest, held_out) for key in keys]
        train, held_out_rows = (np.stack(part).astype(np.int32) for part in zip(*rows, strict=True))
        return Data(jnp.asarray(source.points), jnp.asarray(train), jnp.asarray(held_out_rows))
    draws = [source.draw(key, largest, held_out) for key in keys]
    points = jnp.concatenate([part for draw in draws for part in draw])
    every = jnp.arange(len(points), dtype=jnp.int32).reshape(len(keys), largest + held_out)
    return Data(points, every[:, :largest], every[:, largest:])


@cache
def optimizer(name: str, learning_rate: float, *, clip: float | None, warmup: int) -> optax.GradientTransformation:
    """Build an optimizer whose learning rate rises linearly over ``warmup`` steps and then stays.

    It stays, and does not fall to zero at the end, because training time is an axis here: the state after 1000 steps
    must not depend on how many are to follow.

    Args:
      name: ``"adam"``, ``"radam"`` or ``"sgd"``.
      learning_rate: after the warm-up.
      clip: largest global norm of a member's gradient; ``None``: any.
      warmup: steps.
    """
    schedule = optax.linear_schedule(learning_rate / (warmup + 1), learning_rate, warmup)
    make = {"adam": optax.adam, "radam": optax.radam, "sgd": optax.sgd}[name]
    return make(schedule) if clip is None else optax.chain(optax.clip_by_global_norm(clip), make(schedule))


def grid_members(sizes: Sequence[int], seeds: int, noise_range: tuple[float, float]) -> Members:
    """Build the ensemble of all sizes and seeds, seeds running fastest; ``noise_range`` in standard deviations."""
    size, seed = np.meshgrid(np.asarray(sizes, np.int32), np.arange(seeds, dtype=np.int32), indexing="ij")
    low, high = (jnp.full(size.size, np.log(value)) for value in noise_range)
    return Members(jnp.asarray(seed.ravel()), jnp.asarray(size.ravel()), low, high)


def start(recipe: Recipe, root: jax.Array, members: Members) -> State:
    """Initialize every member, from a key that depends on its seed and size alone.

    Raises:
      InputError: if widths are given and the model has but one.
    """
    if members.width is not None and recipe.model.narrow is None:
        raise InputError("members have widths, but this model cannot be narrowed; leave them out")

    return _start(recipe, root, members)


@partial(jax.jit, static_argnames="recipe")
def _start(recipe: Recipe, root: jax.Array, members: Members) -> State:
    def one(member: Members) -> State:
        init_key, train_key = jax.random.split(jax.random.fold_in(jax.random.fold_in(root, member.seed), member.size))
        params = recipe.model.init(init_key)
        if member.width is not None and recipe.model.narrow is not None:
            params = recipe.model.narrow(params, member.width)
        zero = jnp.zeros((), jnp.int32)
        return State(params, params, recipe.optimizer.init(params), train_key, zero, jnp.zeros(()), zero - 1)

    return jax.vmap(one)(members)


def _step(recipe: Recipe, data: Data, member: Members, state: State, batch_shards: int) -> State:
    """Advance one member by one step; inside the mesh, where ``batch_shards`` devices share its batch."""
    rows_key, level_key, noise_key = jax.random.split(jax.random.fold_in(state.key, state.step), 3)

    def own(draws: jax.Array) -> jax.Array:
        # All devices draw the whole batch and keep their share: the numbers do not depend on the mesh.
        if batch_shards == 1:
            return draws  # a slice of everything, and a mean over one device below, would take 2 % of the time
        share = recipe.batch_size // batch_shards
        return lax.dynamic_slice_in_dim(draws, lax.axis_index("batch") * share, share)

    dtype = data.points.dtype
    rows = own(jax.random.randint(rows_key, (recipe.batch_size,), 0, member.size))
    clean = data.points[data.train[member.seed, rows]]
    level = own(jax.random.uniform(level_key, (recipe.batch_size,), dtype))
    t = jnp.exp(2 * (member.log_noise_low + level * (member.log_noise_high - member.log_noise_low)))
    noise = own(jax.random.normal(noise_key, (recipe.batch_size, clean.shape[1]), dtype))
    noisy = clean + jnp.sqrt(t)[:, None] * noise

    def loss_of(params: Params) -> jax.Array:
        denoised = jax.vmap(recipe.model.denoise, (None, 0, 0))(params, noisy, t)
        error = jnp.mean((denoised - clean) ** 2, axis=-1)
        mean = jnp.mean(recipe.model.weight(t) * error)
        return mean if batch_shards == 1 else lax.pmean(mean, "batch")

    loss, gradient = jax.value_and_grad(loss_of)(state.params)
    updates, optimizer = recipe.optimizer.update(gradient, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    taken = state.step.astype(dtype)
    decay = jnp.minimum(recipe.ema_decay, (1 + taken) / (10 + taken))
    ema = jax.tree.map(lambda old, new: (decay * old + (1 - decay) * new).astype(old.dtype), state.ema, params)
    forget = jnp.maximum(1 / LOSS_WINDOW, 1 / (1 + taken))
    running = state.loss + forget * (loss - state.loss)

    finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradient))  # by which a clip scales: at hand
    failed = jnp.where((state.failed < 0) & ~finite, state.step, state.failed)
    changed = (params, ema, optimizer, running)
    kept = jax.tree.map(
        lambda new, old: jnp.where(failed < 0, new, old),
        changed,
        (state.params, state.ema, state.optimizer, state.loss),
    )
    params, ema, optimizer, running = kept
    return State(params, ema, optimizer, state.key, state.step + 1, running, failed)


def _members_together(mesh: Mesh, state: State) -> int:
    """How many members of a device take their steps together, one group after another: a divisor of their number.

    On a CPU as many as its cache holds, which saves a quarter of the time of 64 members of 128 units; elsewhere all.
    """
    on_device = state.step.size // mesh.shape["member"]
    if mesh.devices.flat[0].platform != "cpu":
        return on_device
    changed = jax.tree.leaves((state.params, state.ema, state.optimizer))
    most = CACHE_BYTES * state.step.size // sum(leaf.size * leaf.dtype.itemsize for leaf in changed)
    return max(count for count in range(1, on_device + 1) if on_device % count == 0 and count <= max(most, 1))


# On CPUs XLA copies parameters and moments at every step, in case they are overwritten before they are read, unless it
# is told to look closer: a tenth of the time.  (An option of jaxlib 0.10 to 0.12 for CPUs; not tried elsewhere.)
@partial(
    jax.jit,
    static_argnames=("recipe", "mesh"),
    compiler_options={"xla_cpu_copy_insertion_use_region_analysis": True},
)
def advance(
    recipe: Recipe, mesh: Mesh, data: Data, members: Members, state: State, num_steps: jax.Array | int
) -> State:
    """Take ``num_steps`` steps with every member; one compiled program for any number of steps.

    Args:
      recipe: how to train.
      mesh: from :func:`geomem_jax.sharding.ensemble_mesh`.
      data: points and training sets, the same on every device.
      members: the ensemble, ``(S,)``.
      state: from :func:`start` or an earlier call.
      num_steps: how many.

    Returns:
      The new state; where a member failed, its last good one.
    """
    together = _members_together(mesh, state)

    def on_device(num_steps: jax.Array, data: Data, members: Members, state: State) -> State:
        one = partial(_step, recipe, data, batch_shards=mesh.shape["batch"])

        def train_group(group: tuple[Members, State]) -> State:
            members, state = group
            step = one if together == 1 else jax.vmap(one)  # a batch of one takes half as long again
            return lax.fori_loop(0, num_steps, lambda _, state: step(members, state), state)

        if together == 1:
            return lax.map(train_group, (members, state))
        groups = jax.tree.map(lambda leaf: leaf.reshape(-1, together, *leaf.shape[1:]), (members, state))
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), lax.map(train_group, groups))

    spread = P("member")
    return jax.shard_map(on_device, mesh=mesh, in_specs=(P(), P(), spread, spread), out_specs=spread)(
        jnp.asarray(num_steps), data, members, state
    )


def snapshot_steps(steps: int, count: int) -> tuple[int, ...]:
    """Spread up to ``count`` training steps evenly in the logarithm, from a hundredth of ``steps`` to ``steps``."""
    return tuple(sorted({max(1, round(step)) for step in np.geomspace(steps / 100, steps, count)}))


def train(
    recipe: Recipe,
    mesh: Mesh,
    data: Data,
    members: Members,
    state: State,
    snapshots: Sequence[int],
    after_block: Callable[[State], None] = lambda state: None,
) -> Iterator[State]:
    """Train, and stop at every snapshot that still lies ahead.

    Args:
      recipe: how to train.
      mesh: devices.
      data: points.
      members: the ensemble.
      state: where to begin; a state of step ``k`` goes on from there.
      snapshots: training steps, ascending.
      after_block: called about once a second, to show progress and to save.

    Yields:
      The state at each snapshot.
    """
    spread = P("member")
    data = sharding.put(data, mesh, P())
    members, state = sharding.put((members, state), mesh, spread)
    block = 1
    for target in snapshots:
        while (done := int(sharding.fetch(state.step)[0])) < target:
            begin = time.monotonic()
            taken = min(block, target - done)
            state = jax.block_until_ready(advance(recipe, mesh, data, members, state, taken))
            elapsed = time.monotonic() - begin
            # The first call compiles as well; the length of a block changes nothing but how often is reported.
            block = max(1, min(4 * block, int(taken * BLOCK_S / max(elapsed, 1e-6)))) if done else 4
            block = sharding.from_first(block)  # all processes must take the same steps
            after_block(state)
        if done == target:
            yield state


def names(members: Members) -> list[str]:
    """Name every member in words."""
    sizes, seeds = (np.asarray(sharding.fetch(values)) for values in (members.size, members.seed))
    return [f"N = {size}, training set {seed + 1}" for size, seed in zip(sizes, seeds, strict=True)]


def failures(members: Members, state: State) -> list[str]:
    """Name the members that are no longer finite, and since which step."""
    since = sharding.fetch(state.failed)
    return [
        f"{name}: not finite at step {step + 1}" for name, step in zip(names(members), since, strict=True) if step >= 0
    ]
