"""Chooses KVM or TCG by booting a kernel (DESIGN decision 9).

A host may open /dev/kvm, create a virtual machine and even run the firmware in it, and still not run a stock kernel.
Only the first line that a kernel prints proves that it runs.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from harness.core import digest, serialization
from harness.core.deadline import Deadline
from harness.core.errors import HostError, UsageError
from harness.core.host_id import host_identity
from harness.core.locks import locked
from harness.host import emulator
from harness.host.kernel_boot import FIRST_LINE, PANIC, boot_kernel, kernel_command
from harness.model.artifacts import Artifacts
from harness.model.machine_spec import Accelerator
from harness.model.qemu import Qemu
from harness.qemu import program
from harness.store.store import Store

DEVICE = Path("/dev/kvm")
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


def take(wanted: str, artifacts: Artifacts, store: Store, *, qemu: Qemu | None = None) -> AcceleratorChoice:
    """The accelerator for ``wanted``, as `choose` says; from now on, this process starts machines with its QEMU.

    ``qemu`` is the one that was asked for, if any. For emulation the quickest of those installed is taken, as
    `emulator.choose` says. All images of a process have the same.
    """
    memory = store.folder("accelerators")
    qemu = qemu or program.chosen() or program.named()
    choice = choose(wanted, artifacts.kernel, memory, qemu=qemu or program.of_path())
    if qemu is None and choice.accelerator is Accelerator.TCG:
        qemu = emulator.choose(emulator.installed(), artifacts.kernel, artifacts.initrd, memory)
    program.use(qemu or program.of_path())
    return choice


def choose(
    wanted: str, kernel: Path, memory: Path, *, qemu: Qemu, device: Path = DEVICE, probe_s: float = PROBE_S
) -> AcceleratorChoice:
    """The accelerator for ``wanted`` (``auto``, ``kvm`` or ``tcg``).

    ``kernel`` is booted under KVM for up to ``probe_s``, once per host (its boot, CPU and kernel) and kernel; the
    folder ``memory`` keeps the answers. Raises `HostError` for ``kvm`` if it is missing or does not run the kernel.
    """
    if wanted not in ("auto", "kvm", "tcg"):
        raise UsageError(f"no accelerator {wanted!r}; known: auto, kvm, tcg")
    if wanted == "tcg":
        return AcceleratorChoice(accelerator=Accelerator.TCG, reason="tcg was asked for")
    choice = _without_kvm(device) or _remembered(kernel, memory, qemu, probe_s)
    if wanted == "kvm" and choice.accelerator is not Accelerator.KVM:
        raise HostError(f"kvm was asked for, but {choice.reason}; --accel auto or tcg runs without it, slower")
    return choice


def slowness(choice: AcceleratorChoice, kernel: Path, *, qemu: Qemu, reference_s: float = REFERENCE_S) -> float:
    """How many times longer than ``reference_s`` the emulated ``kernel`` takes to panic without a root; 1 or more.

    Emulation depends on memory speed more than other work does: on the same idle host, boots took four times as long
    in a bad hour, while arithmetic took no longer. Without emulation it is 1.
    """
    if choice.accelerator is not Accelerator.TCG:
        return 1.0
    deadline = Deadline(_EMULATED_S, scaled=False)
    booted = boot_kernel(kernel_command(kernel, qemu, Accelerator.TCG), PANIC, deadline)
    return max(1.0, booted.took_s / reference_s)


def _without_kvm(device: Path) -> AcceleratorChoice | None:
    """TCG, with the reason, if KVM cannot be tried; None if it can."""
    if not device.exists():
        reason = f"{device} does not exist (load kvm_amd or kvm_intel with modprobe, or enable it in the firmware)"
    elif not os.access(device, os.R_OK | os.W_OK):
        reason = f"user {os.getuid()} cannot open {device} (add the user to group kvm)"
    else:
        return None
    return AcceleratorChoice(accelerator=Accelerator.TCG, reason=reason)


def _remembered(kernel: Path, memory: Path, qemu: Qemu, probe_s: float) -> AcceleratorChoice:
    file = memory / f"{digest.of_value([host_identity(), qemu.program, qemu.version, digest.of_file(kernel)])}.json"
    known = _recall(file)
    if known:
        return known
    try:
        memory.mkdir(parents=True, exist_ok=True)
        with locked(memory / "lock"):  # two probes at once would slow each other down
            known = _recall(file)
            if known is None:
                known = _probe(kernel, qemu, probe_s)
                serialization.write(file, known)
    except OSError as error:
        raise HostError(f"{memory} cannot be written: {error.strerror}; BOOTPROOF_STORE names another place") from error
    return known


def _recall(file: Path) -> AcceleratorChoice | None:
    try:
        return serialization.read(AcceleratorChoice, file)
    except (FileNotFoundError, ValueError):
        return None


def _probe(kernel: Path, qemu: Qemu, probe_s: float) -> AcceleratorChoice:
    """Boot ``kernel`` under KVM, in a machine with only a console, until its first line."""
    booted = boot_kernel(kernel_command(kernel, qemu, Accelerator.KVM), FIRST_LINE, Deadline(probe_s))
    if FIRST_LINE in booted.printed:
        reason = f"the kernel's first line came after {booted.took_s:.1f} s under KVM"
        return AcceleratorChoice(accelerator=Accelerator.KVM, reason=reason)
    quoted = " ".join(_NOISE.sub("", booted.printed.decode("utf-8", "replace")).split()[-_QUOTED_WORDS:])
    ending = f"QEMU ended with status {booted.status}" if booted.status is not None else "QEMU still ran"
    seen = f"after {booted.took_s:.1f} s {ending} and had printed {quoted!r}"
    reason = f"this kernel does not start under {DEVICE}: {seen}"
    return AcceleratorChoice(accelerator=Accelerator.TCG, reason=reason)
