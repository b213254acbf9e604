"""Training networks as a job: sizes x training sets in one ensemble, measured while it trains; one folder per run.

``trained.nc`` (:mod:`geomem_jax.trained_results`) is written after every snapshot and ``checkpoint`` about every half
minute, so that a run that is stopped goes on from there and ends with the same numbers.  Training sets, and the
noise of the points at which gains are measured, are those that :mod:`geomem_jax.sweep` draws with the same seed.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.sharding import Mesh, PartitionSpec
from rich.console import Console
from rich.progress import Progress, TaskID

import theory
from geomem_jax import checkpoints, data, results, runs, sharding, snapshots, sweep, trained_results, training
from geomem_jax.config import TrainOptions, parse_noise_range, parse_noise_variances, parse_sizes
from geomem_jax.data.source import Source
from geomem_jax.denoisers import empirical, mlp
from geomem_jax.denoisers.trainable import Trainable
from geomem_jax.errors import InputError
from geomem_jax.laws import law_size

RESULTS = "trained.nc"
FIGURE = "training.png"
CHECKPOINT_EVERY_S = 30.0  # a kill loses at most this much work
CLIP = 1.0  # largest norm of a gradient; the losses are of order one
WARMUP = 100  # steps in which Adam's learning rate rises; RAdam has a rise of its own
DEFAULT_SIZES = (16, 64, 256, 1024, 4096)
EXTRA_STEPS = (4000, 16_000)  # snapshots of the preset ladder beside those evenly spaced
NETWORKS = 2**31 - 1  # folded into the key of the run for networks, as the numbers from 0 on are for training sets
IDENTITY = ("out", "resume", "coordinator", "process_id", "num_processes")  # where a run is, not what it is


class Job(NamedTuple):
    """What a run does, from its options and its data.

    Attributes:
      source: the data.
      grid: sizes, noise variances, seeds and points, as of a sweep.
      steps: training steps at which is measured, ascending; the last is the end.
      recipe: how every network is trained.
      members: the ensemble, sizes by seeds, seeds running fastest.
    """

    source: Source
    grid: sweep.Grid
    steps: tuple[int, ...]
    recipe: training.Recipe
    members: training.Members


def _network(options: TrainOptions, source: Source) -> Trainable:
    dimension = len(source.variances)
    if options.network == "toy":
        return mlp.paper_toy(dimension)
    assert options.width is not None
    assert options.depth is not None
    variance = float(np.mean(source.variances))
    return mlp.edm_mlp(dimension, options.width, options.depth, variance, bfloat16=options.bfloat16)


def _check_memory(job: Job) -> None:
    """Refuse, by an InputError, an ensemble that memory cannot hold; allocates nothing."""
    shapes = jax.eval_shape(job.recipe.model.init, jax.random.key(0))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    networks, directions = len(job.members.size), len(job.source.variances)
    # Parameters, their average, two moments, a gradient and an update; points, drawn one by one and put together.
    numbers = 6 * networks * parameters + 2 * job.grid.seeds * (max(job.grid.sizes) + job.grid.held_out) * directions
    if 4 * numbers > sweep.memory_bytes() // 2:
        raise InputError(
            f"{networks} networks of {parameters} parameters, N up to {max(job.grid.sizes)} and {job.grid.seeds} "
            f"training sets need about {4 * numbers / 2**30:.3g} GiB, more than half of memory; lower --width or "
            "--sizes"
        )


def job_of(options: TrainOptions) -> Job:
    """Work out what to do from options that are resolved (:meth:`TrainOptions.resolved`).

    Raises:
      InputError: if the options cannot be carried out.
    """
    assert options.steps is not None
    assert options.snapshots is not None
    assert options.points is not None
    assert options.t is not None
    assert options.noise_range is not None
    assert options.seeds is not None
    assert options.optimizer is not None
    assert options.learning_rate is not None
    assert options.batch is not None
    assert options.ema_decay is not None
    source = data.from_options(options, options.seed)
    available, held_out = sweep.default_sizes(source, options.points)
    if options.sizes is not None:
        sizes = parse_sizes(options.sizes, "--sizes", least=2)
    else:
        sizes = tuple(sorted({min(size, max(available)) for size in DEFAULT_SIZES}))
    noise = parse_noise_range(options.noise_range)
    noise_variances = parse_noise_variances(options.t, "--t")
    for t in noise_variances:
        # Rounding must not refuse an end of the range.
        if not 0.999 * noise[0] <= t**0.5 <= 1.001 * noise[1]:
            raise InputError(
                f"--t has {t:g}, a noise variance; networks are trained from {noise[0] ** 2:g} to {noise[1] ** 2:g}: "
                "choose it between, or another --noise-range (in standard deviations)"
            )
    grid = sweep.Grid(sizes, noise_variances, options.seeds, options.points, held_out, options.seed)
    sweep.check(source, grid)
    extra = {step for step in EXTRA_STEPS if options.preset == "ladder" and step < options.steps}
    steps = tuple(sorted({*training.snapshot_steps(options.steps, options.snapshots), options.steps, *extra}))
    warmup = WARMUP if options.optimizer == "adam" else 0
    optimizer = training.optimizer(options.optimizer, options.learning_rate, clip=CLIP, warmup=warmup)
    recipe = training.Recipe(_network(options, source), optimizer, options.batch, options.ema_decay)
    job = Job(source, grid, steps, recipe, training.grid_members(sizes, options.seeds, noise))
    _check_memory(job)
    return job


def prepare(job: Job, configuration: dict[str, object]) -> xr.Dataset:
    """Build the result in which nothing is measured yet, with the predictions beside."""
    packages = ("flax", "optax", "orbax-checkpoint")
    attributes = sweep.provenance(job.source, configuration, packages) | {
        "points": job.grid.points,
        "held_out": job.grid.held_out,
        "random_seed": job.grid.seed,
    }
    variances, t = job.source.variances, np.asarray(job.grid.noise_variances)
    dataset = trained_results.empty(
        training_steps=job.steps,
        dataset_sizes=job.grid.sizes,
        noise_variances=job.grid.noise_variances,
        seeds=job.grid.seeds,
        variances=variances,
        attributes=attributes,
    )
    for law in trained_results.LAWS:
        for size in job.grid.sizes:
            n = law_size(law, size, centred=job.source.centred)
            gain = np.asarray(theory.gain(variances, n, t, law))
            dataset["predicted_gain"].loc[{"law": law, "dataset_size": size}] = gain
    dataset["reference_gain"][:] = np.asarray(theory.wiener_gain(variances, t))
    return dataset


class _Measurement(NamedTuple):
    """Points, keys of noise and directions of a job."""

    data: training.Data
    noise_keys: jax.Array
    basis: jax.Array
    t: jax.Array
    points: int


def _measurement(job: Job) -> _Measurement:
    keys = jnp.stack([sweep.seed_keys(job.grid.seed, seed) for seed in range(job.grid.seeds)])
    drawn = training.draw_data(job.source, list(keys[:, 0]), max(job.grid.sizes), job.grid.held_out)
    dtype = drawn.points.dtype
    basis = np.eye(len(job.source.variances)) if job.source.basis is None else job.source.basis
    return _Measurement(
        drawn, keys[:, 1:], jnp.asarray(basis, dtype), jnp.asarray(job.grid.noise_variances, dtype), job.grid.points
    )


@partial(jax.jit, static_argnames="points")
def _empirical_gain(
    data: training.Data,
    seed: jax.Array,
    size: jax.Array,
    keys: jax.Array,
    basis: jax.Array,
    t: jax.Array,
    points: int,
) -> jax.Array:
    """Mean gains of the exact empirical score at the points of :func:`snapshots.measure`, ``(3, T, d)``."""
    rotate = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    train, held_out = (data.points[rows[seed]] for rows in (data.train, data.held_out))
    along = rotate(train, basis)  # a rotation changes no distance, and the score knows nothing else
    own, others = train[jnp.arange(points) % size], held_out[jnp.arange(points) % held_out.shape[0]]
    drawn = [jax.random.normal(key, own.shape, own.dtype) for key in keys]
    # The origin as that many points without noise, so that one program serves all three.
    clean, noise = jnp.stack([own, others, 0 * own]), jnp.stack([*drawn, 0 * own])

    def at_points(clean: jax.Array, noise: jax.Array) -> jax.Array:
        def at_noise(t: jax.Array) -> jax.Array:
            noisy = rotate(clean + jnp.sqrt(t) * noise, basis)
            return jnp.mean(empirical.posterior(along, size, noisy, t).gain, axis=0)

        return jax.lax.map(at_noise, t)

    return jax.lax.map(lambda pair: at_points(*pair), (clean, noise))


def _measure_empirical(dataset: xr.Dataset, job: Job, measurement: _Measurement, after: Callable[[], None]) -> None:
    """Fill in ``empirical_gain``, calling ``after`` with every size of every training set."""
    points, keys, basis, t, count = measurement
    for seed in range(job.grid.seeds):
        for size in job.grid.sizes:
            gain = _empirical_gain(points, jnp.asarray(seed), jnp.asarray(size), keys[seed], basis, t, count)
            dataset["empirical_gain"].loc[{"seed": seed, "dataset_size": size}] = np.asarray(gain)
            after()


def _store(dataset: xr.Dataset, job: Job, step: int, state: training.State, snapshot: snapshots.Snapshot) -> None:
    at = {"training_step": step}
    shape = (len(job.grid.sizes), job.grid.seeds)
    for name, values in snapshot._asdict().items():
        # (size, seed, point, noise, direction) to (point, size, noise, seed, direction)
        grid = np.asarray(values).reshape(*shape, *values.shape[1:])
        dataset[name].loc[at] = grid.transpose(2, 0, 3, 1, 4)
    dataset["loss"].loc[at] = sharding.fetch(state.loss).reshape(shape)
    dataset["failed"][:] = sharding.fetch(state.failed).reshape(shape)
    dataset["complete"].loc[at] = 1


class _Watch:
    """What happens between steps: progress, news of failures, checkpoints."""

    def __init__(
        self, job: Job, state: training.State, save: Callable[[training.State], None], progress: Progress, task: TaskID
    ) -> None:
        self.state, self._job, self._save, self._progress, self._task = state, job, save, progress, task
        self._saved, self._said = time.monotonic(), set[str]()

    def __call__(self, state: training.State) -> None:
        """Show where training is, and save if that is due; what :func:`training.train` calls after a block."""
        self.state = state
        step, loss = int(sharding.fetch(state.step)[0]), sharding.fetch(state.loss)
        loss = loss.reshape(len(self._job.grid.sizes), -1).mean(axis=1)
        sizes = self._job.grid.sizes
        ends = f"loss {loss[0]:.3g} (N = {sizes[0]}) to {loss[-1]:.3g} (N = {sizes[-1]})"
        self._progress.update(self._task, completed=step, description=f"step {step} of {self._job.steps[-1]}, {ends}")
        for failure in training.failures(self._job.members, state):
            if failure not in self._said:
                self._progress.console.print(f"a network failed and is left out from there: {failure}")
                self._said.add(failure)
        due = time.monotonic() - self._saved > CHECKPOINT_EVERY_S
        if sharding.from_first(due):  # clocks differ, and saving needs all processes
            self.save()

    def save(self) -> None:
        """Save the latest state."""
        self._save(self.state)
        self._saved = time.monotonic()


def _start(options: TrainOptions) -> tuple[Path, xr.Dataset, Job]:
    resolved = options.resolved()
    job = job_of(resolved)
    dataset = prepare(job, runs.configuration(resolved, IDENTITY))
    if options.out is not None and jax.process_index() > 0:
        return options.out, dataset, job  # the first process creates it
    folder = runs.new_folder(options.out, f"{Path(job.source.name).stem}-trained")
    try:
        results.save(dataset, folder / RESULTS)
    except BaseException:
        folder.rmdir()  # still empty, for saving is atomic
        raise
    return folder, dataset, job


def _resume(given: TrainOptions, folder: Path) -> tuple[Path, xr.Dataset, Job]:
    hosts = {name: getattr(given, name) for name in IDENTITY if name != "out"}
    if given != TrainOptions(**hosts):
        raise InputError(
            f"--resume {folder} finishes that run with its own options; give no others, or start a new run"
        )
    path = folder / RESULTS
    dataset = results.load(path, trained_results.DIMENSIONS)
    try:
        options = TrainOptions(**results.configuration(dataset))  # type: ignore[arg-type]
        options.check()
        options = options.resolved()
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its configuration is not one of this version; start a new run") from error
    job = job_of(options)
    if dataset.attrs.get("data_fingerprint") != sweep.fingerprint(job.source):
        raise InputError(
            f"{path} was trained on other data than {options.data or job.source.name} now; start a new run"
        )
    axes = [dataset[name].values.tolist() for name in ("dataset_size", "noise_variance", "training_step")]
    if axes != [list(job.grid.sizes), list(job.grid.noise_variances), list(job.steps)] or (
        dataset.sizes["seed"] != job.grid.seeds
    ):
        raise InputError(f"{path} was trained with other options than it states; start a new run")
    return folder, dataset, job


def _train(console: Console, folder: Path, dataset: xr.Dataset, job: Job, mesh: Mesh) -> None:
    measurement = _measurement(job)
    description: dict[str, object] = {
        "configuration": results.configuration(dataset),
        "data_fingerprint": dataset.attrs["data_fingerprint"],
    }
    first = jax.process_index() == 0
    root = jax.random.fold_in(jax.random.key(job.grid.seed), NETWORKS)
    template = sharding.put(training.start(job.recipe, root, job.members), mesh, PartitionSpec("member"))
    restored = checkpoints.restore(folder, template, description)
    begin = template if restored is None else restored
    with runs.progress_bar(console) as progress:
        if np.isnan(dataset["empirical_gain"].values).any():
            task = progress.add_task("measuring the exact empirical score", total=len(job.members.size))
            _measure_empirical(dataset, job, measurement, partial(progress.advance, task))
        task = progress.add_task("compiling", total=job.steps[-1], completed=int(sharding.fetch(begin.step)[0]))
        watch = _Watch(job, begin, lambda state: checkpoints.save(folder, state, description), progress, task)
        try:
            *arrays, count = measurement
            points, keys, basis, t = sharding.put(tuple(arrays), mesh, PartitionSpec())
            members = sharding.put(job.members, mesh, PartitionSpec("member"))
            for state in training.train(job.recipe, mesh, points, members, begin, job.steps, watch):
                step = int(sharding.fetch(state.step)[0])
                watch.state = state
                if not (dataset["complete"].sel(training_step=step) == 1).all():
                    progress.update(task, description=f"measuring at step {step}")
                    snapshot = snapshots.measure(
                        job.recipe.model, mesh, points, members, state.ema, keys, basis, t, count
                    )
                    _store(dataset, job, step, state, sharding.fetch(snapshot))
                    if first:
                        results.save(dataset, folder / RESULTS)
                watch.save()
        except KeyboardInterrupt:
            if jax.process_count() == 1:  # saving needs all processes, and the others may not have been interrupted
                watch.save()
            raise


def run(options: TrainOptions, console: Console) -> tuple[Path, xr.Dataset]:
    """Train or finish training: ``trained.nc``, ``training.png`` and ``checkpoint`` in the run's folder.

    Args:
      options: what to do.
      console: where progress is shown.

    Returns:
      The folder and the result.

    Raises:
      InputError: if the options cannot be carried out; nothing is left on disk then.
      KeyboardInterrupt: passed on, with a checkpoint on disk.
    """
    options.check()
    hosts = options.coordinator, options.process_id, options.num_processes
    if any(given is not None for given in hosts):
        sharding.initialize(*hosts)
    first = jax.process_index() == 0
    console.quiet = not first
    folder, dataset, job = _start(options) if options.resume is None else _resume(options, options.resume)
    networks = len(job.grid.sizes) * job.grid.seeds
    mesh = sharding.ensemble_mesh(networks, job.recipe.batch_size)
    devices = f"{mesh.size} device{'s' * (mesh.size > 1)} ({dataset.attrs['device']})"
    console.print(
        f"{job.source.name}: {networks} networks on {devices}, "
        f"N = {min(job.grid.sizes)} to {max(job.grid.sizes)}, {job.grid.seeds} training sets, {job.steps[-1]} steps"
    )
    try:
        _train(console, folder, dataset, job, mesh)
    except KeyboardInterrupt:
        console.print(f"interrupted; finish with: geomem train --resume {folder}")
        raise
    if first:
        # Imported late: drawing is not needed to train.
        from geomem_jax import plots

        plots.save(plots.training(dataset), folder / FIGURE)
    return folder, dataset
