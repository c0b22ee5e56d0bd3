"""How long guests did not answer while a host was upgraded, and which connections were lost: recorded in the run, and
compared with the budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.guests.answer_log import AnswerLog, Gap, longest_gap, queued_s
from harness.guests.guest_network import GuestNetwork
from harness.guests.hypervisor import GuestFailed
from harness.guests.network_guests import GUESTS, Flow, Way
from harness.model.events import GuestGap
from harness.verdict.time_budget import allowed_s

TOO_LONG, LOST = "guest-gap-too-long", "guest-connection-lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reboot:
    """When a host was told to reboot, and when it was ready, on the clock of the senders. ``keeps_memory``: its guests
    were suspended, and went on."""

    down_s: float
    up_s: float
    keeps_memory: bool = True


def judge_gaps(network: GuestNetwork, logs: Mapping[Flow, AnswerLog], reboot: Reboot, stage: str) -> None:
    """Record the longest time without an answer of each guest. `GuestFailed` if one is over the budget ``guest_gap_s``,
    or if a connection was lost to a guest that kept its memory."""
    machine = network.upgraded.machine
    run, budget_s = machine.context.run, machine.definition.guest_gap_s
    waited_s = queued_s(run.events(), machine.name)
    limit_s = None if budget_s is None else allowed_s(budget_s)
    gaps = {flow: longest_gap(log) for flow, log in logs.items()}
    measured = [
        measure(flow, gap, network.host_of(flow.guest).machine.name, waited_s, limit_s) for flow, gap in gaps.items()
    ]
    for one in measured:
        run.add(one)
    run.add_note(note(measured, limit_s, stage))
    wrong = {
        TOO_LONG: {one.guest: problem for one in measured if (problem := too_long(one))},
        LOST: dict(lost_connections(logs, reboot)),
    }
    found = []
    for kind, problems in wrong.items():
        for guest in [guest for guest in GUESTS if guest.name in problems][:1]:
            evidence = stages(gaps[Flow(guest=guest, way=Way.PING)], reboot)
            found.append(network.host_of(guest).report(kind, problems, stage=stage, evidence=evidence))
    if found:
        raise GuestFailed(found[0])


def measure(flow: Flow, gap: Gap, machine: str, waited_s: float, limit_s: float | None) -> GuestGap:
    """``waited_s`` is how long the boot waited for room on the test host: without it, the guest would have been back so
    much sooner. Pure."""
    waited_s = min(gap.length_s, waited_s) if flow.guest.is_upgraded else 0.0
    return GuestGap(
        guest=flow.guest.name,
        machine=machine,
        way=flow.way,
        is_upgraded=flow.guest.is_upgraded,
        longest_s=round(gap.length_s - waited_s, 2),
        queued_s=round(waited_s, 2),
        limit_s=limit_s if flow.way is Way.PING else None,
    )


def note(measured: Sequence[GuestGap], limit_s: float | None, stage: str) -> str:
    """What a run says about ``measured``: pure."""
    upgraded, others = (
        ", ".join(f"{one.guest} {one.longest_s:.1f} s ({one.way})" for one in measured if one.is_upgraded is wanted)
        for wanted in (True, False)
    )
    budget = "no budget" if limit_s is None else f"the budget is {limit_s:.0f} s here"
    return f"{stage}: longest time without an answer: {upgraded}; {budget}; on the host that stayed on: {others}"


def too_long(gap: GuestGap) -> str:
    """What is wrong with ``gap``; empty if it is within its limit, or has none. Pure."""
    if gap.limit_s is None or gap.longest_s <= gap.limit_s:
        return ""
    return f"it did not answer {gap.way} for {gap.longest_s:.1f} s; the budget is {gap.limit_s:.0f} s here"


def lost_connections(logs: Mapping[Flow, AnswerLog], reboot: Reboot) -> Iterator[tuple[str, str]]:
    """The guests to which a connection did not last, and how it ended: pure."""
    for flow, log in logs.items():
        if flow.way is Way.PING or (flow.guest.is_upgraded and not reboot.keeps_memory):
            continue
        if log.lost:
            yield flow.guest.name, f"its connection from before is lost after line {log.lost}"
        elif not log.answers_s or log.answers_s[-1] < reboot.up_s:
            yield flow.guest.name, "its connection from before stands still, although the guest answers ping"


def stages(gap: Gap, reboot: Reboot) -> tuple[str, ...]:
    """When the gap was: pure."""
    order = "before" if gap.ended_s < reboot.up_s else "after"
    return (
        f"the last answer to ping came {gap.began_s - reboot.down_s:.1f} s after the reboot began",
        f"the host was ready after {reboot.up_s - reboot.down_s:.0f} s",
        f"the next answer to ping came {abs(gap.ended_s - reboot.up_s):.1f} s {order} that",
    )
