"""The built wheel, installed in a clean virtual environment inside another repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.core import digest, serialization
from harness.model.events import ReportedTest
from harness.model.verdict import Outcome, Verdict
from harness.runs.folder import Run

from .conftest import ROOT

SUITE = ROOT / "tests" / "image"
TESTS = """
def test_what_runs_is_theirs(host):
    assert 'IMAGE_ID="theirs"' in host.file("/etc/os-release").content_string
"""


@dataclass(frozen=True)
class Repository:
    """Another repository, with Bootproof in its .venv."""

    folder: Path

    def pytest(self, *arguments: str) -> tuple[int, str]:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        argv = [f"{self.folder}/.venv/bin/pytest", *arguments]
        done = subprocess.run(argv, cwd=self.folder, env=environment, check=False, capture_output=True, text=True)
        print(done.stdout, done.stderr)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """No pytest settings, an image like base, a test module with the same name as one of the suite."""
    folder = tmp_path_factory.mktemp("theirs")
    install(folder)
    shutil.copytree(ROOT / "images" / "roles", folder / "images" / "roles")
    image = folder / "images" / "theirs"
    shutil.copytree(ROOT / "images" / "base", image)
    text = (image / "image.toml").read_text("utf-8")
    (image / "image.toml").write_text(text.replace('["direct", "ipxe-bios"]', '["direct"]'), "utf-8")
    (folder / "tests" / "image").mkdir(parents=True)
    (folder / "tests" / "image" / "test_services.py").write_text(TESTS, "utf-8")
    yield Repository(folder)
    shutil.rmtree(folder / ".venv")  # Ansible is large, and pytest keeps the folders of three runs


def install(folder: Path) -> None:
    quiet = ["--quiet", "--disable-pip-version-check"]
    wheel = [sys.executable, "-m", "pip", "wheel", *quiet, "--no-deps", "--wheel-dir", f"{folder}/dist", str(ROOT)]
    subprocess.run(wheel, check=True)
    subprocess.run([sys.executable, "-m", "venv", folder / ".venv"], check=True)
    (file,) = (folder / "dist").iterdir()
    subprocess.run(
        [folder / ".venv/bin/python", "-m", "pip", "install", *quiet, "--no-compile", f"{file}[build,promotion]"],
        check=True,
    )


def test_an_image_is_proven_by_the_suite_and_their_own_tests(theirs: Repository) -> None:
    status, text = theirs.pytest("-n", "4", "--image", "theirs")

    run = Run((theirs.folder / "runs" / "latest").resolve(), "main")
    verdict = serialization.read(Verdict, run.folder / "verdict.json")
    assert (status, verdict.outcome) == (0, Outcome.PASSED), text
    checks = ("lint", "image", "services", "links", "ssh", "host", "identity", "survival", "boot:direct")
    assert verdict.coverage.passed == checks
    own = "tests/image/test_services.py::test_what_runs_is_theirs[theirs]"
    assert (own, "call", "passed") in [(part.test, part.when, part.outcome) for part in run.of_kind(ReportedTest)]
    assert len(list(run.folder.glob("shared-gw*"))) == 1, "their test had a machine of its own"
    folders = (SUITE, theirs.folder / "tests" / "image")
    assert verdict.digests["suite"] == digest.of_value([digest.of_folder(folder) for folder in folders])
    assert verdict.digests["harness"] == digest.of_package(ROOT / "harness", without="suite")


def test_the_virtual_environment_is_not_searched_for_tests(theirs: Repository) -> None:
    """Without tests/image, pytest collects the whole repository, in which the suite is installed."""
    tests = theirs.folder / "tests"
    (tests / "image").rename(tests / "hosts")
    try:
        _, text = theirs.pytest("--collect-only", "-q", "--image", "theirs")
    finally:
        (tests / "hosts").rename(tests / "image")

    files = {line.partition("::")[0] for line in text.splitlines() if "::" in line}
    suite = {f"harness/suite/{file.name}" for file in SUITE.glob("test_*.py")}
    assert files - suite == {"tests/hosts/test_services.py"}
    assert {"harness/suite/test_image.py", "harness/suite/test_survival.py"} <= files


def test_without_an_image_testinfra_is_as_it_was(theirs: Repository, tmp_path: Path) -> None:
    (tmp_path / "test_local.py").write_text("def test_local(host):\n    assert host.file('/').exists\n", "utf-8")

    status, text = theirs.pytest("-p", "no:cacheprovider", "-W", "error", "--rootdir", str(tmp_path), str(tmp_path))

    assert status == 0, text
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"test_local.py"}


def test_the_command_finds_their_images(theirs: Repository) -> None:
    argv = [f"{theirs.folder}/.venv/bin/bootproof", "build", "thiers"]
    done = subprocess.run(argv, cwd=theirs.folder, check=False, capture_output=True, text=True)

    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert "did you mean theirs?" in done.stderr
