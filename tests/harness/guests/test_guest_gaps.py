"""How long guests did not answer: what counts, what is said, and when it is too long."""

from __future__ import annotations

from dataclasses import replace

from harness.guests.answer_log import AnswerLog, Gap
from harness.guests.guest_gaps import Reboot, lost_connections, measure, note, stages, too_long
from harness.guests.network_guests import FLOWS, GUESTS, Flow, Way

UPGRADED = next(guest for guest in GUESTS if guest.is_upgraded)
STAYING = next(guest for guest in GUESTS if not guest.is_upgraded)
PING, OTHER_PING = Flow(guest=UPGRADED, way=Way.PING), Flow(guest=STAYING, way=Way.PING)
TCP = Flow(guest=UPGRADED, way=Way.TCP)
GAP = Gap(105.0, 165.0)
REBOOT = Reboot(down_s=100.0, up_s=160.0)


def log(*answers_s: float, lost: str = "") -> AnswerLog:
    return AnswerLog(begin_s=0.0, end_s=200.0, answers_s=answers_s, lost=lost)


def test_waiting_for_the_test_host_does_not_count_and_only_for_guests_of_the_host_that_waited() -> None:
    upgraded, staying = (measure(flow, GAP, "m", 20.0, 90.0) for flow in (PING, OTHER_PING))

    assert (upgraded.longest_s, upgraded.queued_s, upgraded.limit_s) == (40.0, 20.0, 90.0)
    assert (staying.longest_s, staying.queued_s) == (60.0, 0.0)
    assert measure(PING, GAP, "m", 500.0, None).longest_s == 0.0


def test_a_gap_over_the_budget_is_too_long_and_none_without_a_budget() -> None:
    gap = measure(PING, GAP, "m", 0.0, 60.0)

    assert too_long(gap) == ""
    assert too_long(replace(gap, limit_s=None)) == ""
    assert too_long(replace(gap, limit_s=59.0)) == "it did not answer ping for 60.0 s; the budget is 59 s here"
    assert too_long(measure(TCP, GAP, "m", 0.0, 1.0)) == "", "the sender waits longer and longer"


def test_the_note_has_all_guests_and_the_budget() -> None:
    measured = [measure(PING, GAP, "m", 0.0, 90.0), measure(OTHER_PING, Gap(0.0, 0.4), "n", 0.0, 90.0)]

    assert note(measured, 90.0, "after an upgrade") == (
        f"after an upgrade: longest time without an answer: {UPGRADED.name} 60.0 s (ping); the budget is 90 s here; "
        f"on the host that stayed on: {STAYING.name} 0.4 s (ping)"
    )
    assert "; no budget; " in note(measured, None, "")


def test_a_gap_is_told_by_the_reboot() -> None:
    assert stages(GAP, REBOOT) == (
        "the last answer to ping came 5.0 s after the reboot began",
        "the host was ready after 60 s",
        "the next answer to ping came 5.0 s after that",
    )
    assert stages(GAP, replace(REBOOT, up_s=170.0))[2] == "the next answer to ping came 5.0 s before that"


def test_a_connection_is_lost_if_it_ended_or_stands_still_and_its_guest_kept_its_memory() -> None:
    good = {flow: log(1.0, 170.0) for flow in FLOWS}
    reset, still = {**good, TCP: log(1.0, lost="3: reset")}, {**good, TCP: log(1.0, 105.0)}

    assert dict(lost_connections(good, REBOOT)) == {}
    assert dict(lost_connections({**good, PING: log()}, REBOOT)) == {}
    assert dict(lost_connections(reset, REBOOT)) == {
        UPGRADED.name: "its connection from before is lost after line 3: reset"
    }
    assert "stands still" in dict(lost_connections(still, REBOOT))[UPGRADED.name]
    assert dict(lost_connections(reset, replace(REBOOT, keeps_memory=False))) == {}
    other = Flow(guest=STAYING, way=Way.TCP)
    assert STAYING.name in dict(lost_connections({**good, other: log()}, replace(REBOOT, keeps_memory=False)))
