"""What a user gets: the contents and the metadata of the built wheel."""

import email
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import geomem_jax

ROOT = Path(__file__).parents[1]
PACKAGES = {"geomem_jax", "theory"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Build the wheel and return its text files by name."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode("utf-8") for name in archive.namelist()}


def distribution_info(wheel: dict[str, str], name: str) -> str:
    """Return one file of the wheel's ``dist-info`` folder."""
    return wheel[f"geomem_jax-{geomem_jax.__version__}.dist-info/{name}"]


def test_top_level_names_are_the_two_packages(wheel: dict[str, str]) -> None:
    names = {name.split("/")[0] for name in wheel}
    assert names == PACKAGES | {f"geomem_jax-{geomem_jax.__version__}.dist-info"}


def test_every_module_ships_and_nothing_else(wheel: dict[str, str]) -> None:
    # An ignore rule that matches a module's name would drop it from the wheel without a word.
    on_disk = {path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert {name for name in wheel if name.endswith(".py")} == on_disk


def test_metadata(wheel: dict[str, str]) -> None:
    metadata = email.message_from_string(distribution_info(wheel, "METADATA"))
    assert metadata["Name"] == "geomem-jax"
    assert metadata["Version"] == geomem_jax.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert distribution_info(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text("utf-8")
    assert "geomem = geomem_jax.cli:main" in distribution_info(wheel, "entry_points.txt")


def test_citation_and_changelog_name_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [geomem_jax.__version__]
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.findall(r"^## \[(.*?)\]", changelog, re.MULTILINE)[0] == geomem_jax.__version__
