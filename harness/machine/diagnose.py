"""What is wrong with a boot, decided from what was `Observed` of it: pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harness.core.errors import BootproofError, HostError
from harness.guest.pattern_watcher import PatternMatch
from harness.guest.readiness import NotReady
from harness.machine import network_diagnosis
from harness.machine.errors import EmulatorFault
from harness.machine.observation import BootState, Observed
from harness.model.finding_catalog import nearest
from harness.model.verdict import Finding
from harness.qemu import kexec
from harness.verdict.attribution import doubted

_EVIDENCE_LINES = 8
_UNFED = "the process that opened /dev/watchdog stopped writing to it: it hung, or the whole system did"


def host_problem(seen: Observed) -> HostError | None:
    """A reason on the host that makes this boot say nothing about the image: a full disk, or `EmulatorFault`.

    After an emulator's fault before user space the machine is booted again; a kexec cannot be repeated that way.
    """
    if seen.log_problem:
        return seen.log_problem
    if seen.is_disk_full:
        disks = ", ".join(str(disk.path) for disk in seen.spec.disks)
        return HostError(f"{seen.where}: the host has no space left for {disks}; free some there")
    fault = seen.emulator_fault
    if fault and seen.state is BootState.BOOTING and "userspace" not in seen.phases and not seen.is_kexec:
        return EmulatorFault(f"{seen.where}: {fault.what}; {fault.cause}")
    return None


def diagnose(seen: Observed) -> Finding | None:
    """Why this boot cannot succeed or has ended; None while neither is certain.

    While the machine boots, the first final console pattern is enough, and the network, which says more, comes before
    it. Later only a panic and QEMU's end count: of a ready machine, console patterns are `late_findings`.
    """
    if seen.state is BootState.BOOTING:
        is_transient = seen.has_only_transient_faults
        finding = network_diagnosis.failure(seen.steps, seen.spec, seen.where, is_transient=is_transient)
        finding = finding or seen.download_failure
        if finding or seen.final_match:
            return finding or _console_finding(seen)
    if seen.has_panicked:
        return _console_finding(seen) or _last_words(seen, "kernel-panic", "the guest panicked")
    if seen.exit_status is not None:
        return _console_finding(seen) or diagnose_end(seen)
    return None


def diagnose_end(seen: Observed) -> Finding:
    """Why QEMU ended, if the console does not say."""
    reason = seen.end_reason
    if seen.was_reset_by_watchdog:
        return replace(_last_words(seen, "watchdog-fired", "the watchdog reset the machine"), cause=_UNFED)
    has_kernel_line = "kernel" in seen.phases or seen.view.kernel_hidden_by
    if reason.startswith("guest") and seen.is_kexec and not has_kernel_line:
        return kexec.reset_finding(seen.where, reason, seen.lines)
    if reason.startswith("guest"):
        return _last_words(seen, "unexpected-reset", f"the guest ended by itself ({reason})")
    return replace(
        _last_words(seen, "qemu-ended", f"QEMU ended with status {seen.exit_status} {reason}".rstrip()),
        blame=HostError.blame,
        evidence=seen.qemu_log,
        cause="see qemu.log; -9 usually means that the host ran out of memory",
    )


def diagnose_timeout(seen: Observed, error: BootproofError) -> Finding:
    """Why a boot did not become ready; ``error`` is the exception that ended the wait."""
    finding_id = "unit-not-ready" if isinstance(error, NotReady) else "boot-hangs"
    return _console_finding(seen) or _last_words(seen, finding_id, str(error))


def shutdown_hangs(seen: Observed, waited_s: float, expected: str) -> Finding:
    """The guest did not get to what was ``expected``, such as "a clean reboot"."""
    return Finding(
        id="shutdown-hangs",
        what=f"no {expected} within {waited_s:.0f} s",
        where=seen.where,
        evidence=seen.lines[-_EVIDENCE_LINES:],
        cause="a unit does not stop; the console names it",
    )


def pattern_finding(match: PatternMatch, where: str) -> Finding:
    """The finding that a console pattern stands for."""
    pattern, evidence = match.pattern, match.evidence
    what = pattern.says(evidence[-1])
    return Finding(id=pattern.id, what=what, where=where, blame=pattern.blame, evidence=evidence, cause=pattern.cause)


def late_findings(seen: Observed, alteration: str) -> Iterator[Finding]:
    """The final console patterns of a machine that was ready; those after an emulator's fault are in doubt, as are all
    of a clone whose template has an ``alteration``."""
    if seen.state is not BootState.READY:
        return
    doubt = alteration
    for match in seen.matches:
        doubt = doubt or (match.pattern.cause if match.pattern.overrides else "")
        if seen.is_final(match):
            yield doubted(pattern_finding(match, seen.where), doubt)


def _console_finding(seen: Observed) -> Finding | None:
    """The first final console pattern, else the first of all, as the network explains it."""
    match = seen.final_match or next(iter(seen.matches), None)
    return network_diagnosis.explained(pattern_finding(match, seen.where), seen.steps, seen.spec) if match else None


def _last_words(seen: Observed, finding_id: str, what: str) -> Finding:
    lines = seen.lines[-_EVIDENCE_LINES:]
    return Finding(id=finding_id, what=what, where=seen.where, evidence=lines, cause=unknown_cause(seen))


def unknown_cause(seen: Observed) -> str:
    """For an end that no console pattern explains: how far the boot got, its last line, the most similar finding."""
    text = f"unknown: {seen.after_s:.0f} s after power-on the machine was in {seen.phase}"
    text += f", and had printed nothing for {seen.silent_s:.0f} s"
    if seen.view.hidden_by:
        text += f", which means little: kernel arguments hide messages from the console ({seen.view.hidden_by})"
    elif seen.lines:
        text += f" since {seen.lines[-1].strip()!r}"
    similar, line = nearest(seen.lines)
    return f"{text}; most similar finding: {similar}, for {line!r}" if similar else f"{text}; no finding is similar"
