"""One power-on of a machine: from QEMU's start to its end, watched all the way."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from harness.core import process, serialization
from harness.core.deadline import Changes, Deadline, host_scale
from harness.core.errors import Blame, BootproofError, HostError
from harness.guest import checks, fingerprint, runtime_profile
from harness.guest.channel import Channel, ChannelClosed, ChannelTimeout, Transcript
from harness.guest.checks import BootFailed, EmulatorFault
from harness.guest.console import Console
from harness.guest.console_patterns import ConsolePattern
from harness.guest.pattern_watcher import PatternMatch
from harness.guest.serial_shell import SerialChannel, takes_serial_shell
from harness.guest.ssh import SshChannel, ssh_command
from harness.lab import LabProcess, TraceEvent
from harness.lab.trace import format_trace
from harness.machine import network_diagnosis, provision
from harness.machine.boot_plan import BootPlan
from harness.machine.downloads import Downloads
from harness.model.layout import CHANNEL_LOG, FINDING, MEMORY, NETWORK_LOG, SCREENSHOT
from harness.model.verdict import BootResult, Finding
from harness.qemu import kexec, snapshot
from harness.qemu.qmp import Qmp, QmpError, QmpGone
from harness.qemu.snapshot import CannotFreeze

BOOT_S = 420.0
"""How long a boot may take on the reference machine under TCG before it is called hung."""
SILENCE_S = 90.0
"""A console that printed within this time belongs to a guest that makes progress, which is not called hung."""

SHUTDOWN_S = 150.0
"""Longer than systemd's DefaultTimeoutStopSec of 90 s, so that the guest can name the unit that would not stop."""
FREEZE_S = 30.0
"""How long QEMU may take to write or read a machine's state; it is half a megabyte."""

_ON_DISPLAY = ("firmware", "ipxe", "grub")
"""Phases in which the firmware drives the display."""
_TRY_EVERY_S = 2.0
_SSH_TRY_S = 40.0
_THAW_S = 60.0
_DUMP_S = 120.0
_CLOCK_LATE_S = 0.05
"""About as long a thawed guest takes until it sets the clock it is told."""
_UNFED = "whoever opened /dev/watchdog fed it no more: it hung, or the whole system did"
_WITHOUT_SERIAL = (
    "what happens before the network is up or while it is down: this image takes no shell on a serial port "
    "(systemd 256 and newer do), so commands went over SSH"
)

Events = list[tuple[str, dict[str, Any]]]
"""QMP events by name, with their data."""


class RunningBoot:
    """A machine that is on. `launch.power_on` makes one; it is not ready yet then."""

    def __init__(self, plan: BootPlan, child: LabProcess, console: Console, changes: Changes, events: Events) -> None:
        self.plan, self.child, self.console = plan, child, console
        self._changes, self._events = changes, events
        self._is_booting = True
        self._is_ready = False
        self._is_thawing = plan.frozen is not None
        self.is_kept = False
        """Somebody may have looked into it since it failed, and done what they liked."""
        self._failure: BootFailed | None = None
        self._boot_id_before = ""
        self._qemu_log = plan.folder / "qemu.log"
        self._started_s = time.monotonic()

    def attach(self, qmp: Qmp, shell: socket.socket) -> None:
        """The doors that need this object to exist. ``channel`` is the serial shell until that proves impossible."""
        self.qmp, self._shell = qmp, shell
        self._serial = SerialChannel(self.plan.spec.name, shell, self.alive, self._transcript)
        self.channel: Channel = self._serial

    @cached_property
    def ssh(self) -> Channel:
        """SSH as root with the run's key, over the machine's network."""
        spec, context = self.plan.spec, self.plan.context
        options = context.lab.ssh_options(spec, self.ask_monitor)
        argv = ssh_command(spec.address, str(context.run.key), str(self.plan.folder.parent / "known_hosts"), options)
        return SshChannel(spec.name, argv, self._run_in_lab, self._transcript)

    @cached_property
    def _transcript(self) -> Transcript:
        return Transcript(self.plan.folder / CHANNEL_LOG)

    def ask_monitor(self, line: str) -> str:
        """What QEMU's human monitor answers."""
        return str(self.qmp.execute("human-monitor-command", {"command-line": line}, deadline=Deadline(10)))

    def wait_until_ready(self) -> None:
        """Until the guest is ready and its boot checks are done.

        Raises `BootFailed` at the first console pattern of a failure; its findings are in the run's folder by then.
        """
        try:
            self._wait()
        except BootproofError as error:
            self._is_booting = False
            self._keep_screenshot()
            self.keep_journal()
            self.keep_memory()
            self._note_boot(None)
            raise self._as_boot_failure(error) from error
        self._is_booting = False

    @contextmanager
    def outliving_resets(self) -> Iterator[None]:
        """While the block lasts, a reset starts the firmware again, as on hardware, and does not end QEMU."""
        self._on_reset("reset")
        try:
            yield
        finally:
            self._on_reset("shutdown")

    def _on_reset(self, action: str) -> None:
        with suppress(QmpError):  # QEMU is gone
            self.qmp.execute("set-action", {"reboot": action}, deadline=Deadline(10))

    def check_freezable(self) -> None:
        """Raise `CannotFreeze` where `freeze` would."""
        snapshot.check(self.qmp, Deadline(FREEZE_S))

    def freeze(self, state: Path) -> None:
        """Stop the machine for good, its device state in ``state``; `CannotFreeze` where that is impossible."""
        if match := self._final_match:
            raise self.failed(checks.finding_of(match, self.plan.where))
        snapshot.save(self.qmp, state, Deadline(FREEZE_S))
        with suppress(QmpGone):
            self.qmp.execute("quit", deadline=Deadline(10))
        self.child.wait(Deadline(10))

    def thaw(self) -> None:
        """Go on where the plan's frozen machine stood still, with this host's clock; `CannotFreeze` if it does not."""
        frozen = self.plan.frozen
        assert frozen is not None
        self.channel = self._serial if frozen.is_serial else self.ssh
        self._is_booting = False
        snapshot.load(self.qmp, frozen.state, Deadline(FREEZE_S))
        try:
            self.channel.run(f"date -s @{time.time() + _CLOCK_LATE_S:.3f}", Deadline(_THAW_S))
        except (ChannelTimeout, ChannelClosed) as error:
            raise CannotFreeze(f"a copy of a frozen machine does not answer: {error}") from error
        self._is_ready, self._is_thawing = True, False
        if not frozen.is_serial:
            self.plan.context.run.add_unchecked(_WITHOUT_SERIAL)

    def kexec(self, plan: BootPlan) -> RunningBoot:
        """The guest loads the artifacts of ``plan`` and starts their kernel by itself; QEMU goes on, and belongs to the
        boot that this returns, which is not ready yet. `BootFailed` if the guest does not get there."""
        provision.serve(plan)
        plan.note_phase(kexec.PHASE)
        power = RunningBoot(plan, self.child, self.console, self._changes, self._events)
        done = self.channel.run(kexec.load_command(plan.artifacts, plan.arguments))
        if done.status:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise power.failed(kexec.load_finding(done.status, said, plan.where))
        power._boot_id_before, power._qemu_log = done.text, self._qemu_log
        power.console = self.console.begin(plan.folder / "console.log", plan.note_phase)
        self.run_later("systemctl --no-block kexec")
        power.attach(self.qmp, self._shell)
        return power

    @contextmanager
    def keeping_network_log(self) -> Iterator[None]:
        """What this boot asks of the lab's servers goes to a file while the block lasts."""
        plan, since_s = self.plan, self.console.started_s
        with plan.context.lab.trace.logged(plan.spec.number, plan.folder / NETWORK_LOG, since_s):
            yield

    def run_later(self, command: str) -> None:
        """Run what ends the guest: later, or the shell ends before it answers; with no output, or ssh waits for its
        end."""
        self.channel.run(f"(sleep 0.2; exec {command}) >/dev/null 2>&1 &")

    def _wait_for_kernel(self) -> None:
        """Until the kernel that a running one started prints its first line."""

        def has_started() -> bool:
            self.alive()
            return "kernel" in self.console.phases

        def has_said(words: str) -> bool:
            return any(words in line for line in self.console.lines)

        def has_left() -> bool:
            return has_started() or has_said(kexec.LEAVES) or has_said(kexec.RESTARTS)

        if not self._changes.wait_for(has_left, stopping := Deadline(SHUTDOWN_S)):
            raise self.failed(self._shutdown_finding(stopping.passed_s, "a clean kexec"))
        if not has_started() and has_said(kexec.RESTARTS):
            raise self.failed(kexec.same_boot_finding(self.plan.where))
        if not self._changes.wait_for(has_started, starting := Deadline(kexec.SILENT_S)):
            raise self.failed(kexec.silent_finding(self.plan.where, starting.passed_s, self.console.lines))

    def wait_until_off(self, deadline: Deadline, awaited: str) -> None:
        """Until QEMU has ended; `BootFailed` if the guest does not get there."""
        if self.child.wait(deadline) is None:
            raise self.failed(self._shutdown_finding(deadline.passed_s, awaited))
        self.qmp.wait_until_gone(Deadline(2))  # the exit may be noticed before its reason
        if self._was_reset_by_watchdog or not self._end_reason.startswith("guest"):
            raise self.failed(self.end_finding())

    def _shutdown_finding(self, waited_s: float, awaited: str) -> Finding:
        return Finding(
            id="shutdown-hangs",
            what=f"waited {waited_s:.0f} s for {awaited}, in vain",
            where=self.plan.where,
            evidence=tuple(self.console.lines[-8:]),
            cause="a unit that does not stop; the console names it",
        )

    @property
    def wants_reboot(self) -> bool:
        """The guest asked for a reset, which the owner makes by another power-on."""
        return self._end_reason == "guest-reset"

    @property
    def _end_reason(self) -> str:
        """Why QEMU ended, in QMP's words (ShutdownCause); empty if it did not say."""
        return next((str(data.get("reason", "")) for name, data in self._events if name == "SHUTDOWN"), "")

    @property
    def _was_reset_by_watchdog(self) -> bool:
        return any(name == "WATCHDOG" for name, _ in self._events)

    def alive(self) -> None:
        """Raise what ended the machine: a panic, its exit or, while it boots, a console pattern of a failure."""
        self._raise_full_disk()
        has_panicked = any(name == "GUEST_PANICKED" for name, _ in self._events)
        if has_panicked:
            self._changes.wait_for(lambda: self.console.matches, Deadline(2))  # the console says why
        if self.child.status is not None:
            self.qmp.wait_until_gone(Deadline(2))  # the exit may be noticed before its reason
        if self._is_booting:
            self._raise_first_sign()
        if has_panicked:
            raise self._failure or self.failed(
                self._matched() or self._last_words("kernel-panic", "the guest panicked")
            )
        if self.child.status is not None:
            raise self._failure or self.failed(self._matched() or self.end_finding())

    def _raise_first_sign(self) -> None:
        """On the wire, which says more, or on the console."""
        self._raise_emulator_fault()
        plan, is_transient = self.plan, self.plan.context.lab.has_only_transient_faults
        finding = network_diagnosis.failure(self._steps, plan.spec, plan.where, is_transient=is_transient)
        finding = finding or self.downloads.failure(plan.where)
        match = self._final_match
        if not finding and match:
            finding = self._explained(match)
        if finding:
            raise self.failed(finding)

    @property
    def _final_match(self) -> PatternMatch | None:
        """The first console pattern after which the boot cannot succeed."""
        return next((seen for seen in self._matches if self._is_final(seen)), None)

    def _is_final(self, match: PatternMatch) -> bool:
        """While all network faults are transient, a retry may succeed."""
        return match.pattern.is_final and not (
            match.pattern.is_retried and self.plan.context.lab.has_only_transient_faults
        )

    def _explained(self, match: PatternMatch) -> Finding:
        return network_diagnosis.explained(checks.finding_of(match, self.plan.where), self._steps, self.plan.spec)

    @property
    def _steps(self) -> list[TraceEvent]:
        """What it asked of the lab's servers in this boot."""
        return self.plan.context.lab.trace.events(self.plan.spec.number, self._started_s)

    def _raise_full_disk(self) -> None:
        """The host's, not the machine's: QEMU stops the machine then, which looks as if it hung."""
        if self.console.problem:
            raise self.console.problem
        if any(name == "BLOCK_IO_ERROR" and data.get("nospace") for name, data in self._events):
            disks = ", ".join(str(disk.path) for disk in self.plan.spec.disks)
            raise HostError(f"{self.plan.where}: the host has no space left for {disks}; make room there")

    def _raise_emulator_fault(self) -> None:
        """Before user space, another boot will do; but for a kexec, which no power-on makes again."""
        fault = self._emulator_fault
        if fault and "userspace" not in self.console.phases and not self.plan.is_kexec:
            raise EmulatorFault(f"{self.plan.where}: {fault.what}; {fault.cause}")

    @property
    def _emulator_fault(self) -> ConsolePattern | None:
        """What the emulator did wrong in this boot."""
        return next((seen.pattern for seen in self._matches if seen.pattern.overrides), None)

    @property
    def _matches(self) -> list[PatternMatch]:
        """The console patterns seen, when it is clear whose they are."""
        self._changes.wait_for(lambda: not self.console.awaits_registers, Deadline(2))
        return self.console.matches

    def doubt(self) -> str:
        """Why what this boot shows from now on may not be the image's doing, or nothing."""
        fault = self._emulator_fault
        return self.plan.doubt() or (fault.cause if fault else "")

    def failed(self, finding: Finding) -> BootFailed:
        """The error for ``finding``, which is noted in the run at once."""
        if self._is_thawing:
            raise CannotFreeze(f"a copy of a frozen machine did not go on: {finding.what}")
        plan = self.plan
        finding = checks.with_network(finding, self._network_of(finding))
        slowness = host_scale() if plan.spec.is_emulated else 1.0
        finding = checks.excused(finding, process.starved_share(self.child.pid), slowness)
        finding = checks.doubted(finding, self.doubt())
        self._note(finding)
        by_hand = plan.context.by_hand(plan.artifacts, plan.spec)
        self._failure = BootFailed(plan.spec.name, finding, str(plan.folder), by_hand)
        return self._failure

    def _note(self, finding: Finding) -> None:
        """In the run at once, and beside the boot that it is about: the first there is what a bundle is made of."""
        self.plan.context.run.add_finding(finding)
        file = self.plan.folder / FINDING
        if not file.exists():
            with suppress(OSError):  # a full disk; the run has it
                serialization.write(file, finding)

    def _network_of(self, finding: Finding) -> list[str]:
        """What the machine asked by DHCP, TFTP and HTTP, where that may be why."""
        is_early = not self._is_ready and "userspace" not in self.console.phases and finding.blame is Blame.IMAGE
        if not is_early and finding.id not in checks.OF_THE_NETWORK:
            return []
        return self._asked

    @cached_property
    def _asked(self) -> list[str]:
        """What was asked until the first finding; a second one about the same must not differ."""
        plan, since_s = self.plan, self.console.started_s
        lines = format_trace(plan.context.lab.trace.events(plan.spec.number, since_s), since_s)
        return lines or (["nothing was asked of it"] if plan.fetched else [])

    def note_late_signs(self) -> None:
        """Signs that came after the machine was ready are findings too; those that follow a failed boot are not."""
        if not self._is_ready or self.is_kept:
            return
        doubt = self.plan.doubt()
        for match in self._matches:
            doubt = doubt or (match.pattern.cause if match.pattern.overrides else "")
            if self._is_final(match):
                self._note(checks.doubted(checks.finding_of(match, self.plan.where), doubt))

    @property
    def downloads(self) -> Downloads:
        """What this machine got over HTTP since it was powered on."""
        context, spec = self.plan.context, self.plan.spec
        return Downloads(
            http=context.lab.http, client=spec.address, since_s=self._started_s, artifacts=self.plan.artifacts
        )

    def _wait(self) -> None:
        if self.plan.is_kexec:
            self._wait_for_kernel()
        deadline = _PatientDeadline(self.console)
        self.channel = self._reach(deadline)
        checks.wait_until_ready(self.plan.spec.name, self.channel, self.plan.definition, deadline)
        self.alive()
        self._is_ready = True
        self.plan.note_phase("ready")
        ready_s = time.monotonic() - self._started_s
        seen = checks.look(self.channel)
        findings = [*checks.judge(seen, self.plan.artifacts.manifest, self.plan.definition, self.plan.where)]
        findings += fingerprint.compare(seen.prints, fingerprint.fingerprint_of(self.plan.artifacts), self.plan.where)
        findings += self.downloads.lacking(self.plan.fetched, self.plan.where)
        if seen.boot_id == self._boot_id_before:
            findings.append(kexec.same_boot_finding(self.plan.where))
        failures = [self.failed(finding) for finding in findings]
        if failures:
            raise failures[0]
        self._note_boot(ready_s, self._keep_units())

    def _reach(self, deadline: Deadline) -> Channel:
        """The serial shell where the image can take one, SSH where it cannot, else what answers first."""
        is_serial = takes_serial_shell(self.plan.artifacts.manifest.systemd)
        if is_serial:
            self._serial.wait_for_shell(deadline)
            return self._serial
        last_words = "nothing yet"
        while not deadline.is_over:
            if is_serial is None and self._serial.has_shell(Deadline(_TRY_EVERY_S)):
                return self._serial
            self._changes.wait_for(lambda: self.child.status is not None, Deadline(_TRY_EVERY_S, scaled=False))
            self.alive()
            if "userspace" not in self.console.phases:
                continue
            try:
                self.ssh.run("true", Deadline(_SSH_TRY_S))
            except (ChannelClosed, ChannelTimeout) as error:
                last_words = str(error)
            else:
                self.plan.context.run.add_unchecked(_WITHOUT_SERIAL)
                return self.ssh
        raise ChannelTimeout(self.plan.spec.name, "a root shell over SSH", deadline.passed_s, f"ssh said: {last_words}")

    def _run_in_lab(self, argv: list[str], deadline: Deadline) -> tuple[int, bytes, bytes]:
        """ssh, where the lab's network is; what ends the machine ends the wait."""
        with TemporaryFile() as stdout, TemporaryFile() as stderr:
            child = self.plan.context.lab.spawn(argv, stdout=stdout.fileno(), stderr=stderr.fileno())
            try:
                status = poll_alive(child, self.alive, deadline)
            finally:
                child.end(0.0)
            if status is None:
                hint = "sshd or the network may hang."
                raise ChannelTimeout(self.plan.spec.name, argv[-1], deadline.passed_s, hint)
            stdout.seek(0)
            stderr.seek(0)
            return status, stdout.read(), stderr.read()

    def _as_boot_failure(self, error: BootproofError) -> BootproofError:
        if isinstance(error, BootFailed) or error.blame is not Blame.IMAGE:
            return error
        return self.failed(self._matched() or self._hang_finding(error))

    def _hang_finding(self, error: BootproofError) -> Finding:
        phase = next(reversed(self.console.phases), "firmware")
        return Finding(
            id="unit-not-ready" if isinstance(error, checks.NotReady) else "boot-hangs",
            what=str(error),
            where=self.plan.where,
            evidence=tuple(self.console.lines[-8:]),
            cause=checks.unknown(phase, time.monotonic() - self.console.started_s, self.console),
        )

    def _matched(self) -> Finding | None:
        match = self._final_match or next(iter(self.console.matches), None)
        return self._explained(match) if match else None

    def end_finding(self) -> Finding:
        """Why QEMU ended, in its own words."""
        reason = self._end_reason
        if self._was_reset_by_watchdog:
            return replace(self._last_words("watchdog-fired", "the watchdog reset the machine"), cause=_UNFED)
        if reason.startswith("guest") and self.plan.is_kexec and "kernel" not in self.console.phases:
            return kexec.reset_finding(self.plan.where, reason, self.console.lines)
        if reason.startswith("guest"):
            return self._last_words("unexpected-reset", f"the guest ended by itself ({reason})")
        text = self._qemu_log.read_text("utf-8", "replace").strip()
        return replace(
            self._last_words("qemu-ended", f"QEMU ended with status {self.child.status} {reason}".rstrip()),
            blame=Blame.HOST,
            evidence=tuple(text.splitlines()[-5:]),
            cause="see qemu.log; -9 usually means that the host ran out of memory",
        )

    def _last_words(self, finding_id: str, what: str) -> Finding:
        phase = next(reversed(self.console.phases), "firmware")
        cause = checks.unknown(phase, time.monotonic() - self.console.started_s, self.console)
        lines = tuple(self.console.lines[-8:])
        return Finding(id=finding_id, what=what, where=self.plan.where, evidence=lines, cause=cause)

    def _keep_screenshot(self) -> None:
        """Before Linux, the display says more than the console. The firmware's reset ends QEMU soon: be quick."""
        if next(reversed(self.console.phases), "firmware") in _ON_DISPLAY:
            file = str(self.plan.folder / SCREENSHOT)
            with suppress(QmpError):  # QEMU is gone, or built without PNG
                self.qmp.execute("screendump", {"filename": file, "format": "png"}, deadline=Deadline(10))

    def keep_journal(self) -> None:
        """Of a guest that got far enough to be asked for it."""
        if not self._is_ready and "userspace" not in self.console.phases:
            return
        with suppress(BootproofError, OSError):
            journal = self.channel.run("journalctl -b -o short-monotonic --no-pager", Deadline(20))
            (self.plan.folder / "journal.log").write_bytes(journal.stdout)

    def keep_memory(self) -> None:
        """The guest's, for crash(8), where that is asked for: some hundred MiB, and up to a minute."""
        if self.plan.context.keeps_memory and self.child.status is None:
            file = {"protocol": f"file:{self.plan.folder / MEMORY}", "paging": False, "format": "kdump-zlib"}
            with suppress(QmpError):  # QEMU is gone, or has no room
                self.qmp.execute("dump-guest-memory", file, deadline=Deadline(_DUMP_S))

    def _keep_units(self) -> int:
        """When they started is for the report; the memory in use, in MiB. That they cannot be had is no finding."""
        with suppress(BootproofError, OSError):
            memory_mib, units = runtime_profile.read_boot(self.channel)
            serialization.write(self.plan.folder / "units.json", units)
            return memory_mib
        return 0

    def _note_boot(self, ready_s: float | None, memory_mib: int = 0) -> None:
        plan = self.plan
        boot = BootResult(
            machine=plan.spec.name,
            number=plan.number,
            boot_path=plan.boot_path.value,
            artifacts=plan.artifacts.digest,
            phases=durations(self.console.phases, ready_s, first=kexec.PHASE if plan.is_kexec else "firmware"),
            ready_s=None if ready_s is None else round(ready_s, 2),
            console=str(self.console.log),
            added_arguments=plan.arguments[len(plan.artifacts.manifest.kernel_arguments) :],
            downloads=self.downloads.sums(),
            memory_mib=memory_mib,
            captures=tuple(map(str, plan.context.lab.captures)),
            hardware=plan.spec.hardware,
            network_faults=tuple(fault.name for fault in plan.context.lab.network_faults),
        )
        plan.context.run.add_boot(boot)


def poll_alive(child: LabProcess, alive: Callable[[], None], deadline: Deadline) -> int | None:
    """The exit status of ``child``, None when the deadline is over; ``alive`` raises when waiting makes no sense."""
    while (status := child.wait(Deadline(min(0.5, deadline.left_s), scaled=False))) is None and not deadline.is_over:
        alive()
    return status


class _PatientDeadline(Deadline):
    """A boot's deadline: over when the time is up and the console has been silent, or after thrice the time."""

    def __init__(self, console: Console) -> None:
        super().__init__(BOOT_S)
        self._console = console

    @property
    def left_s(self) -> float:
        left_s = self.length_s - self.passed_s
        if left_s > 0:
            return left_s
        silence_left_s = SILENCE_S - self._console.silent_s
        return max(0.0, min(silence_left_s, 3 * self.length_s - self.passed_s))


def durations(begins_s: dict[str, float], ready_s: float | None, first: str = "firmware") -> dict[str, float]:
    """Seconds each phase took, from the seconds they began, the ``first`` at once: pure."""
    rows = [(first, 0.0), *begins_s.items()]
    ends = [begin for _, begin in rows[1:]] + [ready_s if ready_s is not None else rows[-1][1]]
    return {name: round(end - begin, 2) for (name, begin), end in zip(rows, ends, strict=True)}
