"""What ``geomem ablate`` prints: a table of sequences of collapse, the gaps of the paper's toy, and what they say."""

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

from geomem_jax import ablate_job, ablate_orders, toy_gaps
from geomem_jax.ablate_job import Toy
from geomem_jax.ablate_orders import Order
from geomem_jax.formatting import format_interval
from geomem_jax.statistics import Bootstrap
from geomem_jax.toy_gaps import LOST

MEMORIZING = 1.1  # times the loss at fresh points, at some noise; of 20000 points, hardly memorized, up to 1.02
RARE = 0.05  # a share below which nothing is said to be seen, or lost


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


def _scores(toy: Toy) -> list[tuple[str, xr.Dataset]]:
    """The exact score, and networks at every training step, with what they are called."""
    return [
        ("exact score" if step is None else f"networks, {step} steps", counted)
        for step, counted in ablate_job.toy_scores(toy)
    ]


def toy_table(toy: Toy) -> Table:
    """Build the table of positions of the largest drop of the paper's toy."""
    meanings = ", ".join(f"{position} {meaning}" for position, meaning in toy_gaps.POSITIONS.items())
    table = Table(
        title=f"the paper's toy: position of the largest drop as the noise falls ({meanings}); share of position "
        f"{LOST}, and distance from the largest N [95 % over training sets; of 2 training sets their range]",
        show_lines=True,
        padding=0,
    )
    for name in ("score: reading, data, point", "N", "most frequent positions", "share of 25", "distance", "control"):
        table.add_column(name)
    for score, counted in _scores(toy):
        for reading, data, point, counts in ablate_job.toy_cells(counted):
            columns = (
                [str(size) for size in counted["dataset_size"].values],
                [" ".join(str(position) for position in toy_gaps.sequence(one)) for one in counts],
                [_share(toy_gaps.share(one, LOST)) for one in counts],
                [_share(toy_gaps.distance(one, counts[-1])) for one in counts[:-1]],
            )
            control = f"{toy_gaps.control(counts[-1]):.2f}"
            table.add_row(f"{score}:\n{reading}, {data}, {point}", *("\n".join(column) for column in columns), control)
    return table


def _kind(fall: Bootstrap) -> str:
    """Whether the position is rarer with many points, beyond the interval over training sets."""
    if fall.lower > 0:
        return "less"
    return "no less" if fall.upper <= 0 else "undecided"


def _seen(counted: xr.Dataset) -> list[tuple[str, str, str]]:
    """Where the lost salient group is seen: kind, data, and what and how often."""
    found = []
    for reading, data, point, counts in ablate_job.toy_cells(counted):
        few, many = (toy_gaps.share(one, LOST) for one in (counts[0], counts[-1]))
        if max(float(few.estimate), float(many.estimate)) >= RARE:
            kind = _kind(toy_gaps.fall(counts[0], counts[-1], LOST))
            place = f"{data}, {toy_gaps.PLACES[point]}, {reading}"
            found.append((kind, data, f"{place} ({_share(few)} and {_share(many)})"))
    return found


def _score_sentence(score: str, counted: xr.Dataset) -> str:
    """List where one score loses the salient group more often at few points, no less at many, or undecided."""
    first, last = counted["dataset_size"].values[[0, -1]]
    seen = _seen(counted)
    parts = [
        f"{title}: {'; '.join(text for kind, _, text in seen if kind == wanted)}"
        for wanted, title in (
            ("less", f"Less at N = {last} than at {first}"),
            ("no less", f"No less at N = {last} than at {first}"),
            ("undecided", "Undecided between these"),
        )
        if any(kind == wanted for kind, _, _ in seen)
    ]
    return f"{score[0].upper()}{score[1:]}. {'. '.join(parts) if parts else f'Below {RARE} everywhere'}."


def _loss_ratio(networks: xr.Dataset) -> xr.DataArray:
    """Loss at fresh points over that at training points, mean over networks that did not fail; largest over noise.

    Of the kinds of data that are trained.
    """
    trained = networks.isel(data=networks["complete"].values == 1)
    return (trained["held_out_loss"].mean("seed") / trained["train_loss"].mean("seed")).max("noise_variance")


def _loss_sentence(ratio: xr.DataArray) -> str:
    """Say how much more networks lose at fresh points than at their own, at every training step and size."""
    said = []
    for step in ratio["training_step"].values:
        for data in ratio["data"].values:
            values = ratio.sel(training_step=step, data=data).values
            said.append(f"{' and '.join(f'{float(value):.2f}' for value in values)} ({data}, {step} steps)")
    sizes = " and ".join(str(size) for size in ratio["dataset_size"].values)
    return (
        "Loss of the networks at fresh points over that at training points, at the noise where this is largest, "
        f"N = {sizes}: {', '.join(said)}."
    )


def _gap_sentence(where: str, counted: xr.Dataset) -> str:
    """Say what follows for one score of normalized data, where the paper sees the gap."""
    kinds = {kind for kind, data, _ in _seen(counted) if data == "normalized"}
    if not kinds:
        return f"{where} the gap is not seen."
    if kinds == {"no less"}:
        return f"{where} the gap is no less frequent with many points: geometry, not memorization."
    if kinds == {"less"}:
        return f"{where} the gap is made by scarce data, as the paper says."
    if "less" in kinds:
        return f"{where} scarce data make the gap at some of these points and readings, not at all of them."
    return f"{where} it is undecided whether scarce data make the gap."


def _positions(counted: xr.Dataset, at: int) -> toy_gaps.Positions:
    """Of one dataset size, training sets first."""
    one = counted.isel(dataset_size=at)
    return toy_gaps.Positions(
        *(
            one[name].transpose("seed", "reading", "point", "noise_variance", last).values
            for name, last in (("count", "above"), ("visible", "seen_group"), ("kept", "seen_group"))
        )
    )


def _hidden(counted: xr.Dataset) -> tuple[str, str]:
    """Say which directions scarce data hide where the gap is at the position of the lost salient ones, and how many."""
    sizes = counted["dataset_size"].values
    found = toy_gaps.hidden(_positions(counted, 0), _positions(counted, -1))
    if np.isnan(found.estimate).any():
        return "", ""
    few, fine_few, many, fine_many = (
        _share(Bootstrap(found.estimate[at], found.lower[at], found.upper[at], found.replicates[:, at]))
        for at in range(4)
    )
    more = found.lower[-1], found.upper[-1]  # of one training set nan, which decides nothing
    first = "it is undecided of which more are lost"
    if (found.upper[4:6] < RARE).all():
        first = "next to none of either are lost"
    elif more[0] > -RARE and more[1] < RARE:
        first = "about as many of both are lost"
    elif more[0] > 0 or more[1] < 0:
        first = f"more {'salient directions are' if more[0] > 0 else 'fine detail is'} lost"
    return (
        f"Where it is there at N = {sizes[0]}, {first} for want of data.",
        f"Of the salient directions {few} are visible there, of the fine ones {fine_few}; with N = {sizes[-1]} at the "
        f"same noise {many} and {fine_many}.",
    )


def _toy_findings(toy: Toy) -> list[tuple[str, str]]:
    """Say whether the gap from which the paper reads the order is made by scarce data, and which directions it hides.

    Of the exact score, and of networks at their last training step that memorize; nothing if none is measured.

    Returns:
      What is found, and numbers.
    """
    said = []
    scores = ablate_job.toy_scores(toy)
    (_, exact), (step, last) = scores[0], scores[-1]
    if any(data == "normalized" for _, data, *_ in ablate_job.toy_cells(exact)):
        said.append((_gap_sentence("In the exact score of normalized data", exact), ""))
        said.append(_hidden(exact.sel(data="normalized")))
    if "normalized" in toy.networks["data"].values[toy.networks["complete"].values == 1]:
        ratios = _loss_ratio(toy.networks).sel(data="normalized")[-1].values
        for at, size in enumerate(last["dataset_size"].values[:-1]):
            if np.isnan(ratios[at]):  # all failed
                continue
            networks = f"networks of {size} points of normalized data after {step} steps"
            if ratios[at] < MEMORIZING:
                open_still = (
                    f"{networks.capitalize()} have hardly memorized (loss at fresh points below {MEMORIZING} times "
                    "that at training points at every noise): what memorization does in them stays open."
                )
                said.append((open_still, ""))
                continue
            one = toy.networks.sel(data="normalized").isel(training_step=-1, dataset_size=at)
            each = (one["held_out_loss"] / one["train_loss"]).max("noise_variance").values
            ranges = f" [{np.nanmin(each):.1f}, {np.nanmax(each):.1f}]" if len(each) > 1 else ""
            where = f"In {networks} (loss at fresh points {ratios[at]:.1f}{ranges} times that at training points)"
            compared = last.isel(dataset_size=[at, -1])
            said.append((_gap_sentence(where, compared), ""))
            said.append(_hidden(compared.sel(data="normalized")))
        if last.sizes["seed"] > 1 and (ratios[:-1] >= MEMORIZING).any():
            said.append(("", f"Brackets of networks are ranges of {last.sizes['seed']} training sets."))
    return said


def toy_answer(toy: Toy) -> str:
    """Say what follows from the paper's figure, of normalized data; nothing if none is measured."""
    return " ".join(found for found, _ in _toy_findings(toy) if found)


def toy_sentence(toy: Toy) -> str:
    """Say whether the gap of the lost salient group is made by scarce data, for the exact score and for networks."""
    scores = _scores(toy)
    said = [_score_sentence(score, counted) for score, counted in scores if any(ablate_job.toy_cells(counted))]
    if (toy.networks["complete"].values == 1).any():
        said.append(_loss_sentence(_loss_ratio(toy.networks)))
    said += [part for finding in _toy_findings(toy) for part in finding if part]
    return (
        f"The paper's figure: share of position {LOST} of {len(toy_gaps.VARIANCES)}, read as salient directions that "
        f"are lost, where it is {RARE} or more. {' '.join(said)}"
    )


def sentences(dataset: xr.Dataset) -> list[str]:
    """Say what every experiment found, and last what follows of all: how often each order, and where; or nothing."""
    found = ablate_job.orders(dataset)
    labels, data, places = (dataset[name].values.astype(str) for name in ("label", "data", "place"))
    said = [
        ablate_orders.sentence(letter, {labels[row]: one for row, one in rows.items()})
        for letter, rows in found.items()
    ]
    # One condition may stand under several letters; it has the same numbers there, and counts once.
    every = {
        dataset["response"].values[row].tobytes() + dataset["grid"].values[row].tobytes(): (data[row], places[row], one)
        for rows in found.values()
        for row, one in rows.items()
    }
    return [*said, *ablate_orders.conclusion(list(every.values()))] if every else []


def write(dataset: xr.Dataset, toy: Toy | None, console: Console) -> None:
    """Print tables and sentences of a run, possibly incomplete."""
    found = ablate_job.orders(dataset)
    if found:
        console.print(orders_table(dataset, found))
    if toy is not None and (toy.exact["complete"].values == 1).any():
        console.print(toy_table(toy))
        console.print(toy_sentence(toy), highlight=False, soft_wrap=True, markup=False)
    for sentence in sentences(dataset):
        console.print(sentence, highlight=False, soft_wrap=True, markup=False)
