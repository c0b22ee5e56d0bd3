"""How long guests did not answer while a host was upgraded: measured, recorded in the run, compared with the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.guests.guest_network import GUESTS, GuestNetwork, NetworkGuest
from harness.guests.hypervisor import GuestFailed
from harness.guests.ping_log import Gap, PingLog, longest_gap, queued_s
from harness.model.events import GuestGap
from harness.verdict.time_budget import allowed_s

TOO_LONG = "guest-gap-too-long"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reboot:
    """When a host was told to reboot, and when it was ready, on the clock of the senders."""

    down_s: float
    up_s: float


def judge_gaps(network: GuestNetwork, logs: Mapping[str, PingLog], reboot: Reboot, stage: str) -> None:
    """Record the longest time without an answer of each guest. `GuestFailed` if one is over the budget
    ``guest_gap_s``."""
    machine = network.upgraded.machine
    run, budget_s = machine.context.run, machine.definition.guest_gap_s
    waited_s = queued_s(run.events(), machine.name)
    limit_s = None if budget_s is None else allowed_s(budget_s)
    gaps = {guest: longest_gap(logs[guest.name]) for guest in GUESTS}
    measured = [
        measure(guest, gap, network.host_of(guest).machine.name, waited_s, limit_s) for guest, gap in gaps.items()
    ]
    for one in measured:
        run.add(one)
    run.add_note(note(measured, stage))
    _report(network, gaps, measured, reboot, stage)


def measure(guest: NetworkGuest, gap: Gap, machine: str, waited_s: float, limit_s: float | None) -> GuestGap:
    """``waited_s`` is how long the boot waited for room on the test host: without it, the guest would have been back so
    much sooner. Pure."""
    waited_s = min(gap.length_s, waited_s) if guest.is_upgraded else 0.0
    return GuestGap(
        guest=guest.name,
        machine=machine,
        way="ping",
        is_upgraded=guest.is_upgraded,
        longest_s=round(gap.length_s - waited_s, 2),
        queued_s=round(waited_s, 2),
        limit_s=limit_s,
    )


def note(measured: Sequence[GuestGap], stage: str) -> str:
    """What a run says about ``measured``: pure."""
    upgraded, others = (
        ", ".join(f"{one.guest} {one.longest_s:.1f} s" for one in measured if one.is_upgraded is is_upgraded)
        for is_upgraded in (True, False)
    )
    limit_s = measured[0].limit_s
    budget = "no budget" if limit_s is None else f"the budget is {limit_s:.0f} s here"
    return (
        f"{stage}: longest time without an answer to ping: {upgraded}; on the host that stayed on, {others}; {budget}"
    )


def too_long(gap: GuestGap) -> str:
    """What is wrong with ``gap``; empty if it is within its limit, or has none. Pure."""
    if gap.limit_s is None or gap.longest_s <= gap.limit_s:
        return ""
    return f"it did not answer {gap.way} for {gap.longest_s:.1f} s; the budget is {gap.limit_s:.0f} s here"


def _report(
    network: GuestNetwork,
    gaps: Mapping[NetworkGuest, Gap],
    measured: Sequence[GuestGap],
    reboot: Reboot,
    stage: str,
) -> None:
    wrong = {one.guest: problem for one in measured if (problem := too_long(one))}
    if not wrong:
        return
    first = next(guest for guest in GUESTS if guest.name in wrong)
    evidence = stages(gaps[first], reboot)
    raise GuestFailed(network.host_of(first).report(TOO_LONG, wrong, stage=stage, evidence=evidence))


def stages(gap: Gap, reboot: Reboot) -> tuple[str, ...]:
    """When the gap was: pure."""
    order = "before" if gap.ended_s < reboot.up_s else "after"
    return (
        f"the last answer came {gap.began_s - reboot.down_s:.1f} s after the reboot began",
        f"the host was ready after {reboot.up_s - reboot.down_s:.0f} s",
        f"the next answer came {abs(gap.ended_s - reboot.up_s):.1f} s {order} that",
    )
