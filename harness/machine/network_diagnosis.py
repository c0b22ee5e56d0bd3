"""What a machine's requests to the lab's servers show about a boot that fails: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.lab import TraceEvent
from harness.model.machine_spec import MachineSpec
from harness.model.verdict import Finding

_UNANSWERED_REQUESTS = 2
"""Unanswered requests of a DHCP client that make a finding; RFC 2131, 4.1: the client repeats one after seconds."""


def failure(events: Sequence[TraceEvent], spec: MachineSpec, where: str, *, is_transient: bool) -> Finding | None:
    """Why DHCP cannot succeed, while the machine still tries; None while it may.

    Where all network faults are transient (``is_transient``), a missing answer may still come.
    """
    if any(event.kind == "nak" and "server-ID" in event.problem for event in events):
        return Finding(
            id="dhcp-servers-disagree",
            what="two DHCP servers answer, and the machine took the other one's offer",
            where=where,
            cause="a foreign DHCP server on this segment, such as a router, a hypervisor or a forgotten installer",
        )
    if not is_transient and _unanswered(events, spec) >= _UNANSWERED_REQUESTS:
        return _no_answer(where)
    return None


def explained(finding: Finding, events: Sequence[TraceEvent], spec: MachineSpec) -> Finding:
    """``finding``, or the network's explanation of it, where the firmware only says that it found nothing to boot."""
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
            what="DHCP gave the machine an address and no boot file",
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
    """How many requests in a row of the network card that should get an address, or of any card if none should, had no
    answer."""
    count = 0
    for event in events:
        if event.kind == "discover" and event.problem and spec.dhcp_nic in (None, event.card):
            count += 1
        elif event.kind == "offer":
            count = 0
    return count
