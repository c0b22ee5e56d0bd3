"""What a test may import is what `harness.__all__` lists, and nothing in the documentation teaches more."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import harness

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXPENSIVE = ("pytest", "aiohttp", "cattrs", "testinfra", "pexpect", "qemu")
NAMES = (
    "Artifacts",
    "BootFailed",
    "BootPath",
    "Channel",
    "Completed",
    "Deadline",
    "DiskSpec",
    "Host",
    "HostError",
    "ImageDefinition",
    "ImageError",
    "Lab",
    "Machine",
    "SeedFile",
    "Versions",
    "WaitFailed",
    "not_applicable",
    "power_on_together",
    "state",
)


def test_the_public_names_are_these() -> None:
    assert tuple(harness.__all__) == NAMES
    assert set(NAMES) <= set(dir(harness))


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_importable_and_documented(name: str) -> None:
    value = getattr(harness, name)

    assert value.__name__ == name
    assert inspect.getdoc(value) or value.__module__.startswith("testinfra.")


def test_another_name_is_an_error_that_lists_the_public_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Mashine'; public are: .*Machine"):
        harness.Mashine  # noqa: B018  # its error is what is tested


def test_importing_the_package_imports_nothing_expensive() -> None:
    program = f"import sys, harness; print(*[name for name in {EXPENSIVE} if name in sys.modules])"

    assert subprocess.check_output([sys.executable, "-c", program], text=True).split() == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_documentation_teaches_no_deeper_import(page: Path) -> None:
    text = page.read_text("utf-8")

    assert re.findall(r"(?:from|import) harness\.\S+", text) == []
    for names in re.findall(r"from harness import ([\w, ]+)", text):
        assert set(re.split(r", *", names)) <= set(NAMES)


def test_an_editable_install_puts_harness_alone_on_the_path() -> None:
    """A folder with ``fixtures`` and ``tests`` would hide modules of others; an import hook makes pytest warn."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]

    assert settings == {**settings, "dev-mode-dirs": [".editable"]}
    assert "dev-mode-exact" not in settings
    assert [path.name for path in (ROOT / ".editable").iterdir()] == ["harness"]
    assert (ROOT / ".editable" / "harness").samefile(ROOT / "harness")
