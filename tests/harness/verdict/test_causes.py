"""Which findings have the same cause."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.core.errors import Blame
from harness.model.events import DependentTest
from harness.model.verdict import Finding
from harness.verdict.causes import STATE_FAILED, cause_of, one_per_cause

BOOT = Finding(id="boot-hangs", what="no sign of life for 63 s", where="one, boot 1 (direct)", evidence=("a",))
CHECK = Finding(id="check-failed", what="assert 1 == 2", where="t.py::test_x")
STATE = Finding(id=STATE_FAILED, what="mkfs failed", where="state with-volume")


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        (replace(BOOT, where="two, boot 3 (grub)", evidence=("b",), cause="another guess"), True),
        (replace(BOOT, what="no sign of life for 6.5 s"), True),
        (replace(BOOT, what="no sign of death for 63 s"), False),
        (replace(BOOT, blame=Blame.HOST), False),
        (replace(BOOT, id="kernel-panic"), False),
    ],
)
def test_a_cause_is_the_same_at_another_boot_or_after_another_time(other: Finding, is_same: bool) -> None:
    assert (cause_of(BOOT) == cause_of(other)) is is_same


def test_two_tests_that_fail_alike_are_two_findings() -> None:
    assert len(one_per_cause([CHECK, replace(CHECK, where="t.py::test_y")], [])) == 2


def test_further_boots_are_places_and_dependent_tests_are_listed_once() -> None:
    again = replace(BOOT, where="two, boot 1 (direct)", what="no sign of life for 70 s")
    dependents = [DependentTest(test=test, finding=found) for test in "xyx" for found in (BOOT, again)]

    (found,) = one_per_cause([BOOT, again, BOOT], dependents)

    assert found == replace(BOOT, places=("two, boot 1 (direct)",), tests=("x", "y"))


def test_a_finding_that_only_dependents_know_is_in_the_verdict() -> None:
    (found,) = one_per_cause([], [DependentTest(test="x", finding=STATE)])

    assert found == replace(STATE, tests=("x",))


@pytest.mark.parametrize("origin", [replace(CHECK, what="mkfs failed"), replace(CHECK, evidence=("mkfs failed",))])
def test_a_state_that_was_not_reached_is_the_finding_of_the_test_that_tried(origin: Finding) -> None:
    dependents = [DependentTest(test=test, finding=STATE) for test in ("t.py::test_y", "t.py::test_z")]

    assert one_per_cause([origin], dependents) == (replace(origin, tests=("t.py::test_y", "t.py::test_z")),)


def test_the_images_findings_come_first_and_boots_before_tests() -> None:
    host = replace(BOOT, blame=Blame.HOST)
    harness = replace(CHECK, blame=Blame.HARNESS)

    assert one_per_cause([harness, host, CHECK, BOOT], []) == (BOOT, CHECK, host, harness)
