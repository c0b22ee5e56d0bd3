"""Incomplete and interrupted runs write a verdict, and never ``passed``.

The suite here is a small one that boots nothing; the artifacts are real.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.core import serialization
from harness.core.deadline import Deadline, poll
from harness.model.artifacts import Artifacts
from harness.model.verdict import Outcome, Verdict

from .conftest import ROOT

PYTEST_INI = """
[pytest]
addopts = --import-mode=importlib
filterwarnings = error
"""

SUITE = """
import os
import signal
import time
from pathlib import Path

import pytest

from harness.core.errors import HostError

PLAN = os.environ.get("PLAN", "")
FOLDER = Path(__file__).parents[2]


@pytest.mark.check("image")
@pytest.mark.parametrize("number", range(3))
def test_image(definition, number):
    assert (PLAN, number) != ("fail", 1)
    if (PLAN, number) == ("host", 1):
        raise HostError("no room")


@pytest.mark.check("links")
def test_links(definition):
    if PLAN == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if PLAN == "exit":
        pytest.exit("enough")
    if PLAN == "wait":
        (FOLDER / "waiting").touch()
        time.sleep(120)
    if PLAN == "fill":
        while True:
            with (FOLDER / "runs" / "latest" / "ballast").open("ab") as file:
                file.write(bytes(4096))


@pytest.mark.check("ssh")
def test_ssh(definition):
    pass
"""

EVERYWHERE = pytest.mark.parametrize("workers", ["0", "2"])


@dataclass(frozen=True)
class Repository:
    """A repository with the image ``base`` and a suite."""

    folder: Path

    def argv(self, workers: str, *arguments: str) -> list[str]:
        """Arguments that leave out the suite of Bootproof, which boots."""
        where = [] if any("::" in argument for argument in arguments) else ["tests/image"]
        return [sys.executable, "-m", "pytest", "--image", "base", f"-n{workers}", *arguments, *where]

    def run(self, workers: str, *arguments: str, plan: str = "", within: Sequence[str] = ()) -> tuple[int, str]:
        done = subprocess.run(
            [*within, *self.argv(workers, *arguments)],
            cwd=self.folder,
            env=os.environ | {"PLAN": plan},
            check=False,
            capture_output=True,
            text=True,
        )
        print(done.stdout, done.stderr)
        return done.returncode, done.stdout + done.stderr

    def verdict(self) -> Verdict:
        return serialization.read(Verdict, self.folder / "runs" / "latest" / "verdict.json")


@pytest.fixture
def repository(tmp_path: Path, artifacts: Artifacts) -> Repository:
    del artifacts  # only so that it is built
    shutil.copytree(ROOT / "images", tmp_path / "images")
    (tmp_path / "tests" / "image").mkdir(parents=True)
    (tmp_path / "tests" / "image" / "test_suite.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text(PYTEST_INI)
    return Repository(tmp_path)


def ids(verdict: Verdict) -> list[str]:
    return [finding.id for finding in verdict.findings]


# Incomplete runs

LESS = {
    "nothing": (["-k", "nothing"], set()),
    "-k": (["-k", "ssh or test_image[base-1]"], {"ssh"}),
    "--deselect": (["--deselect=tests/image/test_suite.py::test_image[base-2]", "tests/image"], {"links", "ssh"}),
    "an id": (["tests/image/test_suite.py::test_image[base-0]"], set()),
    "two ids": (["tests/image/test_suite.py::test_image[base-0]", "tests/image/test_suite.py::test_ssh"], {"ssh"}),
    "--maxfail": (["--maxfail=1"], {"image", "links", "ssh"}),
}


@EVERYWHERE
@pytest.mark.parametrize("less", LESS)
def test_check_that_did_not_run_as_a_whole_is_missing(repository: Repository, less: str, workers: str) -> None:
    arguments, passed = LESS[less]

    status, _ = repository.run(workers, *arguments)

    verdict = repository.verdict()
    assert (status, verdict.outcome) == (75, Outcome.INCONCLUSIVE)
    assert set(verdict.coverage.passed) == passed


@EVERYWHERE
def test_last_failed_alone_proves_nothing(repository: Repository, workers: str) -> None:
    assert repository.run(workers, plan="fail")[0] == 1

    status, _ = repository.run(workers, "--lf")

    verdict = repository.verdict()
    assert (status, verdict.outcome) == (75, Outcome.INCONCLUSIVE)
    assert verdict.coverage.passed == ()
    assert "image" in verdict.coverage.missing


@EVERYWHERE
@pytest.mark.parametrize("option", ["-x", "--maxfail=1"])
def test_proven_failure_is_one_though_the_run_stopped_there(repository: Repository, option: str, workers: str) -> None:
    status, _ = repository.run(workers, option, plan="fail")

    assert (status, repository.verdict().outcome) == (1, Outcome.FAILED)


@EVERYWHERE
@pytest.mark.parametrize(("plan", "finding"), [("host", "HostError"), ("exit", "")])
def test_run_that_stopped_for_no_fault_of_the_image_is_inconclusive(
    repository: Repository, plan: str, finding: str, workers: str
) -> None:
    status, _ = repository.run(workers, "-x", plan=plan)

    verdict = repository.verdict()
    assert (status, verdict.outcome) == (75, Outcome.INCONCLUSIVE)
    assert not finding or finding in ids(verdict)


@EVERYWHERE
def test_file_that_cannot_be_collected_is_inconclusive(repository: Repository, workers: str) -> None:
    (repository.folder / "tests" / "image" / "test_more.py").write_text("import nothing_of_that_name\n")

    status, _ = repository.run(workers)

    assert (status, repository.verdict().outcome) == (75, Outcome.INCONCLUSIVE)
    assert "not-collected" in ids(repository.verdict())


# Interrupted and crashed runs


@EVERYWHERE
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
def test_interrupted_run_has_a_verdict_and_status_2(repository: Repository, how: str, workers: str) -> None:
    with subprocess.Popen(
        repository.argv(workers),
        cwd=repository.folder,
        env=os.environ | {"PLAN": "wait"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as child:
        assert poll((repository.folder / "waiting").exists, Deadline(60), every_s=0.1)
        end: Callable[[int, int], None] = os.killpg if how == "SIGINT" else os.kill
        end(child.pid, signal.Signals[how])
        said, _ = child.communicate()
    print(said)

    verdict = repository.verdict()
    assert (child.returncode, verdict.outcome) == (2, Outcome.INCONCLUSIVE)
    assert ids(verdict) == ["interrupted"]
    assert "links" in verdict.coverage.missing
    assert "Traceback" not in said


def test_crashed_worker_is_a_finding_and_its_check_is_missing(repository: Repository) -> None:
    status, said = repository.run("2", plan="crash")

    verdict = repository.verdict()
    assert (status, verdict.outcome) == (75, Outcome.INCONCLUSIVE)
    assert [(finding.id, finding.where) for finding in verdict.findings] == [
        ("worker-crashed", "tests/image/test_suite.py::test_links[base]")
    ]
    assert set(verdict.coverage.passed) == {"image", "ssh"}
    assert "Traceback" not in said


# No space, no permission


def small(place: Path, option: str) -> list[str]:
    """Mounts a new file system on ``place``, for one program only."""
    argv = ["unshare", "--mount", "sh", "-ec", f'mkdir -p "$0"; mount {option} "$0"; exec "$@"', str(place)]
    if os.geteuid():
        argv[1:1] = ["--user", "--map-root-user"]
    return argv


@EVERYWHERE
def test_full_disk_in_the_runs_folder_is_the_hosts_fault(repository: Repository, workers: str) -> None:
    within = small(repository.folder / "runs", "-t tmpfs -o size=128k tmpfs")

    status, said = repository.run(workers, plan="fill", within=within)

    assert status == 75
    assert (
        "cannot be written: No space left on device; make room there, or choose another folder with --run-dir" in said
    )
    assert "INTERNALERROR" not in said


@EVERYWHERE
def test_checkout_that_is_read_only_makes_no_difference_but_for_the_cache(
    repository: Repository, workers: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    runs = tmp_path_factory.mktemp("runs")
    within = small(repository.folder, f"--bind {repository.folder}")
    within[within.index("-ec") + 1] = 'mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; cd "$0"; exec "$@"'

    status, said = repository.run(workers, f"--run-dir={runs}", within=within)

    verdict = serialization.read(Verdict, runs / "latest" / "verdict.json")
    assert (status, verdict.outcome) == (75, Outcome.INCONCLUSIVE)
    assert set(verdict.coverage.passed) == {"image", "links", "ssh"}
    assert ids(verdict) == ["pytest-failed"], "warnings are errors in this repository, and pytest's cache warns"
    assert "Traceback" not in said
