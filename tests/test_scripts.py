"""Every notebook and every benchmark runs (`pytest -m scripts`), found by pattern, so that none is forgotten."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(ROOT.glob("notebooks/[0-9]*.py"))
BENCHMARKS = sorted(ROOT.glob("benchmarks/*.py"))


def run(folder: Path, *arguments: str | Path) -> str:
    """Run a script in an empty folder, so that it cannot lean on the checkout, and return what it printed.

    The time limit only ends a script that hangs.
    """
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"MPLBACKEND": "Agg"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_patterns_find_the_scripts() -> None:
    assert NOTEBOOKS
    assert BENCHMARKS


@pytest.mark.scripts
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path) -> None:
    run(tmp_path, path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_ends_in_an_assertion(path: Path) -> None:
    last_cell = path.read_text("utf-8").split("\n# %%")[-1]
    assert "\nassert " in last_cell


@pytest.mark.scripts
@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_quick_benchmark_prints_records(path: Path, tmp_path: Path) -> None:
    lines = run(tmp_path, path, "--quick").splitlines()
    records = [json.loads(line) for line in lines]
    assert records
    assert all(isinstance(record, dict) for record in records)
