"""Findings about a boot, from what was observed of it."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import Blame, HostError, ImageError
from harness.guest.channel import ChannelTimeout
from harness.guest.console_patterns import PATTERNS
from harness.guest.console_view import ConsoleView
from harness.guest.pattern_watcher import PatternMatch
from harness.guest.readiness import NotReady
from harness.lab.trace import TraceEvent, read_line
from harness.machine.diagnose import (
    diagnose,
    diagnose_end,
    diagnose_timeout,
    host_problem,
    late_findings,
    shutdown_hangs,
    unknown_cause,
)
from harness.machine.errors import EmulatorFault
from harness.machine.observation import BootState, Observed
from harness.model.machine_spec import BootPath, DiskSpec, MachineSpec
from harness.model.verdict import Finding

WHERE = "machine, boot 1 (ipxe-bios)"
SPEC = MachineSpec(
    name="machine",
    uuid=uuid.UUID(int=0),
    boot_path=BootPath.IPXE_BIOS,
    disks=(DiskSpec(path=Path("/disks/data.raw"), serial="a"),),
)
LINES = ("Welcome to Debian!", "[  OK  ] Reached target basic.target.", "the last line")
SEEN = Observed(
    where=WHERE,
    spec=SPEC,
    phases={"ipxe": 1.0, "kernel": 5.0, "initrd": 7.0, "userspace": 12.0},
    lines=LINES,
    after_s=100.4,
    silent_s=30.0,
)
EARLY = replace(SEEN, phases={"kernel": 5.0})
PANICKED = ("GUEST_PANICKED", {"action": "pause"})
UNANSWERED = "dnsmasq-dhcp[4]: 2239861879 DHCPDISCOVER(br0) 52:54:00:77:00:00 no address available"
STALLED = Finding(id="download-stalls", what="it stopped", where=WHERE)


def matched(pattern_id: str, evidence: str = "guilty line") -> PatternMatch:
    """A match of a pattern of this id, of a final one if there is one."""
    named = [pattern for pattern in PATTERNS if pattern.id == pattern_id]
    return PatternMatch(max(named, key=lambda pattern: pattern.is_final), (evidence,))


def shutdown(reason: str) -> tuple[str, dict[str, Any]]:
    return ("SHUTDOWN", {"guest": reason.startswith("guest"), "reason": reason})


def unanswered(times: int) -> tuple[TraceEvent, ...]:
    read = [read_line(UNANSWERED, float(second)) for second in range(times)]
    return tuple(event for event in read if event)


def found(seen: Observed) -> str:
    finding = diagnose(seen)
    return finding.id if finding else ""


@pytest.mark.parametrize("state", list(BootState))
def test_a_machine_that_runs_and_prints_nothing_bad_has_no_finding(state: BootState) -> None:
    assert found(replace(SEEN, state=state)) == ""


def test_the_first_final_pattern_ends_a_boot_with_the_lines_that_prove_it() -> None:
    seen = replace(SEEN, matches=(matched("kernel-panic", "Kernel panic - not syncing"), matched("emergency-mode")))
    finding = diagnose(seen)

    assert finding is not None
    assert (finding.id, finding.where, finding.evidence) == ("kernel-panic", WHERE, ("Kernel panic - not syncing",))
    assert finding.blame is Blame.IMAGE


def test_a_pattern_that_is_not_final_ends_nothing_and_explains_what_ends_later() -> None:
    lockup = matched("kernel-lockup")
    seen = replace(SEEN, matches=(lockup,))

    assert not lockup.pattern.is_final
    assert found(seen) == ""
    assert found(replace(seen, exit_status=0, events=(shutdown("guest-reset"),))) == "kernel-lockup"


def test_a_failed_attempt_ends_a_boot_unless_all_network_faults_are_transient() -> None:
    pattern = next(pattern for pattern in PATTERNS if pattern.is_final and pattern.is_retried)
    seen = replace(EARLY, matches=(PatternMatch(pattern, ("a line",)),))

    assert found(seen) == pattern.id
    assert found(replace(seen, has_only_transient_faults=True)) == ""


def test_while_a_machine_boots_the_network_says_more_than_the_console() -> None:
    seen = replace(EARLY, matches=(matched("no-boot-device"),), steps=unanswered(2), download_failure=STALLED)

    assert found(seen) == "dhcp-unanswered"
    assert found(replace(seen, steps=unanswered(1))) == "download-stalls"
    assert found(replace(seen, steps=unanswered(1), download_failure=None)) == "dhcp-unanswered"  # explains the console
    assert found(replace(seen, steps=(), download_failure=None)) == "no-dhcp-request"


def test_of_a_ready_machine_only_a_panic_and_its_end_count() -> None:
    ready = replace(SEEN, state=BootState.READY, matches=(matched("unit-failed"),), download_failure=STALLED)

    assert found(ready) == ""
    assert found(replace(ready, events=(PANICKED,))) == "unit-failed"
    assert found(replace(ready, matches=(), events=(PANICKED,))) == "kernel-panic"


def test_a_panic_without_a_word_on_the_console_says_how_far_the_boot_had_got() -> None:
    finding = diagnose(replace(SEEN, events=(PANICKED,)))

    assert finding is not None
    assert (finding.id, finding.evidence) == ("kernel-panic", LINES)
    assert finding.cause.startswith("unknown: 100 s after power-on the machine was in userspace")
    assert "nothing for 30 s since 'the last line'" in finding.cause


@pytest.mark.parametrize(
    ("status", "events", "finding_id", "blame"),
    [
        (0, (shutdown("guest-reset"),), "unexpected-reset", Blame.IMAGE),
        (0, (("WATCHDOG", {"action": "reset"}), shutdown("guest-reset")), "watchdog-fired", Blame.IMAGE),
        (-9, (), "qemu-ended", Blame.HOST),
        (0, (shutdown("host-signal"),), "qemu-ended", Blame.HOST),
    ],
)
def test_qemus_end_is_named(status: int, events: tuple[Any, ...], finding_id: str, blame: Blame) -> None:
    seen = replace(SEEN, exit_status=status, events=events, qemu_log=("qemu: terminating",))
    finding = diagnose(seen)

    assert finding is not None
    assert finding == diagnose_end(seen)
    assert (finding.id, finding.blame) == (finding_id, blame)
    assert finding.evidence == (("qemu: terminating",) if blame is Blame.HOST else LINES)


def test_a_reset_before_the_kernel_that_kexec_started_is_named() -> None:
    seen = replace(SEEN, phases={}, is_kexec=True, exit_status=0, events=(shutdown("guest-reset"),))

    assert found(seen) == "kexec-reset"
    assert found(replace(seen, phases={"kernel": 3.0})) == "unexpected-reset"


@pytest.mark.parametrize(
    ("error", "finding_id"),
    [
        (ChannelTimeout("machine", "the root shell", 420.0, ""), "boot-hangs"),
        (NotReady("machine", "inactive", "ssh.service"), "unit-not-ready"),
    ],
)
def test_a_boot_that_does_not_become_ready_is_a_hang_unless_the_console_says_why(
    error: ImageError, finding_id: str
) -> None:
    finding = diagnose_timeout(SEEN, error)

    assert (finding.id, finding.what, finding.evidence) == (finding_id, str(error), LINES)
    assert diagnose_timeout(replace(SEEN, matches=(matched("unit-failed"),)), error).id == "unit-failed"


def test_a_hang_names_the_most_similar_finding() -> None:
    lines = ("Kernel panic - not sync: VFS: Unable to mount root fs on unknown-block(0,0)",)

    assert "most similar finding: kernel-panic" in diagnose_timeout(replace(SEEN, lines=lines), ImageError("x")).cause


def test_the_silence_of_a_console_that_hides_messages_is_no_sign() -> None:
    quiet = replace(SEEN, view=ConsoleView(kernel_hidden_by="quiet", systemd_hidden_by="quiet"))
    kexec = replace(quiet, phases={}, is_kexec=True, exit_status=0, events=(shutdown("guest-reset"),))

    assert "which means little: kernel arguments hide messages from the console (quiet)" in unknown_cause(quiet)
    assert found(kexec) == "unexpected-reset"


def test_a_shutdown_that_hangs_says_what_was_expected() -> None:
    finding = shutdown_hangs(SEEN, 150.2, "clean reboot")

    assert (finding.id, finding.what) == ("shutdown-hangs", "no clean reboot within 150 s")


def test_a_full_disk_of_the_host_is_a_host_error_that_names_the_file() -> None:
    full = replace(SEEN, events=(("BLOCK_IO_ERROR", {"nospace": True}),))
    problem = host_problem(full)

    assert isinstance(problem, HostError)
    assert "no space left for /disks/data.raw" in str(problem)
    assert host_problem(replace(SEEN, events=(("BLOCK_IO_ERROR", {"nospace": False}),))) is None
    log_problem = HostError("console.log cannot be written")
    assert host_problem(replace(SEEN, log_problem=log_problem)) is log_problem


def test_a_boot_that_the_emulator_broke_before_user_space_is_to_be_repeated() -> None:
    broken = replace(EARLY, matches=(matched("emulator-fault"),))

    assert isinstance(host_problem(broken), EmulatorFault)
    for later in (
        replace(broken, phases=SEEN.phases),
        replace(broken, is_kexec=True),
        replace(broken, state=BootState.READY),
    ):
        assert host_problem(later) is None


def test_late_patterns_are_findings_of_a_ready_machine_alone() -> None:
    seen = replace(SEEN, state=BootState.READY, matches=(matched("unit-failed"), matched("kernel-panic")))

    assert [finding.id for finding in late_findings(seen, "")] == ["unit-failed", "kernel-panic"]
    for state in set(BootState) - {BootState.READY}:
        assert list(late_findings(replace(seen, state=state), "")) == []


def test_late_findings_after_an_emulators_fault_are_in_doubt_as_are_all_of_an_altered_template() -> None:
    matches = (matched("unit-failed"), matched("emulator-fault"), matched("kernel-panic"))
    seen = replace(SEEN, state=BootState.READY, matches=matches)
    blames = {finding.id: finding.blame for finding in late_findings(seen, "")}

    assert (blames["unit-failed"], blames["kernel-panic"]) == (Blame.IMAGE, Blame.HOST)
    assert {finding.blame for finding in late_findings(seen, "memory was altered")} == {Blame.HOST}
