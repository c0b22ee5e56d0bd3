"""Tries of cases: what is good, bad and unresolved, the smallest change, and how certain the result is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.replay.case import Case
from harness.replay.delta import TryOutcome
from harness.replay.tries import Tries, certainty, format_result, smallest_change

from .cases import bad, good  # noqa: F401  # pytest finds fixtures by name

# ruff: noqa: F811  # fixtures of another file are arguments here


def _tries(attempt: Callable[[Case], tuple[str, ...]], repeat: int = 1, wanted: str = "") -> Tries:
    return Tries(attempt, repeat, lambda _: None, wanted)


def _breaks(*names: str) -> Callable[[Case], tuple[str, ...]]:
    """A boot that hangs if all of these are as in the bad case."""

    def attempt(case: Case) -> tuple[str, ...]:
        seen = {
            "memory": case.spec.memory_mib == 512,
            "network faults": bool(case.network_faults),
            "kernel": case.artifacts.kernel.resolve().parent.name == "bad",
        }
        return ("boot-hangs",) if all(seen[name] for name in names) else ()

    return attempt


@pytest.mark.parametrize("names", [("memory",), ("kernel",), ("memory", "network faults")])
def test_the_smallest_change_is_found(names: tuple[str, ...], good: Case, bad: Case, tmp_path: Path) -> None:
    reported: list[str] = []
    tries = Tries(_breaks(*names), 1, reported.append)
    tries.confirm(good, bad)

    found = smallest_change(good, bad, tries, tmp_path / "mixes")

    assert [part.name.removesuffix("_mib") for part in found] == list(names)
    assert reported[:2] == ["BAD shows boot-hangs in 1 of 1", "GOOD: good"]
    lines = list(format_result(found, tries))
    assert lines[0].startswith("boot-hangs is caused by: ")
    assert lines[1].endswith("; BAD failed in 1 of 1; if the failure is intermittent, use --repeat 5")


def test_a_mix_with_another_finding_is_unresolved(good: Case, bad: Case, tmp_path: Path) -> None:
    def attempt(case: Case) -> tuple[str, ...]:
        has_kernel = case.artifacts.kernel.resolve().parent.name == "bad"
        has_rootfs = case.artifacts.rootfs.resolve().parent.name == "bad"
        if has_kernel and has_rootfs:
            return ("unit-failed",)
        return ("kernel-panic",) if has_kernel else ()

    tries = _tries(attempt)
    tries.confirm(good, bad)

    found = smallest_change(good, bad, tries, tmp_path / "mixes")
    assert [part.name for part in found] == ["kernel", "root file system"]


def test_the_wanted_finding_in_one_try_outranks_another_finding(good: Case) -> None:
    turns = iter([("unit-failed",), ("boot-hangs",)])

    assert _tries(lambda _: next(turns), 2, "boot-hangs").judge(good, "it") is TryOutcome.BAD


def test_an_intermittent_failure_is_tried_more_often_and_the_certainty_is_stated(
    good: Case, bad: Case, tmp_path: Path
) -> None:
    turns = iter([True, False, True] + [False, False, True] * 99)

    def attempt(case: Case) -> tuple[str, ...]:
        return ("boot-hangs",) if case.spec.memory_mib == 512 and next(turns) else ()

    tries = _tries(attempt, 3)
    tries.confirm(good, bad)
    found = smallest_change(good, bad, tries, tmp_path / "mixes")

    assert [part.name for part in found] == ["memory_mib"]
    assert (tries.failed, tries.tried) == (2, 3)
    assert 0.5 < certainty(failed=2, tried=3, goods=tries.goods, repeat=3) < 0.95
    assert list(format_result(found, tries))[-1] == "for more certainty: --repeat 6"


def test_certainty_grows_with_tries_and_falls_with_good_cases() -> None:
    def sure(**counts: int) -> float:
        return certainty(**{"failed": 5, "tried": 10, "goods": 3, "repeat": 5, **counts})

    assert sure(repeat=10) > sure() > sure(goods=6)
    assert sure(failed=10) > sure()


def test_bad_must_fail_and_good_must_not(good: Case, bad: Case) -> None:
    with pytest.raises(UsageError, match=r"BAD does not fail: no finding in 2 of 2 tries; .* --repeat 6"):
        _tries(lambda _: (), 2).confirm(good, bad)
    with pytest.raises(UsageError, match="GOOD fails, too: it shows boot-hangs"):
        _tries(lambda _: ("boot-hangs",)).confirm(good, bad)


def test_equal_cases_are_refused(good: Case, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="do not differ in anything"):
        smallest_change(good, good, _tries(lambda _: ()), tmp_path / "mixes")
