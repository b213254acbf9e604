"""Theory against measurement: freeze-out with intervals, the verdict of a run, the league of laws.

The input is the dataset of :mod:`geomem_jax.results`.  The unit of error is the training set (seed): points
and directions of equal variance are averaged inside a seed before any error bar.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr

from geomem_jax.errors import InputError
from geomem_jax.formatting import format_size
from geomem_jax.freeze_out import (
    FreezeOut,
    SizeErrors,
    freeze_out_sizes,
    freeze_out_times,
    kendall_tau,
    laws,
    predicted_sizes,
    predicted_times,
    size_errors,
)
from geomem_jax.gains import DistinctVariances, distinct_variances, is_complete, relative_gain
from geomem_jax.laws import LAWS_OF
from geomem_jax.league import League, Row, league
from geomem_jax.results import FAILED, NETWORK
from geomem_jax.statistics import Bootstrap, critical_t, critical_z, expanded_bootstrap
from geomem_jax.verdict import POINT, RungVerdict, Verdict, verdict

__all__ = [
    "Bootstrap",
    "DistinctVariances",
    "FreezeOut",
    "League",
    "Row",
    "RungVerdict",
    "SizeErrors",
    "TableRow",
    "Verdict",
    "critical_t",
    "critical_z",
    "distinct_variances",
    "expanded_bootstrap",
    "format_predicted",
    "format_size",
    "freeze_out_sizes",
    "freeze_out_table",
    "freeze_out_times",
    "kendall_tau",
    "league",
    "networks_in_words",
    "predicted_sizes",
    "predicted_times",
    "relative_gain",
    "size_errors",
    "table_laws",
    "verdict",
]


class TableRow(NamedTuple):
    """One distinct variance of the freeze-out table; log sizes, censored as in :class:`FreezeOut`.

    Attributes:
      variance: the variance.
      multiplicity: how many directions have it.
      predicted: law to log size.
      measured: rung to ``(log size, lower, upper)`` at held-out points, from the mean over points; rungs of which
        something is measured.
      measured_median: the same from the median over points in each training set.
      grid: rung to the smallest and largest dataset size in use.
    """

    variance: float
    multiplicity: int
    predicted: dict[str, float]
    measured: dict[str, tuple[float, float, float]]
    measured_median: dict[str, tuple[float, float, float]]
    grid: dict[str, tuple[float, float]]


def format_predicted(row: TableRow, law: str) -> str:
    """Write a predicted size; that of an exact average, known on the grid alone, is censored as a measured one."""
    return format_size(row.predicted[law], row.grid["empirical"] if law == "finite_size" else None)


def table_laws(row: TableRow) -> dict[str, list[str]]:
    """The rungs of a table and the laws beside each; under the population law nothing freezes: no size to compare."""
    return {
        rung: [law for law in LAWS_OF[rung] if law in row.predicted]
        for rung in row.measured
        if rung not in row.predicted or np.isfinite(row.predicted[rung])
    }


def networks_in_words(dataset: xr.Dataset) -> str | None:
    """What the columns and points of networks mean, and which are missing; ``None`` without networks."""
    if NETWORK not in dataset["rung"].values:
        return None
    complete = dataset["complete"].sel(rung=NETWORK).transpose("dataset_size", "seed")
    measured = complete.values == 1
    steps = f"{dataset.attrs['network_steps']} steps"
    parts = ["No network is measured."]
    if measured.any():
        sizes = dataset["dataset_size"].values[measured.any(axis=1)]
        sets = int(measured.any(axis=0).sum())
        parts = [
            f"The network is small and trained for {steps} on the same points, at N = {', '.join(map(str, sizes))}; "
            "it has no law of its own, and what it has not learned yet may count as free."
        ]
        parts += [f"Its ranges are those of {sets} training sets, not intervals."] if sets > 1 else []
    for row, seed in np.argwhere(complete.values == FAILED):
        size = int(dataset["dataset_size"].values[row])
        parts.append(f"The network of N = {size}, training set {seed + 1}, became non-finite and is left out.")
    return " ".join(parts)


def freeze_out_table(dataset: xr.Dataset, t: float, *, bootstrap_seed: int = 0) -> list[TableRow]:
    """Predicted and measured freeze-out sizes at held-out points, one row per distinct variance.

    Args:
      dataset: a result.
      t: noise variance, one of the grid.
      bootstrap_seed: seed of the resampling.

    Returns:
      Rows in descending variance.

    Raises:
      InputError: if the noise variance is not in the result, or nothing is measured.
    """
    rungs = [str(rung) for rung in dataset["rung"].values if is_complete(dataset, str(rung)).any()]
    if not rungs:
        raise InputError("no training set of this result is measured; let the run finish")
    predicted = {law: predicted_sizes(dataset, t, law) for law in laws(dataset)}
    by_mean, by_median = (
        {rung: freeze_out_sizes(dataset, rung, POINT, t, statistic, bootstrap_seed=bootstrap_seed) for rung in rungs}
        for statistic in ("mean", "median")
    )

    def triple(sizes: FreezeOut, row: int) -> tuple[float, float, float]:
        return float(sizes.log_value[row]), float(sizes.log_lower[row]), float(sizes.log_upper[row])

    groups = distinct_variances(dataset)
    return [
        TableRow(
            float(groups.variance[row]),
            int(groups.multiplicity[row]),
            {law: float(sizes[row]) for law, sizes in predicted.items()},
            {rung: triple(by_mean[rung], row) for rung in rungs},
            {rung: triple(by_median[rung], row) for rung in rungs},
            {rung: by_mean[rung].grid for rung in rungs},
        )
        for row in range(len(groups.variance))
    ]
