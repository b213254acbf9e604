r"""The network rung of a sweep: small networks trained on the training sets of the other rungs, measured like them.

One :func:`~geomem_jax.denoisers.mlp.edm_mlp` of three hidden layers of 64 units for each of at most six dataset sizes,
evenly spaced in the logarithm, and two training sets; all are trained in one compiled program
(:mod:`geomem_jax.training`), in the coordinates of the data, at noise standard deviations from
:math:`\sqrt{t_{\min}}/1.5` to :math:`\max(3\sigma_{\max}, 1.5\sqrt{t_{\max}})`, and measured with the average of their
parameters at the points and with the noise of the empirical rung.

Training and measuring are one step: what is interrupted begins anew and ends with the same numbers.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.tree_util import Partial

from geomem_jax import batching, cells, sharding, snapshots, sweep_spectra, training
from geomem_jax.data.source import Source
from geomem_jax.denoisers import mlp
from geomem_jax.results import FAILED, NETWORK, POINT_CLASSES

MOST_SIZES, MOST_SEEDS = 6, 2
WIDTH, DEPTH, BATCH = 64, 3, 128
LEARNING_RATE, WARMUP, CLIP, EMA_DECAY = 2e-3, 100, 1.0, 0.999
DEFAULT_STEPS = 4000
MOST_DIRECTIONS = 256  # of which networks are trained by default; measuring takes time as their square


def default_steps(source: Source) -> int:
    """Choose the training steps: none where measuring would take longer than all else."""
    return DEFAULT_STEPS if len(source.variances) <= MOST_DIRECTIONS else 0


def chosen(grid: cells.Grid) -> tuple[list[int], int]:
    """Choose at which dataset sizes, and on how many training sets, networks are trained."""
    sizes = np.array(grid.sizes)
    wanted = np.geomspace(sizes.min(), sizes.max(), MOST_SIZES)
    nearest = np.abs(np.log(sizes) - np.log(wanted)[:, None]).argmin(axis=1)
    return sizes[np.unique(nearest)].tolist(), min(grid.seeds, MOST_SEEDS)


def pending(dataset: xr.Dataset, grid: cells.Grid) -> bool:
    """Whether networks are still to be trained."""
    if not grid.network_steps:
        return False
    sizes, seeds = chosen(grid)
    planned = dataset["complete"].sel(rung=NETWORK, dataset_size=sizes, seed=range(seeds))
    return bool((planned == 0).any())


def most_numbers(directions: int) -> int:
    """Bound the numbers held in memory: parameters with their averages, gradients and moments, and derivatives."""
    parameters = 2 * WIDTH * directions + DEPTH * WIDTH**2
    derivatives = batching.CACHE_BYTES // 4 + 3 * batching.LEAST_DIRECTIONS * (directions + WIDTH)
    return 6 * MOST_SIZES * MOST_SEEDS * parameters + derivatives


def prepare(source: Source, grid: cells.Grid) -> tuple[training.Recipe, training.Members]:
    """Build the recipe and the ensemble, sizes slowest."""
    sizes, seeds = chosen(grid)
    model = mlp.edm_mlp(len(source.variances), WIDTH, DEPTH, float(np.mean(source.variances)))
    optimizer = training.optimizer("adam", LEARNING_RATE, clip=CLIP, warmup=WARMUP)
    low, high = np.sqrt([min(grid.noise_variances), max(grid.noise_variances)])
    noise_range = float(low / 1.5), float(max(3 * np.sqrt(np.max(source.variances)), 1.5 * high))
    return training.Recipe(model, optimizer, BATCH, EMA_DECAY), training.grid_members(sizes, seeds, noise_range)


def _spectra(
    network: Partial,
    data: training.Data,
    member: training.Members,
    noise_keys: jax.Array,
    basis: jax.Array,
    t: jax.Array,
    points: int,
) -> list[sweep_spectra.Spectra]:
    """Measure the spectra of one network at the first few of the points and noises of a snapshot, in its order."""
    few, d = jnp.arange(min(sweep_spectra.POINTS, points)), data.points.shape[1]
    own, others = data.train[member.seed, few % member.size], data.held_out[member.seed, few % data.held_out.shape[1]]
    found = []
    for key, rows in zip(noise_keys, (own, others), strict=True):
        along = jax.random.normal(key, (points, d), data.points.dtype)[: len(few)]
        noise = jnp.matmul(along, basis.T, precision=jax.lax.Precision.HIGHEST)
        found.append(sweep_spectra.at_noises(network, data.points[rows], noise, t))
    origin = jnp.zeros((1, d), data.points.dtype)
    found.append(sweep_spectra.at_noises(network, origin, origin, t))
    return [sweep_spectra.summarize(values) for values in found]


def measure(
    dataset: xr.Dataset,
    source: Source,
    grid: cells.Grid,
    after_block: Callable[[int, float], None],
    after_network: Callable[[int, int], None],
) -> list[str]:
    """Train all networks and measure them, in place; nothing is stored before all are measured.

    Args:
      dataset: the result of :func:`geomem_jax.sweep.prepare` for ``grid``, with whatever else is measured.
      source: the data.
      grid: what is measured; ``network_steps`` is positive.
      after_block: called about once a second while training, with the steps taken and the mean of the running losses.
      after_network: called with (seed, dataset size) when a network is measured.

    Returns:
      The networks that became non-finite, in words.  They are marked as failed and not measured.
    """
    recipe, members = prepare(source, grid)
    sizes, seeds = chosen(grid)
    keys = jnp.stack([cells.seed_keys(grid.seed, seed) for seed in range(seeds)])
    data = training.draw_data(source, list(keys[:, 0]), max(grid.sizes), grid.held_out)
    mesh = sharding.ensemble_mesh(len(sizes) * seeds, BATCH)
    state = training.start(recipe, jax.random.fold_in(jax.random.key(grid.seed), cells.NETWORKS), members)

    def report(state: training.State) -> None:
        step, loss = sharding.fetch((state.step, state.loss))
        after_block(int(step[0]), float(loss.mean()))

    (state,) = training.train(recipe, mesh, data, members, state, (grid.network_steps,), report)
    averages, failed = sharding.fetch((state.ema, state.failed))

    dtype, dimension = data.points.dtype, data.points.shape[1]
    basis = jnp.eye(dimension, dtype=dtype) if source.basis is None else jnp.asarray(source.basis, dtype)
    t = jnp.asarray(grid.noise_variances, dtype)
    alone, found = sharding.ensemble_mesh(1, 1), dict[int, snapshots.Snapshot]()
    spectra = dict[int, list[sweep_spectra.Spectra]]()
    for member in np.flatnonzero(failed < 0).tolist():
        # One by one, for the sake of memory; sizes and seeds are no shapes, so that one program serves all.
        own, params = jax.tree.map(lambda leaf, at=member: jnp.asarray(leaf[at : at + 1]), (members, averages))
        found[member] = sharding.fetch(
            snapshots.measure(recipe.model, alone, data, own, params, keys[:, 1:], basis, t, grid.points)
        )
        if sweep_spectra.measured(dimension):
            own, params = jax.tree.map(lambda leaf: leaf[0], (own, params))
            network = Partial(recipe.model.denoise, params)
            spectra[member] = _spectra(network, data, own, keys[member % seeds, 1:], basis, t, grid.points)
        after_network(member % seeds, sizes[member // seeds])
    for member, snapshot in found.items():
        for row, point in enumerate(POINT_CLASSES):
            gain, sem, median, _ = (values[0, row] for values in snapshot)
            summary = cells.Summary(gain, sem, median, np.full(len(t), np.nan), gain.sum(axis=-1))
            at = NETWORK, point, sizes[member // seeds], member % seeds
            cells.store(dataset, *at, summary)
            if member in spectra:
                cells.store(dataset, *at, spectra[member][row])
    for member, since in enumerate(failed):
        where = {"rung": NETWORK, "dataset_size": sizes[member // seeds], "seed": member % seeds}
        dataset["complete"].loc[where] = 1 if since < 0 else FAILED
    return training.failures(members, state)
