"""Panels of the ablations: sequences of collapse, one condition a row, and positions of gaps of the paper's toy.

Colour and marker are the rank of the variance (light circle: the largest), bars 95 % intervals over training sets,
arrows at an edge: beyond the grid.  The shade of a row is its verdict.
"""

from typing import Any

import numpy as np
import xarray as xr

from geomem_jax import ablate, ablate_job, ablate_orders, panels, toy_gaps
from geomem_jax.ablate_orders import Order
from geomem_jax.formatting import spaced
from geomem_jax.panels import Figure

SHADES = {"fine first": "#d6e6f4", "salient first": "#fbd9b9", "undecided": "#eeeeee", "no order": "#ffffff"}
MARKERS = ("o", "D", "v", "s")  # the largest variance first, the smallest last
POSITION_COLORS = {23: "#009E73", 25: "#D55E00", 28: "#0072B2"}
OTHER = "#dddddd"
ROW = 0.27  # inches of a condition
MOST_ROWS = 20  # that are read by the axis below them; more have one above, too


def _styles(groups: int) -> list[tuple[str, str]]:
    colors = [panels.VARIANCE_COLORS[at] for at in spaced(len(panels.VARIANCE_COLORS), groups)]
    return [(color, MARKERS[at]) for color, at in zip(colors, spaced(len(MARKERS), groups), strict=True)]


def collapse(axes: Any, dataset: xr.Dataset, rows: list[tuple[int, Order]], limits: tuple[float, float]) -> None:
    """Freeze-out sizes (or times) of the groups, one condition a row from the top, with tau beside it.

    Args:
      axes: where to draw.
      dataset: the result of :mod:`geomem_jax.ablate_job`.
      rows: rows of it with their orders.
      limits: of the axis; what lies beyond is an arrow at its edge.
    """
    low, high = np.log(limits)
    inside = (low + 0.02 * (high - low), high - 0.02 * (high - low))
    titles: dict[int, str] = {}
    place, heading = -1, ""
    for row, found in rows:
        one = dataset.isel(condition=row)
        letter = str(one["experiment"].item())
        place += 1
        if letter != heading:  # a row of its own
            text = f"({letter}) {ablate.TITLES[letter]}"
            axes.text(0.005, place, text, transform=axes.get_yaxis_transform(), va="center", weight="bold", fontsize=9)
            heading, place = letter, place + 1
        kind = ablate_orders.verdict(found)
        axes.axhspan(place - 0.5, place + 0.5, color=SHADES[kind], linewidth=0)
        groups = len(found.variance)
        for group, (color, marker) in enumerate(_styles(groups)):
            at = place + 0.56 * ((group + 0.5) / groups - 0.5)
            value, lower, upper = (
                float(ends[group]) for ends in (found.sizes.estimate, found.sizes.lower, found.sizes.upper)
            )
            if np.isfinite(lower) or np.isfinite(upper):
                axes.plot(np.exp(np.clip([lower, upper], low, high)), [at, at], color=color, linewidth=1)
            beyond = not inside[0] <= value <= inside[1]
            axes.plot(
                np.exp(np.clip(value, *inside)),
                at,
                marker=("<" if value < inside[0] else ">") if beyond else marker,
                color=color,
                markersize=4.5,
                markeredgecolor="black" if beyond else "white",
                markeredgewidth=0.4,
            )
        titles[place] = str(one["label"].item())
        axes.text(
            1.01,
            place,
            f"{ablate_orders.tau_in_words(found)}   {kind}",
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
        )
    axes.set_yticks(list(titles), labels=list(titles.values()), fontsize=8)
    axes.set(xscale="log", xlim=limits, ylim=(place + 0.5, -0.5))
    axes.text(1.01, 0, "Kendall's τ (+1: fine first)", transform=axes.get_yaxis_transform(), va="center", fontsize=8)


def legend(figure: Any, axes: Any, title: str) -> None:
    """Explain markers and shades, above all panels; handles are drawn nowhere on ``axes``."""
    names = ("largest variance (salient)", "second", "third", "smallest variance (fine detail)")
    handles = [
        axes.plot(panels.BLANK, panels.BLANK, marker, color=color, markersize=6, label=name)[0]
        for (color, marker), name in zip(_styles(4), names, strict=True)
    ]
    handles += [
        axes.plot(panels.BLANK, panels.BLANK, "s", color=shade, markersize=10, markeredgecolor="0.6", label=kind)[0]
        for kind, shade in SHADES.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, title=title, title_fontsize=13)


def positions(axes: Any, blocks: list[tuple[str, np.ndarray, np.ndarray]], times: np.ndarray) -> None:
    """Most frequent position of the largest drop over noise and size; pale where it is not frequent.

    Args:
      axes: where to draw.
      blocks: of every score its name, dataset sizes, and counts ``(size, S, T, d)``.
      times: noise variances of all, ascending.
    """
    titles: dict[float, str] = {}
    row = 0.0
    for name, sizes, counts in blocks:
        for size, of_size in zip(sizes, toy_gaps.fractions(counts).mean(axis=1), strict=True):  # (T, d)
            for column, of_time in enumerate(of_size):
                position = int(np.argmax(of_time))
                color, shade = POSITION_COLORS.get(position, OTHER), float(of_time[position])
                axes.barh(row, 1, left=column - 0.5, height=0.86, color=color, alpha=shade, linewidth=0)
            titles[row] = f"{name}, {size}"
            row += 1
        row += 0.5  # a gap between scores
    axes.set_yticks(list(titles), labels=list(titles.values()))
    shown = spaced(len(times), 5)
    axes.set_xticks(shown, labels=[f"{times[at]:.1g}" for at in shown])
    axes.set(xlim=(-0.5, len(times) - 0.5), ylim=(row - 1, -0.5))


def positions_legend(figure: Any, axes: Any, title: str) -> None:
    """Explain the colours of :func:`positions`, above all panels; handles are drawn nowhere on ``axes``."""
    d = len(toy_gaps.VARIANCES)
    named = [
        (color, f"after {position} of {d}: {toy_gaps.POSITIONS[position]}")
        for position, color in POSITION_COLORS.items()
    ]
    handles = [
        axes.plot(panels.BLANK, panels.BLANK, "s", color=color, markersize=9, label=name)[0]
        for color, name in (*named, (OTHER, "elsewhere"))
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, title=title, title_fontsize=13)


def compose_orders(figure: Figure, dataset: xr.Dataset) -> None:
    """Fill a figure, as high as there are conditions: freeze-out times above, where N is fixed, and sizes below."""
    rows = [pair for of_letter in ablate_job.orders(dataset).values() for pair in of_letter.items()]
    along_time = dataset["along_time"].values == 1
    parts = [[pair for pair in rows if along_time[pair[0]] == kind] for kind in (True, False)]
    names = ("freeze-out time t* (noise variance)", "freeze-out size N* (points)")
    drawn = [(part, name) for part, name in zip(parts, names, strict=True) if part]
    ratios = [len(part) + len(set(dataset["experiment"].values[[row for row, _ in part]])) for part, _ in drawn]
    figure.set_figheight(1.5 + len(drawn) + ROW * sum(ratios))
    column = figure.subplots(len(drawn), 1, squeeze=False, height_ratios=ratios)[:, 0]
    for axes, (part, name) in zip(column, drawn, strict=True):
        grid = dataset["grid"].values[[row for row, _ in part]]
        collapse(axes, dataset, part, (float(np.nanmin(grid)), float(np.nanmax(grid))))
        axes.set_xlabel(f"{name}: frozen below it")
        if len(part) > MOST_ROWS:
            axes.tick_params(top=True, labeltop=True)
    sets = dataset.sizes["seed"]
    title = f"Which directions freeze first? 95 % intervals over {sets} training sets (networks: fewer)"
    legend(figure, column[0], title)


def compose_positions(figure: Figure, toy: ablate_job.Toy) -> None:
    """Fill a figure, as high as there are scores and sizes: a panel for every reading, data and point class."""
    blocks: dict[tuple[str, str, str], list[tuple[str, np.ndarray, np.ndarray]]] = {}
    for step, counted in ablate_job.toy_scores(toy):
        for reading, data, point, counts in ablate_job.toy_cells(counted):
            block = ("exact" if step is None else f"{step} steps", counted["dataset_size"].values, counts)
            blocks.setdefault((reading, data, point), []).append(block)
    rows = len(blocks) // len(toy_gaps.PLACES)
    bars = sum(counted.sizes["dataset_size"] + 0.5 for _, counted in ablate_job.toy_scores(toy))
    figure.set_figheight(1.2 + rows * (0.7 + 0.23 * bars))
    grid = figure.subplots(rows, len(toy_gaps.PLACES), squeeze=False, sharey="row")
    for axes, ((reading, data, point), of_cell) in zip(grid.flat, blocks.items(), strict=True):
        positions(axes, of_cell, toy.exact["noise_variance"].values)
        axes.set_title(f"{data}, {toy_gaps.PLACES[point]}, {reading}", loc="left")
    for axes in grid[:, 0]:
        axes.set_ylabel("score, N (points)")
    for axes in grid[-1]:
        axes.set_xlabel("noise variance t (data units squared)")
    title = (
        "Position of the largest drop among the last 11 singular values of t ∇s (pale: at few points)\n"
        "of the exact score and of trained networks, named by their training steps"
    )
    positions_legend(figure, grid[0, 0], title)
