"""Training networks as a job: sizes x training sets in one ensemble, measured while it trains; one folder per run.

``trained.nc`` (:mod:`geomem_jax.trained_results`) is written after every snapshot and ``checkpoint`` about every half
minute, so that a run that is stopped goes on from there and ends with the same numbers.  Training sets, and the
noise of the points at which gains are measured, are those that :mod:`geomem_jax.sweep` draws with the same seed.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np
import xarray as xr
from jax.sharding import Mesh, PartitionSpec
from rich.console import Console
from rich.progress import Progress, TaskID

from geomem_jax import (
    checkpoints,
    copying,
    results,
    runs,
    sharding,
    snapshots,
    sweep,
    trained_results,
    training,
    training_job,
)
from geomem_jax.cells import NETWORKS
from geomem_jax.config import TrainOptions
from geomem_jax.errors import InputError
from geomem_jax.training_job import Job

RESULTS = "trained.nc"
FIGURES = ("training.png", "phases.png")
CHECKPOINT_EVERY_S = 30.0  # a kill loses at most this much work
IDENTITY = ("out", "resume", "coordinator", "process_id", "num_processes")  # where a run is, not what it is


def _store(
    dataset: xr.Dataset,
    job: Job,
    step: int,
    state: training.State,
    snapshot: snapshots.Snapshot,
    copied: np.ndarray | None,
) -> None:
    at = {"training_step": step}
    shape = (len(job.grid.sizes), job.grid.seeds)
    for name, values in snapshot._asdict().items():
        # (size, seed, point, noise, direction) to (point, size, noise, seed, direction)
        grid = np.asarray(values).reshape(*shape, *values.shape[1:])
        dataset[name].loc[at] = grid.transpose(2, 0, 3, 1, 4)
    if copied is not None:
        dataset["copied"].loc[at] = copied.reshape(shape)
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
    job = training_job.job_of(resolved)
    dataset = training_job.prepare(job, runs.configuration(resolved, IDENTITY))
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
    job = training_job.job_of(options)
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
    measurement = training_job.measurement_of(job)
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
            training_job.measure_empirical(dataset, job, partial(progress.advance, task))
        task = progress.add_task("compiling", total=job.steps[-1], completed=int(sharding.fetch(begin.step)[0]))
        watch = _Watch(job, begin, lambda state: checkpoints.save(folder, state, description), progress, task)
        try:
            *arrays, count = measurement
            points, keys, basis, t = sharding.put(tuple(arrays), mesh, PartitionSpec())
            members = sharding.put(job.members, mesh, PartitionSpec("member"))
            plan = sharding.put(training_job.plan_of(job, measurement.data), mesh, PartitionSpec())
            if plan is not None:
                chance = sharding.fetch(copying.by_chance(mesh, points, members, plan))
                dataset["held_out_copied"][:] = chance.reshape(len(job.grid.sizes), -1)
            for state in training.train(job.recipe, mesh, points, members, begin, job.steps, watch):
                step = int(sharding.fetch(state.step)[0])
                watch.state = state
                if not (dataset["complete"].sel(training_step=step) == 1).all():
                    progress.update(task, description=f"measuring at step {step}")
                    snapshot = snapshots.measure(
                        job.recipe.model, mesh, points, members, state.ema, keys, basis, t, count
                    )
                    copied = None
                    if plan is not None:
                        copied = copying.measure(job.recipe.model, mesh, points, members, state.ema, plan)
                    _store(dataset, job, step, state, *sharding.fetch((snapshot, copied)))
                    if first:
                        results.save(dataset, folder / RESULTS)
                watch.save()
        except KeyboardInterrupt:
            if jax.process_count() == 1:  # saving needs all processes, and the others may not have been interrupted
                watch.save()
            raise


def run(options: TrainOptions, console: Console) -> tuple[Path, xr.Dataset]:
    """Train or finish training: ``trained.nc``, two figures and ``checkpoint`` in the run's folder.

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

        for name, draw in zip(FIGURES, (plots.training, plots.phases), strict=True):
            plots.save(draw(dataset), folder / name)
    return folder, dataset
