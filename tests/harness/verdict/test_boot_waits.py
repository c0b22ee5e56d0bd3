"""A boot whose waits exceed the definition's budget has a finding that names the unit it waited for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.model.definition import load_definition
from harness.model.verdict import BootResult, UnitWait
from harness.verdict.boot_waits import over_idle_budget

BASE = load_definition(Path(__file__).parents[3] / "images" / "base")
BOOT = BootResult(
    machine="m", number=2, boot_path="direct", artifacts="", phases={}, ready_s=150.0, console="", added_arguments=(),
    idle_s=98.6,
)  # fmt: skip
SLEEP = UnitWait(unit="warm-up.service", idle_s=97.4, lines=("Starting warm-up.service", "Finished warm-up.service"))


def test_a_wait_beyond_the_budget_is_named_with_its_evidence() -> None:
    waits = (SLEEP, UnitWait(unit="b.service", idle_s=1.2))

    (finding,) = over_idle_budget(BASE, replace(BOOT, waits=waits))

    assert finding.id == "boot-waits"
    assert finding.what == "the boot waited 99 s with idle CPUs, mostly for warm-up.service; the budget is 10 s"
    assert finding.where == "m, boot 2 (direct)"
    assert finding.evidence == (
        "97.4 s for warm-up.service",
        "    Starting warm-up.service",
        "    Finished warm-up.service",
        "1.2 s for b.service",
    )


def test_many_short_waits_exceed_the_budget_together() -> None:
    (finding,) = over_idle_budget(BASE, BOOT)

    assert finding.what == "the boot waited 99 s with idle CPUs, for many units; the budget is 10 s"


@pytest.mark.parametrize(("allowed_s", "count"), [(98, 1), (99, 0), (0, 1)])
def test_the_definition_says_how_much_a_boot_may_wait(allowed_s: int, count: int) -> None:
    definition = replace(BASE, boot_idle_s=allowed_s)

    assert len(list(over_idle_budget(definition, replace(BOOT, waits=(SLEEP,))))) == count


def test_a_boot_that_was_not_measured_has_no_finding() -> None:
    assert list(over_idle_budget(BASE, replace(BOOT, idle_s=None))) == []
