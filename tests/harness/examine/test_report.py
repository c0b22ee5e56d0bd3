"""What the definition allows is allowed, with its reason, to the day; the rest fails."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from harness.examine import HostFaulty, HostReading, report
from harness.examine.network import NetworkReading
from harness.examine.storage import Swap
from harness.examine.units import UnitRow
from harness.model.definition import Allowance, ImageDefinition, load_definition

TODAY = date(2026, 11, 30)
ROOT = Path(__file__).parents[3]
TIMESYNCD = {"systemd-timesyncd.service": UnitRow(id="systemd-timesyncd.service")}
GOOD = HostReading(units=TIMESYNCD)
SWAPS = replace(GOOD, swaps=(Swap(name="/dev/zram0", kind="partition"),))


@pytest.fixture(scope="module")
def definition() -> ImageDefinition:
    base = load_definition(ROOT / "images" / "base")
    return replace(base, host_allow=(), lint_allow=(), listens=(), expected_errors=())


def test_a_host_about_which_there_is_nothing_to_say_has_no_finding(definition: ImageDefinition) -> None:
    assert report(GOOD, definition, TODAY).findings == ()


def test_what_fails_fails_and_names_itself(definition: ImageDefinition) -> None:
    (finding,) = report(SWAPS, definition, TODAY).failing

    assert (finding.id, finding.path) == ("swap-in-use", "swap:/dev/zram0")
    assert finding.cause
    assert finding.next
    assert str(HostFaulty(finding.as_verdict_finding())) == f"swap:/dev/zram0: {finding.what} [swap-in-use]"


@pytest.mark.parametrize("key", ["host_allow", "lint_allow"])
def test_what_is_allowed_does_not_fail(definition: ImageDefinition, key: str) -> None:
    allow = (Allowance(path="swap:/dev/zram*", reason="8 GiB"),)
    (finding,) = report(SWAPS, replace(definition, **{key: allow}), TODAY).findings  # type: ignore[arg-type]

    assert (finding.allowed, finding.does_fail) == ("8 GiB", False)


def test_after_its_day_it_fails_again(definition: ImageDefinition) -> None:
    allow = (Allowance(path="swap:*", reason="8 GiB", until=date(2026, 11, 29)),)
    (finding,) = report(SWAPS, replace(definition, host_allow=allow), TODAY).failing

    assert finding.cause == "it was allowed until 2026-11-29: 8 GiB"


def test_an_allowance_for_nothing_is_a_warning(definition: ImageDefinition) -> None:
    allow = (Allowance(path="swap:*", reason="8 GiB"),)
    (finding,) = report(GOOD, replace(definition, host_allow=allow), TODAY).warning

    assert (finding.id, finding.path) == ("allowance-unused", "swap:*")


def test_findings_of_one_kind_are_counted(definition: ImageDefinition) -> None:
    swaps = tuple(Swap(name=f"/dev/zram{number}", kind="partition") for number in range(60))
    seen = report(replace(GOOD, swaps=swaps), definition, TODAY)

    assert len(seen.failing) == 50
    assert "10 more findings swap-in-use are not shown" in seen.unchecked


def test_what_was_not_looked_at_is_said(definition: ImageDefinition) -> None:
    seen = report(replace(GOOD, network=NetworkReading(interfaces=None)), definition, TODAY)

    assert any("ip(8)" in sentence for sentence in seen.unchecked)
