"""The share of tests/system that CI runs: each test has its turn, and time bounds what begins."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..system.shares import SHARES, share_of

ROOT = Path(__file__).parents[2]
SUITE = "import pytest\n@pytest.mark.parametrize('n', range(40))\ndef test_x(n): assert n != 41\n"
CONFTEST = "from tests.system.shares import *\n"


def run(folder: Path, *arguments: str, suite: str = SUITE) -> tuple[int, str]:
    """The options with a suite that boots nothing: pytest's status, and what it printed."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_suite.py").write_text(suite)
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", f"--rootdir={folder}", *arguments]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(argv, cwd=folder, env=environ, check=False, capture_output=True, text=True)
    print(done.stdout, done.stderr)
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def tests() -> list[str]:
    """The ids of all tests that boot."""
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", "tests/system"]
    listed = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if "::" in line]


def test_ten_changes_in_a_row_run_each_test_once(tests: list[str]) -> None:
    seen = [test for commits in range(285, 285 + SHARES) for test in tests if share_of(test) == commits % SHARES]

    assert len(tests) > 100
    assert sorted(seen) == sorted(tests)


def test_no_share_has_twice_the_tests_of_another(tests: list[str]) -> None:
    counts = [sum(share_of(test) == share for test in tests) for share in range(SHARES)]

    assert max(counts) <= 2 * min(counts), "another salt in tests/system/shares.py splits them more evenly"


def test_the_share_of_a_test_does_not_depend_on_the_process() -> None:
    assert share_of("tests/system/test_smoke.py::test_base_boots") == 9


def test_a_share_is_printed_and_run_and_nothing_else(tmp_path: Path) -> None:
    status, text = run(tmp_path, "--share", "285")

    turn = [n for n in range(40) if share_of(f"test_suite.py::test_x[{n}]") == 5]
    assert status == 0
    assert f"share 5 of 0 to 9, after 285 commits: {len(turn)} tests" in text
    assert [f"test_suite.py::test_x[{n}] PASSED" in text for n in range(40)] == [n in turn for n in range(40)]


def test_each_time_around_a_share_begins_at_another_test(tmp_path: Path) -> None:
    """So that all have run after four times, if time is enough for a third of them."""

    def order(commits: int) -> list[str]:
        _, text = run(tmp_path, "--share", str(commits))
        return [line.split()[0] for line in text.splitlines() if " PASSED" in line]

    orders = [order(commits) for commits in (285, 295, 305, 315)]

    assert len(orders[0]) > 2
    assert {frozenset(tests) for tests in orders} == {frozenset(orders[0])}
    third = math.ceil(len(orders[0]) / 3)
    assert {test for tests in orders for test in tests[:third]} == set(orders[0])


def test_what_time_leaves_no_room_for_is_counted_and_fails_nothing(tmp_path: Path) -> None:
    status, text = run(tmp_path, f"--begin-until={time.time() - 1}")

    assert status == 0
    assert "not begun: 40 (time: no test was to begin after " in text
    assert "passed" not in text
    assert "skipped" not in text


def test_a_test_that_has_begun_ends_and_is_judged(tmp_path: Path) -> None:
    until = time.time() + 4
    suite = f"import time\ndef test_a(): time.sleep({until} - time.time() + 0.1); assert False\ndef test_b(): pass\n"

    status, text = run(tmp_path, f"--begin-until={until}", suite=suite)

    assert status == 1
    assert "test_a FAILED" in text
    assert "not begun: 1 " in text


def ci_commands(folder: Path, *, commits: int, is_shallow: bool) -> list[str]:
    """What .ci/run gives to make, with programs of the same names in place of make and git."""
    git = (
        f'case "$*" in rev-parse*) echo {str(is_shallow).lower()};; '
        f"'rev-list --count --first-parent HEAD') echo {commits};; esac"
    )
    for name, script in {"make": f'echo "$*" >>{folder}/made', "git": git}.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    environ = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    subprocess.run([ROOT / ".ci" / "run"], env=environ, check=True)
    return (folder / "made").read_text().splitlines()


def test_ci_runs_the_quick_tests_a_verdict_and_the_share_of_the_commit(tmp_path: Path) -> None:
    begun = time.time()

    *others, share = ci_commands(tmp_path, commits=285, is_shallow=False)

    assert others == ["test", "verify"]
    assert share.startswith("faults OPTIONS=--share 285 --begin-until ")
    assert 0 <= int(share.rpartition(" ")[2]) - int(begun) - 55 * 60 < 10


def test_in_a_shallow_clone_the_share_follows_the_day(tmp_path: Path) -> None:
    day = time.localtime().tm_yday

    share = ci_commands(tmp_path, commits=1, is_shallow=True)[-1]

    assert int(share.split()[2]) in (day, day % 366 + 1)
