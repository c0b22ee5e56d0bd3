"""What breaks while a host is soaked is found once, and in the days it is a finding of the timer that did it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.examine.journal import Entry
from harness.examine.soak.breaks import find_breaks
from harness.examine.soak.looks import Look, Phase
from harness.examine.soak.samples import Sample, Space, UnitState
from harness.lint.finding import LintFinding
from harness.model.definition import ImageDefinition, load_definition

from .hosts import GROUND, MIB, minutes, with_timers

ROOT = Path(__file__).parents[4]
TIMERS = {"weekly.timer": 7, "nightly.timer": 1}
FAILED = UnitState(active="failed", sub="failed")


@pytest.fixture(scope="module")
def definition() -> ImageDefinition:
    base = load_definition(ROOT / "images" / "base")
    return replace(base, services=("ssh.service",), sockets=(), waiting=("nova-compute.service",), expected_errors=())


def looks_with(change: Callable[[Sample], Sample], since: Callable[[Look], bool]) -> list[Look]:
    """Looks with two timers; ``change`` is seen from the first look of which ``since`` is true."""
    looks, found = list(with_timers(minutes(lambda _, __: {}), TIMERS)), list[Look]()
    begun = False
    for look in looks:
        begun = begun or since(look)
        found.append(replace(look, sample=change(look.sample)) if begun else look)
    return found


def unit(name: str, state: UnitState) -> Callable[[Sample], Sample]:
    return lambda sample: replace(sample, units={**sample.units, name: state}, results={name: "exit-code"})


def found(looks: list[Look], definition: ImageDefinition) -> list[LintFinding]:
    return list(find_breaks(looks, GROUND, definition))


def on_day(number: float) -> Callable[[Look], bool]:
    return lambda look: look.phase is Phase.DAYS and look.number >= number


def test_a_still_host_has_none(definition: ImageDefinition) -> None:
    assert found(looks_with(lambda sample: sample, bool), definition) == []


def test_a_unit_that_fails_is_found_once_with_when(definition: ImageDefinition) -> None:
    looks = looks_with(unit("agent.service", FAILED), lambda look: look.phase is Phase.USED)
    (finding,) = found(looks, definition)

    assert (finding.id, finding.path) == ("unit-failed", "unit:agent.service")
    assert finding.what == "in use, round 1: it failed (result exit-code)"


def test_a_unit_that_its_timer_starts_and_that_fails_on_day_seven_is_a_finding_of_the_timer(
    definition: ImageDefinition,
) -> None:
    (finding,) = found(looks_with(unit("weekly.service", FAILED), on_day(7)), definition)

    assert (finding.id, finding.path) == ("timer-breaks", "timer:weekly.timer")
    assert finding.what == "day 7: unit:weekly.service: it failed (result exit-code)"


def test_what_else_breaks_on_day_seven_is_a_finding_of_the_timer_that_fired_first_then(
    definition: ImageDefinition,
) -> None:
    (finding,) = found(looks_with(unit("ssh.service", FAILED), on_day(7)), definition)

    assert (finding.id, finding.path) == ("timer-breaks", "timer:weekly.timer")
    assert "day 7: unit:ssh.service: it failed" in finding.what


def test_what_breaks_when_no_timer_fired_is_none_of_a_timer(definition: ImageDefinition) -> None:
    looks = [
        replace(look, sample=unit("a.service", FAILED)(look.sample)) if on_day(3)(look) else look
        for look in minutes(lambda _, __: {})
    ]
    (finding,) = found(looks, definition)

    assert (finding.id, finding.path) == ("unit-failed", "unit:a.service")
    assert finding.what.startswith("day ")


def test_a_timer_that_has_fired_before_is_no_suspect_but_it_is_named(definition: ImageDefinition) -> None:
    looks = looks_with(unit("a.service", FAILED), on_day(10))
    (finding,) = found(looks, definition)

    assert (finding.id, finding.path) == ("unit-failed", "unit:a.service")
    assert finding.what.startswith("day 10: it failed")
    assert "timers that fired then: nightly.timer" in finding.evidence


def test_a_unit_that_was_started_again_is_found(definition: ImageDefinition) -> None:
    looks = looks_with(lambda sample: replace(sample, restarts={"ssh.service": 1}), lambda look: look.sample.at_s > 130)
    (finding,) = found(looks, definition)

    assert (finding.id, finding.what) == ("unit-flapping", "left alone: it ended, and systemd started it again")


def test_a_demanded_unit_that_ended_is_found(definition: ImageDefinition) -> None:
    looks = looks_with(
        unit("ssh.service", UnitState(active="inactive", sub="dead")), lambda look: look.phase is Phase.USED
    )

    assert [one.id for one in found(looks, definition)] == ["unit-ended"]


def test_what_may_wait_may_fail(definition: ImageDefinition) -> None:
    looks = looks_with(unit("nova-compute.service", FAILED), lambda look: look.phase is Phase.USED)

    assert found(looks, definition) == []


def test_an_error_of_a_timers_unit_is_a_finding_of_the_timer_and_one_that_is_declared_is_none(
    definition: ImageDefinition,
) -> None:
    error = Entry(source="weekly.service", message="no space left")
    looks = looks_with(lambda sample: sample, bool)
    index = next(number for number, look in enumerate(looks) if on_day(7)(look))
    looks[index] = replace(looks[index], sample=replace(looks[index].sample, errors=(error,)))
    (finding,) = found(looks, definition)

    assert (finding.id, finding.path) == ("timer-breaks", "timer:weekly.timer")
    assert "no space left" in finding.what


def test_a_file_system_that_a_timer_fills_is_a_finding_of_the_timer(definition: ImageDefinition) -> None:
    def fill(sample: Sample) -> Sample:
        full = Space(size=400 * MIB, used=399 * MIB)
        units = {**sample.units, "weekly.service": UnitState(active="failed")}
        files = {"/run/overlayfs/var/dump": 300 * MIB}
        return replace(sample, files=files, space={**sample.space, "/run": full}, units=units)

    (finding,) = found(looks_with(fill, on_day(7)), definition)

    assert (finding.id, finding.path) == ("timer-breaks", "timer:weekly.timer")
    assert finding.what == "day 7: space:/run: it is full: 399 of 400 MiB"
    assert finding.evidence[:2] == ("/var/dump: 300 MiB", "then unit:weekly.service: it failed")


def test_a_new_taint_is_found_but_a_soft_lockup_is_the_hosts(definition: ImageDefinition) -> None:
    def tainted(bits: int) -> list[Look]:
        return looks_with(lambda sample: replace(sample, tainted=bits), lambda look: look.sample.at_s > 130)

    assert [one.id for one in found(tainted(1 << 9), definition)] == ["kernel-tainted"]
    assert found(tainted(1 << 14), definition) == []
