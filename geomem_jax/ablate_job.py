"""The ablations as a job: one folder per run, resumable, nothing measured twice.

``ablate.nc``: the responses of every condition (:mod:`geomem_jax.ablate`), stored when all its training sets are
measured; ``toy.nc``: positions of gaps of the paper's toy (:mod:`geomem_jax.toy_gaps`), stored training set by training
set; ``toy_networks.nc``: those of its networks (:mod:`geomem_jax.toy_networks`), stored when all of one kind of data
are trained.  A number depends on the options and on nothing else, so a resumed run ends with the same ones.
"""

import dataclasses
import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr
from rich.console import Console
from rich.progress import Progress, TaskID

from geomem_jax import ablate, ablate_networks, ablate_orders, responses, results, runs, sweep, toy_gaps, toy_networks
from geomem_jax.ablate import Condition
from geomem_jax.ablate_orders import Order
from geomem_jax.atomic import replacing
from geomem_jax.config import AblateOptions
from geomem_jax.directions import group_by_variance
from geomem_jax.errors import InputError

RESULTS, TOY, TOY_NETWORKS = "ablate.nc", "toy.nc", "toy_networks.nc"
FIGURE, TOY_FIGURE, SUMMARY = "ablations.png", "toy.png", "summary.txt"
PAPER = "paper"
TEXTS = ("experiment", "label", "data", "model", "place", "frozen", "estimator")
DIMENSIONS = {
    "response": ("condition", "seed", "position", "group"),
    "grid": ("condition", "position"),
    "variance": ("condition", "group"),
    "multiplicity": ("condition", "group"),
    "noise_variance": ("condition",),
    "along_time": ("condition",),
    "reference_participation": ("condition",),
    "complete": ("condition",),
} | dict.fromkeys(TEXTS, ("condition",))
TOY_DIMENSIONS = {
    "count": ("reading", "data", "point", "dataset_size", "noise_variance", "seed", "above"),
    "complete": ("seed",),
} | dict.fromkeys(
    ("visible", "kept"), ("reading", "data", "point", "dataset_size", "noise_variance", "seed", "seen_group")
)
TOY_NETWORK_DIMENSIONS = {
    "count": ("training_step", "data", "dataset_size", "seed", "reading", "point", "noise_variance", "above"),
    "train_loss": ("training_step", "data", "dataset_size", "seed", "noise_variance"),
    "held_out_loss": ("training_step", "data", "dataset_size", "seed", "noise_variance"),
    "complete": ("data",),
} | dict.fromkeys(
    ("visible", "kept"),
    ("training_step", "data", "dataset_size", "seed", "reading", "point", "noise_variance", "seen_group"),
)


class Toy(NamedTuple):
    """The paper's figure.

    Attributes:
      exact: positions of gaps of the exact score, and which share of either group is visible
        (:class:`geomem_jax.toy_gaps.Positions`).
      networks: those of networks, and their losses.
    """

    exact: xr.Dataset
    networks: xr.Dataset


class Job(NamedTuple):
    """What a run measures.

    Attributes:
      conditions: all of them, in the order of their letters.
      networks: of which networks are trained; ``None``: none.
      toy: the grid of the paper's figure, and which networks of it are trained; ``None``: left out.
      seeds: training sets of every condition (of networks at most six).
      points: per training set.
      seed: of all random numbers.
    """

    conditions: tuple[Condition, ...]
    networks: ablate_networks.Plan | None
    toy: tuple[toy_gaps.Plan, toy_networks.Plan] | None
    seeds: int
    points: int
    seed: int


def job_of(options: AblateOptions) -> Job:
    """Work out what to do."""
    quick, letters = options.preset == "quick", options.letters()
    seeds = options.seeds if options.seeds is not None else (8 if quick else 24)
    every = [condition for condition in ablate.conditions(quick) if condition.experiment in letters]
    networks = ablate_networks.plan(quick, seeds) if "g" in letters else None
    if networks is not None:
        every += [one for width in networks.widths for one in ablate_networks.conditions(networks, width)]
    every.sort(key=lambda condition: condition.experiment)  # stable
    toy = (toy_gaps.plan(quick, seeds), toy_networks.plan(quick, seeds)) if PAPER in letters else None
    return Job(tuple(every), networks, toy, seeds, 16 if quick else 64, options.seed)


def _groups(condition: Condition) -> tuple[np.ndarray, np.ndarray]:
    """Distinct variances, descending, and how many directions have each."""
    variances = ablate.variances_of(condition.levels, condition.normalized)
    groups = group_by_variance(variances)
    return np.array([variances[group[0]] for group in groups]), np.array([len(group) for group in groups])


def _attributes(options: AblateOptions) -> dict[str, object]:
    plain = {name: value for name, value in dataclasses.asdict(options).items() if name not in ("out", "resume")}
    source = responses.source_of(Condition("", "", ablate.LADDER, (2,), (1.0,)))
    packages = ("flax", "optax") if {"g", PAPER} & set(options.letters()) else ()
    return sweep.provenance(source, plain, packages) | {"name": "ablations", "random_seed": options.seed}


def prepare(job: Job, attributes: dict[str, object]) -> xr.Dataset:
    """Build the result in which nothing is measured yet."""
    count = len(job.conditions)
    positions = max((len(condition.grid) for condition in job.conditions), default=0)
    groups = max((len(condition.levels) for condition in job.conditions), default=0)
    shape = {"condition": count, "seed": job.seeds, "position": positions, "group": groups}
    dataset = xr.Dataset(
        {
            name: (dims, np.full([shape[dim] for dim in dims], np.nan))
            for name, dims in DIMENSIONS.items()
            if name not in TEXTS
        },
        {dim: np.arange(size) for dim, size in shape.items()},
        attrs=attributes,
    )
    for row, condition in enumerate(job.conditions):
        variance, multiplicity = _groups(condition)
        dataset["variance"][row, : len(variance)] = variance
        dataset["multiplicity"][row, : len(variance)] = multiplicity
        dataset["grid"][row, : len(condition.grid)] = condition.grid
        dataset["noise_variance"][row] = np.nan if condition.along_time else condition.times[0]
        dataset["along_time"][row] = condition.along_time
    dataset["complete"][:] = 0
    plain = [
        one._asdict() | {"data": "normalized" if one.normalized else "Gaussian", "place": one.place}
        for one in job.conditions
    ]
    return dataset.assign({name: ("condition", np.array([one[name] for one in plain], str)) for name in TEXTS})


def prepare_toy(chosen: toy_gaps.Plan, networks: toy_networks.Plan, attributes: dict[str, object]) -> Toy:
    """Build the counts of positions of gaps, none yet."""
    coordinates: dict[str, Sequence[object] | np.ndarray] = {
        "reading": list(toy_gaps.READINGS),
        "data": list(toy_gaps.DATA),
        "point": list(toy_gaps.POINTS),
        "dataset_size": list(chosen.sizes),
        "noise_variance": list(chosen.times),
        "seed": np.arange(chosen.seeds),
        "above": np.arange(len(toy_gaps.VARIANCES)),
        "seen_group": list(toy_gaps.GROUPS),
    }
    of_networks = coordinates | {
        "training_step": list(networks.steps),
        "dataset_size": list(networks.sizes),
        "seed": np.arange(networks.seeds),
    }

    def blank(dimensions: dict[str, tuple[str, ...]], at: dict[str, Sequence[object] | np.ndarray]) -> xr.Dataset:
        variables = {
            name: (
                dims,
                np.zeros([len(at[dim]) for dim in dims], np.int16 if name in ("count", "complete") else np.float32),
            )
            for name, dims in dimensions.items()
        }
        return xr.Dataset(variables, at, attrs=attributes)

    return Toy(blank(TOY_DIMENSIONS, coordinates), blank(TOY_NETWORK_DIMENSIONS, of_networks))


def _store(dataset: xr.Dataset, row: int, response: np.ndarray) -> None:
    seeds, positions, groups = response.shape
    dataset["response"][row, :seeds, :positions, :groups] = response
    dataset["complete"][row] = 1


def _cost(condition: Condition) -> float:
    """Relative time of a training set of a condition."""
    d = sum(count for count, _ in condition.levels)
    products = d if condition.frozen == "gap" or condition.estimator != "jacobian" else 1
    return len(condition.times) * sum(2000 + size for size in condition.sizes) * d * products


def _measure(job: Job, dataset: xr.Dataset, save: Path, progress: Progress) -> None:
    """Measure the conditions that are missing."""
    todo = [row for row in range(len(job.conditions)) if not dataset["complete"][row]]
    solved = [row for row in todo if job.conditions[row].model != "network"]
    task = progress.add_task("measuring", total=sum(job.seeds * _cost(job.conditions[row]) for row in solved))
    for row in solved:
        condition = job.conditions[row]
        progress.update(task, description=f"({condition.experiment}) {condition.label}")
        infinite = responses.reference(condition, job.seed)
        measured = []
        for seed in range(job.seeds):
            measured.append(responses.respond(condition, infinite, job.seed, seed, job.points))
            progress.advance(task, _cost(condition))
        dataset["reference_participation"][row] = infinite.participation.max()
        _store(dataset, row, np.stack(measured))
        results.save(dataset, save)
    for width in job.networks.widths if job.networks is not None else ():
        assert job.networks is not None
        if all(job.conditions[row].width != width for row in todo):
            continue
        task = progress.add_task(f"training networks of width {width}", total=job.networks.steps[-1])
        after = partial(_at_step, progress, task)
        for condition, response in ablate_networks.measure(job.networks, width, job.seed, job.points, after):
            _store(dataset, job.conditions.index(condition), response)
        results.save(dataset, save)


def _at_step(progress: Progress, task: TaskID, step: int) -> None:
    progress.update(task, completed=step)


def _put(dataset: xr.Dataset, at: dict[str, object], found: toy_gaps.Positions) -> None:
    for name, values in zip(("count", "visible", "kept"), found, strict=True):
        dataset[name].loc[at] = values


def _measure_toy(job: Job, toy: Toy, folder: Path, progress: Progress) -> None:
    assert job.toy is not None
    gaps, networks = job.toy
    task = progress.add_task("the paper's figure", total=gaps.seeds)
    for seed in range(gaps.seeds):
        if not toy.exact["complete"][seed]:
            _put(toy.exact, {"seed": seed}, toy_gaps.measure(gaps, job.seed, seed))
            toy.exact["complete"][seed] = 1
            results.save(toy.exact, folder / TOY)
        progress.advance(task)
    for name in toy_gaps.DATA:
        task = progress.add_task(f"training the paper's networks, {name} data", total=networks.steps[-1])
        if not toy.networks["complete"].sel(data=name):
            after = partial(_at_step, progress, task)
            for found in toy_networks.measure(networks, gaps, name, job.seed, after):
                at = {"training_step": found.step, "data": name}
                _put(toy.networks, at, found.positions)
                toy.networks["train_loss"].loc[at] = found.train_loss
                toy.networks["held_out_loss"].loc[at] = found.held_out_loss
            toy.networks["complete"].loc[{"data": name}] = 1
            results.save(toy.networks, folder / TOY_NETWORKS)
        _at_step(progress, task, networks.steps[-1])


def orders(dataset: xr.Dataset) -> dict[str, dict[int, Order]]:
    """Find the sequence of collapse of every complete condition: by letter, then by row of the result."""
    found: dict[str, dict[int, Order]] = {}
    for row in np.flatnonzero(dataset["complete"].values == 1).tolist():
        one = dataset.isel(condition=row)
        groups = int(np.isfinite(one["variance"].values).sum())
        grid = one["grid"].values[np.isfinite(one["grid"].values)]
        response = one["response"].values[:, : len(grid), :groups]
        response = response[np.isfinite(response).all(axis=(1, 2))]  # no more training sets of networks, or failed
        if len(response):
            order = ablate_orders.order(one["variance"].values[:groups], grid, response)
            found.setdefault(str(one["experiment"].item()), {})[row] = order
    return found


def toy_scores(toy: Toy) -> list[tuple[int | None, xr.Dataset]]:
    """List the exact score (``None``), and networks by their training step."""
    networks = toy.networks
    return [(None, toy.exact)] + [
        (int(step), networks.sel(training_step=step)) for step in networks["training_step"].values
    ]


def toy_cells(toy: xr.Dataset) -> Iterator[tuple[str, str, str, np.ndarray]]:
    """Walk over the paper's figure.

    Args:
      toy: of the exact score, or of networks at one training step.

    Yields:
      Every reading, data and point class, with counts ``(size, S, T, d)`` of the training sets that are measured at all
      sizes, by networks none of which failed; left out where there is none.
    """
    dims = ("reading", "data", "point", "dataset_size", "seed", "noise_variance", "above")
    counts = toy["count"].transpose(*dims).values
    for i, reading in enumerate(toy["reading"].values):
        for j, data in enumerate(toy["data"].values):
            for k, point in enumerate(toy["point"].values):
                done = (counts[i, j, k].sum(axis=-1) > 0).all(axis=(0, 2))
                if done.any():
                    yield str(reading), str(data), str(point), counts[i, j, k][:, done]


def _check(options: AblateOptions, dataset: xr.Dataset, job: Job, path: Path) -> None:
    fresh = prepare(job, {})
    same = dataset.sizes == fresh.sizes and all(
        dataset[name].equals(fresh[name]) for name in ("grid", "variance", "noise_variance", *TEXTS)
    )
    if not same or dataset.attrs.get("random_seed") != options.seed:
        raise InputError(f"{path} was measured with other options than it states; start a new run")


def load_toy(folder: Path) -> Toy:
    """Read the paper's figure of a run.

    Raises:
      InputError: as :func:`geomem_jax.results.load`.
    """
    return Toy(results.load(folder / TOY, TOY_DIMENSIONS), results.load(folder / TOY_NETWORKS, TOY_NETWORK_DIMENSIONS))


def _save_toy(toy: Toy, folder: Path) -> None:
    results.save(toy.exact, folder / TOY)
    results.save(toy.networks, folder / TOY_NETWORKS)


def _start(options: AblateOptions) -> tuple[Path, Job, xr.Dataset, Toy | None]:
    job = job_of(options)
    folder = runs.new_folder(options.out, "ablate")
    try:
        attributes = _attributes(options)
        dataset = prepare(job, attributes)
        toy = None if job.toy is None else prepare_toy(*job.toy, attributes)
        if toy is not None:
            _save_toy(toy, folder)
        results.save(dataset, folder / RESULTS)
    except BaseException:
        for name in (TOY, TOY_NETWORKS):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
        raise
    return folder, job, dataset, toy


def _resume(given: AblateOptions, folder: Path) -> tuple[Path, Job, xr.Dataset, Toy | None]:
    if given != AblateOptions(resume=folder):
        raise InputError(
            f"--resume {folder} finishes that run with its own options; give no others, or start a new run"
        )
    path = folder / RESULTS
    dataset = results.load(path, DIMENSIONS)
    try:
        options = AblateOptions(**results.configuration(dataset))  # type: ignore[arg-type]
        options.check()
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its configuration is not one of this version; start a new run") from error
    job = job_of(options)
    _check(options, dataset, job, path)
    toy = None if job.toy is None else load_toy(folder)
    return folder, job, dataset, toy


def run(options: AblateOptions, console: Console) -> tuple[Path, xr.Dataset, Toy | None]:
    """Run or finish the ablations: results, figures and ``summary.txt`` in the run's folder.

    Args:
      options: what to do.
      console: where progress is shown.

    Returns:
      The folder, the responses, and the gaps of the paper's toy (``None`` if left out).

    Raises:
      InputError: if the options cannot be carried out; nothing is left on disk then.
      KeyboardInterrupt: passed on, with what was measured so far on disk.
    """
    options.check()
    folder, job, dataset, toy = _start(options) if options.resume is None else _resume(options, options.resume)
    console.print(f"ablations: {len(job.conditions)} conditions, {job.seeds} training sets each, in {folder}")
    try:
        with runs.progress_bar(console) as progress:
            _measure(job, dataset, folder / RESULTS, progress)
            if toy is not None:
                _measure_toy(job, toy, folder, progress)
    except KeyboardInterrupt:
        console.print(f"interrupted; finish with: geomem ablate --resume {folder}")
        raise
    # Imported late: drawing is not needed to measure.
    from geomem_jax import ablate_tables, plots

    if job.conditions:
        plots.save(plots.ablations(dataset), folder / FIGURE)
    if toy is not None:
        plots.save(plots.toy_gaps(toy), folder / TOY_FIGURE)
    text = io.StringIO()
    ablate_tables.write(dataset, toy, Console(file=text, width=160))
    with replacing(folder / SUMMARY) as unfinished:
        unfinished.write_text(text.getvalue(), "utf-8")
    return folder, dataset, toy
