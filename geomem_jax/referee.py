"""The full report: that of a run, with what takes longer: its networks calibrated, and ablations beside.

The calibration (:mod:`geomem_jax.calibrate`, :mod:`geomem_jax.rival_laws`) is at the noise variance at which freeze-out
sizes are compared; ablations are those of a run of ``geomem ablate``.  One HTML file, as :mod:`geomem_jax.report`
writes it.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import jax
import xarray as xr
from rich.console import Console

from geomem_jax import (
    ablate_job,
    ablate_tables,
    calibrate,
    compare,
    html,
    overlay,
    plots,
    report,
    results,
    rival_laws,
    runs,
)
from geomem_jax.config import ReportOptions
from geomem_jax.errors import InputError
from geomem_jax.formatting import format_interval

REPORT = "full_report.html"
MEANINGS = {
    "log_capacity": ("log capacity", "the log size at which the weights of the two laws are equal"),
    "width": ("width", "of the crossover, in e-folds of N"),
    "advantage": ("advantage a", "nats: a network that memorized acts as the exact score of e^a times as many points"),
    "tilt": ("tilt", "how much later, in e-folds of N, a variance crosses over than one an e-fold larger"),
    "floor": ("floor", "log of the effective noise of infinite data over t"),
    "set_spread": ("spread over sets", "standard deviation of the log capacity over training sets"),
    "spread": ("spread over networks", "standard deviation of the log effective noise"),
    "residual": ("residual", "standard deviation of gains about one effective noise"),
}
RIVALS = {"mixture": "this mixture of both", "linear": "the linear law alone", "empirical": "the empirical law alone"}


def calibration_section(
    dataset: xr.Dataset, found: calibrate.Calibration, scores: Sequence[rival_laws.LawScore]
) -> str:
    """Write what a calibration says: parameters, rival laws, bands."""
    rows = [
        (
            MEANINGS[name][0],
            f"{one.median:.3g} [{one.lower:.3g}, {one.upper:.3g}]",
            f"[{one.prior_lower:.3g}, {one.prior_upper:.3g}]",
            f"{one.r_hat:.3f}",
            f"{one.effective_draws:.0f}",
            MEANINGS[name][1],
        )
        for name, one in found.parameters.items()
    ]
    rivals = [
        (one.law, f"{one.log_density:.1f}", f"{one.below_best:.1f}", f"{one.error:.1f}")
        for one in sorted(scores, key=lambda one: one.below_best)
    ]
    sizes = ", ".join(map(str, found.dataset_size))
    numbers = html.table(
        f"Posterior at noise variance t = {found.t:.3g}: medians with 95 % intervals. Where posterior and prior are "
        "alike, the data say nothing.",
        ("number", "posterior", "prior, 95 %", "R-hat", "effective draws", "meaning"),
        rows,
    )
    densities = html.table(
        "Rival laws: log density (nats) of the gains at each dataset size, predicted from all others.",
        ("law", "log density", "below the best", "standard error"),
        rivals,
    )
    capacity = found.parameters["log_capacity"]
    size = format_interval((capacity.median, capacity.lower, capacity.upper), (1, float("inf")))
    return (
        f"<h2>Where networks stand between the laws</h2><p>They leave memorization at {size} points, their <em>capacity"
        "</em>: from there on their effective noise is nearer to that of the linear than to that of the empirical law. "
        f"Gains at sizes that are left out are predicted best by {RIVALS[rivals[0][0]]}.</p>"
        + html.figure(
            plots.calibration(dataset, found),
            "Relative gains of networks with predictive bands, and the posterior of the memorization capacity.",
            f"<strong>Calibrated networks.</strong> {100 * found.covered:.0f} % of the measured gains lie within the "
            "bands, which hold 95 % of the gains of networks on new training sets.",
            "Above, gains with the bands; below, what the gains say of the capacity and of the width of the crossover. "
            "The effective noise of a network is taken to pass from that of the empirical law to that of the linear "
            "law as N grows beyond the capacity; a few numbers more say how gains scatter about this. They are "
            f"inferred from the gains of the networks at held-out points, N = {sizes}.",
        )
        + html.folded("All numbers, and rival laws", numbers + densities)
    )


def ablation_section(dataset: xr.Dataset, toy: ablate_job.Toy | None) -> str:
    """Write what ablations say: sentences and figures of what is measured, which an interrupted run has not of all."""
    written = ""
    if said := ablate_tables.sentences(dataset):
        *sentences, answer, reversed_at, where = said
        listed = "".join(f"<li>{escape(sentence)}</li>" for sentence in (where, *sentences))
        written += (
            "<h2>What decides the order</h2><p>The same question under other conditions, on data of their own: is it "
            "fine detail (small variance) that freezes first as data get scarce, or the salient directions (large "
            f"variance), as arXiv 2410.08727 has it? {escape(answer)} {escape(reversed_at)} Here √t e_i is a point of "
            "its own for each direction, √t along it, and r the share of the noise variance t at a training point.</p>"
            + html.figure(
                plots.ablations(dataset),
                "Freeze-out size of every variance under each condition.",
                "<strong>Ablations.</strong> Blue rows: fine detail freezes first; orange rows: salient directions do; "
                "some conditions stand under several letters.",
                "A row is a condition, a marker the size (where N is fixed, above: the noise) above which a variance "
                "is free, with its interval; arrows point beyond the grid. Beside it, Kendall's τ of the "
                "order (+1: small variances freeze first; undecided: the interval holds 0; no order: no size can be "
                "told from another). 30+120: directions of large and of small variance. 1-Y: frozen is where one "
                "training point answers alone; gap: where the largest gap of the spectrum leaves a direction out. "
                "EMA: the average of the weights over training.",
            )
            + html.folded("What each experiment found, in words", f"<ul>{listed}</ul>")
        )
    if toy is not None and (toy.exact["complete"].values == 1).any():
        written += "<h2>The figure of arXiv 2410.08727</h2>" + html.figure(
            plots.toy_gaps(toy),
            "Position of the largest gap of the spectrum against noise variance and dataset size.",
            "<strong>Positions of gaps.</strong> The paper reads the orange gap as salient directions lost for want of "
            f"data; it would then be seen at small N alone. {escape(ablate_tables.toy_answer(toy))}",
            "A panel is a kind of data, a point, and a reading: jacobian, of the exact Jacobian, or released, of "
            "scores at one side of the point, as in the code of the paper. A row is a score and its number of training "
            "points, pale where few points have the position.",
        )
        written += html.folded("Where it is seen, in words", f"<p>{escape(ablate_tables.toy_sentence(toy))}</p>")
    return written


def _calibration(options: ReportOptions, dataset: xr.Dataset, console: Console) -> str:
    fit_key, compare_key = jax.random.split(jax.random.key(options.seed))
    with runs.progress_bar(console) as progress:
        task = progress.add_task("calibrating networks", total=2)
        found = calibrate.calibrate(fit_key, dataset)
        progress.update(task, advance=1, description="comparing rival laws")
        scores = rival_laws.compare_laws(compare_key, calibrate.measurements(dataset))
        progress.advance(task)
    return calibration_section(dataset, found, scores)


def run(options: ReportOptions, console: Console) -> tuple[Path, xr.Dataset, compare.League]:
    """Write the full report of a finished run.

    Args:
      options: of which run, with which ablations, and where to.
      console: where progress is shown.

    Returns:
      The file, the result of the run, and the league that is in the file.

    Raises:
      InputError: if there is no result, the file exists, or the networks cannot be calibrated; nothing is written then.
    """
    path = options.run / REPORT if options.out is None else options.out
    if path.exists():
        raise InputError(f"{path} exists; give another --out")
    dataset = results.load(options.run / overlay.RESULTS)
    calibrated = options.calibration and results.NETWORK in dataset["rung"].values
    sections = ""
    if options.ablations is not None:
        ablations = results.load(options.ablations / ablate_job.RESULTS, ablate_job.DIMENSIONS)
        toy = ablate_job.load_toy(options.ablations) if (options.ablations / ablate_job.TOY).exists() else None
        sections += ablation_section(ablations, toy)
    if calibrated:
        sections += _calibration(options, dataset, console)
    with console.status("comparing and drawing"):
        league = report.write(dataset, path, sections)
    return path, dataset, league
