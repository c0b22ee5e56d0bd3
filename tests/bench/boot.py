"""The harness's overhead: CPU seconds of a boot until the guest is ready, compared with a bare QEMU.

Ready is the same moment for both: the guest's systemd has started all units. The harness asks through its serial shell.
The bare machine has no shell, so an additional unit, which comes in by the same kind of credential and is ordered after
the last targets, prints a line on the console. That costs a shell; asking systemd, or waiting for it
(``systemctl is-system-running --wait``), would cost the bare machine what this measures of the harness.

Of the bare machine only QEMU counts. Of the harness everything counts: QEMU, the lab (its process 1, dnsmasq, the short
programs it ran), and this process with all its threads, from before the lab is opened. The boot checks after ready are
not part of booting. Artifacts, CPUs, memory, board and a new blank disk are the same. The network is a lab for the
harness, and QEMU's user network for the bare machine, as without a lab.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from harness.build.pipeline import build
from harness.core.errors import BootproofError
from harness.lab import open_lab
from harness.machine.boot_plan import BootContext
from harness.machine.machine import boot
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition, load_definition
from harness.model.machine_spec import BootPath, MachineSpec
from harness.model.qemu import Qemu
from harness.qemu import command_line, program
from harness.qemu.kernel_arguments import kernel_arguments
from harness.runs.folder import Run
from harness.store.store import find_store

from ..machines import run_in, specify
from .start import ROOT
from .table import Figure, Limit, alternate, compared

_READY = "BARE-READY"
_UNIT = f"""\
[Unit]
DefaultDependencies=no
After={{after}}

[Service]
ExecStart=/bin/sh -c '(echo; echo {_READY}) >/dev/ttyS0'
"""
_PATIENCE_S = 600.0
BootOnce = Callable[[ImageDefinition, Artifacts, Path], float]
_TICKS = os.sysconf("SC_CLK_TCK")


def measure(*, quick: bool) -> list[Figure]:
    definition = load_definition(ROOT / "images" / "base")
    artifacts = build(definition, find_store())

    def measured(boot_once: BootOnce) -> float:
        with TemporaryDirectory() as folder:
            return boot_once(definition, artifacts, Path(folder))

    def patiently(boot_once: BootOnce) -> float:
        try:
            return measured(boot_once)
        except (RuntimeError, BootproofError) as error:
            print(f"measured once more, since a boot failed: {error}", file=sys.stderr)
            return measured(boot_once)

    ours, bare = alternate(1 if quick else 6, lambda: patiently(boot_in_harness), lambda: patiently(boot_bare))
    what = "CPU of a boot to ready"
    return [compared("boot", what, ours, "bare QEMU", bare, unit="s", limit=Limit(most=1.05))]


class _Stopped(Run):
    """A run that records the CPU time of everything when its machine is ready."""

    def add_phase(self, machine: str, boot: int, phase: str) -> None:
        if phase == "ready":
            (self.folder / "cpu").write_text(str(_family_s()), "ascii")
        super().add_phase(machine, boot, phase)


def boot_in_harness(definition: ImageDefinition, artifacts: Artifacts, folder: Path) -> float:
    """CPU seconds from before the lab is opened until the machine is ready."""
    spec = specify(definition, artifacts, folder)
    run = _Stopped(run_in(folder).folder, "main")
    (folder / "lab").mkdir()
    before_s = _family_s()
    with open_lab(folder / "lab") as lab:
        context = BootContext(lab=lab, run=run, slots=find_store().folder("slots"))
        with boot(spec, artifacts, definition, context=context):
            return float((folder / "cpu").read_text("ascii")) - before_s


def boot_bare(definition: ImageDefinition, artifacts: Artifacts, folder: Path) -> float:
    """CPU seconds of QEMU until the guest prints that it is ready."""
    spec = specify(definition, artifacts, folder)
    return boot_bare_by(spec, artifacts, folder, program.in_use(), after=ready_after(definition)).cpu_s


def ready_after(definition: ImageDefinition) -> tuple[str, ...]:
    """The units after which a bare machine is ready: the targets; where a unit waits for a control plane, these never
    start, so the demanded services."""
    return definition.services if definition.waiting else ("multi-user.target", "graphical.target")


@dataclass(frozen=True, slots=True, kw_only=True)
class BareBoot:
    """Seconds of wall time and of QEMU's CPU time until a bare machine was ready, and its console."""

    took_s: float
    cpu_s: float
    console: bytes


class NotReady(RuntimeError):
    """A bare machine did not become ready; ``console`` is what it printed."""

    def __init__(self, console: bytes) -> None:
        super().__init__(console)
        self.console = console

    def __str__(self) -> str:
        end = b"\n".join(self.console.splitlines()[-8:]).decode("utf-8", "replace")
        return f"the bare machine did not become ready; its console ends:\n{end}"


def boot_bare_by(
    spec: MachineSpec, artifacts: Artifacts, folder: Path, qemu: Qemu, *, after: tuple[str, ...]
) -> BareBoot:
    """Boot a bare machine with ``qemu`` until its units ``after`` are there. `NotReady` if it does not become that."""
    spec, manifest = replace(spec, credentials=_credentials(after)), artifacts.manifest
    arguments = kernel_arguments(manifest.kernel_arguments, manifest.rootfs, BootPath.DIRECT, base_url="")
    direct = command_line.DirectBoot(
        kernel=artifacts.kernel, initrd=artifacts.initrd, rootfs=artifacts.rootfs, arguments=arguments
    )
    sockets = command_line.QemuSockets(netdevs=("user,id=net0",))
    argv = [*command_line.command(spec, qemu=qemu, sockets=sockets, direct=direct), "-serial", "stdio"]
    started_s = time.monotonic()
    with (folder / "bare.log").open("wb") as log:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
    impatience = threading.Timer(_PATIENCE_S, child.kill)
    impatience.start()
    try:
        assert child.stdout is not None
        console = _until_ready(child.stdout)
        cpu_s = _process_s(Path(f"/proc/{child.pid}/stat").read_text("ascii"))
        return BareBoot(took_s=time.monotonic() - started_s, cpu_s=cpu_s, console=console)
    finally:
        impatience.cancel()
        child.kill()
        child.wait()


def _credentials(after: tuple[str, ...]) -> dict[str, str]:
    """The additional unit, which starts behind those in ``after``."""
    return {
        "systemd.extra-unit.bare-ready.service": _UNIT.format(after=" ".join(after)),
        "systemd.unit-dropin.multi-user.target~bare": "[Unit]\nWants=bare-ready.service\n",
    }


def _until_ready(console: IO[bytes]) -> bytes:
    printed = b""
    for line in console:
        printed += line
        if line.startswith(_READY.encode()):
            return printed
    raise NotReady(printed)


def _family_s() -> float:
    """CPU seconds so far of this process and its descendants, including ended ones."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    stats: dict[int, tuple[int, str]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = file.read_text("utf-8", "replace")
        except OSError:  # the process has ended meanwhile
            continue
        stats[int(file.parent.name)] = (int(_fields(text)[1]), text)
    family, found = set[int](), {os.getpid()}
    while found:
        family |= found
        found = {pid for pid, (parent, _) in stats.items() if parent in family} - family
    living = sum(_process_s(stats[pid][1]) for pid in family - {os.getpid()})
    return time.process_time() + ended.ru_utime + ended.ru_stime + living


def _process_s(stat: str) -> float:
    """CPU seconds of a process and of its ended children: utime, stime, cutime and cstime of proc(5)."""
    return sum(map(int, _fields(stat)[11:15])) / _TICKS


def _fields(stat: str) -> list[str]:
    """The fields after the name, which may contain anything; the first is the state."""
    return stat.rpartition(")")[2].split()
