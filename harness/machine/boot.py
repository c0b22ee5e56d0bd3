"""One power-on of a machine: from QEMU's start to its end, watched all the time."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from harness.core.deadline import Deadline
from harness.core.errors import Blame, BootproofError
from harness.guest import fingerprint, initrd_stop
from harness.guest.channel import Channel, ChannelClosed, ChannelTimeout, GuestCommandFailed, Transcript
from harness.guest.console import Console
from harness.guest.health import GuestHealth, inspect_guest, judge_health, suspects
from harness.guest.readiness import NotReady, wait_until_ready
from harness.guest.serial_shell import SerialChannel
from harness.guest.unit_findings import OF_UNITS, Explained, explain, survey_of_log, units_on
from harness.guest.unit_survey import UnitSurvey
from harness.lab import LabProcess
from harness.machine import boot_files, boot_waits, evidence, pausing, provision
from harness.machine.boot_plan import BootContext, BootPlan
from harness.machine.boot_waits import NOT_MEASURED, BootWaits
from harness.machine.diagnose import diagnose_end, diagnose_timeout, pattern_finding, shutdown_hangs
from harness.machine.errors import BootFailed
from harness.machine.observation import BootState
from harness.machine.reach_guest import (
    WITHOUT_SERIAL,
    PatientDeadline,
    reach_guest,
    read_hidden,
    ssh_channel,
    survey_failed_guest,
    survey_guest,
)
from harness.machine.watch import BootWatch
from harness.model.layout import CHANNEL_LOG
from harness.model.verdict import BootResult, Finding
from harness.qemu import command_line, kexec, snapshot
from harness.qemu.qmp import Qmp, QmpError, QmpGone
from harness.qemu.snapshot import CannotFreeze
from harness.verdict.boot_waits import over_idle_budget

_BUSY_S = 30.0
_IN_INITRD = "initrd"
"""The phase in which a boot begins that continues from a machine frozen there."""


class RunningBoot:
    """A machine that is on; only `power_on` makes one, which is not ready yet.

    ``channel`` is the serial shell until the guest proves to take none. ``boot_id_before`` is the boot id of the system
    that started this one by kexec.

    It has more than twenty methods because a machine needs them: waiting until it is ready, freezing, thawing, kexec
    and power-off. What they decide is in functions.
    """

    def __init__(self, watch: BootWatch, qmp: Qmp, shell: socket.socket, *, boot_id_before: str = "") -> None:
        self.watch, self.qmp, self._shell, self._boot_id_before = watch, qmp, shell, boot_id_before
        self._transcript = Transcript(watch.plan.folder / CHANNEL_LOG)
        self._serial = SerialChannel(watch.plan.spec.name, shell, watch.check, self._transcript)
        self.channel: Channel = self._serial
        self._is_reached = False

    @property
    def plan(self) -> BootPlan:
        return self.watch.plan

    @property
    def context(self) -> BootContext:
        return self.watch.context

    @property
    def child(self) -> LabProcess:
        """QEMU's process."""
        return self.watch.child

    @property
    def console(self) -> Console:
        return self.watch.console

    @cached_property
    def ssh(self) -> Channel:
        """SSH as root with the run's key, over the machine's network."""
        return ssh_channel(self.watch, self.ask_monitor, self._transcript)

    def ask_monitor(self, line: str) -> str:
        """The answer of QEMU's human monitor to a command."""
        return str(self.qmp.execute("human-monitor-command", {"command-line": line}, deadline=Deadline(10)))

    @contextmanager
    def outliving_resets(self) -> Iterator[None]:
        """While the block lasts, a reset starts the firmware again, as on hardware, and does not end QEMU."""

        def on_reset(action: str) -> None:
            with suppress(QmpError):  # QEMU is gone
                self.qmp.execute("set-action", {"reboot": action}, deadline=Deadline(10))

        on_reset("reset")
        try:
            yield
        finally:
            on_reset("shutdown")

    def wait_until_ready(self) -> None:
        """Wait until the guest is ready and its boot checks are done.

        Raises `BootFailed` at the first failure; its findings are in the run's folder by then. Raises the error itself
        if the image is not to blame for it.
        """
        watch = self.watch
        try:
            self._become_ready()
        except BootproofError as error:
            watch.state, watch.failed_s = BootState.FAILED, time.monotonic()
            if watch.observe().phase in evidence.ON_DISPLAY:
                evidence.keep_screenshot(self.qmp, self.plan.folder)
            explained = self._explain(error)
            self._note_boot(None)
            if explained is None:
                raise
            raise watch.report_failure(explained.finding, explained.awaited) from error

    def _explain(self, error: BootproofError) -> Explained | None:
        """Keep the evidence of a boot that ended with ``error``, and explain it by what the guest still answers, else
        by its journal or console; None if the failure was reported before, or if the image is not to blame for it."""
        if error is self.watch.failure or error.blame is not Blame.IMAGE:
            self.keep_evidence()
            return None
        self.watch.settle()
        if self._is_reached and not isinstance(error, BootFailed):
            with suppress(BootproofError):
                read_hidden(self.watch, self.channel)
        finding = error.finding if isinstance(error, BootFailed) else diagnose_timeout(self.watch.observe(), error)
        if finding.id not in OF_UNITS:
            self.keep_evidence()
            return Explained(finding=finding)
        asked = error.unit if isinstance(error, NotReady) else ""
        survey = self._survey([asked] if asked else units_on(finding.evidence))
        self.keep_evidence()
        survey = survey or survey_of_log(evidence.kept_journal(self.plan.folder) or self.watch.observe().lines)
        return explain(finding, survey, self.plan.definition.may_wait, asked)

    def _survey(self, asked: Sequence[str]) -> UnitSurvey | None:
        """The state of the guest's units; None if the guest does not answer."""
        if self._is_reached:
            return survey_guest(self.channel, asked)
        survey, channel = survey_failed_guest(self.watch, self._serial, lambda: self.ssh, asked)
        self.channel = channel or self.channel
        return survey

    def _become_ready(self) -> None:
        watch, plan = self.watch, self.plan
        if plan.is_kexec and not watch.view.kernel_hidden_by:
            _wait_for_kernel(watch)
        is_busy = (lambda: watch.meter.use(_BUSY_S).is_busy) if watch.view.hidden_by else bool
        deadline = PatientDeadline(self.console, self.context.timeouts, is_busy)
        self.channel = reach_guest(watch, self._serial, lambda: self.ssh, deadline, self._boot_id_before)
        self._is_reached = True
        self.console.begin_phase("userspace")  # its line may be hidden
        for sentence in watch.view.unchecked:
            self.context.run.add_unchecked(sentence)
        read_hidden(watch, self.channel)
        wait_until_ready(plan.spec.name, self.channel, plan.definition, deadline)
        read_hidden(watch, self.channel)
        watch.check()
        watch.state = BootState.READY
        self.context.run.add_phase(plan.spec.name, plan.number, "ready")
        now_s = time.monotonic()
        health = inspect_guest(self.channel)
        failures = [self.watch.report_failure(finding) for finding in self._check_guest(health)]
        if failures:
            raise failures[0]
        waits = boot_waits.measure(watch, self.channel, health, now_s)
        evidence.keep_starts(health.started_units, waits.path, plan.folder)
        self._note_boot(now_s - watch.started_s, health.memory_mib, waits)

    def note_user_space(self) -> None:
        """Note that the guest is in user space where its console hides that, if its serial shell has started."""
        if not self.watch.view.shows_phases and self._serial.has_greeted():
            self.console.begin_phase("userspace")

    def _check_guest(self, health: GuestHealth) -> Iterator[Finding]:
        """The boot checks of a guest that is ready: findings about its health and about what runs in it."""
        plan = self.plan
        asked = suspects(health)
        survey = self._survey(asked) if asked or self.watch.view.systemd_hidden_by else None
        yield from judge_health(health, plan.artifacts.manifest, plan.where, survey)
        yield from fingerprint.compare(health.prints, fingerprint.fingerprint_of(plan.artifacts), plan.where)
        yield from self.watch.downloads.lacking(plan.fetched, plan.where)
        if health.boot_id == self._boot_id_before:
            yield kexec.same_boot_finding(plan.where)

    def _note_boot(self, ready_s: float | None, memory_mib: int = 0, waits: BootWaits = NOT_MEASURED) -> None:
        """Note in the run how the boot ended, and whether it waited too long; ``ready_s`` is None if it failed."""
        plan, lab = self.plan, self.context.lab
        first = kexec.PHASE if plan.is_kexec else _IN_INITRD if plan.begins_in_initrd else "firmware"
        boot = BootResult(
            machine=plan.spec.name,
            number=plan.number,
            boot_path=plan.boot_path.value,
            artifacts=plan.artifacts.digest,
            phases=boot_files.durations(self.console.phases, ready_s, first),
            ready_s=None if ready_s is None else round(ready_s, 2),
            console=str(self.console.log),
            added_arguments=plan.arguments[len(plan.artifacts.manifest.kernel_arguments) :],
            downloads=self.watch.downloads.sums(),
            memory_mib=memory_mib,
            captures=tuple(map(str, lab.captures)),
            hardware=plan.spec.hardware,
            network_faults=tuple(fault.name for fault in lab.network_faults),
            begins=_IN_INITRD if plan.begins_in_initrd else "",
            idle_s=waits.idle_s,
            waits=waits.waits,
        )
        self.context.run.add_boot(boot)
        for finding in over_idle_budget(plan.definition, boot):
            boot_files.note_finding(plan, self.context.run, finding)

    def keep_evidence(self) -> None:
        """Keep the guest's journal, if the guest is in user space, and its memory, if the context says so."""
        seen, folder = self.watch.observe(), self.plan.folder
        if not seen.is_early:
            evidence.keep_journal(self.channel, folder)
        if self.context.keeps_memory and self.child.status is None:
            evidence.keep_memory(self.qmp, folder, Deadline(self.context.timeouts.memory_dump_s))

    def check_freezable(self) -> None:
        """Raise `CannotFreeze` where `freeze` would."""
        snapshot.check(self.qmp, Deadline(self.context.timeouts.freeze_s))

    def freeze(self, state: Path) -> None:
        """Stop the machine for good, its device state in ``state``; `CannotFreeze` where that is impossible."""
        self.watch.settle()
        if match := self.watch.observe().final_match:
            raise self.watch.report_failure(pattern_finding(match, self.plan.where))
        snapshot.save(self.qmp, state, Deadline(self.context.timeouts.freeze_s))
        with suppress(QmpGone):
            self.qmp.execute("quit", deadline=Deadline(10))
        self.child.wait(Deadline(10))

    def wait_until_in_initrd(self) -> None:
        """Wait until the guest has stopped in its initrd and all its downloads are there.

        Raises `CannotFreeze` if it does not, whatever the reason: boots from power-on will show what is wrong.
        """
        try:
            initrd_stop.wait_for_stop(self._serial, PatientDeadline(self.console, self.context.timeouts))
        except BootproofError as error:
            raise CannotFreeze(f"the machine did not stop in its initrd: {str(error).splitlines()[0]}") from error
        for finding in self.watch.downloads.lacking(self.plan.fetched, self.plan.where):
            raise CannotFreeze(finding.what)

    def go_on_in_initrd(self) -> None:
        """Continue from the plan's machine, frozen in its initrd, with this machine's disks; it is not ready yet.

        `CannotFreeze` if the guest does not find them; nothing has been written to them then.
        """
        frozen, timeouts, spec = self.plan.frozen, self.context.timeouts, self.plan.spec
        assert frozen is not None
        self.console.begin_phase(_IN_INITRD)
        snapshot.load(self.qmp, frozen.state, Deadline(timeouts.freeze_s))
        try:
            for command, arguments in command_line.attachments(spec):
                self.qmp.execute(command, arguments, deadline=Deadline(timeouts.freeze_s))
            problem = initrd_stop.go_on(self._serial, len(spec.disks), Deadline(timeouts.thaw_s))
        except (QmpError, ChannelTimeout, ChannelClosed) as error:
            raise CannotFreeze(f"a machine frozen in its initrd does not go on: {error}") from error
        if problem:
            raise CannotFreeze(f"a machine frozen in its initrd does not go on: {problem}")
        self.watch.state = BootState.BOOTING

    def thaw(self) -> None:
        """Continue from the plan's frozen machine, with this host's clock; `CannotFreeze` if it does not answer."""
        frozen, timeouts = self.plan.frozen, self.context.timeouts
        assert frozen is not None
        self.channel = self._serial if frozen.is_serial else self.ssh
        snapshot.load(self.qmp, frozen.state, Deadline(timeouts.freeze_s))
        try:
            pausing.set_clock(self.channel, 0.0, Deadline(timeouts.thaw_s))
        except (ChannelTimeout, ChannelClosed) as error:
            raise CannotFreeze(f"a copy of a frozen machine does not answer: {error}") from error
        except GuestCommandFailed as error:
            raise CannotFreeze(f"the clock of a copy of a frozen machine cannot be set: {error}") from error
        self.watch.state = BootState.READY
        if not frozen.is_serial:
            self.context.run.add_unchecked(WITHOUT_SERIAL)

    def kexec(self, plan: BootPlan) -> RunningBoot:
        """Let the guest load the artifacts of ``plan`` and start their kernel by itself.

        QEMU continues to run and belongs to the boot that is returned, which is not ready yet. `BootFailed` if the
        guest cannot load them.
        """
        provision.serve(plan, self.context.lab)
        self.context.run.add_phase(plan.spec.name, plan.number, kexec.PHASE)
        watch = replace(self.watch, plan=plan, state=BootState.BOOTING, failed_s=None, started_s=time.monotonic())
        loaded = self.channel.run(kexec.load_command(plan.artifacts, plan.arguments))
        if loaded.status:
            errors = loaded.errors.splitlines()
            raise watch.report_failure(kexec.load_finding(loaded.status, errors, plan.where))
        watch.console = self.console.begin(
            plan.folder / "console.log", partial(self.context.run.add_phase, plan.spec.name, plan.number)
        )
        self.run_later("systemctl --no-block kexec")
        return RunningBoot(watch, self.qmp, self._shell, boot_id_before=loaded.text)

    def run_later(self, command: str) -> None:
        """Run a command that ends the guest: a moment later, so that the shell answers first, and without output, so
        that ssh does not wait for its end. If it fails, the console has its error (<3> is KERN_ERR)."""
        problem = f'problem=$({command} 2>&1) || [ $? -gt 128 ] || echo "<3>bootproof: {command}: $problem" >/dev/kmsg'
        self.channel.run(f"(sleep 0.2; {problem}) >/dev/null 2>&1 &").checked(self.plan.spec.name)

    def wait_until_off(self, expected: str) -> None:
        """Wait until QEMU has ended; `BootFailed` if the guest does not get to ``expected``, such as "clean reboot"."""
        deadline = Deadline(self.context.timeouts.shutdown_s)
        is_off = self.child.wait(deadline) is not None
        self.watch.settle()
        seen = self.watch.observe()
        if not is_off:
            raise self.watch.report_failure(shutdown_hangs(seen, deadline.passed_s, expected))
        if seen.was_reset_by_watchdog or not seen.end_reason.startswith("guest"):
            raise self.watch.report_failure(diagnose_end(seen))


def _wait_for_kernel(watch: BootWatch) -> None:
    """Wait until the kernel that a running one started prints its first line; raise `BootFailed` if it does not."""
    timeouts, where = watch.context.timeouts, watch.plan.where

    def has_started() -> bool:
        watch.check()
        return "kernel" in watch.console.phases

    def has_printed(words: str) -> bool:
        return any(words in line for line in watch.console.lines)

    def has_left() -> bool:
        return has_started() or has_printed(kexec.LEAVES) or has_printed(kexec.RESTARTS)

    if not watch.wait_for(has_left, stopping := Deadline(timeouts.shutdown_s)):
        raise watch.report_failure(shutdown_hangs(watch.observe(), stopping.passed_s, "clean kexec"))
    if not has_started() and has_printed(kexec.RESTARTS):
        raise watch.report_failure(kexec.same_boot_finding(where))
    if not watch.wait_for(has_started, starting := Deadline(timeouts.kexec_silence_s)):
        raise watch.report_failure(kexec.silent_finding(where, starting.passed_s, watch.console.lines))
