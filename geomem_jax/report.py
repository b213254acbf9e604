"""The report of a run: one HTML file that needs nothing outside itself."""

import json
from html import escape
from pathlib import Path

import numpy as np
import xarray as xr

from geomem_jax import answers, compare, html, league_words, participation, phase_diagrams, plots, spectrum_panels
from geomem_jax.atomic import replacing
from geomem_jax.formatting import format_interval, spaced
from geomem_jax.laws import label
from geomem_jax.results import NETWORK
from geomem_jax.statistics import MIN_SEEDS

POINT_DEPENDENT = (
    "empirical",
    NETWORK,
)  # rungs whose gains differ from point to point: a median says something of its own

LEAD = """
<p>A diffusion model makes data by removing noise. Made from few points, it can move what it makes along some
directions of the data only; along the others it repeats its training points: these directions are
<em>frozen</em>. Here the freedom of every direction, its <em>gain</em>, is measured for several models made from N
points (<em>rungs</em>), and held against <em>laws</em>: theories that know the variances of the data and have nothing
fitted. All words are explained at the end.</p>
"""

GAUSSIAN_RELATIVE = """
<h2>These data are not Gaussian</h2>
<p>The laws know the variances along the directions and nothing else. All gains here are
<strong>Gaussian-relative</strong>: divided by the Wiener gain σ²/(σ² + t), the gain that infinite data would give
<em>if they were Gaussian</em> with these variances. For any other data the gain of infinite data is, averaged over
points, smaller. The Wiener gain is thus an upper bound, a relative gain need not reach 1 at any N, and a direction
may read as frozen at every N although nothing is missing. Compare rungs, sizes and directions with each other
rather than with 1.</p>
"""

SUBSETS = """
<p>All points there are fix the directions (principal components) and the variances. For every seed the points are
put into random order: the training set of size N is the first N of them, so that N runs over nested subsets, and
the <em>held-out points</em> are the last ones, outside the largest subset. Training sets of different seeds share
points, the more so the larger N is, so that their intervals become too narrow as N nears the number of points there
are.</p>
"""

LEAGUE_COLUMNS = (
    "N* off by: largest factor between measured and predicted freeze-out size. tau: Kendall's rank correlation of the "
    "order of freezing. log score: nats per cell, less those of the best law. dimension: measured less predicted soft "
    "dimension, where that is largest. detects: factor in N* that this run could have seen."
)

NETWORKS = (
    "With perfect training it would be the empirical score. It is not: finite width and few steps make it smoother, so "
    "that its directions may stay free where those of the empirical score are frozen, and what it has not learned yet "
    "it fills in alike in all directions, so that small variances may move more than with infinite data (ρ above 1)."
)

GLOSSARY = """
<h2>Words</h2>
<dl>
<dt>Direction</dt><dd>An axis of the data along which they vary with variance σ²; all are uncorrelated (principal
components). Directions of equal variance are averaged.</dd>
<dt>Noise variance t</dt><dd>A noised point is a point plus Gaussian noise of variance t in every direction.</dd>
<dt>Gain g</dt><dd>How much of a small shift of the noised point along a direction survives denoising: 1, the model
moves freely; 0, it does not move.</dd>
<dt>Relative gain ρ</dt><dd>The mean gain over training sets and points, divided by the gain of infinite data.</dd>
<dt>Frozen</dt><dd>A direction with ρ below ½.</dd>
<dt>Freeze-out size N*</dt><dd>The dataset size above which a direction is free. "By median" uses the median over
points in each training set: where few points carry the mean, the two differ.</dd>
<dt>Effective noise κ</dt><dd>The noise at which infinite data would have the same gains: g = σ²/(σ² + κ). Finite
data act like extra noise, κ ≥ t. Measured from the soft dimension.</dd>
<dt>Soft dimension</dt><dd>The sum of all gains: the number of free directions, counted without a threshold.</dd>
<dt>Participation ratio Y</dt><dd>The sum of the squared weights of the training points in the empirical score: 1
where one training point answers alone (it is copied), 1/N where all answer alike.</dd>
<dt>Condensation time t_c</dt><dd>The noise variance at which the information ½ Σ log(1 + σ²/t) between a point and
its noised version equals log N, enough to tell N points apart.</dd>
<dt>Rungs</dt><dd><em>Population</em>: the score of the true covariance, infinite data. <em>Linear</em>: the score
of the sample covariance of N points. <em>Empirical</em>: the exact score of N points, which a perfect learner would
reach. <em>Network</em>: a small multilayer perceptron trained on the N points by gradient descent.</dd>
<dt>Point classes</dt><dd><em>Training points</em>: a point of the training set plus noise. <em>Held-out
points</em>: a point outside it plus noise.</dd>
</dl>
"""


def _answer(dataset: xr.Dataset, t: float) -> str:
    said = [f"<li>{escape(sentence)}</li>" for sentence in answers.answers(dataset, t)]
    where = f"At noise variance t = {t:.3g}, at points outside the training set [95 % intervals; of networks ranges]:"
    listed = f"<strong>Which directions freeze first?</strong> {where}<ul>{''.join(said)}</ul>"
    return f'<div class="verdict">{listed}</div>' if said else ""


def _freeze_out(dataset: xr.Dataset, t: float) -> str:
    rows = compare.freeze_out_table(dataset, t)
    chosen = spaced(len(rows))
    rungs = compare.table_laws(rows[0])
    header = ["variance σ²", "directions"]
    for rung, laws in rungs.items():
        header += [*(f"{label(law)} law" for law in laws), f"{rung}, measured"]
        header += ["by median"] if rung in POINT_DEPENDENT else []
    cells = []
    for row in (rows[index] for index in chosen):
        line = [f"{row.variance:.4g}", str(row.multiplicity)]
        for rung, laws in rungs.items():
            measured = [row.measured[rung]] + ([row.measured_median[rung]] if rung in POINT_DEPENDENT else [])
            line += [compare.format_predicted(row, law) for law in laws]
            line += [format_interval(size, row.grid[rung]) for size in measured]
        cells.append(line)
    caption = f"Freeze-out sizes N* at noise variance t = {t:.3g}, held-out points, with 95 % intervals."
    if len(chosen) < len(rows):
        caption += f" {len(chosen)} of {len(rows)} distinct variances, evenly spaced by rank."
    text = (
        "<p>A direction is free above its freeze-out size and frozen below. Sizes outside the measured grid are "
        "bounded (&lt;, &gt;), never extrapolated; under the population law no direction ever freezes.</p>"
    )
    networks = compare.networks_in_words(dataset)
    if networks is not None:
        text += f"<p>{escape(networks)} {NETWORKS}</p>"
    return "<h2>Freeze-out sizes</h2>" + text + html.table(caption, header, cells)


def _which_law(found: compare.League, t: float) -> str:
    """The league table: at one noise variance at once, at all where it is asked for."""
    here = [row for row in found.rows if np.isclose(row.noise_variance, t)]
    header, cells = league_words.table(found, here)
    _, every = league_words.table(found)
    readings = [league_words.describe(row) for row in here if row.claimed and row.tested]
    listed = "".join(f"<li>{escape(reading)}</li>" for reading in readings)
    return (
        "<h2>Which law predicts it?</h2><p>Every law is held against every rung, also against those that it does not "
        "claim to describe. <em>Agrees</em>: no cell (dataset size and variance) contradicts the law, and all rivals "
        "are contradicted; <em>in the limit</em>, if it takes the finite-size error of a law for many directions to "
        "explain what is measured. <em>Rejected</em>: some cell contradicts the law, at a family-wise level of "
        f"{100 * found.alpha:g} % over all {found.comparisons} cells. <em>Like</em>: nowhere does the law differ from "
        "these by more than four standard errors. <em>Undecided</em>: it does, but training sets are too few.</p>"
        f"<ul>{listed}</ul>"
        + html.table(f"Laws against rungs at noise variance t = {t:.3g}. {LEAGUE_COLUMNS}", header, cells)
        + f"<details><summary>At all noise variances ({len(every)} rows)</summary>"
        + html.table(LEAGUE_COLUMNS, header, every)
        + "</details>"
    )


def _time(log_time: float, grid: tuple[float, float]) -> str:
    if np.isinf(log_time):
        return f"< {grid[0]:.3g}" if log_time < 0 else f"> {grid[1]:.3g}"
    return "n/a" if np.isnan(log_time) else f"{np.exp(log_time):.3g}"


def _crossings(dataset: xr.Dataset) -> str:
    found = participation.crossing_times(dataset)
    cells = []
    for size, predicted, *measured in zip(*found[:5], strict=True):
        value, lower, upper = (_time(end, found.grid) for end in measured)
        bare = np.isnan(measured[1]) or (not np.isfinite(measured[0]) and value == lower == upper)
        ratio = f"{np.exp(predicted - measured[0]):.2f}" if np.isfinite(measured[0]) else "n/a"
        cells.append([str(size), f"{np.exp(predicted):.3g}", value if bare else f"{value} [{lower}, {upper}]", ratio])
    if not cells:
        return "<p>No training set of at least three points is measured.</p>"
    header = ["N", "predicted t_c", "measured", "predicted / measured"]
    caption = "Noise variance at which the mean participation ratio at training points is ½, with 95 % intervals."
    return html.table(caption, header, cells)


def _figures(dataset: xr.Dataset) -> str:
    spectra = ""
    if spectrum_panels.is_measured(dataset):
        spectra = html.figure(
            plots.spectra(dataset),
            "Sorted singular values of the score Jacobian against noise variance, and the gaps between them.",
            "<strong>Spectra.</strong> Above, the sorted singular values of the score Jacobian at one dataset size: 1 "
            "is a frozen direction, 0 a free one. Of the linear score random-matrix theory predicts the bulks (shaded) "
            "and the noise below which the total gap opens (dotted); elsewhere lines are laws of the mean gains, from "
            "which the singular values at a point differ: where few training points answer, few directions are free "
            "there, other ones at every point. Below left, the heights of the gaps of the linear score, between the "
            "edges of its bulks (dashed) and between the mean outermost eigenvalues (solid). Below right, how many "
            "directions lie within the total gap; where no point is "
            "drawn there is no clear gap, and where the line breaks none is predicted.",
        )
    return (
        "<h2>Figures</h2><p>Lines are theory with nothing fitted, points are measurements, bars are 95 % intervals "
        "over training sets, for networks ranges. A rung and its laws share a colour. For the empirical score of "
        "Gaussian data there are two: the empirical law, leading order as the number of directions grows, and the "
        "exact average.</p>"
        + html.figure(
            plots.gains(dataset),
            "Relative gain of every rung made from N points against dataset size and against noise variance.",
            "<strong>Gains.</strong> Left, against the dataset size at one noise variance; right, against the noise "
            "variance at one dataset size. One colour per variance. In the grey band a direction is frozen; at 1 "
            "(dotted) it moves as with infinite data. Arrows at the upper edge stand for points above it. Networks "
            "have no law: beside them are, faint, those of the other rungs.",
        )
        + html.figure(
            plots.freeze_out_maps(dataset),
            "Maps of the measured relative gain over direction and dataset size, with freeze-out sizes.",
            "<strong>Which directions freeze where.</strong> Each row is a direction (large variance above), each "
            "column a dataset size; dark cells are frozen, white cells free, hatched ones not measured. Lines are the "
            "freeze-out sizes that the laws predict, the heavy one for this rung; points are those measured, with "
            "intervals, and arrows point to sizes outside the grid. Agreement: the points lie on the heavy line.",
        )
        + html.figure(
            plots.noise_and_dimension(dataset),
            "Effective noise and soft dimension of all rungs against dataset size.",
            "<strong>One number per dataset size.</strong> Left, the effective noise: finite data act like more noise "
            "than there is (dotted). Right, the sum of the gains: how many directions are free.",
        )
        + html.figure(
            plots.condensation(dataset),
            "Participation ratio against dataset size, and the noise variance at which it crosses one half.",
            "<strong>Condensation.</strong> Left, how nearly one training point answers alone; right, the noise "
            "variance below which it does, at training points, against the one predicted from the variances.",
        )
        + html.figure(
            plots.phase_diagram(dataset),
            "Phases of every rung over dataset size and noise variance, and the shares of frozen directions and of "
            "frozen variance.",
            f"<strong>Phases.</strong> {escape(phase_diagrams.noise_in_words(dataset))} Above, the phase; below, how "
            "many directions are frozen and how much of the variance of the data they carry, two numbers that differ "
            "where small variances freeze first. Lines are the predicted onset, condensation and best-generalization "
            "times of the empirical score, and where the laws freeze the first and the last direction.",
        )
        + spectra
    )


def _settings(dataset: xr.Dataset) -> str:
    rows: list[tuple[str, str]] = []
    for name, value in dataset.attrs.items():
        if name in ("configuration", "versions"):
            entries = json.loads(value).items()
            rows += [(f"{name}: {key}", "default" if entry is None else str(entry)) for key, entry in entries]
        else:
            rows.append((str(name), str(value)))
    for dimension in ("dataset_size", "noise_variance"):
        rows.append((dimension, ", ".join(f"{number:.6g}" for number in dataset[dimension].values)))
    return "<h2>How this was made</h2>" + html.table(
        "Settings and versions of this run.", ("what", "value"), rows, "settings"
    )


def write(dataset: xr.Dataset, path: Path, sections: str = "") -> compare.League:
    """Write the report, atomically: a reader sees the old file or the new one, never a part.

    Args:
      dataset: a result, possibly incomplete.
      path: the HTML file; replaced if it exists.
      sections: more of them, as HTML.

    Returns:
      The league that is in it.

    Raises:
      InputError: if nothing is measured.
    """
    found, league = compare.verdict(dataset), compare.league(dataset)
    name = escape(str(dataset.attrs["name"]))
    seeds = "1 training set" if found.num_seeds == 1 else f"{found.num_seeds} training sets"
    facts = (
        f"{dataset.sizes['direction']} directions · N = {dataset['dataset_size'].values.min()} to "
        f"{dataset['dataset_size'].values.max()} points · t = {dataset['noise_variance'].values.min():.3g} to "
        f"{dataset['noise_variance'].values.max():.3g} · {seeds} of each size"
    )
    if found.num_seeds < MIN_SEEDS:
        facts += f" (an interval of 95 % needs at least {MIN_SEEDS})"
    subsets = SUBSETS if dataset.attrs.get("max_points", -1) >= 0 else ""
    body = (
        f"<h1>Which directions of {name} freeze out</h1><p>{escape(facts)}</p>"
        + LEAD
        + _answer(dataset, found.noise_variance)
        + f'<p class="verdict"><strong>Verdict on the laws.</strong> {escape(found.sentence)}</p>'
        + (GAUSSIAN_RELATIVE + subsets if dataset.attrs["gaussian_relative"] else "")
        + _freeze_out(dataset, found.noise_variance)
        + _which_law(league, found.noise_variance)
        + _figures(dataset)
        + sections
        + "<h2>When a training point is copied</h2><p>At a noised training point the participation ratio of the "
        "empirical score rises to 1 as the noise falls: one training point answers alone. The prediction is the "
        "condensation time, from the variances alone; it is leading order in the number of directions.</p>"
        + _crossings(dataset)
        + GLOSSARY
        + _settings(dataset)
    )
    page = html.page(f"{dataset.attrs['name']}: freeze-out by theory and measurement", body)
    with replacing(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return league
