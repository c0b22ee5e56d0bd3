"""What the trace of a lab's servers says of a boot that goes wrong: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.lab import TraceEvent
from harness.model.machine_spec import MachineSpec
from harness.model.verdict import Finding

_ASKED_IN_VAIN = 2
"""So often a DHCP client asks before it is said that nobody answers: RFC 2131, 4.1, has it ask again after seconds."""


def failure(events: Sequence[TraceEvent], spec: MachineSpec, where: str, *, is_transient: bool) -> Finding | None:
    """What its DHCP shows while the machine still tries; None if that may go well, as it may where all network
    faults are transient (``is_transient``)."""
    if any(event.kind == "nak" and "server-ID" in event.problem for event in events):
        return Finding(
            id="dhcp-servers-disagree",
            what="two DHCP servers answer, and the machine took the other one's offer",
            where=where,
            cause="a foreign DHCP server on this segment, such as a router, a hypervisor or a forgotten installer",
        )
    if not is_transient and _unanswered(events, spec) >= _ASKED_IN_VAIN:
        return _no_answer(where)
    return None


def explained(finding: Finding, events: Sequence[TraceEvent], spec: MachineSpec) -> Finding:
    """``finding`` as the wire explains it, where the firmware could only say that it found nothing to boot."""
    if finding.id != "no-boot-device" or not spec.boot_path.is_netboot:
        return finding
    if not any(event.protocol == "dhcp" for event in events):
        return replace(
            finding,
            id="no-dhcp-request",
            what="the machine asked no DHCP server for an address",
            cause="no link, no carrier, or firmware without a driver for this network card",
        )
    if not any(event.kind in ("offer", "ack") for event in events):
        return _no_answer(finding.where)
    if not any(event.protocol in ("tftp", "http") for event in events):
        return replace(
            finding,
            id="dhcp-no-boot-file",
            what="DHCP gave the machine an address and nothing to boot",
            cause="the DHCP server names no boot file or next server for this kind of client",
        )
    return finding


def _no_answer(where: str) -> Finding:
    return Finding(
        id="dhcp-unanswered",
        what="the machine asked for an address, and no DHCP server answered",
        where=where,
        cause="the DHCP server is down, does not know this network card, or a switch port does not forward yet",
    )


def _unanswered(events: Sequence[TraceEvent], spec: MachineSpec) -> int:
    """How often in a row the card that should get an address, or any if none should, asked in vain."""
    count = 0
    for event in events:
        if event.kind == "discover" and event.problem and spec.dhcp_nic in (None, event.card):
            count += 1
        elif event.kind == "offer":
            count = 0
    return count
