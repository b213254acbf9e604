"""What README and CONTRIBUTING tell a reader to do is possible.

The long commands are run, verbatim, by ``.ci/run``; here every command is checked and the quick ones are run.
"""

import re
import runpy
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from geomem_jax import cli

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(sys.executable).parent
MARKDOWN = runpy.run_path(str(ROOT / ".ci" / "commands.py"))
README = (ROOT / "README.md").read_text("utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
README_COMMANDS: list[str] = MARKDOWN["commands"](README)
COMMANDS: list[str] = README_COMMANDS + MARKDOWN["commands"](CONTRIBUTING)
PREDICTIONS = [command for command in README_COMMANDS if " predict" in command]


def run(command: list[str], cwd: Path = ROOT) -> str:
    """Run a command and return its standard output; the time limit only ends one that hangs."""
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def split(command: str) -> list[str]:
    """Split a command line, taking ``.venv/bin`` to be where this Python is."""
    return [re.sub(r"^\.venv/bin/", f"{SCRIPTS}/", word) for word in shlex.split(command)]


@cache
def options(subcommand: str) -> frozenset[str]:
    """Return the options that ``geomem SUBCOMMAND --help`` lists."""
    return frozenset(re.findall(r"--[a-z][a-z0-9-]*", run([str(SCRIPTS / "geomem"), subcommand, "--help"])))


def test_the_first_two_blocks_are_the_two_commands() -> None:
    first, second = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)[:2]
    assert first == (
        "sh",
        "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/geomem overlay\n",
    )
    assert second == (
        "sh",
        "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' "
        "&& .venv/bin/python -m pytest -q -n 2 --dist loadfile\n",
    )


def test_only_sh_blocks_are_commands() -> None:
    markdown = "```text\nnever\n```\n\n```sh\n# a comment\none && two\n\nthree\n```\n\n```sh\nfour\n```\n"
    assert MARKDOWN["commands"](markdown) == ["one && two", "three", "four"]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / name).read_text("utf-8"))
    missing = [target for target in targets if "://" not in target and not (ROOT / target).exists()]
    assert targets
    assert missing == []


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_options_of_geomem_exist(text: str) -> None:
    # In prose too: `geomem overlay --resume DIR`.
    for subcommand, rest in re.findall(r"\bgeomem (overlay|predict|train|ablate)\b([^`\n]*)", text):
        assert set(re.findall(r"--[a-z][a-z0-9-]*", rest)) <= options(subcommand)


def test_unknown_options_are_noticed() -> None:
    assert "--such-an-option" not in options("predict")
    assert "--variances" in options("predict")


@pytest.mark.parametrize("command", PREDICTIONS)
def test_predict_commands_run(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", split(command))  # in this process, which has what it imports
    cli.main()
    assert capsys.readouterr().out.strip()


EXAMPLES = re.findall(r"^```python\n(.*?)^```\n+```text\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_every_python_example_shows_what_it_prints() -> None:
    assert README.count("```python\n") == len(EXAMPLES) == 3


@pytest.mark.parametrize(("code", "shown"), EXAMPLES, ids=["memorization", "dimension", "theory"])
def test_python_example_prints_what_is_shown(code: str, shown: str, tmp_path: Path) -> None:
    assert run([sys.executable, "-c", code], tmp_path) == shown


@pytest.mark.parametrize("command", COMMANDS)
def test_programs_and_paths_of_commands_exist(command: str) -> None:
    for part in command.split(" && "):
        program, *arguments = split(part)
        assert program == "python3" or Path(program).is_file()
        paths = [word for word in arguments if re.fullmatch(r"(tests|notebooks|benchmarks|docs)(/[\w./-]*)?", word)]
        assert [path for path in paths if not (ROOT / path).exists()] == []


def test_contributing_shows_what_the_hooks_run() -> None:
    shown = [command.removeprefix(".venv/bin/") for command in MARKDOWN["commands"](CONTRIBUTING)]
    hooks = re.findall(r"^ +entry: (.*)$", (ROOT / ".pre-commit-config.yaml").read_text("utf-8"), re.MULTILINE)
    assert hooks == ["ruff check .", "ruff format --check .", "mypy"]
    assert set(hooks) <= set(shown)


def test_slow_command_selects_tests() -> None:
    (command,) = [
        line for block in MARKDOWN["blocks"](README, "text") for line in block.splitlines() if "-m slow" in line
    ]
    # Only where there are any: to import every test takes ten seconds.
    texts = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    marked = [name for name, text in texts.items() if re.search(r"\bmark\.slow\b", text)]
    collected = run([*split(command), "--collect-only", "-p", "no:cacheprovider", *marked])
    assert marked
    assert [name for name in marked if f"{name}::" not in collected] == []
