"""The state of hosts: why one cannot run a shard."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.core.errors import HostError
from harness.pool.hosts import PoolHost
from harness.pool.on_host import HostReport
from harness.pool.survey import Surveyed, clock, no_report, problem_of, row, usable

GOOD = HostReport(
    bootproof="0.1.0", harness="a" * 64, accelerator="kvm", qemu="10.0.2", cores=8, memory_mib=16000, free_gib=100.4,
    time_s=0.0
)  # fmt: skip
HOST = PoolHost(name="h1", destination="h1")


@pytest.mark.parametrize(
    ("report", "problem"),
    [
        (GOOD, ""),
        (replace(GOOD, harness="b" * 64), "another Bootproof"),
        (replace(GOOD, qemu=""), "no QEMU there"),
        (replace(GOOD, problems=("memory: 100 MiB free",)), "memory: 100 MiB free"),
    ],
)
def test_a_host_must_have_the_same_code_and_a_qemu(report: HostReport, problem: str) -> None:
    found = problem_of(report, "a" * 64)

    assert found.startswith(problem)
    assert bool(found) == bool(problem)


@pytest.mark.parametrize(
    ("status", "errors", "problem"),
    [
        (255, "ssh: connect to host h1 port 22: Connection refused\n", "not reachable: ssh: connect to host h1"),
        (127, "sh: 1: bootproof: not found\n", "no Bootproof there: sh: 1: bootproof: not found"),
        (124, "", "no answer within 40 s"),
        (1, "", "ended with status 1: it printed nothing"),
    ],
)
def test_a_host_that_gives_no_report_has_a_reason(status: int, errors: str, problem: str) -> None:
    assert problem in no_report(status, errors, 40)


@pytest.mark.parametrize(
    ("ahead_s", "words"), [(0.4, "same"), (-3.0, "same"), (30.0, "30 s ahead"), (-3600.0, "60 min behind")]
)
def test_the_difference_of_clocks_is_in_words(ahead_s: float, words: str) -> None:
    assert clock(ahead_s) == words


def test_a_host_without_a_report_has_a_row_too() -> None:
    lost = Surveyed(host=HOST, report=None, clock_s=0.0, problem="not reachable")

    assert row(lost) == ["h1", "PROBLEM", *[""] * 7, "not reachable"]
    assert row(Surveyed(host=HOST, report=GOOD, clock_s=3600.0, problem=""))[-3:] == ["100 GiB", "60 min ahead", ""]
    with pytest.raises(HostError, match="h1: not reachable"):
        usable([lost])
