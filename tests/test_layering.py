"""The dividing rule between the packages, and that importing them has no side effects."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("theory", "geomem_jax")
PACKAGE_FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
ALL_FILES = PACKAGE_FILES + [
    path for folder in ("benchmarks", "notebooks") for path in sorted((ROOT / folder).rglob("*.py"))
]
THEORY_MAY_IMPORT = {"jax", "numpy"} | sys.stdlib_module_names
UNSAFE_FORMATS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def absolute_imports(source: str) -> set[str]:
    """Return the top-level names that a file imports absolutely, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def stray_theory_imports(source: str) -> set[str]:
    """Return what a file of ``theory`` may not import; its own modules are imported relatively."""
    return absolute_imports(source) - THEORY_MAY_IMPORT


def unsafe_loading(source: str) -> set[str]:
    """Return the ways in which a file could run code that hides in data."""
    allowed = [
        keyword
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "allow_pickle"
        and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
    ]
    return (absolute_imports(source) & UNSAFE_FORMATS) | ({"allow_pickle"} if allowed else set())


def configuration_changes(source: str) -> set[str]:
    """Return the expressions with which a file changes the configuration of jax for everybody."""
    changes = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"jax.config.update", "config.update"}:
            changes.add(ast.unparse(node))
        elif isinstance(node, ast.Assign):
            changes |= {name for name in map(ast.unparse, node.targets) if name.startswith("jax.config.")}
    return changes


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", sorted((ROOT / "theory").rglob("*.py")), ids=relative)
def test_theory_needs_jax_only(path: Path) -> None:
    assert stray_theory_imports(path.read_text("utf-8")) == set()


def test_every_derivation_that_a_docstring_names_is_there() -> None:
    text = (ROOT / "theory" / "DERIVATIONS.md").read_text("utf-8")
    sections = set(re.findall(r"^## ([A-Z])\. ", text, re.MULTILINE))
    sources = " ".join(path.read_text("utf-8") for path in (ROOT / "theory").glob("*.py"))
    named = set(re.findall(r"DERIVATIONS\.md,\s+section ([A-Z])\b", sources))
    assert named == sections


def test_only_plots_imports_matplotlib() -> None:
    importers = {relative(path) for path in PACKAGE_FILES if "matplotlib" in absolute_imports(path.read_text("utf-8"))}
    assert importers == {"geomem_jax/plots.py"}


@pytest.mark.parametrize("path", ALL_FILES, ids=relative)
def test_data_cannot_run_code(path: Path) -> None:
    assert unsafe_loading(path.read_text("utf-8")) == set()


@pytest.mark.parametrize("path", PACKAGE_FILES, ids=relative)
def test_no_module_configures_jax(path: Path) -> None:
    # But for the command that trains, when it is run: what importing changes is tested below.
    allowed = {"jax.config.update('jax_num_cpu_devices', os.cpu_count())"} if path.name == "cli.py" else set()
    assert configuration_changes(path.read_text("utf-8")) == allowed


def test_the_scans_notice_what_they_look_for() -> None:
    assert stray_theory_imports("def f():\n    import scipy.optimize, jax") == {"scipy"}
    assert stray_theory_imports("from theory.population import gain") == {"theory"}
    assert stray_theory_imports("from geomem_jax import data\nfrom . import population\nimport math") == {"geomem_jax"}
    assert unsafe_loading("import pickle") == {"pickle"}
    assert unsafe_loading("np.load(f, allow_pickle=True)") == {"allow_pickle"}
    assert unsafe_loading("np.load(f, allow_pickle=False)") == set()
    assert configuration_changes("if True:\n    jax.config.update('jax_enable_x64', True)")
    assert configuration_changes("jax.config.jax_enable_x64 = True") == {"jax.config.jax_enable_x64"}


def fresh_python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a new process that is started in ``cwd`` (hence outside the checkout)."""
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300)


def report(code: str, cwd: Path) -> dict[str, list[str]]:
    """Run code in a new process and return the JSON that its last line prints."""
    done = fresh_python(code, cwd)
    assert done.returncode == 0, done.stderr
    parsed: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return parsed


def test_importing_theory_loads_nothing_beyond_jax(tmp_path: Path) -> None:
    code = """
import importlib, json, pkgutil, sys
import jax
before = {name.split(".")[0] for name in sys.modules}
import theory
for module in pkgutil.walk_packages(theory.__path__, "theory."):
    importlib.import_module(module.name)
after = {name.split(".")[0] for name in sys.modules}
print(json.dumps({"new": sorted(after - before - sys.stdlib_module_names)}))
"""
    assert report(code, tmp_path) == {"new": ["theory"]}


IMPORT_EVERYTHING = """
import importlib, json, os, pkgutil
import jax

def settings():
    return dict(jax.config.values) | {k: v for k, v in os.environ.items() if k.startswith(("JAX_", "XLA_"))}

before = settings()
imported = []
for package in ("theory", "geomem_jax"):
    imported.append(package)
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        importlib.import_module(module.name)
        imported.append(module.name)
after = settings()
# jax refuses this once a device has been started.
jax.config.update("jax_num_cpu_devices", 2)
changed = sorted(k for k in before | after if before.get(k) != after.get(k))
print(json.dumps({"imported": imported, "changed": changed}))
"""


def test_importing_every_module_changes_no_setting_and_starts_no_device(tmp_path: Path) -> None:
    found = report(IMPORT_EVERYTHING, tmp_path)
    expected = {
        relative(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in PACKAGE_FILES
    }
    assert set(found["imported"]) == expected
    assert found["changed"] == []


def test_a_stranger_called_theory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theory.py").write_text("effective_noise = None\n")
    # Python puts the folder it is started in first on its path.
    done = fresh_python("import geomem_jax", tmp_path)
    assert done.returncode != 0
    last_line = done.stderr.strip().splitlines()[-1]
    assert last_line.startswith("ImportError: geomem_jax needs the `theory` package")
    assert str(tmp_path / "theory.py") in last_line
