"""Bare machines for predictions against truth: QEMU is asked while it is paused, then the guest runs until it has told.

A unit that comes as systemd credentials tells it on the second serial port: once in the initrd, when the root file
system is there, once in the root file system.
"""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.core.deadline import Deadline, poll
from harness.fleet import pci_modalias
from harness.model.artifacts import Artifacts
from harness.model.machine_spec import BootPath, MachineSpec
from harness.qemu import command_line, program
from harness.qemu.kernel_arguments import kernel_arguments
from harness.qemu.qmp import Qmp, open_qmp

from .devices import Placed
from .survey import END, TRUTH_ARGUMENTS, TRUTH_CREDENTIALS

_BOOT_S = 300.0
_ASK_S = 30.0
_LOOKS, _BETWEEN_LOOKS_S = 6, 0.3
_LEVELS = (
    ("lm", "cmov", "cx8", "fpu", "fxsr", "mmx", "sse", "sse2"),
    ("cx16", "lahf-lm", "popcnt", "pni", "sse4.1", "sse4.2", "ssse3"),
    ("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"),
    ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
)
"""QEMU's names of what each level of x86-64 adds (System V ABI, AMD64 supplement, 3.1.1)."""


class NotTold(RuntimeError):
    """A guest did not tell; the end of its console is in the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PciNumbers:
    """What a PCI function's configuration space says (PCI Local Bus 3.0, 6.1)."""

    vendor: int
    device: int
    class_: int
    interface: int
    subvendor: int
    subdevice: int

    @property
    def id(self) -> str:
        return f"{self.vendor:04x}:{self.device:04x}"

    @property
    def modalias(self) -> str:
        return pci_modalias(
            self.vendor, self.device, self.subvendor, self.subdevice, class_=self.class_, interface=self.interface
        )


class Paused:
    """A machine before its first instruction."""

    def __init__(self, qmp: Qmp) -> None:
        self._qmp = qmp

    def ask(self, command: str, **arguments: object) -> Any:
        return self._qmp.execute(command, arguments, deadline=Deadline(_ASK_S))

    def numbers(self, address: str) -> PciNumbers:
        """Of the function at ``address`` ("04.0") of the root bus, as firmware reads them by its ports."""
        slot, _, function = address.partition(".")
        place = 1 << 31 | int(slot, 16) << 11 | int(function) << 8

        def word(at: int) -> int:
            self._monitor(f"o /w 0xcf8 {place | at:#x}")
            return int(self._monitor("i /w 0xcfc").partition("=")[2], 0)

        ids, kind, subsystem = word(0x00), word(0x08), word(0x2C)
        if ids == 0xFFFFFFFF:
            raise RuntimeError(f"QEMU has no PCI function {address}")
        return PciNumbers(
            vendor=ids & 0xFFFF, device=ids >> 16, class_=kind >> 16, interface=kind >> 8 & 0xFF,
            subvendor=subsystem & 0xFFFF, subdevice=subsystem >> 16,
        )  # fmt: skip

    def _monitor(self, line: str) -> str:
        return str(self.ask("human-monitor-command", **{"command-line": line}))

    def cpu_levels(self, models: Iterable[str]) -> dict[str, int]:
        """The level of x86-64 that each CPU model has here, without what the accelerator lacks; 0 without 64 bits.

        Models that this QEMU does not have are left out.
        """
        lacks = {one["name"]: set(one.get("unavailable-features", ())) for one in self.ask("query-cpu-definitions")}
        found = dict[str, int]()
        for name in models:
            if name in lacks:
                said = self.ask("query-cpu-model-expansion", type="full", model={"name": name})["model"]["props"]
                flags = {key for key, value in said.items() if value is True} - lacks[name]
                missing = [level for level, wanted in enumerate(_LEVELS) if not flags.issuperset(wanted)]
                found[name] = missing[0] if missing else len(_LEVELS)
        return found

    def go(self) -> None:
        self.ask("cont")

    def endless_instruction(self) -> str:
        """The instruction that the running CPU does not get past, "" if it does: the fault of the emulator, as a CPU
        completes each instruction or raises an exception. A jump to itself and a halted CPU are the guest's doing."""
        states = {self._cpu_state() for _ in range(_LOOKS)}
        if len(states) > 1 or "HLT=0" not in states.pop():
            return ""
        instruction = " ".join(self._monitor("x/1i $pc").split("  ", 1)[-1].split())
        return "" if instruction.startswith("jmp") else instruction

    def _cpu_state(self) -> str:
        """Where the CPU is, and whether it halts."""
        time.sleep(_BETWEEN_LOOKS_S)
        return " ".join(re.findall(r"RIP=\S+|HLT=\d", self._monitor("info registers")))


@contextmanager
def started(
    argv: Sequence[str], folder: Path, chardevs: Mapping[str, socket.socket] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], Paused]]:
    """QEMU, which ``argv`` starts paused, and its monitor while the block lasts; ``chardevs`` are sockets by name."""
    with ExitStack() as stack:
        ours, theirs = socket.socketpair()
        stack.enter_context(theirs)
        sockets = {"qmp": theirs, **(chardevs or {})}
        wires = [word for name, one in sockets.items() for word in ("-chardev", f"socket,id={name},fd={one.fileno()}")]
        log = stack.enter_context((folder / "qemu.log").open("wb"))
        child = subprocess.Popen(
            [*argv, *wires, "-mon", "chardev=qmp,mode=control"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[one.fileno() for one in sockets.values()],
        )  # fmt: skip
        stack.callback(child.wait)
        stack.callback(child.kill)
        for one in sockets.values():
            one.close()
        try:
            qmp = stack.enter_context(open_qmp(ours, name="bare", on_event=lambda *_: None))
        except Exception as error:
            said = (folder / "qemu.log").read_text("utf-8", "replace")[-2000:]
            raise RuntimeError(f"QEMU did not start:\n{said}") from error
        yield child, Paused(qmp)


def argv_of(
    spec: MachineSpec, artifacts: Artifacts, folder: Path, extra: Sequence[str] = (), *, has_root: bool = True
) -> list[str]:
    """A machine on the direct path that starts paused, its serial ports in the files ``console`` and ``told``.

    Without a root file system its initrd waits for one.
    """
    manifest = artifacts.manifest
    arguments = kernel_arguments(manifest.kernel_arguments, manifest.rootfs, BootPath.DIRECT, base_url="")
    direct = command_line.DirectBoot(
        kernel=artifacts.kernel, initrd=artifacts.initrd, rootfs=artifacts.rootfs if has_root else None,
        arguments=(*arguments, *TRUTH_ARGUMENTS),
    )  # fmt: skip
    spec = replace(spec, credentials=TRUTH_CREDENTIALS)
    sockets = command_line.QemuSockets(netdevs=("user,id=net0",))
    argv = command_line.command(spec, qemu=program.in_use(), sockets=sockets, direct=direct, is_paused=True)
    serial = ["-serial", f"file:{folder / 'console'}", "-serial", f"file:{folder / 'told'}"]
    return [*argv, *serial, *extra]


def devices_argv(placed: Iterable[Placed]) -> list[str]:
    return [word for one in placed for word in one.argv]


def wait_for_truth(child: subprocess.Popen[bytes], folder: Path) -> str:
    """What the guest told, in the initrd and in the root file system. `NotTold` if it does not."""
    told = _wait(child, folder, "told", lambda text: text.count(END) >= 2, Deadline(_BOOT_S))
    if told is None:
        raise NotTold(f"the guest did not tell; its console ends:\n{_read(folder / 'console')[-3000:]}")
    return told


def wait_for_console(
    child: subprocess.Popen[bytes], folder: Path, pattern: str, within_s: float
) -> re.Match[str] | None:
    """The first match on the console; None if there is none within that many seconds of the reference machine."""
    _wait(child, folder, "console", lambda text: re.search(pattern, text) is not None, Deadline(within_s))
    return re.search(pattern, _read(folder / "console"))


def _wait(
    child: subprocess.Popen[bytes], folder: Path, name: str, is_enough: Callable[[str], bool], deadline: Deadline
) -> str | None:
    def is_over() -> bool:
        return is_enough(_read(folder / name)) or child.poll() is not None

    poll(is_over, deadline, every_s=0.5)
    text = _read(folder / name)
    return text if is_enough(text) else None


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
