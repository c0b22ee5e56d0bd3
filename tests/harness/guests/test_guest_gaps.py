"""How long guests did not answer: what counts, what is said, and when it is too long."""

from __future__ import annotations

from dataclasses import replace

from harness.guests.guest_gaps import Reboot, measure, note, stages, too_long
from harness.guests.guest_network import GUESTS
from harness.guests.ping_log import Gap

UPGRADED = next(guest for guest in GUESTS if guest.is_upgraded)
STAYING = next(guest for guest in GUESTS if not guest.is_upgraded)
GAP = Gap(105.0, 165.0)


def test_waiting_for_the_test_host_does_not_count_and_only_for_guests_of_the_host_that_waited() -> None:
    upgraded, staying = (measure(guest, GAP, "m", 20.0, 90.0) for guest in (UPGRADED, STAYING))

    assert (upgraded.longest_s, upgraded.queued_s, upgraded.limit_s) == (40.0, 20.0, 90.0)
    assert (staying.longest_s, staying.queued_s) == (60.0, 0.0)
    assert measure(UPGRADED, GAP, "m", 500.0, None).longest_s == 0.0


def test_a_gap_over_the_budget_is_too_long_and_none_without_a_budget() -> None:
    gap = measure(UPGRADED, GAP, "m", 0.0, 60.0)

    assert too_long(gap) == ""
    assert too_long(replace(gap, limit_s=None)) == ""
    assert too_long(replace(gap, limit_s=59.0)) == "it did not answer ping for 60.0 s; the budget is 59 s here"


def test_the_note_has_all_guests_and_the_budget() -> None:
    measured = [measure(UPGRADED, GAP, "m", 0.0, 90.0), measure(STAYING, Gap(0.0, 0.4), "n", 0.0, 90.0)]

    assert note(measured, "after an upgrade") == (
        f"after an upgrade: longest time without an answer to ping: {UPGRADED.name} 60.0 s; "
        f"on the host that stayed on, {STAYING.name} 0.4 s; the budget is 90 s here"
    )
    assert note([replace(one, limit_s=None) for one in measured], "").endswith("; no budget")


def test_a_gap_is_told_by_the_reboot() -> None:
    said = stages(GAP, Reboot(down_s=100.0, up_s=160.0))

    assert said == (
        "the last answer came 5.0 s after the reboot began",
        "the host was ready after 60 s",
        "the next answer came 5.0 s after that",
    )
    assert stages(GAP, Reboot(down_s=100.0, up_s=170.0))[2] == "the next answer came 5.0 s before that"
