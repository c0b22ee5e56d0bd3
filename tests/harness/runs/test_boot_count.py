"""How many boots of a run are done, and how long the others take, from events."""

from __future__ import annotations

import pytest

from harness.model.events import Event, Killed, PhaseBegan, PlannedTest, ReportedTest
from harness.model.verdict import BootResult
from harness.runs.boot_count import BootCount
from harness.runs.progress import is_count_due


def planned(test: str, boots: int, *templates: str) -> PlannedTest:
    return PlannedTest(test=test, file="t.py", checks=(), group=test, boots=boots, templates=templates)


def over(test: str) -> ReportedTest:
    return ReportedTest(test=test, when="teardown", outcome="passed", took_s=1.0)


def booted(machine: str, number: int = 1, *, ready_s: float | None = 60.0, run: str = "") -> BootResult:
    return BootResult(
        machine=machine,
        number=number,
        boot_path="direct",
        artifacts="a",
        phases={},
        ready_s=ready_s,
        console="",
        added_arguments=(),
        run=run,
    )


PLAN = (planned("looks", 0, "booted"), planned("upgrade", 2, "booted"), planned("survival", 1, "booted", "rebooted"))
"""Five boots: two lead to templates."""


def counting(*events: Event, selected: tuple[str, ...] = ("looks", "upgrade", "survival")) -> BootCount:
    count = BootCount(lanes=2, typical_s=100.0)
    count.select(selected)
    for event in (*PLAN, *events):
        count.note(event, 1000.0)
    return count


def test_boots_of_templates_count_once_for_all_tests_that_share_them() -> None:
    assert counting().counted() == (0, 5)
    assert counting(booted("template-booted"), booted("upgrade", 2)).counted() == (2, 5)


def test_only_what_was_selected_counts() -> None:
    assert counting(selected=("looks",)).counted() == (0, 1)
    assert BootCount(lanes=2, typical_s=100.0).line(0.0) == "", "not before the tests are known"


def test_a_template_of_an_earlier_run_is_a_boot_that_is_done() -> None:
    assert counting(booted("template-booted", run="/runs/1")).counted() == (1, 5)


@pytest.mark.parametrize("boots", [(), (booted("upgrade", 2),), tuple(booted("upgrade", n) for n in (2, 3, 4, 5))])
def test_a_test_that_is_over_has_made_its_boots_and_no_more(boots: tuple[BootResult, ...]) -> None:
    """One that failed early, one whose boots may fail and are recorded elsewhere, one that booted more than it said."""
    done, total = counting(*boots, over("upgrade")).counted()

    assert (2 <= done <= 3, total) == (True, 5)


def test_a_template_whose_tests_are_all_over_is_not_waited_for() -> None:
    everything = counting(*map(over, ("looks", "upgrade", "survival")))

    assert everything.counted() == (5, 5)
    assert everything.line(0.0) == ""


def test_the_rest_is_divided_among_the_boots_that_run_at_the_same_time() -> None:
    assert counting().line(1000.0) == "boots 0/5, about 4 min left", "5 x 100 s, two at a time"
    assert counting(booted("template-booted"), booted("x"), booted("y")).line(1000.0) == "boots 3/5, about 60 s left"


def test_what_a_boot_has_done_so_far_is_subtracted_until_it_takes_longer_than_others() -> None:
    begun = counting(PhaseBegan(machine="template-booted", boot=1, phase="kernel"))

    assert begun.line(1060.0) == "boots 0/5, about 4 min left", "440 s, two at a time"
    assert begun.line(9000.0) == "boots 0/5, about 3 min left", "400 s, two at a time"


@pytest.mark.parametrize("end", [booted("m", ready_s=None), Killed(machine="m", number=1)])
def test_a_boot_that_has_ended_no_longer_runs(end: Event) -> None:
    ended = counting(PhaseBegan(machine="m", boot=1, phase="kernel"), end)

    assert ended.line(9000.0) in ("boots 1/5, about 3 min left", "boots 0/5, about 4 min left")


def test_a_clone_is_no_boot() -> None:
    assert counting(PhaseBegan(machine="m", boot=1, phase="firmware")).line(9000.0) == "boots 0/5, about 4 min left"


def test_boots_of_the_same_name_in_two_runs_are_two() -> None:
    count = counting(booted("template-booted"))
    count.note(planned("of-other", 0, "other booted"), 1000.0)
    count.select(("looks", "upgrade", "survival", "of-other"))
    count.note(booted("template-booted"), 1000.0, 1)

    assert count.counted() == (2, 6)


@pytest.mark.parametrize(
    ("passed_s", "is_more", "is_due"),
    [(59, True, False), (61, True, True), (61, False, False), (299, False, False), (301, False, True)],
)
def test_a_count_that_is_the_same_is_seldom_said(passed_s: float, is_more: bool, is_due: bool) -> None:
    assert is_count_due(passed_s, is_more=is_more) is is_due
