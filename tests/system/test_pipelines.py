"""The example pipelines, as programs of their engines read them. These are large, and installed aside."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import ROOT

PIPELINES = ROOT / "docs" / "pipelines"
PARSE_GROOVY = (
    "import sys; from groovy_parser.parser import parse_groovy_content; parse_groovy_content(open(sys.argv[1]).read())"
)
READERS = {
    "zuul.yaml": ("zuul", ["python", str(Path(__file__).with_name("read_zuul.py"))], ("timeout:", "time-out:")),
    "zuul-shards.yaml": ("zuul", ["python", str(Path(__file__).with_name("read_zuul.py"))], ("attempts:", "tries:")),
    "kubernetes.yaml": (
        "kubernetes-validate",
        ["kubernetes-validate", "--strict"],
        ("backoffLimitPerIndex:", "backoffLimitByIndex:"),
    ),
    "kubernetes-kvm.yaml": ("kubernetes-validate", ["kubernetes-validate", "--strict"], ("completions", "count")),
    "Jenkinsfile": ("groovy-parser", ["python", "-c", PARSE_GROOVY], ("catchError(", "catchError[")),
}
"""By file: the package that reads it, the command, and a mistake that the command finds."""

Install = Callable[[str], Path]


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Install]:
    """``install("zuul")`` is the folder of the programs of an environment that has this package."""
    folder, installed = tmp_path_factory.mktemp("readers"), dict[str, Path]()

    def install(package: str) -> Path:
        if package not in installed:
            subprocess.run([sys.executable, "-m", "venv", folder / package], check=True)
            programs = folder / package / "bin"
            argv = [str(programs / "pip"), "install", "--quiet", "--disable-pip-version-check", "--no-compile", package]
            subprocess.run(argv, check=True)
            installed[package] = programs
        return installed[package]

    yield install
    shutil.rmtree(folder)


def read(programs: Path, command: list[str], file: Path) -> tuple[int, str]:
    done = subprocess.run(
        [str(programs / command[0]), *command[1:], str(file)], check=False, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", READERS)
def test_a_pipeline_is_read_without_an_error_and_a_mistake_in_it_is_not(
    name: str, install: Install, tmp_path: Path
) -> None:
    package, command, (right, wrong) = READERS[name]
    text = (PIPELINES / name).read_text()
    assert right in text
    (tmp_path / name).write_text(text.replace(right, wrong, 1))

    status, printed = read(install(package), command, PIPELINES / name)
    spoilt, _ = read(install(package), command, tmp_path / name)

    assert status == 0, printed
    assert spoilt != 0
