"""The report of a run: one HTML file that needs nothing outside itself."""

import json
from html import escape
from pathlib import Path

import numpy as np
import xarray as xr

from geomem_jax import answers, compare, html, league_words, participation, phase_diagrams, plots, spectrum_panels
from geomem_jax.atomic import replacing
from geomem_jax.formatting import format_interval, spaced
from geomem_jax.gains import distinct_variances
from geomem_jax.laws import label
from geomem_jax.statistics import MIN_SEEDS

LEAD = """
<p>A diffusion model makes data by removing noise. Made from few points, it can vary what it makes along some directions
of the data only; along the others it repeats its training points: these are <em>frozen</em>. The <em>gain</em> of a
direction says how freely a model moves along it: 1 freely, 0 not at all. A direction counts as frozen if its mean gain,
over points and training sets, is below half that of infinite data (relative gain ρ below ½); its <em>freeze-out
size</em> N* is the number of training points below which it is.</p>
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
    "measured with the predicted order of freezing. log score: log density of the measured gains by the law (nats per "
    "cell), less that of the best law. dimension: measured less predicted sum of gains, where that is largest. "
    "detects: factor in N* that this run could have seen."
)

INTERVALS = "95 % intervals, each for itself (of networks their range over few training sets)"

GLOSSARY = """
<dl>
<dt>Direction</dt><dd>An axis of the data along which they vary with variance σ²; all are uncorrelated (principal
components). Directions of equal variance are averaged. Salient: of large variance; fine detail: of small variance.</dd>
<dt>Noise variance t</dt><dd>A noised point is a point plus Gaussian noise of variance t in every direction.</dd>
<dt>Gain g</dt><dd>How much of a small shift of the noised point along a direction survives denoising: 1, the model
moves freely; 0, it does not move.</dd>
<dt>Relative gain ρ</dt><dd>The mean gain over training sets and points, divided by the gain of infinite data.</dd>
<dt>Frozen</dt><dd>A direction with ρ below ½.</dd>
<dt>Freeze-out size N*</dt><dd>The dataset size above which a direction is free. By median: above which it is free at
half of the points, median over points in each training set.</dd>
<dt>Effective noise κ</dt><dd>The noise at which infinite data would have the same gains: g = σ²/(σ² + κ). Of the
linear and the empirical model it is at least t: few data act like more noise. Measured from the soft dimension.</dd>
<dt>Soft dimension</dt><dd>The sum of all gains: the number of free directions, counted without a threshold.</dd>
<dt>Participation ratio Y</dt><dd>The sum of the squared weights of the training points in the empirical model: 1
where one training point answers alone (it is copied), 1/N where all answer alike.</dd>
<dt>Condensation time t_c</dt><dd>The noise variance at which the information ½ Σ log(1 + σ²/t) between a point and
its noised version equals log N, enough to tell N points apart.</dd>
<dt>Models (rungs)</dt><dd><em>Population</em>: the score of the true covariance, infinite data. <em>Linear</em>: the
score of the sample covariance of N points. <em>Empirical</em>: the exact score of N points, which a perfect learner
would reach. <em>Network</em>: a small multilayer perceptron trained on the N points by gradient descent.</dd>
<dt>Laws</dt><dd><em>Population</em>: infinite data. <em>Linear</em>: of the linear model, as the number of directions
grows. <em>Empirical</em>: of the empirical model at held-out points, as the number of directions grows.
<em>Planted</em>: the same at training points. <em>Exact-average</em>: of the empirical model, with no limit.</dd>
<dt>Points</dt><dd><em>Training points</em>: a point of the training set plus noise. <em>Held-out points</em>: a point
outside it plus noise. <em>The origin</em>: the mean of the data.</dd>
<dt>Phases</dt><dd><em>Generalization</em>: no direction is frozen. <em>Geometric memorization</em>: some are.
<em>Collapse</em>: all are. <em>Copying</em>: one training point answers alone (Y above ½).</dd>
<dt>Interval</dt><dd>Numbers in brackets hold the true value with 95 %, each for itself; of two training sets they are
their range.</dd>
</dl>
"""


def _facts(dataset: xr.Dataset, num_seeds: int) -> str:
    """What was measured, in a line."""
    groups = distinct_variances(dataset)
    varying = int(groups.multiplicity.sum())
    still = dataset.sizes["direction"] - varying
    seeds = "1 training set" if num_seeds == 1 else f"{num_seeds} training sets"
    few = f" (an interval of 95 % needs at least {MIN_SEEDS})" if num_seeds < MIN_SEEDS else ""
    sizes, noises = dataset["dataset_size"].values, dataset["noise_variance"].values
    facts = (
        f"{'real data' if dataset.attrs['gaussian_relative'] else 'Gaussian data'}, {varying} directions of variance "
        f"{groups.variance[0]:.3g} to {groups.variance[-1]:.3g}{f' and {still} without any' if still else ''} · "
        f"N = {sizes.min()} to {sizes.max()} points, {seeds} of each size{few} · "
        f"t = {noises.min():.3g} to {noises.max():.3g}"
    )
    return f"<p><strong>{escape(str(dataset.attrs['name']))}</strong>: {escape(facts)}</p>"


def _answer(dataset: xr.Dataset, t: float) -> str:
    """Which directions freeze first, in a box: a sentence and a line for every model."""
    found = answers.answers(dataset, t)
    if not found:
        return ""
    variance = distinct_variances(dataset).variance
    header = ["model, made from N points", "freezes first", f"N* of variance {variance[0]:.3g}"]
    header += [f"at half of the points, variance {variance[0]:.3g}", f"N* of variance {variance[-1]:.3g}"]
    cells = [[one.model, one.first, one.largest, one.median, one.smallest] for one in found]
    caption = f"At noise variance t = {t:.3g}, at points outside the training set, with {INTERVALS}."
    listed = html.table(caption, header, cells, "plain")
    return f'<div class="verdict"><p><strong>{escape(answers.in_words(found))}</strong></p>{listed}</div>'


def _freeze_out(dataset: xr.Dataset, t: float) -> str:
    rows = compare.freeze_out_table(dataset, t)
    chosen = spaced(len(rows))
    rungs = compare.table_laws(rows[0])
    header, medians = ["variance σ²", "directions"], ["variance σ²", "directions"]
    for rung, laws in rungs.items():
        header += [*(f"{label(law)} law" for law in laws), f"{rung}, measured"]
        medians.append(rung)
    cells, halves = [], []
    for row in (rows[index] for index in chosen):
        line = [f"{row.variance:.4g}", str(row.multiplicity)]
        halves.append(line + [format_interval(row.measured_median[rung], row.grid[rung]) for rung in rungs])
        for rung, laws in rungs.items():
            line = line + [compare.format_predicted(row, law) for law in laws]
            line.append(format_interval(row.measured[rung], row.grid[rung]))
        cells.append(line)
    caption = f"Freeze-out sizes N* at noise variance t = {t:.3g}, held-out points, with {INTERVALS}."
    if len(chosen) < len(rows):
        caption += f" {len(chosen)} of {len(rows)} distinct variances, evenly spaced by rank."
    text = "<p>Sizes outside the measured grid are bounded (&lt;, &gt;), never extrapolated.</p>"
    typical = [one for one in answers.answers(dataset, t) if one.rung == "empirical"]
    if typical and rows[0].measured_median["empirical"][0] > rows[0].measured["empirical"][0]:
        text += (
            "<p>N* is where the mean over points crosses ½. In the empirical model few points with large gains make "
            f"this mean: most are free only at larger sizes, of variance {rows[0].variance:.3g} half of them above "
            f"N = {escape(typical[0].median)}, and intervals may be too narrow. The verdicts allow for that.</p>"
        )
    networks = compare.networks_in_words(dataset)
    if networks is not None:
        text += f"<p>{escape(networks)} {escape(answers.unlearned(dataset, t))}</p>"
    by_median = html.table(
        "Freeze-out sizes by median: above them a direction is free at half of the points.", medians, halves
    )
    return (
        "<h2>At which size does each direction freeze?</h2>"
        + html.table(caption, header, cells)
        + text
        + html.folded("Sizes at which directions are free at half of the points", by_median)
    )


def _which_law(found: compare.League, verdict: compare.Verdict) -> str:
    """The league in short, and folded in full: at one noise variance and at all."""
    t = verdict.noise_variance
    here = [row for row in found.rows if np.isclose(row.noise_variance, t)]
    short = [row for row in here if row.rung != "population" and row.point != "origin"]
    readings = [league_words.describe(row) for row in here if row.claimed and row.tested]
    listed = "".join(f"<li>{escape(reading)}</li>" for reading in readings)
    full = (
        "<p>Every law is held against every model, also against those that it does not claim to describe, in every "
        "cell (dataset size and variance). <em>Agrees</em>: no cell contradicts the law, and all laws of another "
        "theory are contradicted; <em>in the limit</em>, if it takes the finite-size error of a law for many "
        "directions to explain what is measured. <em>Rejected</em>: some cell contradicts the law, at a family-wise "
        f"level of {100 * found.alpha:g} % over all {found.comparisons} cells. <em>Like</em>: in no cell does the law "
        "differ from the others by more than four standard errors. <em>Undecided</em>: in some cell it does, but "
        "training sets are too few. The test allows for skewed gains, the intervals of sizes do not.</p>"
        f"<p>{escape(verdict.sentence)}</p><ul>{listed}</ul>"
        + html.table(
            f"Laws against rungs at noise variance t = {t:.3g}. {LEAGUE_COLUMNS}", *league_words.table(found, here)
        )
    )
    every = league_words.table(found)
    return (
        "<h2>Which law predicts it?</h2><p>The laws know the variances of the data; nothing is fitted. "
        "<em>Population</em> is that of infinite data, <em>linear</em> that of the linear model; of the empirical "
        "model are <em>empirical</em> (held-out points) and <em>planted</em> (training points), both only for many "
        "directions, and <em>exact-average</em>, for any number. A law is rejected if a measured gain contradicts it, "
        "allowing for how many are compared; it agrees if none does and every other theory is rejected.</p>"
        + html.table(f"Laws of gains at noise variance t = {t:.3g}.", *league_words.summary(short))
        + html.folded("How far each law is off, and what this run could have seen", full)
        + html.folded(f"At all noise variances ({len(every[1])} rows)", html.table(LEAGUE_COLUMNS, *every))
    )


def _time(log_time: float, grid: tuple[float, float]) -> str:
    if np.isinf(log_time):
        return f"< {grid[0]:.3g}" if log_time < 0 else f"> {grid[1]:.3g}"
    return "n/a" if np.isnan(log_time) else f"{np.exp(log_time):.3g}"


def _crossings(dataset: xr.Dataset) -> tuple[str, str]:
    """The table of condensation times, predicted and measured, and a sentence on their ratio."""
    found = participation.crossing_times(dataset)
    cells = []
    for size, predicted, *measured in zip(*found[:5], strict=True):
        value, lower, upper = (_time(end, found.grid) for end in measured)
        bare = np.isnan(measured[1]) or (not np.isfinite(measured[0]) and value == lower == upper)
        ratio = f"{np.exp(predicted - measured[0]):.2f}" if np.isfinite(measured[0]) else "n/a"
        cells.append([str(size), f"{np.exp(predicted):.3g}", value if bare else f"{value} [{lower}, {upper}]", ratio])
    if not cells:
        return "<p>No training set of at least three points is measured.</p>", "not measured."
    header = ["N", "predicted t_c", "measured", "predicted / measured"]
    caption = "Noise variance at which the mean participation ratio at training points is ½, with 95 % intervals."
    ratios = [float(row[-1]) for row in cells if row[-1] != "n/a"]
    said = f"predicted is {min(ratios):.2f} to {max(ratios):.2f} times it." if ratios else "not on the measured grid."
    return html.table(caption, header, cells), said


def _map(dataset: xr.Dataset) -> str:
    return html.figure(
        plots.freeze_out_maps(dataset),
        "Maps of the measured relative gain over direction and dataset size, with freeze-out sizes.",
        "<strong>Which directions freeze where.</strong> Dark is frozen, light is free; points on the heavy line: the "
        "law is right.",
        "Each row is a direction (large variance above), each column a dataset size; the colour is the relative gain; "
        "hatched cells are not measured. Lines are the freeze-out sizes that the laws predict, the heavy one for this "
        "model; points are those measured, with intervals, and arrows point to sizes outside the grid.",
    )


def _phases(dataset: xr.Dataset) -> str:
    return "<h2>Where does each model generalize, and where does it memorize?</h2>" + html.figure(
        plots.phase_diagram(dataset),
        "Phases of every rung over dataset size and noise variance, and the shares of frozen directions and of frozen "
        "variance.",
        f"<strong>Phases.</strong> {escape(phase_diagrams.noise_in_words(dataset))}",
        "Above, the phase: <em>generalization</em>, no direction is frozen; <em>geometric memorization</em>, some are; "
        "<em>collapse</em>, all are; <em>copying</em>, one training point answers alone. Below, how many directions "
        "are frozen and how much of the variance of the data they carry, two numbers that differ where small variances "
        "freeze first. Lines are predicted from the variances: for the empirical model the noise of its onset t_o, of "
        "condensation t_c, and of best generalization t_g; for others where their law freezes the first and the last "
        "direction.",
    )


def _more_figures(dataset: xr.Dataset) -> str:
    crossings, ratios = _crossings(dataset)
    figures = [
        html.figure(
            plots.gains(dataset),
            "Relative gain of every rung made from N points against dataset size and against noise variance.",
            "<strong>Gains.</strong> Points in the grey band: the direction is frozen; points off their line: the law "
            "fails there, or holds only for many directions.",
            "Left, against the dataset size at one noise variance; right, against the noise variance at one dataset "
            "size. One colour per variance. At 1 (dotted) a direction moves as with infinite data. Arrows at the upper "
            "edge stand for points above it. Networks have no law: beside them are, faint, those of the other models.",
        ),
        html.figure(
            plots.noise_and_dimension(dataset),
            "Effective noise and soft dimension of all rungs against dataset size.",
            "<strong>One number per dataset size.</strong> Left, above the dotted line: data so few that they act like "
            "more noise; right: the sum of all gains.",
            "Left, the effective noise, beside the noise there is (dotted). Right, the soft dimension. Networks may "
            "lie beyond infinite data where they have not learned.",
        ),
        html.figure(
            plots.condensation(dataset),
            "Participation ratio against dataset size, and the noise variance at which it crosses one half.",
            f"<strong>Condensation.</strong> Noise below which a training point is copied: {ratios}",
            "Left, how nearly one training point answers alone; right, the noise variance below which it does, at "
            "training points, against the one predicted from the variances, leading order in the number of directions.",
        )
        + html.folded("Noise variances of condensation", crossings),
    ]
    if spectrum_panels.is_measured(dataset):
        figures.append(
            html.figure(
                plots.spectra(dataset),
                "Sorted singular values of the score Jacobian against noise variance, and the gaps between them.",
                "<strong>Spectra.</strong> How many directions are free is read from the gap, where there is one, "
                "between the singular values near 1, which are frozen, and those below.",
                "Above, the sorted singular values of the score Jacobian at one dataset size: 1 is a frozen direction, "
                "0 a free one; arrows stand for values above the axis. Of the linear model random-matrix theory "
                "predicts the bulks (shaded) and the noise below which the total gap opens (dotted); elsewhere lines "
                "are laws of the mean gains, from which the singular values at a point differ: where few training "
                "points answer, few directions are free there, other ones at every point. Below left, the heights of "
                "the gaps of the linear model, between the edges of its bulks (dashed) and between the mean outermost "
                "eigenvalues (solid). Below right, how many directions lie within the total gap; where no point is "
                "drawn there is no clear gap, and where the line breaks none is predicted.",
            )
        )
    return (
        "<h2>More figures</h2><p>Lines are theory with nothing fitted, points are measurements, bars are 95 % "
        "intervals over training sets, for networks ranges. A model and its laws share a colour.</p>" + "".join(figures)
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
    table = html.table("Settings and versions of this run.", ("what", "value"), rows, "settings")
    return html.folded("How this was made: settings and versions", table)


def write(dataset: xr.Dataset, path: Path, sections: str = "") -> compare.League:
    """Write the report, atomically: a reader sees the old file or the new one, never a part.

    What a reader of five minutes needs is open: the answer, the laws, the map, sizes, phases and other sections; how to
    read it, and everything behind it, is folded.

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
    t = found.noise_variance
    partial_run = found.measured < found.planned
    missing = f"<p>Partial run: {found.measured} of {found.planned} training sets are measured.</p>"
    subsets = SUBSETS if dataset.attrs.get("max_points", -1) >= 0 else ""
    body = (
        "<h1>Which directions freeze out?</h1>"
        + _facts(dataset, found.num_seeds)
        + (missing if partial_run else "")
        + LEAD
        + _answer(dataset, t)
        + (GAUSSIAN_RELATIVE + subsets if dataset.attrs["gaussian_relative"] else "")
        + _map(dataset)
        + _which_law(league, found)
        + _freeze_out(dataset, t)
        + _phases(dataset)
        + sections
        + _more_figures(dataset)
        + "<h2>Words and settings</h2>"
        + html.folded("Words", GLOSSARY)
        + _settings(dataset)
    )
    page = html.page(f"{dataset.attrs['name']}: freeze-out by theory and measurement", body)
    with replacing(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return league
