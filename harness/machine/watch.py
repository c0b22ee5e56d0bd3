"""Watching a boot: observe, wait until something happened, report what failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from harness.core.cpu_use import CpuMeter
from harness.core.deadline import Changes, Deadline, host_scale
from harness.guest.console import Console
from harness.guest.console_view import ConsoleView, console_view
from harness.guest.unit_findings import OF_UNITS, Awaited
from harness.lab import LabProcess
from harness.lab.trace import format_trace
from harness.machine import boot_files
from harness.machine.boot_plan import BootContext, BootPlan
from harness.machine.diagnose import diagnose, host_problem, late_findings
from harness.machine.downloads import Downloads
from harness.machine.errors import BootFailed, by_hand
from harness.machine.observation import BootState, Observed, QmpEvent, end_reason, has_event
from harness.model.verdict import Finding
from harness.qemu.snapshot import CannotFreeze
from harness.verdict.attribution import LIMIT_S, Circumstances, attribute, excuse_for_wait

_LINES = 40
_QEMU_LOG_LINES = 5
_SETTLE_S = 2.0

T = TypeVar("T")


@dataclass(kw_only=True)
class BootWatch:
    """The sources from which one boot is observed: QEMU's process, console and QMP events, and the lab's servers.

    ``changes`` are noted whenever the console, the ``events`` or the process change. `observe` and the properties have
    no effect; `settle`, `check` and `wait_for` wait, and `report_failure` writes. ``qemu_log`` is in the folder of the
    boot that started QEMU, which is an earlier one after a kexec.
    """

    plan: BootPlan
    context: BootContext
    child: LabProcess
    console: Console
    qemu_log: Path
    changes: Changes
    events: list[QmpEvent]
    meter: CpuMeter
    state: BootState = BootState.BOOTING
    failed_s: float | None = None
    """When the boot failed, before the guest was asked why."""
    started_s: float = field(default_factory=time.monotonic)
    failure: BootFailed | None = field(default=None, init=False)
    """The failure that was reported last."""

    @property
    def downloads(self) -> Downloads:
        """What the machine downloaded over HTTP since it was powered on."""
        client, artifacts = self.plan.spec.address, self.plan.artifacts
        return Downloads(http=self.context.lab.http, client=client, since_s=self.started_s, artifacts=artifacts)

    @cached_property
    def view(self) -> ConsoleView:
        """What the console of this boot shows."""
        return console_view(self.plan.arguments)

    def observe(self) -> Observed:
        """Everything that is known of the boot at this moment."""
        plan, console, lab, status = self.plan, self.console, self.context.lab, self.child.status
        is_booting = self.state is BootState.BOOTING
        qemu_log = "" if status is None else self.qemu_log.read_text("utf-8", "replace").strip()
        return Observed(
            where=plan.where,
            spec=plan.spec,
            state=self.state,
            is_kexec=plan.is_kexec,
            has_only_transient_faults=lab.has_only_transient_faults,
            phases=dict(console.phases),
            lines=tuple(console.lines[-_LINES:]),
            after_s=time.monotonic() - console.started_s,
            silent_s=console.silent_s,
            matches=tuple(console.matches),
            events=tuple(self.events),
            exit_status=status,
            qemu_log=tuple(qemu_log.splitlines()[-_QEMU_LOG_LINES:]),
            steps=tuple(lab.trace.events(plan.spec.number, self.started_s)),
            download_failure=self.downloads.failure(plan.where) if is_booting else None,
            log_problem=console.problem,
            view=self.view,
        )

    def settle(self) -> None:
        """Wait for events that follow at once: the console's lines about a panic, the registers that tell a
        bug of the kernel from one of the emulator, and QEMU's reason for its end."""
        if has_event(self.events, "GUEST_PANICKED"):
            self.wait_for(lambda: self.console.matches, Deadline(_SETTLE_S))
        if self.child.status == 0:  # if QEMU was killed or crashed, no reason follows
            self.wait_for(lambda: end_reason(self.events), Deadline(_SETTLE_S))
        self.wait_for(lambda: not self.console.awaits_registers, Deadline(_SETTLE_S))

    def check(self) -> None:
        """Raise the failure of this boot if there is one: of the machine or, while it boots, the first finding.

        A finding that the guest may explain is raised and not reported yet, and so is what a machine does after its
        boot has failed.
        """
        self.settle()
        seen = self.observe()
        if problem := host_problem(seen):
            raise problem
        if finding := diagnose(seen):
            is_open = self.state is BootState.FAILED or (self.state is BootState.BOOTING and finding.id in OF_UNITS)
            raise self.failure or (self._error(finding) if is_open else self.report_failure(finding))

    def wait_for(self, question: Callable[[], T | None], deadline: Deadline) -> T | None:
        """The first truthy answer to ``question``, asked after every change; None when the deadline is over."""
        return self.changes.wait_for(question, deadline)

    def doubt(self, error: BaseException | None = None) -> str:
        """Why failures of this boot from now on may not be the image's, or why ``error``, which ended a wait of a test,
        may not be; empty if there is no doubt."""
        self.settle()
        waited_s = getattr(error, "waited_s", 0.0)
        excuse = excuse_for_wait(error, self.meter.use(waited_s)) if error and waited_s else ""
        return self._circumstances(self.observe()).doubt or excuse

    def report_failure(self, finding: Finding, awaited: Awaited = Awaited.UNKNOWN) -> BootFailed:
        """Note ``finding`` in the run, with the blame that its circumstances leave, and return the error to raise.

        ``awaited`` is what became of the thing that a failed unit needed.
        A clone that fails before it has answered raises `CannotFreeze` instead: a machine is booted in its place. So
        does a machine that is to be frozen in its initrd.
        """
        if self.state is BootState.THAWING:
            raise CannotFreeze(f"a copy of a frozen machine did not continue: {finding.what}")
        if self.plan.stops_in_initrd:
            raise CannotFreeze(f"a machine did not get into its initrd: {finding.what}")
        plan, context = self.plan, self.context
        seen = self.observe()
        circumstances = replace(
            self._circumstances(seen), is_early=seen.is_early, requests=self._requests, awaited=awaited
        )
        finding = attribute(finding, circumstances)
        boot_files.note_finding(plan, context.run, finding)
        self.failure = self._error(finding)
        return self.failure

    def _error(self, finding: Finding) -> BootFailed:
        plan = self.plan
        return BootFailed(plan.spec.name, finding, str(plan.folder), by_hand(plan.artifacts, plan.spec))

    def report_late_findings(self) -> None:
        """Note the findings of a machine that was ready; after a failed boot there are none."""
        self.settle()
        for finding in late_findings(self.observe(), self.context.doubt()):
            boot_files.note_finding(self.plan, self.context.run, finding)

    def disregard_console(self) -> None:
        """Note the late findings of a ready machine now: what its console shows from here on is a test's doing. A panic
        and the end of QEMU are still findings."""
        if self.state is BootState.READY:
            self.report_late_findings()
            self.state = BootState.SPOILED

    def _circumstances(self, seen: Observed) -> Circumstances:
        until_s = self.failed_s or time.monotonic()
        return Circumstances(
            boot=self.meter.use(until_s - self.started_s, until_s),
            recent=self.meter.use(LIMIT_S, until_s),
            slowness=host_scale() if self.plan.spec.is_emulated else 1.0,
            alteration=self.context.doubt() or (self.context.lab.problem if seen.is_early else ""),
            emulator_fault=seen.emulator_fault.cause if seen.emulator_fault else "",
            disks=len(self.plan.spec.disks),
        )

    @cached_property
    def _requests(self) -> tuple[str, ...]:
        """What the machine had asked of the lab's servers at the first finding: a later one must not differ."""
        since_s = self.console.started_s
        lines = format_trace(self.context.lab.trace.events(self.plan.spec.number, since_s), since_s)
        return tuple(lines or (["the machine sent no request"] if self.plan.fetched else []))
