"""What the command line prints: tables of freeze-out sizes, predicted and measured, and readings of training."""

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from geomem_jax.formatting import format_interval, format_size, spaced
from geomem_jax.laws import label

if TYPE_CHECKING:
    import xarray as xr

    from geomem_jax.league import League


def print_prediction(prediction: dict[str, Any]) -> None:
    """Print what :func:`geomem_jax.predict.predict` returns."""
    console = Console()
    variances = np.asarray(prediction["variances"])
    # Equal variances share a row.
    distinct, first, counts = np.unique(-variances, return_index=True, return_counts=True)
    rows = spaced(len(distinct))
    note = "" if len(rows) == len(distinct) else f"; {len(rows)} of {len(distinct)} distinct variances"
    table = Table(title=f"{prediction['name']}: freeze-out sizes N* at noise variance t = {prediction['t']:.3g}{note}")
    table.add_column("variance", justify="right")
    table.add_column("directions", justify="right")
    laws = prediction["log_freeze_out_sizes"]
    for law in laws:
        table.add_column(f"N*,\n{law.replace('_', ' ')}", justify="right")
    for row in rows:
        sizes = [format_size(values[first[row]]) for values in laws.values()]
        table.add_row(f"{-distinct[row] + 0.0:.4g}", str(counts[row]), *sizes)
    console.print(table)
    table = Table(title="condensation time t_c, onset time t_o, and soft dimension at the same t")
    for name in ("N", "t_c", "t_o", *(f"dimension,\n{law}" for law in prediction["soft_dimensions"])):
        table.add_column(name, justify="right")
    for index, size in enumerate(prediction["dataset_sizes"]):
        dimensions = [f"{values[index]:.2f}" for values in prediction["soft_dimensions"].values()]
        times = (prediction[name][index] for name in ("condensation_times", "onset_times"))
        table.add_row(str(size), *(f"{time:.4g}" for time in times), *dimensions)
    console.print(table)
    if prediction["gaussian_relative"]:
        console.print("The data are not Gaussian: only their variances enter, and gains are Gaussian-relative.")


def print_comparison(dataset: "xr.Dataset") -> None:
    """Print the freeze-out table of a result and its verdict."""
    # Imported late: ``geomem predict`` prints its tables without these.
    from geomem_jax import compare

    console = Console()
    found = compare.verdict(dataset)
    rows = compare.freeze_out_table(dataset, found.noise_variance)
    chosen = spaced(len(rows))
    note = "" if len(chosen) == len(rows) else f"; {len(chosen)} of {len(rows)} distinct variances"
    table = Table(
        title=f"{dataset.attrs['name']}: freeze-out sizes N* at noise variance t = {found.noise_variance:.3g}, "
        f"held-out points [95 % interval over training sets]{note}",
        caption=compare.networks_in_words(dataset),
        caption_justify="left",
        padding=0,
    )
    table.add_column("variance", justify="right")
    table.add_column("directions", justify="right")
    rungs = compare.table_laws(rows[0])
    for rung, laws in rungs.items():
        for law in laws:
            name = label(law).replace("-", "-\n")
            table.add_column(f"{name}\nlaw", justify="right")
        table.add_column(f"{rung},\nmeasured", justify="right")
    for row in (rows[index] for index in chosen):
        cells = []
        for rung, laws in rungs.items():
            cells += [compare.format_predicted(row, law) for law in laws]
            cells.append(format_interval(row.measured[rung], row.grid[rung]))
        table.add_row(f"{row.variance:.4g}", str(row.multiplicity), *cells)
    console.print(table)
    console.print(found.sentence)


MOST_SNAPSHOTS = 4
MOST_TRAINED = 8  # distinct variances, each with a row per snapshot


def print_trained(dataset: "xr.Dataset") -> None:
    """Print freeze-out sizes of a result of training, at its smallest and its largest noise variance, and readings."""
    from geomem_jax import phase_diagrams, readings
    from geomem_jax.trained_results import is_predicted, measured_steps

    console = Console()
    steps = measured_steps(dataset)
    shown = [int(steps[index]) for index in spaced(len(steps), MOST_SNAPSHOTS)]
    times = dataset["noise_variance"].values
    for t in times[spaced(len(times), 2)]:
        console.print(_trained_table(dataset, shown, float(t)))
    lost = int((dataset["failed"].values >= 0).sum())
    if lost:
        console.print(f"{lost} of {dataset['failed'].size} networks failed and are left out from that step on.")
    if is_predicted(dataset):
        left_out = "the five readings of networks are left out: gains of linear denoisers are the same at every point"
        console.print(left_out, soft_wrap=True)
    for reading in readings.readings(dataset):
        console.print(reading.line(), highlight=False, soft_wrap=True)
    for t in times[spaced(len(times), 2)]:
        console.print(phase_diagrams.trained_in_words(dataset, float(t)), highlight=False, soft_wrap=True)


def _trained_table(dataset: "xr.Dataset", steps: list[int], t: float) -> Table:
    from geomem_jax.freeze_out import freeze_out_sizes, predicted_sizes
    from geomem_jax.trained_results import LAWS, at_step

    views = {step: at_step(dataset, step) for step in steps}
    rows: list[tuple[str, list[Any]]] = [
        (f"{step} steps", [freeze_out_sizes(view, "trained", point, t) for point in ("train", "held_out")])
        for step, view in views.items()
    ]
    last = views[steps[-1]]
    exact = [freeze_out_sizes(last, "empirical", point, t) for point in ("train", "held_out")]
    rows.append(("exact empirical score", exact))
    predicted = {law: predicted_sizes(last, t, law) for law in LAWS}
    variance, multiplicity = exact[0].variance, exact[0].multiplicity
    groups = spaced(len(variance), MOST_TRAINED)
    note = "" if len(groups) == len(variance) else f"; {len(groups)} of {len(variance)} distinct variances"
    table = Table(
        title=f"{dataset.attrs['name']}: freeze-out sizes N* of networks at noise variance t = {t:.3g} "
        f"[95 % interval over training sets]{note}"
    )
    table.add_column("variance", justify="right")
    table.add_column("directions", justify="right")
    for name in ("measured", "N*, training points", "N*, held-out points"):
        table.add_column(name)
    for group in groups:
        first = [f"{variance[group]:.4g}", str(multiplicity[group])]
        for name, found in rows:
            ends = [(size.log_value[group], size.log_lower[group], size.log_upper[group]) for size in found]
            cells = [format_interval(end, size.grid) for end, size in zip(ends, found, strict=True)]
            table.add_row(*first, name, *cells)
            first = ["", ""]
        for law, sizes in predicted.items():
            table.add_row("", "", f"{label(law)} law", "", format_size(sizes[group]))
        table.add_section()
    return table


def print_league(found: "League", t: float) -> None:
    """Print the rows of a league at one noise variance, but for those at the origin."""
    from geomem_jax.league_words import table

    rows = [row for row in found.rows if np.isclose(row.noise_variance, t) and row.point != "origin"]
    header, lines = table(found, rows)
    shown = [name for name in header if name != "t"]
    drawn = Table(
        title=f"Which law predicts the gains? t = {t:.3g}, family-wise level {100 * found.alpha:g} %",
        caption="like: indistinguishable from; in the limit: of many directions; "
        "N* off by: at most; log score: mean over cells, less that of the best law, in nats; dimension: measured less "
        "predicted; detects: factor in N* that the run could have detected",
        caption_justify="left",
        padding=0,
    )
    for name in shown:
        drawn.add_column(name)
    previous = ("", "")
    for line in lines:
        cells = dict(zip(header, line, strict=True))
        place = cells["model"], cells["points"]
        if place == previous:
            cells["model"] = cells["points"] = ""
        elif previous != ("", ""):
            drawn.add_section()
        previous = place
        drawn.add_row(*(cells[name] for name in shown))
    Console().print(drawn)
