"""The main job: predict, measure, overlay; one folder per run."""

import time
from pathlib import Path

import xarray as xr
from rich.console import Console

from geomem_jax import data, networks, results, runs, sweep
from geomem_jax.config import OverlayOptions, parse_noise_variances, parse_sizes
from geomem_jax.data.source import Source
from geomem_jax.errors import InputError

SAVE_EVERY_S = 20.0  # a kill loses at most this much work; a large result takes a second to write
RESULTS = "results.nc"


def _grid(options: OverlayOptions, source: Source) -> sweep.Grid:
    sizes, held_out = sweep.default_sizes(source, options.points)
    if options.sizes is not None:
        # Two at least: one point has no spread, and a centred law would have none left.
        sizes = parse_sizes(options.sizes, "--sizes", least=2)
    noise_variances = (
        sweep.default_noise_variances(source.variances, sizes)
        if options.t is None
        else parse_noise_variances(options.t, "--t")
    )
    steps = networks.default_steps(source) if options.network_steps is None else options.network_steps
    grid = sweep.Grid(sizes, noise_variances, options.seeds, options.points, held_out, options.seed, steps)
    sweep.check(source, grid)
    return grid


def _start(options: OverlayOptions, console: Console) -> tuple[Path, xr.Dataset, Source, sweep.Grid]:
    source = data.from_options(options, options.seed)
    grid = _grid(options, source)
    folder = runs.new_folder(options.out, source.name)
    try:
        with runs.progress_bar(console) as progress:
            task = progress.add_task("predicting", total=len(grid.sizes))
            dataset = sweep.prepare(
                source,
                grid,
                runs.configuration(options, ("out", "resume")),
                sweep.laws_of(source),
                lambda size: progress.advance(task),
            )
        results.save(dataset, folder / RESULTS)
    except BaseException:
        folder.rmdir()  # still empty, for saving is atomic
        raise
    return folder, dataset, source, grid


def _resume(given: OverlayOptions, folder: Path) -> tuple[Path, xr.Dataset, Source, sweep.Grid]:
    if given != type(given)(resume=folder):
        raise InputError(
            f"--resume {folder} finishes that run with its own options; give no others, or start a new run"
        )
    path = folder / RESULTS
    dataset = results.load(path)
    try:
        options = OverlayOptions(**results.configuration(dataset))  # type: ignore[arg-type]
        options.check()
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its configuration is not one of this version; start a new run") from error
    source = data.from_options(options, options.seed)
    grid = _grid(options, source)
    if dataset.attrs.get("data_fingerprint") != sweep.fingerprint(source):
        raise InputError(f"{path} was measured on other data than {options.data or source.name} now; start a new run")
    axes = (tuple(dataset[name].values.tolist()) for name in ("dataset_size", "noise_variance"))
    numbers = (dataset.attrs.get(name) for name in ("points", "held_out", "random_seed", "network_steps"))
    measured = (*axes, dataset.sizes["seed"], *numbers)
    if measured != tuple(grid) or tuple(dataset["rung"].values.tolist()) != sweep.rungs(grid):
        raise InputError(f"{path} was measured with other options than it states; start a new run")
    return folder, dataset, source, grid


def _measure(console: Console, folder: Path, dataset: xr.Dataset, source: Source, grid: sweep.Grid) -> None:
    """Measure what is missing, with progress; whatever happens, what was measured is on disk afterwards."""
    todo = sweep.remaining(dataset)
    total = sum(sweep.cell_cost(size) for _, size in todo)
    with runs.progress_bar(console) as progress:
        task = progress.add_task("measuring", total=total)
        saved = time.monotonic()

        def after_cell(seed: int, size: int) -> None:
            nonlocal saved
            progress.update(
                task,
                advance=sweep.cell_cost(size),
                description=f"measuring training set {seed + 1} of {grid.seeds}, N = {size}",
            )
            if time.monotonic() - saved > SAVE_EVERY_S:
                results.save(dataset, folder / RESULTS)
                saved = time.monotonic()

        try:
            sweep.measure(dataset, source, grid, after_cell)
        finally:
            results.save(dataset, folder / RESULTS)


def _train(console: Console, folder: Path, dataset: xr.Dataset, source: Source, grid: sweep.Grid) -> None:
    """Train and measure the networks, with progress; they are stored when all are measured, not before."""
    sizes, seeds = networks.chosen(grid)
    count = len(sizes) * seeds
    with runs.progress_bar(console) as progress:
        training = progress.add_task(f"training {count} networks", total=grid.network_steps)
        measuring = progress.add_task(f"measuring {count} networks", total=count)

        def after_block(step: int, loss: float) -> None:
            progress.update(training, completed=step, description=f"training {count} networks, loss {loss:.3f}")

        failures = networks.measure(dataset, source, grid, after_block, lambda seed, size: progress.advance(measuring))
    results.save(dataset, folder / RESULTS)
    for failure in failures:
        console.print(f"network of {failure}; left out")


def measure(options: OverlayOptions, console: Console) -> tuple[Path, xr.Dataset]:
    """Run or finish the predictions and measurements of the main job: ``results.nc`` in the run's folder.

    Args:
      options: what to do.
      console: where progress is shown.

    Returns:
      The folder and the result.

    Raises:
      InputError: if the options cannot be carried out; nothing is left on disk then.
      KeyboardInterrupt: passed on, with what was measured so far on disk.
    """
    folder, dataset, source, grid = (
        _start(options, console) if options.resume is None else _resume(options, options.resume)
    )
    console.print(
        f"{source.name}: {len(source.variances)} directions, N = {min(grid.sizes)} to {max(grid.sizes)}, "
        f"t = {min(grid.noise_variances):g} to {max(grid.noise_variances):g}, {grid.seeds} training sets"
    )
    try:
        _measure(console, folder, dataset, source, grid)
        if networks.pending(dataset, grid):
            _train(console, folder, dataset, source, grid)
    except KeyboardInterrupt:
        total = len(grid.sizes) * grid.seeds
        untrained = ", no network trained" if networks.pending(dataset, grid) else ""
        console.print(
            f"interrupted with {total - len(sweep.remaining(dataset))} of {total} cells measured{untrained}; "
            f"finish with: geomem overlay --resume {folder}"
        )
        raise
    return folder, dataset


def run(options: OverlayOptions, console: Console) -> tuple[Path, xr.Dataset]:
    """Run or finish the main job: :func:`measure`, then ``overlay.png`` and ``report.html`` beside the result."""
    folder, dataset = measure(options, console)
    with console.status("comparing and drawing"):
        # Imported late: drawing is not needed to measure.
        from geomem_jax import plots, report

        plots.save(plots.overlay(dataset), folder / "overlay.png")
        report.write(dataset, folder / "report.html")
    return folder, dataset
