"""Switching a machine on: QEMU with its wires, its board and its disks, watched by a `RunningBoot` while it runs."""

from __future__ import annotations

import shlex
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from harness.core import process
from harness.core.deadline import Changes, Deadline
from harness.guest.console import Console, follow
from harness.guest.pattern_watcher import PatternWatcher
from harness.lab import LabProcess
from harness.machine import board, provision
from harness.machine.boot import Events, RunningBoot
from harness.machine.boot_plan import BootPlan
from harness.machine.link_faults import with_link_faults
from harness.model.machine_spec import BreakPoint, DiskSpec, MachineSpec
from harness.qemu import command_line, grub
from harness.qemu.devices import check_nics
from harness.qemu.qmp import Qmp, QmpError, QmpGone, open_qmp


@contextmanager
def power_on(plan: BootPlan) -> Iterator[RunningBoot]:
    """QEMU runs while the block lasts; on leaving, it is dead."""
    check_nics(plan.spec.nics)
    plan.folder.mkdir(parents=True, exist_ok=True)  # `Plan.keep` may have made it
    provision.give_firmware(plan)
    boot_disk = provision.boot_disk(plan)
    provision.serve(plan)
    if problem := plan.context.lab.capture_problem:
        plan.context.run.add_unchecked(f"what was on the wire: {problem}")
    changes, events = Changes(), Events()
    with ExitStack() as stack:
        (qmp, qmp_in), (console, console_in), (shell, shell_in) = (_wire(stack) for _ in range(3))
        tpm = stack.enter_context(board.tpm(plan)) if plan.spec.has_tpm else None
        wires = command_line.QemuSockets(
            qmp_fd=qmp_in.fileno(),
            console_fd=console_in.fileno(),
            shell_fd=shell_in.fileno(),
            tpm_fd=tpm.fileno() if tpm else None,
            netdevs=plan.context.lab.netdevs(plan.spec),
        )
        watcher = PatternWatcher(
            ignored=plan.definition.waiting, nics=len(plan.spec.nics), is_emulated=plan.spec.is_emulated
        )
        follower = stack.enter_context(follow(console, plan.folder / "console.log", changes, plan.note_phase, watcher))
        if boot_disk and plan.entry is not None:
            follower.listeners.append(partial(_choose, follower, grub.keys(plan.entry)))
        if plan.stop is BreakPoint.GRUB:
            follower.listeners.append(partial(_choose, follower, grub.COMMAND_LINE))
        clock = stack.enter_context(board.clock(plan, events))
        child = stack.enter_context(_started(plan, wires, changes, boot_disk, clock))
        power = RunningBoot(plan, child, follower, changes, events)
        stack.enter_context(power.keeping_network_log())
        for inner in (qmp_in, console_in, shell_in, *([tpm] if tpm else [])):
            inner.close()
        plan.note_phase("firmware")
        on_event = _collector(events, changes)
        log = plan.folder / "qmp.log"
        try:
            monitor = stack.enter_context(open_qmp(qmp, name=plan.spec.name, on_event=on_event, log=log))
        except QmpGone as error:
            child.wait(Deadline(5))
            raise power.failed(power.end_finding()) from error
        power.attach(monitor, shell)
        for place, disk in enumerate(plan.spec.disks):
            stack.enter_context(_plugged_late(place, disk, plan.spec, monitor))
        stack.enter_context(with_link_faults(plan.spec, plan.context.lab.network_faults, monitor, follower))
        yield power
        power.note_late_signs()


@contextmanager
def _plugged_late(place: int, disk: DiskSpec, spec: MachineSpec, qmp: Qmp) -> Iterator[None]:
    """A disk that appears late does so while the block lasts; `QmpError` at its end if QEMU would not have it."""
    problems = list[QmpError]()

    def plug() -> None:
        try:
            qmp.execute("device_add", command_line.disk_device(place, spec), deadline=Deadline(10))
        except QmpGone:
            pass  # the machine was off by then
        except QmpError as error:
            problems.append(error)

    if not disk.late_s:
        yield
        return
    timer = threading.Timer(disk.late_s, plug)
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
    plan: BootPlan, wires: command_line.QemuSockets, changes: Changes, boot_disk: DiskSpec | None, clock: str
) -> Iterator[LabProcess]:
    program = process.require(command_line.PROGRAM, "qemu-system-x86")
    argv = command_line.command(
        plan.spec, program=program, sockets=wires, direct=plan.direct, memory=plan.backing, variables=plan.variables,
        boot_disk=boot_disk, clock=clock, is_frozen=bool(plan.frozen), is_paused=plan.stop is BreakPoint.FIRMWARE,
    )  # fmt: skip
    (plan.folder / "argv").write_text(shlex.join(command_line.shown(argv)) + "\n", "utf-8")
    fds = [fd for fd in (wires.qmp_fd, wires.console_fd, wires.shell_fd, wires.tpm_fd) if fd is not None]
    with (plan.folder / "qemu.log").open("wb") as log:
        child = plan.context.lab.spawn(
            argv, stdout=log.fileno(), stderr=log.fileno(), pass_fds=fds, on_exit=lambda _: changes.note()
        )
    try:
        yield child
    finally:
        child.end(0.0)


def _choose(console: Console, keys: str, line: str) -> None:
    """What a person does at GRUB's menu."""
    if grub.READY in line:
        console.send(keys)


def _wire(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    stack.enter_context(theirs)
    return stack.enter_context(ours), theirs


def _collector(events: Events, changes: Changes) -> Callable[[str, dict[str, Any]], None]:
    def collect(name: str, data: dict[str, Any]) -> None:
        events.append((name, data))
        changes.note()

    return collect
