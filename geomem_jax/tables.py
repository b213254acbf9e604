"""What the command line prints: tables of freeze-out sizes, predicted and measured."""

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from geomem_jax.formatting import format_interval, format_size, spaced
from geomem_jax.laws import label

if TYPE_CHECKING:
    import xarray as xr


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
        f"held-out points [95 % interval over training sets]{note}"
    )
    table.add_column("variance", justify="right")
    table.add_column("directions", justify="right")
    rungs = compare.table_laws(rows[0])
    for rung, laws in rungs.items():
        for law in laws:
            table.add_column(f"{label(law)}\nlaw", justify="right")
        table.add_column(f"{rung},\nmeasured", justify="right")
    for row in (rows[index] for index in chosen):
        cells = []
        for rung, laws in rungs.items():
            cells += [compare.format_predicted(row, law) for law in laws]
            cells.append(format_interval(row.measured[rung], row.grid))
        table.add_row(f"{row.variance:.4g}", str(row.multiplicity), *cells)
    console.print(table)
    console.print(found.sentence)
