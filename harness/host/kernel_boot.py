"""Boots a kernel, in a machine with only a console, until it has printed something: to try and to time a QEMU."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.core import process
from harness.core.cpu_use import sample
from harness.core.deadline import Deadline, poll
from harness.model.machine_spec import Accelerator
from harness.model.qemu import Qemu
from harness.qemu.command_line import accelerated
from harness.qemu.kernel_arguments import CONSOLE

FIRST_LINE, PANIC = b"Linux version", b"Kernel panic"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelBoot:
    """What a boot ``printed`` in ``took_s`` seconds of wall time and ``cpu_s`` of QEMU's CPU time, and QEMU's exit
    ``status`` if it ended."""

    printed: bytes
    took_s: float
    cpu_s: float
    status: int | None


def boot_kernel(argv: list[str], text: bytes, deadline: Deadline) -> KernelBoot:
    """Run ``argv``, of `kernel_command`, until it has printed ``text`` or the deadline is over."""
    ours, theirs = socket.socketpair()
    tied = process.tied_to_us(argv, parent=os.getpid())
    with ours, ExitStack() as stack:
        with theirs:
            output = theirs.fileno()
            child = stack.enter_context(process.spawn(tied, stdout=output, stderr=output, grace_s=0.5))
        printed, is_over = _read_until(ours, text, deadline)
        took_s, used = deadline.passed_s, sample(child.pid)
        if is_over:
            poll(lambda: child.poll() is not None, Deadline(1.0), every_s=0.01)
        return KernelBoot(printed=printed, took_s=took_s, cpu_s=used.ran_s if used else 0.0, status=child.poll())


def kernel_command(
    kernel: Path, qemu: Qemu, accelerator: Accelerator, *, initrd: Path | None = None, arguments: str = ""
) -> list[str]:
    """The QEMU command of a machine with one kernel and one serial port, on standard output."""
    append = f"{CONSOLE} earlyprintk=serial,ttyS0,115200 panic=-1 {arguments}".rstrip()
    return [
        qemu.program,
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-machine", "q35,graphics=off,sata=off,smbus=off,usb=off"),
        *accelerated(accelerator, qemu),
        *("-m", "512M" if initrd else "256M"),
        *("-serial", "stdio"),
        *("-kernel", str(kernel), "-append", append),
        *(("-initrd", str(initrd)) if initrd else ()),
    ]


def _read_until(sock: socket.socket, text: bytes, deadline: Deadline) -> tuple[bytes, bool]:
    """The bytes until ``text`` or the deadline, and whether the sender closed the socket."""
    printed = b""
    while text not in printed and not deadline.is_over:
        sock.settimeout(max(deadline.left_s, 0.001))
        with suppress(TimeoutError):
            data = sock.recv(65536)
            if not data:
                return printed, True
            printed += data
    return printed, False
