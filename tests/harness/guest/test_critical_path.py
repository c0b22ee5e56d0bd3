"""The critical path of a boot leads back from what was ready last, over what each unit started after."""

from __future__ import annotations

from dataclasses import replace

from harness.core.cpu_use import IdleSpan
from harness.guest.critical_path import critical_path
from harness.guest.unit_states import UnitStart
from harness.model.critical_path import PathStep

USER_SPACE_S = 20.0


def start(unit: str, begins_s: float, ends_s: float | None, after: str = "", pulls: str | None = None) -> UnitStart:
    """A unit that requires all that it starts after, unless ``pulls`` says otherwise."""
    pulled = after if pulls is None else pulls
    return UnitStart(
        unit=unit, begins_s=begins_s, ends_s=ends_s, after=frozenset(after.split()), pulls=frozenset(pulled.split())
    )


UNITS = (
    start("sysinit.target", 22.0, 22.0),
    start("network.service", 22.0, 25.0, "sysinit.target"),
    start("warm-up.service", 22.0, 40.0, "sysinit.target"),
    start("app.service", 40.5, 43.0, "network.service warm-up.service", "network.service"),
    start("multi-user.target", 43.0, 43.0, "app.service warm-up.service"),
    start("late.timer", 43.0, 60.0),
)


def names(path: tuple[PathStep, ...]) -> list[str]:
    return [step.unit for step in path]


def test_each_step_was_the_last_to_be_ready_of_what_the_next_starts_after() -> None:
    path = critical_path(UNITS, (), USER_SPACE_S, until_s=50.0)

    assert names(path) == ["sysinit.target", "warm-up.service", "app.service", "multi-user.target"]
    assert [(step.begins_s, step.ready_s) for step in path] == [(2.0, 2.0), (2.0, 20.0), (20.5, 23.0), (23.0, 23.0)]


def test_a_step_says_how_much_sooner_it_could_begin_and_whether_it_needs_the_one_before() -> None:
    path = {step.unit: step for step in critical_path(UNITS, (), USER_SPACE_S, until_s=50.0)}

    assert (path["app.service"].earlier_s, path["app.service"].is_pulled_in) == (15.0, False)
    assert (path["warm-up.service"].earlier_s, path["warm-up.service"].is_pulled_in) == (2.0, True)
    assert (path["sysinit.target"].earlier_s, path["sysinit.target"].is_pulled_in) == (0.0, True)


def test_idle_time_is_of_the_step_in_which_it_lies() -> None:
    idle = (IdleSpan(30.0, 31.0, 0.5), IdleSpan(39.0, 41.0, 2.0), IdleSpan(5.0, 6.0, 1.0))

    path = {step.unit: step.idle_s for step in critical_path(UNITS, idle, USER_SPACE_S, until_s=50.0)}

    assert path == {"sysinit.target": 0.0, "warm-up.service": 1.5, "app.service": 0.5, "multi-user.target": 0.0}


def test_what_is_not_ready_or_of_the_initrd_or_of_a_login_is_no_step() -> None:
    foreign = (
        start("nova.service", 43.0, None, "app.service"),
        start("journald.service", 3.0, 4.0),
        start("bootproof-shell.service", 21.0, 49.0),
        start("user@0.service", 44.0, 48.0, "multi-user.target"),
        start("sysinit.target", 22.0, 22.0, "journald.service"),
    )

    assert names(critical_path((*UNITS, *foreign), (), USER_SPACE_S, until_s=50.0))[0] == "sysinit.target"
    assert names(critical_path((*UNITS, *foreign), (), USER_SPACE_S, until_s=50.0))[-1] == "multi-user.target"
    assert critical_path(foreign[:3], (), USER_SPACE_S, until_s=50.0) == ()


def test_the_path_leads_to_the_target_of_the_boot_or_else_to_what_was_ready_last() -> None:
    by_the_bus = start("hostnamed.service", 44.0, 46.0, "sysinit.target")
    waiting = replace(UNITS[4], ends_s=None)

    assert names(critical_path((*UNITS, by_the_bus), (), USER_SPACE_S, until_s=50.0))[-1] == "multi-user.target"
    assert names(critical_path((*UNITS[:4], waiting, by_the_bus), (), USER_SPACE_S, until_s=50.0)) == [
        "sysinit.target", "hostnamed.service",
    ]  # fmt: skip


def test_what_a_unit_starts_after_that_systemd_does_not_list_is_taken_to_be_the_last_target() -> None:
    units = (*UNITS[:2], replace(UNITS[2], after=None), *UNITS[3:])

    path = critical_path(units, (), USER_SPACE_S, until_s=50.0)

    assert names(path)[:2] == ["sysinit.target", "warm-up.service"]
    assert (path[1].earlier_s, path[1].is_pulled_in) == (0.0, True)


def test_units_that_claim_to_start_after_each_other_end_the_path() -> None:
    circle = (start("a", 30.0, 30.0, "b"), start("b", 30.0, 30.0, "a"))

    assert sorted(names(critical_path(circle, (), USER_SPACE_S, until_s=50.0))) == ["a", "b"]
