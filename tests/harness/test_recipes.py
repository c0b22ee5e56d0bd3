"""The recipe "Add a network fault" of docs/architecture.md, followed as written on a copy of the package."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text("utf-8")
RECIPE = TEXT.partition("### Add a network fault\n")[2].partition("\n### ")[0]
STEP = re.compile(r"[Ii]n\s+`([\w/.]+)`, in\s+(?:the\s+)?`(\w+)`[^`]*\n\n```python\n(.*?)```", re.DOTALL)


class Step(NamedTuple):
    """``code`` goes to ``place`` in ``file``: the name of a function, a class or a table, or "match"."""

    file: str
    place: str
    code: str


STEPS = [Step(*found) for found in STEP.findall(RECIPE)]


def _line_for(tree: ast.Module, place: str) -> int:
    """The number of the line before which code for ``place`` goes."""
    for node in ast.walk(tree):
        match node:
            case ast.Match() if place == "match":
                return node.cases[0].pattern.lineno
            case ast.FunctionDef(name=name) if name == place:
                return node.body[0].lineno
            case ast.ClassDef(name=name) if name == place:
                return next(inner.lineno for inner in node.body if isinstance(inner, ast.Assign))
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict()) if name == place:
                return node.end_lineno or 0
    raise LookupError(f"no {place}")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, as it is when the recipe was followed."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "harness", folder / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    for step in STEPS:
        file = folder / step.file
        lines = file.read_text("utf-8").splitlines(keepends=True)
        at = _line_for(ast.parse("".join(lines)), step.place) - 1
        file.write_text("".join([*lines[:at], step.code, *lines[at:]]), "utf-8")
    return folder


def _run(copy: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *argv], cwd=copy, check=False, capture_output=True, text=True)


def _printed(copy: Path, program: str) -> str:
    done = _run(copy, "-c", program)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_recipe_has_both_examples_and_names_only_files_that_exist() -> None:
    assert [step.place for step in STEPS] == ["_others", "HttpFaultKind", "_HTTP", "match"]
    named = re.findall(r"`((?:harness|docs|tests)/[\w/.-]+)`", RECIPE)
    assert len(named) > 8
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_pytest_accepts_the_new_faults_by_their_names(copy: Path) -> None:
    names = ("link-very-lossy", "http-empty-kernel", "http-empty-rootfs")
    argv = ["-m", "pytest", "-q", "--collect-only", "--image", "base", f"--images-dir={ROOT / 'images'}",
            "--boot-path=ipxe-bios", *(f"--network-fault={name}" for name in names)]  # fmt: skip
    done = _run(copy, *argv)

    assert [name for name in names if f"`{name}`" not in RECIPE and f" {name}`" not in RECIPE] == []
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_services.py" in done.stdout


def _function(file: str) -> str:
    """The function that the recipe names for ``file``."""
    return str(re.findall(rf"`{file}`, `(\w+)`", RECIPE)[0])


def test_packets_are_dropped_as_the_recipe_claims(copy: Path) -> None:
    program = f"""
from harness.lab import packet_faults
from harness.model.network_faults import read
print(packet_faults.{_function("harness/lab/packet_faults.py")}([read("link-very-lossy")]))
"""
    (claimed,) = re.findall(r"`(numgen [^`]*)`", RECIPE)

    assert claimed in _printed(copy, program)


def test_the_web_server_has_an_empty_file(copy: Path) -> None:
    program = f"""
from pathlib import Path
from harness.lab import http_faults
from harness.lab.http import HttpAnswer, Request
from harness.model.network_faults import read
fault, request = read("http-empty-kernel"), Request(client="", method="GET", path="/d/vmlinuz")
apply = http_faults.{_function("harness/lab/http_faults.py")}
answer = apply([fault], Path(), request, HttpAnswer(body=b"kernel"), 0)
print(answer.status, answer.size_bytes, fault.what)
"""
    assert _printed(copy, program) == "200 0 the web server has an empty file in place of the kernel"
