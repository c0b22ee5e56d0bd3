"""Who is to blame: the one place that decides between the image, the host and the harness (DESIGN decision 8). Pure.

A finding starts with the blame of what was seen: a panic is the image's. `attribute` moves the blame to the host where
the circumstances explain the finding as well. `blame_of_exception` is for what ended a test. The other functions make
the findings of a run that ended in disorder, which are never the image's.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from harness.core.cpu_use import CpuUse
from harness.core.errors import Blame, BootproofError, blame_of, is_claim
from harness.guest.channel import ChannelTimeout
from harness.guest.console import ConsoleTimeout
from harness.guest.unit_findings import Awaited
from harness.guest.waiting import WaitFailed
from harness.model.verdict import Finding

OF_THE_NETWORK = ("served-bytes-differ",)
"""Findings about a machine in user space for which the machine's requests are evidence all the same."""
_NETWORK_LINES = 4

_LATE = ("boot-hangs", "initrd-timeout", "shutdown-hangs")
"""Findings that are about time by their nature."""
_OWN_LIMIT = re.compile(
    r"\[ TIME \]|operation timed out|/start timed out|Timed out waiting for device"
    r"|Failed to start .*Wait for Network to be Configured|Timeout occurred while waiting for network"
)
"""systemd's own time limits; systemd-networkd-wait-online fails for no other reason than its limit of 120 s."""
_TIMED_OUT = re.compile(
    rf"{_OWN_LIMIT.pattern}|[Tt]imed out|[Tt]imeout|no disk for /data within|IO-APIC \+ timer doesn't work"
)
"""The last two: the role persist waits 30 s for a disk; Linux, arch/x86/kernel/apic/io_apic.c takes a timer for broken
if too few of its interrupts come in 10 ticks."""
_DISKS = re.compile(r"no disk for /data within .*; seen: (.+)")
_NONE = "no disk at all"
_UNFIT = re.compile(r"\) (is read-only|holds something else \((?!.*\b(gpt|dos|partitions|unreadable)\b))")
"""What the role persist says of a disk that no more time would make fit. Partitions may not be known yet, and the host
may be why a disk cannot be read."""
_SLOW = 2.0
LIMIT_S = 150.0
"""How long before a failure the wait for a unit can have begun: longer than systemd's limits of 90 and 120 s."""
_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
_WAITS = (ChannelTimeout, ConsoleTimeout, WaitFailed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """The circumstances of a finding about a machine.

    ``boot`` is the CPU use of its QEMU since it was powered on, ``recent`` that of the last `LIMIT_S` seconds. Machines
    are ``slowness`` times slower on this host than on the reference machine; 1 for a machine that is not emulated.
    ``awaited`` is what became of the thing that a failed unit needed. ``alteration`` says how the template that the
    machine was cloned from was altered, ``emulator_fault`` what the emulator did wrong; both are usually empty.
    ``is_early`` until the machine is in user space; ``requests`` are lines about what it asked of the lab's servers.
    The machine has that many ``disks``.
    """

    boot: CpuUse = field(default_factory=CpuUse)
    recent: CpuUse = field(default_factory=CpuUse)
    slowness: float = 1.0
    awaited: Awaited = Awaited.UNKNOWN
    alteration: str = ""
    emulator_fault: str = ""
    is_early: bool = False
    requests: tuple[str, ...] = ()
    disks: int = 0

    @property
    def doubt(self) -> str:
        """Why failures of the machine may not be the image's; empty if there is no doubt.

        An emulator that computes something wrong loses no file and no disk of the image.
        """
        return self.alteration or ("" if self.awaited is Awaited.ABSENT else self.emulator_fault)


def attribute(finding: Finding, circumstances: Circumstances) -> Finding:
    """``finding`` with the blame, the cause and the evidence that follow from its ``circumstances``."""
    if (circumstances.is_early and finding.blame is Blame.IMAGE) or finding.id in OF_THE_NETWORK:
        requests = tuple(f"network: {line}" for line in circumstances.requests[-_NETWORK_LINES:])
        finding = replace(finding, evidence=(*finding.evidence, *requests))
    return doubted(_excused(finding, circumstances), circumstances.doubt)


def doubted(finding: Finding, doubt: str) -> Finding:
    """``finding``, blamed on the host if there is a ``doubt`` that the machine shows what the image does."""
    return replace(finding, blame=Blame.HOST, cause=doubt) if doubt else finding


def _excused(finding: Finding, seen: Circumstances) -> Finding:
    """``finding``, blamed on the host if the host was too slow for it, and it is proven that this was the cause.

    - The host starved the machine: something timed out, or came late, while the machine was kept from a CPU.
    - The host is slow: a time limit of the image expired, and the awaited thing came late, or the guest's CPUs were
      busy all the time. The harness's own deadlines grow with ``slowness``; the image's do not.
    - A lockup of the kernel: the host starved or stopped the machine, or emulates it slowly.

    The first two are refuted by what became of the awaited thing: see `_is_refuted`; and if the image has seen that
    none of the machine's disks is fit for /data.
    """
    if finding.id == "kernel-lockup":
        return _excused_lockup(finding, seen)
    if _is_refuted(seen.awaited) or _are_all_unfit(finding.evidence, seen.disks):
        return finding
    has_timed_out = seen.awaited is Awaited.CAME_LATE or any(_TIMED_OUT.search(line) for line in finding.evidence)
    starved = next((use for use in (seen.recent, seen.boot) if use.is_starved), None)
    if starved and (has_timed_out or finding.id in _LATE):
        return replace(finding, blame=Blame.HOST, cause=f"{starvation(starved)}. {finding.cause}".strip())
    expired = any(_OWN_LIMIT.search(line) for line in finding.evidence)
    if seen.slowness >= _SLOW and expired and (seen.awaited is Awaited.CAME_LATE or seen.recent.is_busy):
        cause = (
            f"machines are {seen.slowness:.1f} times slower than usual on this host, and the image's own time limits "
            "do not grow with that; run again later, on another host, or on one with KVM"
        )
        return replace(finding, blame=Blame.HOST, cause=cause)
    return finding


def _is_refuted(awaited: Awaited) -> bool:
    """Whether the finding cannot come from a lack of time: a thing that is absent when the boot has ended did not come
    late, and a process that ended with a status of its own did not run out of time."""
    return awaited in (Awaited.ABSENT, Awaited.FAILED)


def _are_all_unfit(evidence: Iterable[str], disks: int) -> bool:
    """Whether the image saw what there was: it says of all disks why it cannot use them, or that there is none."""
    found = next((found for line in evidence if (found := _DISKS.search(line))), None)
    phrases = found[1].split("; ") if found else []
    return phrases == [_NONE] if disks == 0 else disks <= len(phrases) and all(map(_UNFIT.search, phrases))


def _excused_lockup(finding: Finding, seen: Circumstances) -> Finding:
    if seen.boot.is_starved or seen.recent.is_starved or seen.slowness >= _SLOW:
        return finding
    cause = "a driver that waits for its device, or a bug of the kernel: the host gave the machine its CPU time"
    return replace(finding, blame=Blame.IMAGE, cause=cause)


def starvation(use: CpuUse) -> str:
    """What the host kept from a machine, as a sentence without its end."""
    stopped = f", and did not run at all for {use.stopped_s:.0f} s" if use.stopped_s >= 1 else ""
    return (
        f"the host starved this machine, which had no CPU for {use.starved_share:.0%} of the time it wanted one"
        f"{stopped}; use fewer workers (-n), or a host that does nothing else"
    )


def excuse_for_wait(error: BaseException, use: CpuUse) -> str:
    """Why a wait of a test that ended with ``error`` may not be the image's failure; ``use`` is the CPU use of the
    machine during the wait. Empty for other errors, and if the machine was not starved."""
    return starvation(use) if isinstance(error, _WAITS) and use.is_starved else ""


def blame_of_exception(error: BaseException, *, doubt: str = "", guest_answers: bool = False) -> Blame:
    """Who is to blame for the exception that ended a test; ``doubt`` says why its machine may not be the image's doing.

    A full disk is always the host's fault. Of an exception that is neither Bootproof's nor an assertion,
    the image is to blame if its guest still answers (``guest_answers``), because then the test did run.
    """
    if doubt or (isinstance(error, OSError) and error.errno in _DISK_IS_FULL):
        return Blame.HOST
    return Blame.IMAGE if guest_answers and is_unknown(error) else blame_of(error)


def is_unknown(error: BaseException) -> bool:
    """Whether ``error`` is neither Bootproof's own nor an assertion, so that only the guest can show what it means."""
    return not isinstance(error, BootproofError) and not is_claim(error)


def lost_worker(test: str) -> Finding:
    """The pytest-xdist worker that ran ``test`` ended in the middle of it."""
    return Finding(
        id="worker-crashed",
        what="the worker that ran this test ended unexpectedly",
        where=test,
        blame=Blame.HARNESS,
        cause="the test, or a host without free memory: see dmesg",
    )


def interrupted() -> Finding:
    """The run was ended by Ctrl-C or SIGTERM."""
    return Finding(id="interrupted", what="the run was interrupted", where="pytest", blame=Blame.HARNESS)


def not_collected(file: str) -> Finding:
    """pytest could not read the tests in ``file``, so nobody knows what they would have proven."""
    what, cause = "its tests could not be collected", "see pytest's error above"
    return Finding(id="not-collected", what=what, where=file, blame=Blame.HARNESS, cause=cause)


def pytest_failed(what: str) -> Finding:
    """pytest, or one of its plugins, failed outside of a test."""
    return Finding(id="pytest-failed", what=what, where="pytest", blame=Blame.HARNESS)


def nothing_to_boot(image: str, error: BootproofError) -> Finding:
    """The artifacts of ``image`` could not be prepared."""
    finding_id = "build-failed" if error.blame is Blame.IMAGE else f"{error.blame}-error"
    what, *evidence = str(error).splitlines() or [type(error).__name__]
    return Finding(id=finding_id, what=what, where=f"image {image}", blame=error.blame, evidence=tuple(evidence))
