"""Only the modules of distributions and of package databases name one; all others ask them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.model.definition_build import DISTRIBUTIONS

HARNESS = Path(__file__).parents[2] / "harness"
ALLOWED = {
    "build/distributions/": "they are the distributions",
    "packages/": "they are the package databases",
    "host/": "about the host that runs Bootproof: the packages that doctor tells to install",
    "core/process.py": "about the host: the package that has a missing program",
    "pool/survey.py": "about a host of a pool, as doctor",
    "model/definition_build.py": "the names that a definition may have; the next test compares them with the files",
}
NAMES = re.compile(
    r"\b(debian|ubuntu|fedora|centos|opensuse|archlinux|alpine|dpkg|dpkg-query|apt|apt-get|mmdebstrap|debootstrap|dnf|rpm"
    r"|zypper|pacman|apk|sources\.list|trixie|bookworm|noble|resolute)\b",
    re.IGNORECASE,
)


def _texts(file: Path) -> Iterator[tuple[int, str]]:
    """All names and all strings with their lines, but for docstrings; comments are not in the tree."""
    tree = ast.parse(file.read_text("utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in docstrings:
                yield node.lineno, text
            case ast.Name(id=text) | ast.Attribute(attr=text) | ast.arg(arg=text):
                yield node.lineno, text
            case ast.FunctionDef(name=text) | ast.ClassDef(name=text) | ast.alias(name=text):
                yield node.lineno, text


def _named(file: Path) -> list[str]:
    found = ((line, NAMES.search(text.replace("_", " "))) for line, text in _texts(file))
    return [f"{file.relative_to(HARNESS)}:{line}: {name[0]}" for line, name in found if name]


def test_no_other_module_names_a_distribution() -> None:
    files = [file for file in HARNESS.rglob("*.py") if not str(file.relative_to(HARNESS)).startswith(tuple(ALLOWED))]

    assert len(files) > 200
    assert [named for file in sorted(files) for named in _named(file)] == []


@pytest.mark.parametrize("place", ALLOWED)
def test_each_exception_is_needed(place: str) -> None:
    files = (HARNESS / place).rglob("*.py") if place.endswith("/") else [HARNESS / place]

    assert any(_named(file) for file in files)


def test_each_distribution_is_a_file() -> None:
    files = (HARNESS / "build" / "distributions").glob("*.py")
    found = {file.stem for file in files if "\nDISTRIBUTION = " in file.read_text("utf-8")}

    assert found == set(DISTRIBUTIONS)
