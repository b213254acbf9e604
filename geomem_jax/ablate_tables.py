"""What ``geomem ablate`` prints: a table of sequences of collapse, the gaps of the paper's toy, and what they say."""

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

from geomem_jax import ablate_job, ablate_orders, toy_gaps
from geomem_jax.ablate_orders import Order
from geomem_jax.formatting import format_interval
from geomem_jax.statistics import Bootstrap

LOST = 25  # the position that the paper reads as salient directions that are lost


def _end(found: Order, group: int, grid: tuple[float, float], along_time: bool) -> str:
    """Size or time of one group with its interval."""
    value, lower, upper = (float(ends[group]) for ends in (found.sizes.estimate, found.sizes.lower, found.sizes.upper))
    if not along_time:
        return format_interval((value, lower, upper), grid)
    with np.errstate(over="ignore"):
        shown = f"{np.exp(value):.2g}"
        return f"t = {shown}" if np.isnan(lower) else f"t = {shown} [{np.exp(lower):.2g}, {np.exp(upper):.2g}]"


def _ratio(found: Order) -> str:
    """How many times later in N, or at how many times more noise, the smallest variance freezes than the largest."""
    if np.isnan(found.ratio.estimate):
        return "n/a"
    with np.errstate(over="ignore"):
        value, lower, upper = (
            float(np.exp(end)) for end in (found.ratio.estimate, found.ratio.lower, found.ratio.upper)
        )
    return f"{value:.3g}" if np.isnan(lower) else f"{value:.3g} [{lower:.3g}, {upper:.3g}]"


def orders_table(dataset: xr.Dataset, orders: dict[str, dict[int, Order]]) -> Table:
    """Build the table of all complete conditions."""
    table = Table(
        title="freeze-out size N* (or time t*) of the largest and the smallest variance under each condition, their "
        "ratio, and Kendall's τ over all variances, positive if fine detail freezes first [95 % over training sets]",
        padding=0,
    )
    for name in ("condition", "t", "largest", "smallest", "ratio", "τ", "first"):
        table.add_column(name)
    for letter, rows in orders.items():
        for row, found in rows.items():
            one = dataset.isel(condition=row)
            grid = one["grid"].values[np.isfinite(one["grid"].values)]
            along_time, t = bool(one["along_time"].item()), float(one["noise_variance"].item())
            ends = [_end(found, group, (float(grid.min()), float(grid.max())), along_time) for group in (0, -1)]
            kind = ablate_orders.verdict(found).removesuffix(" first")
            name, when = f"({letter}) {one['label'].item()}", "" if along_time else f"{t:.2g}"
            table.add_row(name, when, *ends, _ratio(found), ablate_orders.tau_in_words(found), kind)
        table.add_section()
    return table


def _share(found: Bootstrap) -> str:
    value = f"{float(found.estimate):.2f}"
    return value if np.isnan(found.lower) else f"{value} [{float(found.lower):.2f}, {float(found.upper):.2f}]"


def toy_table(toy: xr.Dataset) -> Table:
    """Build the table of positions of the largest drop of the paper's toy."""
    meanings = ", ".join(f"{position} {meaning}" for position, meaning in toy_gaps.POSITIONS.items())
    reference = int(toy["dataset_size"].values[-1])
    table = Table(
        title=f"the paper's toy, exact empirical score: position of the largest drop as the noise falls ({meanings}); "
        f"share of position 25, and distance from N = {reference} [95 % over training sets]",
        show_lines=True,
        padding=0,
    )
    for name in ("reading, data, point", "N", "most frequent positions", "share of 25", "distance", "control"):
        table.add_column(name)
    sizes = toy["dataset_size"].values
    for reading, data, point, counts in ablate_job.toy_cells(toy):
        columns = (
            [str(size) for size in sizes],
            [" ".join(str(position) for position in toy_gaps.sequence(one)) for one in counts],
            [_share(toy_gaps.share(one, LOST)) for one in counts],
            [_share(toy_gaps.distance(one, counts[-1])) for one in counts[:-1]],
        )
        control = f"{toy_gaps.control(counts[-1]):.2f}"
        table.add_row(f"{reading}, {data}, {point}", *("\n".join(column) for column in columns), control)
    return table


def toy_sentence(toy: xr.Dataset) -> str:
    """Say whether the gap of the lost salient group is made by scarce data, where the paper sees it."""
    sizes, parts = toy["dataset_size"].values, []
    for reading, data, point, counts in ablate_job.toy_cells(toy):
        if point == "origin":
            few, many = (toy_gaps.share(one, LOST) for one in (counts[0], counts[-1]))
            change = "no less at" if many.estimate >= few.estimate else "less at"
            parts.append(
                f"{data}, {reading}: {_share(few)} at N = {sizes[0]}, {change} N = {sizes[-1]}, {_share(many)}"
            )
    return (
        f"The paper's figure, at the origin: share of position {LOST}, read as salient directions that are lost. "
        f"{'. '.join(parts)}. Where it is no less at the largest N it is geometry, not memorization."
    )


def sentences(dataset: xr.Dataset) -> list[str]:
    """Say what every experiment found, and last what follows of all of them; nothing if none is measured."""
    found = ablate_job.orders(dataset)
    labels, data, places = (dataset[name].values.astype(str) for name in ("label", "data", "place"))
    said = [
        ablate_orders.sentence(letter, {labels[row]: one for row, one in rows.items()})
        for letter, rows in found.items()
    ]
    every = [(data[row], places[row], one) for rows in found.values() for row, one in rows.items()]
    return [*said, ablate_orders.conclusion(every)] if every else []


def write(dataset: xr.Dataset, toy: xr.Dataset | None, console: Console) -> None:
    """Print tables and sentences of a run, possibly incomplete."""
    found = ablate_job.orders(dataset)
    if found:
        console.print(orders_table(dataset, found))
    if toy is not None and (toy["complete"].values == 1).any():
        console.print(toy_table(toy))
        console.print(toy_sentence(toy), highlight=False, soft_wrap=True, markup=False)
    for sentence in sentences(dataset):
        console.print(sentence, highlight=False, soft_wrap=True, markup=False)
