"""Runs of pytest inside of these tests."""

from __future__ import annotations

import importlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.plugin import fixtures, hooks  # noqa: F401  # imported before a run, whose modules are forgotten after it

ROOT = Path(__file__).parents[3]
RunPytest = Callable[..., tuple[int, str]]

for _name in fixtures.MODULES:
    importlib.import_module(f"harness.fixtures.{_name}")


@pytest.fixture
def run_pytest(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunPytest]:
    """``run_pytest("--image", "base", cwd=folder)``: status and output of pytest, in this process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def run(*arguments: str, cwd: Path = ROOT) -> tuple[int, str]:
        monkeypatch.chdir(cwd)
        result = pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)
        return int(result.ret), result.stdout.str() + result.stderr.str()

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One of somebody else's, with an image definition of its own."""
    repository = tmp_path / "repository"
    shutil.copytree(ROOT / "images" / "base", repository / "images" / "theirs")
    (repository / "pytest.ini").write_text("[pytest]\n", "utf-8")
    return repository


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")


def run_pytest_apart(*arguments: str, cwd: Path) -> tuple[int, str]:
    """The same in a process of its own, which has imported nothing before."""
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(argv, cwd=cwd, check=False, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr
