"""Powering a machine on: QEMU with its sockets, board and disks, watched by a `RunningBoot` while it runs."""

from __future__ import annotations

import shlex
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from harness.core.cpu_use import metering
from harness.core.deadline import Changes, Deadline
from harness.guest.console import Console, follow
from harness.guest.pattern_watcher import PatternWatcher
from harness.lab import Lab, LabProcess
from harness.machine import board, provision
from harness.machine.boot import RunningBoot
from harness.machine.boot_plan import BootContext, BootPlan
from harness.machine.diagnose import diagnose_end
from harness.machine.link_faults import with_link_faults
from harness.machine.observation import BootState, QmpEvent
from harness.machine.watch import BootWatch
from harness.model.layout import NETWORK_LOG
from harness.model.machine_spec import BreakPoint, DiskSpec, MachineSpec
from harness.model.network_faults import LinkFault
from harness.qemu import command_line, grub, program
from harness.qemu.devices import check_nics
from harness.qemu.qmp import Qmp, QmpError, QmpGone, open_qmp

_QEMU_LOG = "qemu.log"
_UNTIMED = "it may not have been applied, because this image's console does not show when its initrd needs the network"


@contextmanager
def power_on(plan: BootPlan, context: BootContext) -> Iterator[RunningBoot]:
    """QEMU runs while the block lasts; on leaving, it is dead. The machine is not ready yet."""
    lab, run = context.lab, context.run
    check_nics(plan.spec.nics)
    plan.folder.mkdir(parents=True, exist_ok=True)  # `boot_files.save` may have made it
    provision.give_firmware(plan, lab)
    boot_disk = provision.boot_disk(plan)
    provision.serve(plan, lab)
    if problem := lab.capture_problem:
        run.add_unchecked(f"the packets on the network: {problem}")
    changes, events = Changes(), list[QmpEvent]()
    with ExitStack() as stack:
        (qmp, qmp_in), (console, console_in), (shell, shell_in) = (_socket_pair(stack) for _ in range(3))
        tpm = stack.enter_context(board.tpm(plan, lab)) if plan.spec.has_tpm else None
        sockets = command_line.QemuSockets(
            qmp_fd=qmp_in.fileno(),
            console_fd=console_in.fileno(),
            shell_fd=shell_in.fileno(),
            tpm_fd=tpm.fileno() if tpm else None,
            netdevs=lab.netdevs(plan.spec),
        )
        follower = stack.enter_context(_followed(plan, context, console, changes, boot_disk))
        clock = stack.enter_context(board.clock(plan, events))
        child = stack.enter_context(_started(plan, lab, sockets, changes, boot_disk, clock))
        watch = BootWatch(
            plan=plan,
            context=context,
            child=child,
            console=follower,
            qemu_log=plan.folder / _QEMU_LOG,
            changes=changes,
            events=events,
            meter=stack.enter_context(metering(child.pid)),
            state=BootState.THAWING if plan.frozen else BootState.BOOTING,
        )
        stack.enter_context(lab.trace.logged(plan.spec.number, plan.folder / NETWORK_LOG, follower.started_s))
        for inner in (qmp_in, console_in, shell_in, *([tpm] if tpm else [])):
            inner.close()
        if not plan.begins_in_initrd:
            run.add_phase(plan.spec.name, plan.number, "firmware")
        monitor = stack.enter_context(_monitor(watch, qmp))
        for place, disk in enumerate(plan.spec.disks):
            if disk.late_s:
                stack.enter_context(_plugged_late(place, disk.late_s, plan.spec, monitor))
        if not watch.view.shows_phases:
            for fault in lab.network_faults:
                if isinstance(fault, LinkFault) and (fault.down_s or fault.flaps):
                    run.add_unchecked(f"network fault {fault.name}: {_UNTIMED} ({watch.view.hidden_by})")
        stack.enter_context(with_link_faults(plan.spec, lab.network_faults, monitor, follower))
        yield RunningBoot(watch, monitor, shell)
        watch.report_late_findings()


@contextmanager
def _followed(
    plan: BootPlan, context: BootContext, wire: socket.socket, changes: Changes, boot_disk: DiskSpec | None
) -> Iterator[Console]:
    """The machine's console; the plan's choice is made at GRUB's menu when it appears."""
    watcher = PatternWatcher(nics=len(plan.spec.nics), is_emulated=plan.spec.is_emulated)
    on_phase = partial(context.run.add_phase, plan.spec.name, plan.number)
    with follow(wire, plan.folder / "console.log", changes, on_phase, watcher) as console:
        if boot_disk and plan.entry is not None:
            console.listeners.append(partial(_type_at_menu, console, grub.keys(plan.entry)))
        if plan.stop is BreakPoint.GRUB:
            console.listeners.append(partial(_type_at_menu, console, grub.COMMAND_LINE))
        yield console


def _type_at_menu(console: Console, keys: str, line: str) -> None:
    if grub.READY in line:
        console.send(keys)


@contextmanager
def _monitor(watch: BootWatch, sock: socket.socket) -> Iterator[Qmp]:
    """A QMP session whose events go to ``watch``; `BootFailed` if QEMU ends before it begins."""

    def collect(name: str, data: dict[str, Any]) -> None:
        watch.events.append((name, data))
        watch.changes.note()

    with ExitStack() as stack:
        name, log = watch.plan.spec.name, watch.plan.folder / "qmp.log"
        try:
            monitor = stack.enter_context(open_qmp(sock, name=name, on_event=collect, log=log))
        except QmpGone as error:
            watch.child.wait(Deadline(5))
            raise watch.report_failure(diagnose_end(watch.observe())) from error
        yield monitor


@contextmanager
def _plugged_late(place: int, late_s: float, spec: MachineSpec, qmp: Qmp) -> Iterator[None]:
    """Plug in the disk ``late_s`` seconds from now, while the block lasts; `QmpError` at its end if QEMU refuses it."""
    problems = list[QmpError]()

    def plug() -> None:
        try:
            qmp.execute("device_add", command_line.disk_device(place, spec), deadline=Deadline(10))
        except QmpGone:
            pass  # the machine was off by then
        except QmpError as error:
            problems.append(error)

    timer = threading.Timer(late_s, plug)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        for problem in problems:
            raise problem


@contextmanager
def _started(
    plan: BootPlan,
    lab: Lab,
    sockets: command_line.QemuSockets,
    changes: Changes,
    boot_disk: DiskSpec | None,
    clock: str,
) -> Iterator[LabProcess]:
    argv = command_line.command(
        plan.spec_at_start, qemu=program.in_use(), sockets=sockets, direct=plan.direct, memory=plan.backing,
        variables=plan.variables, boot_disk=boot_disk, clock=clock, is_frozen=bool(plan.frozen),
        is_paused=plan.stop is BreakPoint.FIRMWARE,
    )  # fmt: skip
    (plan.folder / "argv").write_text(shlex.join(command_line.shown(argv)) + "\n", "utf-8")
    fds = [fd for fd in (sockets.qmp_fd, sockets.console_fd, sockets.shell_fd, sockets.tpm_fd) if fd is not None]
    with (plan.folder / _QEMU_LOG).open("wb") as log:
        child = lab.spawn(
            argv, stdout=log.fileno(), stderr=log.fileno(), pass_fds=fds, on_exit=lambda _: changes.note()
        )
    try:
        yield child
    finally:
        child.end(0.0)


def _socket_pair(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Two connected sockets, open until ``stack`` ends: ours, and the one for QEMU."""
    ours, theirs = socket.socketpair()
    stack.enter_context(theirs)
    return stack.enter_context(ours), theirs
