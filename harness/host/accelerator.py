"""Chooses KVM or TCG by booting a kernel (DESIGN decision 9).

A host may open /dev/kvm, create a virtual machine and even run the firmware in it, and still not run a stock kernel.
Only the first line that a kernel prints proves that it runs.
"""

from __future__ import annotations

import os
import re
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.core import digest, process, serialization
from harness.core.deadline import Deadline, poll
from harness.core.errors import HostError, UsageError
from harness.core.host_id import host_identity
from harness.core.locks import locked
from harness.model.machine_spec import Accelerator
from harness.qemu.command_line import PROGRAM, TCG, TCG_CPU
from harness.qemu.kernel_arguments import CONSOLE

DEVICE = Path("/dev/kvm")
FIRST_LINE, PANIC = b"Linux version", b"Kernel panic"
PROBE_S = 5.0
"""A kernel under working KVM prints its first line within 0.3 s, under TCG within 1 s (reference machine)."""
REFERENCE_S, _EMULATED_S = 1.6, 20.0
"""From QEMU's start to the panic of a stock Debian kernel without a root file system, emulated on the reference
machine; and the limit for it here."""
_QUOTED_WORDS = 12
_NOISE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|.)|^(extra data\[|\w{2,4} *=).*$", re.MULTILINE)
"""Terminal control sequences, and the register dump after QEMU's "KVM internal error"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorChoice:
    """The accelerator of machines, and why in a sentence."""

    accelerator: Accelerator
    reason: str


def choose(
    wanted: str, kernel: Path, memory: Path, *, program: str = PROGRAM, probe_s: float = PROBE_S
) -> AcceleratorChoice:
    """The accelerator for ``wanted`` (``auto``, ``kvm`` or ``tcg``).

    ``kernel`` is booted under KVM for up to ``probe_s``, once per host (its boot, CPU and kernel) and kernel; the
    folder ``memory`` keeps the answers. Raises `HostError` for ``kvm`` if it is missing or does not run the kernel.
    """
    if wanted not in ("auto", "kvm", "tcg"):
        raise UsageError(f"no accelerator {wanted!r}; known: auto, kvm, tcg")
    if wanted == "tcg":
        return AcceleratorChoice(accelerator=Accelerator.TCG, reason="tcg was asked for")
    choice = _without_kvm() or _remembered(kernel, memory, program, probe_s)
    if wanted == "kvm" and choice.accelerator is not Accelerator.KVM:
        raise HostError(f"kvm was asked for, but {choice.reason}; --accel auto or tcg runs without it, slower")
    return choice


def emulation_slowness(kernel: Path, *, program: str = PROGRAM, reference_s: float = REFERENCE_S) -> float:
    """How many times longer than ``reference_s`` the emulated ``kernel`` takes to panic without a root; 1 or more.

    Emulation depends on memory speed more than other work does: on the same idle host, boots took four times as long
    in a bad hour, while arithmetic took no longer.
    """
    deadline = Deadline(_EMULATED_S, scaled=False)
    _boot(probe_command(kernel, program, Accelerator.TCG), PANIC, deadline)
    return max(1.0, deadline.passed_s / reference_s)


def _without_kvm() -> AcceleratorChoice | None:
    """TCG, with the reason, if KVM cannot be tried; None if it can."""
    if not DEVICE.exists():
        reason = f"{DEVICE} does not exist (load kvm_amd or kvm_intel with modprobe, or enable it in the firmware)"
    elif not os.access(DEVICE, os.R_OK | os.W_OK):
        reason = f"user {os.getuid()} cannot open {DEVICE} (add the user to group kvm)"
    else:
        return None
    return AcceleratorChoice(accelerator=Accelerator.TCG, reason=reason)


def _remembered(kernel: Path, memory: Path, program: str, probe_s: float) -> AcceleratorChoice:
    file = memory / f"{digest.of_value([host_identity(), program, digest.of_file(kernel)])}.json"
    known = _recall(file)
    if known:
        return known
    try:
        memory.mkdir(parents=True, exist_ok=True)
        with locked(memory / "lock"):  # two probes at once would slow each other down
            known = _recall(file)
            if known is None:
                known = _probe(kernel, program, probe_s)
                serialization.write(file, known)
    except OSError as error:
        raise HostError(f"{memory} cannot be written: {error.strerror}; BOOTPROOF_STORE names another place") from error
    return known


def _recall(file: Path) -> AcceleratorChoice | None:
    try:
        return serialization.read(AcceleratorChoice, file)
    except (FileNotFoundError, ValueError):
        return None


def _probe(kernel: Path, program: str, probe_s: float) -> AcceleratorChoice:
    """Boot ``kernel`` under KVM, in a machine with only a console, until its first line."""
    deadline = Deadline(probe_s)
    printed, status = _boot(probe_command(kernel, program, Accelerator.KVM), FIRST_LINE, deadline)
    if FIRST_LINE in printed:
        reason = f"the kernel's first line came after {deadline.passed_s:.1f} s under KVM"
        return AcceleratorChoice(accelerator=Accelerator.KVM, reason=reason)
    quoted = " ".join(_NOISE.sub("", printed.decode("utf-8", "replace")).split()[-_QUOTED_WORDS:])
    ending = f"QEMU ended with status {status}" if status is not None else "QEMU still ran"
    seen = f"after {deadline.passed_s:.1f} s {ending} and had printed {quoted!r}"
    reason = f"this kernel does not start under {DEVICE}: {seen}"
    return AcceleratorChoice(accelerator=Accelerator.TCG, reason=reason)


def _boot(command: list[str], text: bytes, deadline: Deadline) -> tuple[bytes, int | None]:
    """The console output until ``text`` or the deadline, and QEMU's exit status if it ended."""
    ours, theirs = socket.socketpair()
    argv = process.tied_to_us(command, parent=os.getpid())
    with ours, ExitStack() as stack:
        with theirs:
            output = theirs.fileno()
            child = stack.enter_context(process.spawn(argv, stdout=output, stderr=output, grace_s=0.5))
        printed, is_over = _read_until(ours, text, deadline)
        if is_over:
            poll(lambda: child.poll() is not None, Deadline(1.0), every_s=0.01)
        return printed, child.poll()


def probe_command(kernel: Path, program: str = PROGRAM, accelerator: Accelerator = Accelerator.KVM) -> list[str]:
    """The QEMU command of a machine with one kernel and one serial port, on standard output."""
    how = ("kvm", "host") if accelerator is Accelerator.KVM else (TCG, TCG_CPU)
    return [
        program,
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-machine", "q35,graphics=off,sata=off,smbus=off,usb=off"),
        *("-accel", how[0], "-cpu", how[1], "-m", "256M"),
        *("-serial", "stdio"),
        *("-kernel", str(kernel), "-append", f"{CONSOLE} earlyprintk=serial,ttyS0,115200 panic=-1"),
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
