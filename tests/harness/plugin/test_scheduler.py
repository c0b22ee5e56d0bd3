"""When a worker is lost, every other test still runs once, and the run ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.plugin.scheduler import Groups
from harness.runs.folder import Run

CONFTEST = """
from pathlib import Path


def pytest_xdist_make_scheduler(config, log):
    from harness.model.events import PlannedTest
    from harness.plugin.scheduler import Groups
    from harness.runs.folder import Run

    run = Run(Path(__file__).parent, "main")
    for number in range(3):
        test = f"test_it.py::test_of_a_shared_machine[{number}]"
        run.add(PlannedTest(test=test, file="", checks=(), group="shared"))
    return Groups(config, log, [run])
"""

TESTS = """
import os
import signal
from pathlib import Path

import pytest


def ran(what):
    with (Path(__file__).parent / "ran").open("a") as file:
        print(what, os.environ["PYTEST_XDIST_WORKER"], file=file)


@pytest.mark.parametrize("number", range(6))
def test_of_its_own(number):
    ran(f"own {number}")
    if number in LOST:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("number", range(3))
def test_of_a_shared_machine(number):
    ran(f"shared {number}")
"""


def run(folder: Path, workers: int, lost: tuple[int, ...]) -> tuple[str, list[list[str]]]:
    """pytest's last line, and who ran what."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(TESTS.replace("LOST", str(list(lost))))
    argv = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "no:cacheprovider", f"-n{workers}"]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # several processes start faster without other plugins
    done = subprocess.run(argv, cwd=folder, env=env, check=False, capture_output=True, text=True, timeout=120)
    print(done.stdout, done.stderr)
    return done.stdout.splitlines()[-1], [line.split() for line in (folder / "ran").read_text().splitlines()]


@pytest.mark.parametrize(("workers", "lost"), [(1, (0, 2, 4)), (2, (0, 2, 4)), (3, (5,))])
def test_lost_worker_takes_one_test_with_it_and_no_more(tmp_path: Path, workers: int, lost: tuple[int, ...]) -> None:
    last_line, ran = run(tmp_path, workers, lost)

    assert sorted(row[:2] for row in ran) == [["own", str(n)] for n in range(6)] + [
        ["shared", str(n)] for n in range(3)
    ]
    assert f"{9 - len(lost)} passed" in last_line
    assert f"{len(lost)} failed" in last_line
    assert len({worker for what, _, worker in ran if what == "shared"}) == 1


def test_tests_begin_in_the_order_they_were_collected_in(tmp_path: Path) -> None:
    _, ran = run(tmp_path, workers=1, lost=())

    assert [what for what, _, _ in ran] == ["own"] * 6 + ["shared"] * 3


class Worker:
    """A worker as the scheduler sees it; ``got`` are the indices of the tests that reached it."""

    shutting_down = False

    def __init__(self, *, is_closed: bool) -> None:
        self.is_closed, self.got = is_closed, list[int]()

    def send_runtest_some(self, places: list[int]) -> None:
        if self.is_closed:
            raise OSError("cannot send (already closed?)")
        self.got += places

    def shutdown(self) -> None:
        self.shutting_down = True


def test_tests_that_do_not_reach_a_lost_worker_are_run_by_the_others(tmp_path: Path) -> None:
    config = SimpleNamespace(getvalue=lambda _: ["2*popen"], option=SimpleNamespace(), getoption=lambda *_: 0)
    groups = Groups(config, None, [Run(tmp_path, "main")])
    closed, good = Worker(is_closed=True), Worker(is_closed=False)
    tests = [f"test_it.py::test_{number}" for number in range(6)]
    groups.collection = tests
    groups.registered_collections |= dict.fromkeys((closed, good), tests)
    groups.assigned_work |= {closed: {}, good: {}}
    groups.workqueue |= {test: {test: False} for test in tests}

    groups._reschedule(closed)
    while groups.workqueue:
        groups._assign_work_unit(good)

    assert (closed.got, good.got) == ([], [0, 1, 2, 3, 4, 5])
