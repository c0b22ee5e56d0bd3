"""When a worker is lost, every other test still runs once, and the run ends. Few workers look."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.model.events import PlannedTest
from harness.plugin.scheduler import Groups, Planned

CONFTEST = """
def pytest_xdist_make_scheduler(config, log):
    from harness.model.events import PlannedTest
    from harness.plugin.scheduler import Groups

    tests = [f"test_it.py::test_of_a_shared_machine[{number}]" for number in range(3)]
    planned = [PlannedTest(test=test, file="", checks=(), group="shared", templates=("it",)) for test in tests]
    return Groups(config, log, lambda: [(test, 1.0) for test in planned])
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
        self.gateway = SimpleNamespace(id="gw")

    def send_runtest_some(self, places: list[int]) -> None:
        if self.is_closed:
            raise OSError("cannot send (already closed?)")
        self.got += places

    def shutdown(self) -> None:
        self.shutting_down = True


def make_groups(workers: int, planned: Planned = (), cores: int = 2) -> Groups:
    config = SimpleNamespace(getvalue=lambda _: [f"{workers}*popen"], option=SimpleNamespace(), getoption=lambda *_: 0)
    return Groups(config, SimpleNamespace(loadscopesched=lambda *_: None), lambda: planned, cores)


def test_tests_that_do_not_reach_a_lost_worker_are_run_by_the_others() -> None:
    groups = make_groups(2)
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


class Simulated(Worker):
    """A worker on the clock of a simulation. As xdist's, it starts a test only when it knows the next one."""

    def __init__(self) -> None:
        super().__init__(is_closed=False)
        self.ran, self.ends_s = list[int](), 0.0

    @property
    def can_run(self) -> bool:
        left = len(self.got) - len(self.ran)
        return left > 1 or (left == 1 and self.shutting_down)


def simulate(planned: Planned, workers: int, cores: int = 2) -> tuple[list[Simulated], float]:
    """The workers after a run of tests that take as long as expected, and when it ended."""
    groups, nodes = make_groups(workers, planned, cores), [Simulated() for _ in range(workers)]
    tests, took_s = [test.test for test, _ in planned], [expected_s for _, expected_s in planned]
    for node in nodes:
        groups.add_node(node)
        groups.add_node_collection(node, tests)
    groups.schedule()
    now_s = 0.0
    while able := [node for node in nodes if node.can_run]:
        for node in able:
            node.ends_s = node.ends_s or now_s + took_s[node.got[len(node.ran)]]
        node = min(able, key=lambda node: node.ends_s)
        now_s, place = node.ends_s, node.got[len(node.ran)]
        node.ran.append(place)
        node.ends_s = 0.0
        if node in groups.nodes:
            groups.mark_test_complete(node, place)
        if groups.tests_finished:
            for other in groups.nodes:
                other.shutdown()
    assert sorted(place for node in nodes for place in node.ran) == list(range(len(planned)))
    return nodes, now_s


def plan(boots_s: Sequence[float], looking: Mapping[str, Sequence[float]]) -> Planned:
    """Tests that boot, and groups of tests that look at one machine."""
    boots = [(PlannedTest(test=f"boot {n}", file="", checks=(), group=f"boot {n}"), s) for n, s in enumerate(boots_s)]
    looks = [
        (PlannedTest(test=f"{group} {n}", file="", checks=(), group=group, templates=("booted",)), s)
        for group, times_s in looking.items()
        for n, s in enumerate(times_s)
    ]
    return [*boots, *looks]


def who_looks(nodes: Sequence[Simulated], planned: Planned) -> list[Simulated]:
    return [node for node in nodes if any(planned[place][0].looks for place in node.ran)]


GATE = plan(
    [450, 300, 40, 20], {"host": [60], "links": [3] * 33, "services": [2] * 20, "ssh": [20, 3], "image": [2] * 6}
)
"""About the tests of nova-kvm, in seconds."""


def test_one_worker_looks_while_others_boot_for_longer() -> None:
    nodes, ended_s = simulate(GATE, workers=8)

    assert len(who_looks(nodes, GATE)) == 1
    assert ended_s == 450


def test_a_core_that_no_boot_needs_looks_too() -> None:
    few_boots = plan([100], {str(number): [10] * 10 for number in range(8)})

    nodes, ended_s = simulate(few_boots, workers=8)

    assert len(who_looks(nodes, few_boots)) == 2
    assert ended_s <= 400 + 10


def test_as_many_workers_look_as_there_are_cores_if_nothing_else_is_to_do() -> None:
    only_looks = plan([], {str(number): [10] * 5 for number in range(6)})

    for cores in (1, 2, 4):
        assert len(who_looks(simulate(only_looks, workers=8, cores=cores)[0], only_looks)) == cores


def test_nobody_begins_with_looking_while_the_cores_need_all_workers_for_boots() -> None:
    nodes, _ = simulate(GATE, workers=2)

    assert all(not GATE[node.ran[0]][0].looks for node in nodes)


def test_every_test_runs_once_whatever_the_workers_cores_and_durations() -> None:
    chance = random.Random(1)
    for _ in range(100):
        groups = {str(n): [chance.choice((1, 5, 50))] * chance.randint(1, 6) for n in range(chance.randint(0, 6))}
        planned = plan([chance.choice((1, 30, 400)) for _ in range(chance.randint(0, 9))], groups)
        simulate(planned, workers=chance.randint(1, 9), cores=chance.randint(1, 5))
