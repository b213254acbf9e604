"""The command line: predictions, one small real run, and every bad input in one line that leaves nothing behind."""

import errno
import io
import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import theory
from geomem_jax import cli, overlay, plots, report, results

from . import plotted

POINTS = np.random.default_rng(0).normal(size=(20, 3))


def with_value(value):
    points = POINTS.copy()
    points[3, 1] = value
    return points


def write_files(folder):
    """Files of every kind, most of them bad."""
    arrays = {
        "good": POINTS,
        "nan": with_value(np.nan),
        "inf": with_value(np.inf),
        "rank": POINTS[:, 0],
        "two": POINTS[:2],
        "constant": np.ones((9, 3)),
        "complex": POINTS + 1j,
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "object.npy", np.array([[{}, []]] * 5, object), allow_pickle=True)
    (folder / "garbage.npy").write_bytes(bytes(range(7, 207)))
    (folder / "empty.npy").touch()
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 100), }\n"
    (folder / "lie.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(800))
    zeros = io.BytesIO()
    np.save(zeros, np.zeros((1000, 4000)))
    with zipfile.ZipFile(folder / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", zeros.getvalue())
    np.savez(folder / "several.npz", a=POINTS, b=POINTS)
    (folder / "there").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "results.nc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (folder / "foreign").mkdir()
    xr.Dataset({"x": ("y", [1.0])}).to_netcdf(folder / "foreign" / "results.nc", engine="h5netcdf")


def listing(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def run(arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["geomem", *arguments])
    cli.main()


BOTH = [  # options of both commands, and what the line says
    ("--data none.npy", "none.npy: no such file"),
    ("--data there", "there: is a folder"),
    ("--data garbage.npy", "neither a .npy nor a .npz file"),
    ("--data empty.npy", "empty.npy: empty"),
    ("--data object.npy", "dtype is object"),
    ("--data complex.npy", "dtype is complex"),
    ("--data nan.npy", "1 of 60 values are NaN or infinite, the first in row 3, column 1"),
    ("--data inf.npy", "1 of 60 values are NaN or infinite"),
    ("--data rank.npy", "shape is (20,)"),
    ("--data two.npy", "has 2 points"),
    ("--data constant.npy", "all 9 points are equal"),
    ("--data lie.npy", "promises 800000000000 bytes"),
    ("--data bomb.npz", "decompression bomb"),
    ("--data several.npz", "holds 2 arrays"),
    ("--data nonsense", "give one of ladder, toy, digits, mnist"),
    ("--data good.npy --variances 1,1", "--data and --variances both name the data"),
    ("--two-level 1:1 --power-law 4:1", "--two-level and --power-law both name the data"),
    ("--data good.npy --normalized", "need a spectrum, not --data good.npy"),
    ("--data good.npy --embedding 8", "need a spectrum, not --data good.npy"),
    ("--variances a,b", "'a' is not a number"),
    ("--variances 1,-1", "number 2 is -1"),
    ("--variances 1,nan", "number 2 is nan"),
    ("--variances 0,0", "every variance is 0"),
    ("--variances 1e40", "choose other units"),
    ("--variances ,", "'' is not a number"),
    ("--two-level 8", "'8' is not count:variance"),
    ("--two-level 0:1", "a count must be 1 or more"),
    ("--power-law 4", "not count:exponent"),
    ("--power-law 4:-1", "the exponent is -1"),
    ("--power-law 99999999999:1", "more than 1000000 directions"),
    ("--variances 1,1,1 --embedding 2", "embedding=2: the larger space needs at least the 3 dimensions"),
    ("--variances 1 --embedding 99999999", "at most 20000"),
    ("--variances 1 --embedding many", "--embedding"),
    ("--variances 1,1 --t 0", "--t is 0"),
    ("--variances 1,1 --t -0.1", "--t is -0.1"),
    ("--variances 1,1 --t nan", "--t is nan"),
    ("--variances 1,1 --t inf", "--t is inf"),
    ("--variances 1,1 --t much", "--t"),
    ("--nonsense 3", "Unrecognized options: --nonsense, 3. For full helptext, run geomem --help"),
    ("--data", "Missing value for argument '--data'"),
]
PREDICT = [
    ("--variances 1,1 --n 0", "--n has 0"),
    ("--variances 1,1 --n 10,x", "--n has 'x'"),
    ("--variances 1,1 --n 2.5", "--n has 2.5"),
    ("--variances 1,1 --n 1e300", "--n has 1e300"),
    ("--variances 1,1 --n nan", "--n has nan"),
    ("--variances 1,1 --n 4,4", "names a size twice"),
]
OVERLAY = [
    ("--variances 1,1 --t 1,1", "names a noise variance twice"),
    ("--variances 1,1 --t 0.1,", "--t has ''"),
    ("--variances 1,1 --sizes 1", "--sizes has 1; give whole numbers from 2"),
    ("--variances 1,1 --sizes -4", "--sizes has -4"),
    ("--variances 1,1 --sizes 2.5", "--sizes has 2.5"),
    ("--variances 1,1 --sizes x", "--sizes has 'x'"),
    ("--variances 1,1 --sizes 8,4,8", "names a size twice"),
    ("--variances 1,1 --sizes 99999999999999999999", "--sizes has 99999999999999999999"),
    ("--variances 1,1 --sizes 1e14", "more than half of memory"),
    ("--variances 1,1 --points 99999999999", "more than half of memory"),
    ("--variances 1,1 --seeds 99999999999", "more than half of memory"),
    ("--power-law 1000000:1 --sizes 2", "more than half of memory"),
    ("--variances 1,1 --seeds 0", "--seeds is 0; give at least 1"),
    ("--variances 1,1 --seeds three", "Error parsing --seeds"),
    ("--variances 1,1 --points 1", "--points is 1; give at least 2"),
    ("--variances 1,1 --seed -1", "--seed is -1"),
    ("--variances 1,1 --seed 4294967296", "--seed is 4294967296; give at most 4294967295"),
    ("--variances 1,1 --network-steps -1", "--network-steps is -1; give 0"),
    ("--variances 1,1 --network-steps 2147483648", "--network-steps is 2147483648; give 0"),
    ("--power-law 100000:1 --sizes 2 --seeds 1 --network-steps 1", "more than half of memory"),
    ("--data good.npy --sizes 2,17", "dataset size 17 with 4 held-out points needs more than the 20 points"),
    ("--variances 1,1 --sizes 2 --out there", "there exists; give another --out"),
    ("--variances 1,1 --sizes 2 --out good.npy", "good.npy exists; give another --out"),
    ("--variances 1,1 --sizes 2 --out good.npy/run", "cannot create good.npy/run"),
    ("--resume none", "none/results.nc: no such file"),
    ("--resume there", "there/results.nc: no such file"),
    ("--resume broken", "broken/results.nc: not a readable netCDF file"),
    ("--resume foreign", "foreign/results.nc: not a result of geomem"),
    ("--resume there --seeds 3", "--resume there finishes that run with its own options"),
]
BAD = (
    [f"{command} {text}" for command in ("predict", "overlay") for text, _ in BOTH]
    + [f"predict {text}" for text, _ in PREDICT]
    + [f"overlay {text}" for text, _ in OVERLAY]
)
SAYS = [says for _, says in BOTH + BOTH + PREDICT + OVERLAY]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("bad")
    write_files(path)
    return path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        *zip(BAD, SAYS, strict=True),
        ("", "Expected one of {overlay, sweep, predict, train, ablate, report}"),
        ("simulate", "simulate"),
    ],
)
def test_a_bad_input_is_one_line_and_leaves_nothing(arguments, says, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = listing(folder)
    with pytest.raises(SystemExit) as stop:
        run(arguments.split(), monkeypatch)
    shown = capsys.readouterr()
    assert stop.value.code == 2
    assert shown.err.startswith("geomem: ")
    assert shown.err.count("\n") == 1
    assert shown.err.endswith("\n")
    assert says in shown.err
    assert shown.out == ""
    assert listing(folder) == before


@pytest.mark.parametrize("arguments", ["overlay --data nan.npy", "predict --variances 1,x"])
def test_the_installed_command_fails_the_same_way(arguments, folder):
    before = listing(folder)
    command = [sys.executable, "-m", "geomem_jax.cli", *arguments.split()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("geomem: ")
    assert done.stderr.count("\n") == 1
    assert listing(folder) == before


def test_help_is_no_error(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run(["overlay", "--help"], monkeypatch)
    assert stop.value.code == 0
    shown = capsys.readouterr()
    assert "--resume" in shown.out
    assert shown.err == ""


def test_a_full_disk_is_one_line(monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "runs/results.nc")

    monkeypatch.setattr(overlay, "run", full)
    with pytest.raises(SystemExit) as stop:
        run(["overlay"], monkeypatch)
    assert stop.value.code == 1
    assert capsys.readouterr().err == "geomem: [Errno 28] No space left on device: 'runs/results.nc'\n"


def test_an_interrupt_is_no_traceback(monkeypatch, capsys):
    def interrupted(options, console):
        raise KeyboardInterrupt

    monkeypatch.setattr(overlay, "run", interrupted)
    with pytest.raises(SystemExit) as stop:
        run(["overlay"], monkeypatch)
    assert stop.value.code == 130
    assert capsys.readouterr().err == ""


# Predictions


def predicted(arguments, monkeypatch, capsys):
    def no_constants(name):
        raise AssertionError(f"{name} is not JSON")

    run(["predict", "--json", *arguments.split()], monkeypatch)
    return json.loads(capsys.readouterr().out, parse_constant=no_constants)


def test_json_predictions_are_the_theory(monkeypatch, capsys):
    found = predicted("--variances 0.25,1,0 --t 0.1 --n 10,1000", monkeypatch, capsys)
    v, n, t = np.array([1.0, 0.25, 0.0]), np.array([10.0, 1000.0]), 0.1
    assert found["variances"] == v.tolist()  # descending
    assert found["dataset_sizes"] == [10, 1000]
    assert found["t"] == t
    assert found["gaussian_relative"] is False
    assert list(found["log_freeze_out_sizes"]) == [*found["soft_dimensions"], "random_energy"]
    assert list(found["soft_dimensions"]) == ["population", "linear", "empirical", "planted"]
    for law, sizes in found["log_freeze_out_sizes"].items():
        # The data are not normalized.
        expected = theory.freeze_out_sizes(v, t, law, **({"normalized": False} if law == "random_energy" else {}))
        np.testing.assert_array_equal([float(size) for size in sizes], np.asarray(expected, np.float64))
    for law in found["soft_dimensions"]:
        np.testing.assert_array_equal(found["soft_dimensions"][law], theory.soft_dimension(v, n, t, law))
    np.testing.assert_array_equal(found["condensation_times"], theory.condensation_time(v, n))
    np.testing.assert_array_equal(found["onset_times"], theory.onset_time(v, n))
    # Infinite values are words: a null direction freezes at no finite size, the population never does.
    assert found["log_freeze_out_sizes"]["linear"][2] == "inf"
    assert found["log_freeze_out_sizes"]["population"][:2] == ["-inf", "-inf"]


def test_centred_data_cost_the_linear_law_one_point(monkeypatch, capsys, folder):
    monkeypatch.chdir(folder)
    found = predicted("--data good.npy --t 0.1 --n 10,1000", monkeypatch, capsys)
    v = np.array(found["variances"])
    np.testing.assert_allclose(v, np.linalg.eigvalsh(np.cov(POINTS.T))[::-1], rtol=1e-12)
    assert found["gaussian_relative"] is True
    sizes = {
        law: np.exp(np.asarray(theory.freeze_out_sizes(v, 0.1, law), np.float64)) for law in ("linear", "empirical")
    }
    # float32 logarithms of sizes of order ten.
    np.testing.assert_allclose(np.exp(found["log_freeze_out_sizes"]["linear"]), sizes["linear"] + 1, rtol=1e-5)
    np.testing.assert_allclose(np.exp(found["log_freeze_out_sizes"]["empirical"]), sizes["empirical"], rtol=1e-5)
    for law, shift in (("linear", 1), ("empirical", 0)):
        dimension = theory.soft_dimension(v, np.array([10.0, 1000.0]) - shift, 0.1, law)
        np.testing.assert_allclose(found["soft_dimensions"][law], dimension, rtol=1e-5)


def test_the_prediction_is_printed_as_a_table(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "160")
    run(["predict", "--variances", "1,1,0", "--n", "10,1000"], monkeypatch)
    shown = capsys.readouterr()
    assert shown.err == ""
    row = next(line for line in shown.out.splitlines() if "│ " in line and "  1 │" in line)
    assert row.split("│")[2].strip() == "2"  # equal variances share a row
    assert "never" in shown.out
    default = theory.condensation_time(np.array([1.0, 1.0, 0.0]), 1000)
    assert f"t = {float(default):.3g}" in shown.out


# The main job


def test_a_small_overlay_writes_its_three_files(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    # It takes seconds to compile, and is tested with the phases; figures are rendered where they are tested.
    monkeypatch.setattr(theory, "best_generalization_time", plotted.best_times)
    monkeypatch.setattr("geomem_jax.plots.png", lambda figure: b"\x89PNG")
    monkeypatch.setenv("COLUMNS", "200")
    options = {"variances": "1,0.25", "sizes": "4,16", "t": "0.1,0.3", "seeds": "3", "points": "8"}
    options["network-steps"] = "5"
    run(["overlay", *(f"--{name}={value}" for name, value in options.items())], monkeypatch)
    shown = capsys.readouterr()
    run_folder = Path("runs/variances")
    assert {path.name for path in run_folder.iterdir()} == {"results.nc", "overlay.png", "report.html"}
    dataset = results.load(run_folder / "results.nc")
    assert (dataset.complete.sel(rung=["population", "linear", "empirical"]) == 1).all()
    assert dataset.complete.sel(rung="network").values.tolist() == [[1, 1, 0], [1, 1, 0]]
    assert dict(dataset.gain.sizes) == {
        "rung": 4,
        "point": 3,
        "dataset_size": 2,
        "noise_variance": 2,
        "seed": 3,
        "direction": 2,
    }
    assert np.isfinite(dataset.gain.where(dataset.complete == 1, 0)).all()
    assert np.isnan(dataset.gain.where(dataset.complete == 0)).all()
    assert (run_folder / "overlay.png").read_bytes().startswith(b"\x89PNG")
    report = (run_folder / "report.html").read_text(encoding="utf-8")
    assert report.lstrip().lower().startswith("<!doctype html")
    assert "freeze-out sizes N*" in shown.out
    rows = [line for line in shown.out.splitlines() if line.startswith("│")]
    assert [row.split("│")[1].strip() for row in rows] == ["1", "0.25"]
    assert "trained for 5 steps" in shown.out
    assert "report: runs/variances/report.html" in shown.out
    assert "Traceback" not in shown.err


def test_a_sweep_writes_numbers_alone_which_either_command_takes_up(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    options = "--variances 1,0.25 --sizes 4,16 --t 0.1 --seeds 2 --points 8 --network-steps 0 --out there"
    run(["sweep", *options.split()], monkeypatch)
    path = Path("there/results.nc")
    assert [path.name for path in Path("there").iterdir()] == [path.name]
    assert "result: there/results.nc" in capsys.readouterr().out
    whole = results.load(path)
    assert (whole["complete"] == 1).all()
    partial = whole.copy(deep=True)
    partial["complete"].loc[{"seed": 1}] = 0
    partial["gain"].loc[{"seed": 1}] = np.nan
    results.save(partial, path)
    run(["sweep", "--resume", "there"], monkeypatch)
    np.testing.assert_array_equal(results.load(path)["gain"], whole["gain"])
    drawn = []
    monkeypatch.setattr(plots, "overlay", lambda dataset: None)
    monkeypatch.setattr(plots, "save", lambda figure, path: drawn.append(path.name))
    monkeypatch.setattr(report, "write", lambda dataset, path: drawn.append(path.name))
    run(["overlay", "--resume", "there"], monkeypatch)
    assert drawn == ["overlay.png", "report.html"]
    np.testing.assert_array_equal(results.load(path)["gain"], whole["gain"])
