"""The measurement: rungs x dataset sizes x noise variances x training sets x point classes.

For every seed one training set of the largest size is drawn, of which the smaller ones are the first rows, with points
held out from all of them, and rotated into the directions.  A *cell* is one (seed, dataset size); its numbers depend on
nothing but the configuration, so cells can be measured in any order and a resumed sweep ends with the same numbers.
The dataset size and the noise variances are arguments of the compiled programs, never shapes.
"""

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import theory
from geomem_jax import networks, results, sweep_spectra
from geomem_jax.cells import Grid, Summary, TrainingSet, cycled, draw, store, summarize
from geomem_jax.data.source import Source
from geomem_jax.denoisers import empirical, empirical_jacobian, linear, population
from geomem_jax.errors import InputError
from geomem_jax.laws import EXACT_AT, law_size

RUNGS = ("population", "linear", "empirical")  # that are solved; the trained one is in geomem_jax.networks
LAWS = ("population", "linear", "empirical")  # in closed form
MOST_VARIANCES = 16  # distinct ones of which exact averages are evaluated; their time grows with the number


def rungs(grid: Grid) -> tuple[str, ...]:
    """Name the rungs of a sweep."""
    return (*RUNGS, results.NETWORK) if grid.network_steps else RUNGS


def default_sizes(source: Source, points: int) -> tuple[tuple[int, ...], int]:
    """Choose dataset sizes (powers of two and the halves between, up to 16384 or the data) and held-out points."""
    if source.max_points is None:
        largest, held_out = 16384, points
    else:
        held_out = min(points, max(1, source.max_points // 5))
        largest = source.max_points - held_out
    ladder = {2**k for k in range(1, 15)} | {3 * 2**k for k in range(5)}
    return tuple(sorted({size for size in ladder if size <= largest} | {min(largest, 16384)})), held_out


def default_noise_variances(variances: np.ndarray, sizes: tuple[int, ...]) -> tuple[float, ...]:
    """Choose nine noise variances, from a tenth of the smallest condensation time to the largest."""
    low, high = np.asarray(theory.condensation_time(variances, [max(sizes), max(4, min(sizes))]), np.float64)
    return tuple(sorted({float(f"{t:.2g}") for t in np.geomspace(low / 10, high, 9)}))


def memory_bytes() -> int:
    """Return the memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check(source: Source, grid: Grid) -> None:
    """Refuse, by an InputError, a grid that the data cannot fill or memory cannot hold; allocates nothing."""
    if source.max_points is not None and max(grid.sizes) + grid.held_out > source.max_points:
        raise InputError(
            f"dataset size {max(grid.sizes)} with {grid.held_out} held-out points needs more than the "
            f"{source.max_points} points of {source.name}; give sizes up to {source.max_points - grid.held_out}"
        )
    # Points (drawn, rotated and centred), eigendecompositions, and four numbers per direction of every result.
    directions = len(source.variances)
    cells = len(grid.sizes) * len(grid.noise_variances) * grid.seeds * len(rungs(grid)) * len(results.POINT_CLASSES)
    points = 3 * (max(grid.sizes) + grid.held_out + 2 * grid.points)
    numbers = (points + 6 * directions + 4 * cells) * directions
    if grid.network_steps:
        numbers += networks.most_numbers(directions)
    if 4 * numbers > memory_bytes() // 2:
        raise InputError(
            f"{directions} directions, N up to {max(grid.sizes)}, {grid.seeds} training sets and {grid.points} points "
            f"need about {4 * numbers / 2**30:.3g} GiB, more than half of memory; lower the largest of these numbers"
        )


def _commit() -> str:
    """Commit of the checkout this package runs from, or "unknown"."""
    folder = Path(__file__).parent
    try:
        # Only a checkout of this very file counts, not a repository that happens to surround an installation.
        ours = ["git", "-C", str(folder), "ls-files", "--error-unmatch", Path(__file__).name]
        subprocess.run(ours, capture_output=True, check=True, timeout=10)
        command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def fingerprint(source: Source) -> str:
    """Digest of the points, or of the variances from which they are drawn, so that a resumed run notices other data.

    Not of computed directions: those of the same data may differ in the last bits between machines.
    """
    if source.max_points is None:
        content = np.asarray(source.variances, np.float64)
    else:
        content = np.asarray(source.draw(jax.random.key(0), source.max_points, 0).train, np.float32)
    return hashlib.sha256(np.ascontiguousarray(content).tobytes()).hexdigest()[:16]


def laws_of(source: Source) -> tuple[str, ...]:
    """Laws worth predicting: the exact averages only of Gaussian data with few distinct variances."""
    exact = source.gaussian and np.unique(source.variances).size <= MOST_VARIANCES
    return (*LAWS, *EXACT_AT) if exact else LAWS


def provenance(source: Source, configuration: dict[str, object], packages: Sequence[str] = ()) -> dict[str, object]:
    """Describe where a result comes from, for its attributes; ``packages`` are those used beside the usual ones."""
    return {
        "name": source.name,
        "configuration": json.dumps(configuration),
        "gaussian_relative": int(not source.gaussian),
        "centred": int(source.centred),
        "data_fingerprint": fingerprint(source),
        "max_points": -1 if source.max_points is None else source.max_points,
        "device": jax.devices()[0].device_kind,
        "versions": json.dumps(
            {"python": platform.python_version()}
            | {name: importlib.metadata.version(name) for name in ("geomem-jax", "jax", "numpy", "xarray", *packages)}
        ),
        "commit": _commit(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def prepare(
    source: Source,
    grid: Grid,
    configuration: dict[str, object],
    laws: Sequence[str] = LAWS,
    after_size: Callable[[int], None] = lambda size: None,
) -> xr.Dataset:
    """Build the result in which nothing is measured yet, with the predictions beside.

    Args:
      source: the data.
      grid: what to measure.
      configuration: plain options from which the run can be repeated; stored as JSON.
      laws: predicted laws, names of :data:`theory.LAWS` or :data:`geomem_jax.laws.EXACT_AT`.
      after_size: called with every dataset size when all laws are predicted at it, to show progress.
    """
    attributes = provenance(source, configuration, ("flax", "optax") if grid.network_steps else ()) | {
        "points": grid.points,
        "held_out": grid.held_out,
        "random_seed": grid.seed,
        "network_steps": grid.network_steps,
    }
    dataset = results.empty(
        rungs=rungs(grid),
        laws=laws,
        dataset_sizes=grid.sizes,
        noise_variances=grid.noise_variances,
        seeds=range(grid.seeds),
        variances=source.variances,
        attributes=attributes,
    )
    t = np.asarray(grid.noise_variances)

    def predict(size: int) -> dict[str, tuple[np.ndarray, ...]]:
        """Gains of every law and, of averages, their errors."""
        found: dict[str, tuple[np.ndarray, ...]] = {}
        for law in laws:
            n = law_size(law, size, centred=source.centred)
            if law in EXACT_AT:
                average = theory.mean_finite_size_gain(source.variances, n, t, EXACT_AT[law])
                found[law] = np.asarray(average.mean), np.asarray(average.error)
            else:
                found[law] = (np.asarray(theory.gain(source.variances, n, t, law)),)
        return found

    # An exact average runs on one core for seconds, so each core has a dataset size of its own.
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for size, predicted in zip(grid.sizes, pool.map(predict, grid.sizes), strict=True):
            for law, values in predicted.items():
                for name, value in zip(("predicted_gain", "predicted_gain_error"), values, strict=False):
                    dataset[name].loc[{"law": law, "dataset_size": size}] = value
            after_size(size)
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt does not wait for the sizes that are left
    dataset["reference_gain"][:] = np.asarray(theory.wiener_gain(source.variances, t))
    return dataset


@jax.jit
def _empirical(key: jax.Array, train: jax.Array, count: jax.Array, clean: jax.Array, t: jax.Array) -> Summary:
    """Summarize gains at the points ``clean`` ``(B, d)`` plus noise, for every noise variance."""
    noise = jax.random.normal(key, clean.shape, train.dtype)

    def at_one_noise(t: jax.Array) -> Summary:
        posterior = empirical.posterior(train, count, clean + jnp.sqrt(t) * noise, t)
        return summarize(posterior.gain, posterior.participation)

    return jax.lax.map(at_one_noise, t)


@jax.jit
def _empirical_at_origin(train: jax.Array, count: jax.Array, t: jax.Array) -> Summary:
    """The same at the origin: one point, so no spread over points."""

    def at_one_noise(t: jax.Array) -> Summary:
        posterior = empirical.posterior(train, count, jnp.zeros((1, train.shape[1]), train.dtype), t)
        return summarize(posterior.gain, posterior.participation)

    return jax.lax.map(at_one_noise, t)


def measure_empirical(grid: Grid, data: TrainingSet, size: int) -> dict[str, Summary]:
    """Measure the exact score of the first ``size`` training points at every point class."""
    t = jnp.asarray(grid.noise_variances, data.train.dtype)
    count = jnp.asarray(size)
    train = cycled(data.train, size, grid.points)
    held_out = cycled(data.held_out, data.held_out.shape[0], grid.points)
    return {
        "train": _empirical(data.train_key, data.train, count, train, t),
        "held_out": _empirical(data.held_out_key, data.train, count, held_out, t),
        "origin": _empirical_at_origin(data.train, count, t),
    }


def empirical_spectra(grid: Grid, data: TrainingSet, size: int) -> dict[str, jax.Array]:
    """Measure the singular values of the same score, at the first few of the same noised points: ``(T, B, d)``."""
    t, d = jnp.asarray(grid.noise_variances, data.train.dtype), data.train.shape[1]
    axes, origin = jnp.eye(d, dtype=data.train.dtype), jnp.zeros((1, d), data.train.dtype)
    model = empirical_jacobian.Model(data.train, jnp.asarray(size), axes, origin[0])
    found = {"origin": sweep_spectra.at_noises(model, origin, origin, t)}
    few = min(sweep_spectra.POINTS, grid.points)
    held_out = data.held_out, data.held_out.shape[0], data.held_out_key
    for point, (points, count, key) in {"train": (data.train, size, data.train_key), "held_out": held_out}.items():
        noise = jax.random.normal(key, (grid.points, d), data.train.dtype)[:few]
        found[point] = sweep_spectra.at_noises(model, cycled(points, count, few), noise, t)
    return found


class _Cell(NamedTuple):
    """Numbers of one cell, which may still be computed: by rung, or of the empirical rung by point class."""

    everywhere: dict[str, Summary]
    eigenvalues: dict[str, jax.Array]
    empirical: dict[str, Summary]
    singular_values: dict[str, jax.Array]


def _measure_cell(source: Source, grid: Grid, data: TrainingSet, size: int) -> _Cell:
    t = jnp.asarray(grid.noise_variances, data.train.dtype)
    at_points = measure_empirical(grid, data, size)
    # Gains of the Gaussian rungs do not depend on the point: no spread, and no weights to participate.
    variances = jnp.asarray(source.variances, data.train.dtype)
    model = linear.fit(data.train, jnp.asarray(size), centred=source.centred)
    undefined = jnp.full(t.shape, jnp.nan, t.dtype)
    everywhere = {
        rung: Summary(gains, jnp.zeros_like(gains), gains, undefined, jnp.sum(gains, axis=-1))
        for rung, gains in {
            "population": population.gains(variances, t[:, None]),
            "linear": linear.gains(model, t),
        }.items()
    }
    if not sweep_spectra.measured(len(variances)):
        return _Cell(everywhere, {}, at_points, {})
    eigenvalues = {
        "population": population.gains(variances, t[:, None]),
        "linear": model.eigenvalues / (model.eigenvalues + t[:, None]),
    }
    return _Cell(everywhere, eigenvalues, at_points, empirical_spectra(grid, data, size))


def _store_cell(dataset: xr.Dataset, cell: _Cell, size: int, seed: int) -> None:
    spectra = {rung: sweep_spectra.of_gains(np.asarray(gains)) for rung, gains in cell.eigenvalues.items()}
    for point in results.POINT_CLASSES:
        store(dataset, "empirical", point, size, seed, cell.empirical[point])
        if point in cell.singular_values:
            found = sweep_spectra.summarize(np.asarray(cell.singular_values[point]))
            store(dataset, "empirical", point, size, seed, found)
        for rung, summary in cell.everywhere.items():
            store(dataset, rung, point, size, seed, summary)
            if rung in spectra:
                store(dataset, rung, point, size, seed, spectra[rung])
    dataset["complete"].loc[{"rung": list(RUNGS), "dataset_size": size, "seed": seed}] = 1


def cell_cost(size: int) -> float:
    """Relative time of a cell: a constant part and one that grows with the training points."""
    return 2000 + max(size, empirical.BLOCK)


def remaining(dataset: xr.Dataset) -> list[tuple[int, int]]:
    """List the (seed, dataset size) cells of the solved rungs that are not measured yet."""
    complete = (dataset.complete.sel(rung=list(RUNGS)) == 1).all("rung")
    return [
        (int(seed), int(size))
        for seed in dataset.seed.values
        for size in dataset.dataset_size.values
        if not complete.sel(seed=seed, dataset_size=size).item()
    ]


def measure(dataset: xr.Dataset, source: Source, grid: Grid, after_cell: Callable[[int, int], None]) -> None:
    """Measure every cell of ``dataset`` that is not complete, in place; networks apart, see :mod:`geomem_jax.networks`.

    Args:
      dataset: from :func:`prepare`, or the partial result of an earlier call.
      source: the data.
      grid: as given to :func:`prepare`.
      after_cell: called with (seed, dataset size) when a cell is complete, to show progress and to save.
    """

    def cells() -> Iterator[tuple[int, int, _Cell]]:
        drawn: tuple[int, TrainingSet] | None = None
        for seed, size in remaining(dataset):
            if drawn is None or drawn[0] != seed:
                drawn = seed, draw(source, grid, seed)
            yield seed, size, _measure_cell(source, grid, drawn[1], size)

    # While one cell is computed, in the background, the one before is summarized and stored.
    ahead = cells()
    before = next(ahead, None)
    while before is not None:
        seed, size, cell = before
        before = next(ahead, None)
        _store_cell(dataset, cell, size, seed)
        after_cell(seed, size)
