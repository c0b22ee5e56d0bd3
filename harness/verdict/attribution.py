"""Who is to blame: the one place that decides between the image, the host and the harness (DESIGN decision 8). Pure.

A finding starts with the blame of what was seen: a panic is the image's. `attribute` moves the blame to the host where
the circumstances explain the finding as well. `blame_of_exception` is for what ended a test. The other functions make
the findings of a run that ended in disorder, which are never the image's.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass, replace

from harness.core.errors import Blame, BootproofError, blame_of, is_claim
from harness.model.verdict import Finding

OF_THE_NETWORK = ("served-bytes-differ",)
"""Findings about a machine in user space for which the machine's requests are evidence all the same."""
_NETWORK_LINES = 4

_LATE = ("boot-hangs", "initrd-timeout", "kernel-lockup", "shutdown-hangs")
_OWN_LIMIT = re.compile(r"\[ TIME \]|operation timed out|Failed to start .*Wait for Network to be Configured")
"""systemd's own time limits; systemd-networkd-wait-online fails for no other reason than its limit of 120 s."""
_TIMED_OUT = re.compile(rf"{_OWN_LIMIT.pattern}|[Tt]imed out")
_SLOW = 2.0
_STARVED_SHARE = 0.4
"""A boot that was wrongly called failed had waited more than that: 45 %, one of five machines that booted on two
cores."""
_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """The circumstances of a finding about a machine.

    ``starved_share`` (0 to 1) is the part of its runnable time that the machine waited for a CPU. Machines are
    ``slowness`` times slower on this host than on the reference machine; 1 for a machine that is not emulated.
    ``alteration`` says how the template that the machine was cloned from was altered, ``emulator_fault`` what the
    emulator did wrong; both are usually empty. ``is_early`` until the machine is in user space; ``requests`` are lines
    about what it asked of the lab's servers.
    """

    starved_share: float = 0.0
    slowness: float = 1.0
    alteration: str = ""
    emulator_fault: str = ""
    is_early: bool = False
    requests: tuple[str, ...] = ()

    @property
    def doubt(self) -> str:
        """Why failures of the machine may not be the image's; empty if there is no doubt."""
        return self.alteration or self.emulator_fault


def attribute(finding: Finding, circumstances: Circumstances) -> Finding:
    """``finding`` with the blame, the cause and the evidence that follow from its ``circumstances``."""
    if (circumstances.is_early and finding.blame is Blame.IMAGE) or finding.id in OF_THE_NETWORK:
        requests = tuple(f"network: {line}" for line in circumstances.requests[-_NETWORK_LINES:])
        finding = replace(finding, evidence=(*finding.evidence, *requests))
    return doubted(_excused(finding, circumstances.starved_share, circumstances.slowness), circumstances.doubt)


def doubted(finding: Finding, doubt: str) -> Finding:
    """``finding``, blamed on the host if there is a ``doubt`` that the machine shows what the image does."""
    return replace(finding, blame=Blame.HOST, cause=doubt) if doubt else finding


def _excused(finding: Finding, starved_share: float, slowness: float) -> Finding:
    """``finding``, blamed on the host if the host was too slow for it.

    Either the machine ran out of time while it mostly waited for a CPU, or a time limit of the image itself expired,
    which unlike the harness's deadlines does not grow with ``slowness``.
    """
    timed_out = any(_TIMED_OUT.search(line) for line in finding.evidence)
    if starved_share >= _STARVED_SHARE and (timed_out or finding.id in _LATE):
        cause = (
            f"the host starved this machine, which waited for a CPU {starved_share:.0%} of the time it wanted one; "
            "use fewer workers (-n), or a host that does nothing else"
        )
    elif slowness >= _SLOW and any(_OWN_LIMIT.search(line) for line in finding.evidence):
        cause = (
            f"machines are {slowness:.1f} times slower than usual on this host, and the image's own time limits do not "
            "grow with that; run again later, on another host, or on one with KVM"
        )
    else:
        return finding
    return replace(finding, blame=Blame.HOST, cause=cause)


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
