"""The full report has the calibration and the ablations, or is not written at all."""

import io

import jax
import numpy as np
import pytest
import xarray as xr
from rich.console import Console

import theory
from geomem_jax import (
    ablate,
    ablate_job,
    ablate_tables,
    calibrate,
    calibration_model,
    referee,
    results,
    rival_laws,
    toy_gaps,
    toy_networks,
)
from geomem_jax.config import ReportOptions
from geomem_jax.errors import InputError

from . import plotted


def quiet():
    return Console(file=io.StringIO())


def calibration():
    """Made up: every number of the model, and 90 % of gains within bands."""
    variance = np.array([1.0, 0.1])
    sizes = np.array([12, 64, 512, 2048])
    names = calibration_model.prior(_measurements(), "mixture")
    numbers = {
        name: calibrate.Parameter(place, place - 1, place + 1, -9, 9, 1.0, 900) for place, name in enumerate(names)
    }
    gain = np.full((4, 1, 2), 0.5)
    bands = calibrate.Bands(sizes.astype(float), *np.full((3, 4, 2), 0.5))
    draws = {name: np.full((4, 10), one.median) for name, one in numbers.items()}
    return calibrate.Calibration("mixture", "network", 0.1, variance, sizes, gain, numbers, draws, bands, 0.9)


def _measurements():
    fields = dict.fromkeys(calibration_model.Measurements._fields, jax.numpy.zeros(()))
    return calibration_model.Measurements(**fields)._replace(half_range=jax.numpy.ones(()))


SCORES = [
    rival_laws.LawScore("linear", -20.0, 30.0, 4.0, np.zeros(4)),
    rival_laws.LawScore("mixture", 10.0, 0.0, 0.0, np.zeros(4)),
]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr("geomem_jax.plots.png", lambda figure: b"")
    monkeypatch.setattr("geomem_jax.plots.calibration", lambda dataset, found: None)
    monkeypatch.setattr(calibrate, "calibrate", lambda key, dataset: calibration())
    monkeypatch.setattr(calibrate, "measurements", lambda dataset: None)
    monkeypatch.setattr(rival_laws, "compare_laws", lambda key, m: SCORES)
    monkeypatch.setattr(theory, "best_generalization_time", plotted.best_times)
    folder = tmp_path / "run"
    folder.mkdir()
    results.save(plotted.with_network(plotted.simulated()), folder / "results.nc")
    return folder


def ablations(folder):
    """Two conditions with known orders, as a run of ablations stores them."""
    levels = ((2, 1.0), (2, 0.1))
    grid = (2, 8, 32, 128)
    conditions = tuple(ablate.Condition("f", label, levels, grid, (0.1,)) for label in ("one <way>", "the other"))
    dataset = ablate_job.prepare(ablate_job.Job(conditions, None, None, 6, 4, 0), {"name": "ablations"})
    rising = np.array([0.0, 0.2, 0.8, 1.0])
    late = np.array([0.0, 0.0, 0.2, 0.8])
    for row, pair in enumerate(((rising, late), (late, rising))):
        dataset["response"][row] = np.stack(pair, axis=-1)
        dataset["complete"][row] = 1
    folder.mkdir()
    results.save(dataset, folder / ablate_job.RESULTS)
    return dataset


def test_it_has_the_calibration_with_the_best_law_first_and_the_ablations(run, tmp_path):
    dataset = ablations(tmp_path / "ablations")
    path, *_ = referee.run(ReportOptions(run=run, ablations=tmp_path / "ablations"), quiet())
    assert path == run / "full_report.html"
    page = path.read_text("utf-8")
    for name, one in calibration().parameters.items():
        assert f">{referee.MEANINGS[name][0]}<" in page
        assert f"<td>{one.median} [{one.lower}, {one.upper}]</td><td>[-9, 9]</td>" in page
    assert page.index(">mixture<") < page.index(">linear</th><td>-20.0</td>")
    assert "90\xa0% of the measured gains" in page
    *_, answer, salient, where = ablate_tables.sentences(dataset)
    assert "Of 2 conditions 1 have fine detail first and 1 salient directions" in answer
    assert answer.replace("95 %", "95\xa0%") in page.replace("&#x27;", "'")
    assert salient in page
    assert where in page
    assert "one &lt;way&gt;" in page
    assert "<way>" not in page
    assert page.index("What decides the order") < page.index("More figures")


def test_of_ablations_what_is_measured_is_told(monkeypatch):
    monkeypatch.setattr("geomem_jax.plots.png", lambda figure: b"")
    plan = toy_gaps.Plan((20, 40), (0.1, 0.5), 2, 3)
    toy = ablate_job.prepare_toy(plan, toy_networks.Plan((1,), (20, 40), 2), {})
    condition = ablate.Condition("f", "one", ((2, 1.0), (2, 0.1)), (2, 8), (0.1,))
    unmeasured = ablate_job.prepare(ablate_job.Job((condition,), None, None, 6, 4, 0), {})
    paper_alone = ablate_job.prepare(ablate_job.Job((), None, None, 6, 4, 0), {})
    for nothing in (unmeasured, paper_alone):
        assert referee.ablation_section(nothing, toy) == referee.ablation_section(nothing, None) == ""
    toy.exact["count"].loc[{"seed": 0, "above": 25}] = 2
    toy.exact["complete"].loc[{"seed": 0}] = 1
    written = referee.ablation_section(paper_alone, toy)
    assert "The figure of arXiv 2410.08727" in written
    assert "What decides the order" not in written


def test_a_condition_under_two_letters_counts_once(tmp_path):
    dataset = ablations(tmp_path / "ablations")
    twice = xr.concat([dataset, dataset.isel(condition=[0])], "condition")
    assert "Of 2 conditions 1 have fine detail first" in ablate_tables.sentences(twice)[-3]
    twice["response"][2] += 0.01
    assert "Of 3 conditions 2 have fine detail first" in ablate_tables.sentences(twice)[-3]


def test_every_number_of_the_model_has_a_meaning():
    assert set(referee.MEANINGS) == set(calibration_model.prior(_measurements(), "mixture"))


def test_without_calibration_it_is_the_report(run, tmp_path):
    out = tmp_path / "page.html"
    assert referee.run(ReportOptions(run=run, calibration=False, out=out), quiet())[0] == out
    page = out.read_text("utf-8")
    assert "Which law predicts it?" in page
    assert "between the laws" not in page
    results.save(plotted.simulated(), run / "results.nc")  # without networks there is nothing to calibrate
    path, *_ = referee.run(ReportOptions(run=run), quiet())
    assert "between the laws" not in path.read_text("utf-8")


def test_nothing_is_overwritten_and_nothing_half_written(run, tmp_path, monkeypatch):
    (run / "full_report.html").write_text("mine")
    with pytest.raises(InputError, match="exists; give another --out"):
        referee.run(ReportOptions(run=run), quiet())
    assert (run / "full_report.html").read_text() == "mine"
    with pytest.raises(InputError, match=r"results\.nc"):
        referee.run(ReportOptions(run=tmp_path / "none"), quiet())

    def refuse(key, dataset):
        raise InputError("chains did not converge")

    monkeypatch.setattr(calibrate, "calibrate", refuse)
    with pytest.raises(InputError, match="converge"):
        referee.run(ReportOptions(run=run, out=tmp_path / "new.html"), quiet())
    assert not (tmp_path / "new.html").exists()


def test_a_run_of_other_things_is_refused(run, tmp_path):
    (tmp_path / "ablations").mkdir()
    with pytest.raises(InputError, match=r"ablate\.nc"):
        referee.run(ReportOptions(run=run, calibration=False, ablations=tmp_path / "ablations"), quiet())
