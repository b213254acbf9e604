"""What ``import theory`` offers is loaded when first asked for, and is there as if it had been loaded at once."""

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import theory

WHOLE = {"noise", "random_energy", "random_energy_spectrum", "random_matrix"}


def in_fresh_python(code: str) -> list[str]:
    """Run code in a new process and return the JSON list that its last line prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def imported_names(source: str) -> dict[str, str]:
    """Return the names that a file imports relatively, with the module that each is from."""
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.level == 1]
    return {alias.name: node.module or alias.name for node in imports for alias in node.names}


def test_type_checkers_see_what_is_offered_and_where_it_is_from() -> None:
    seen = imported_names(Path(str(theory.__file__)).read_text("utf-8"))
    assert sorted(seen) == theory.__all__
    for name, module in seen.items():
        home = import_module(f"theory.{module}")
        assert getattr(theory, name) is (home if name in WHOLE else getattr(home, name))


def test_names_are_listed_before_anybody_asks_for_them() -> None:
    listed = in_fresh_python("import json, theory; print(json.dumps(dir(theory)))")
    assert set(theory.__all__) <= set(listed)
    assert len(listed) == len(set(listed))


def test_a_star_imports_all_names() -> None:
    namespace: dict[str, object] = {}
    exec("from theory import *", namespace)
    assert set(theory.__all__) <= set(namespace)


def test_a_name_that_is_not_there_is_refused_in_the_words_of_python() -> None:
    with pytest.raises(AttributeError, match=r"^module 'theory' has no attribute 'gian'$"):
        _ = theory.gian  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="cannot import name 'gian'"):
        exec("from theory import gian", {})


def test_modules_are_attributes_before_anybody_imports_them() -> None:
    assert in_fresh_python(
        "import json, theory; print(json.dumps([theory.typical.__name__, theory.noise.__name__]))"
    ) == ["theory.typical", "theory.noise"]


def test_importing_theory_loads_few_modules() -> None:
    code = "import json, sys, theory; print(json.dumps(sorted(name for name in sys.modules if name[:6] == 'theory')))"
    expected = ["theory", "theory._inputs", "theory._roots", "theory.effective_noise", "theory.learning_time"]
    assert in_fresh_python(code) == expected


def test_no_function_is_hidden_by_a_module_of_its_name() -> None:
    code = """
import importlib, json, pkgutil, types
import theory
for module in pkgutil.iter_modules(theory.__path__, "theory."):
    importlib.import_module(module.name)
print(json.dumps([name for name in theory.__all__ if isinstance(getattr(theory, name), types.ModuleType)]))
"""
    assert set(in_fresh_python(code)) == WHOLE
    assert not isinstance(theory.effective_noise, ModuleType)


def test_a_first_use_inside_a_trace_leaks_nothing() -> None:
    code = """
import json, warnings
import jax
import theory
warnings.simplefilter("error")

def first(v):
    assert {getattr(theory, name) is not None for name in theory.__all__} == {True}
    return theory.gain(v, 100, 0.1, "empirical")

with jax.checking_leaks():
    jax.jit(first)(jax.numpy.ones(3))
second = jax.vmap(lambda v: theory.gain(v, 100, 0.1, "empirical"))(jax.numpy.ones((2, 3)))
print(json.dumps([str(second.shape), str(theory.spectrum_from_samples([1.0, 2.0], 5).variances.shape)]))
"""
    assert in_fresh_python(code) == ["(2, 3)", "(2,)"]
