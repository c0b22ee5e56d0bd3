"""What this host can do, what is missing, and the exact line that mends it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import process
from harness.deadline import usable_cores
from harness.errors import BootproofError
from harness.store import find_store

_PROGRAMS = (
    # program, Debian package, what for
    ("qemu-system-x86_64", "qemu-system-x86", "boots the images"),
    ("qemu-img", "qemu-utils", "makes disks"),
    ("mmdebstrap", "mmdebstrap", "bootstraps images"),
    ("mksquashfs", "squashfs-tools", "packs root file systems"),
    ("dnsmasq", "dnsmasq-base", "DHCP, TFTP and DNS of a lab"),
    ("ip", "iproute2", "the network of a lab"),
    ("unshare", "util-linux", "namespaces of labs and builds"),
    ("debugfs", "e2fsprogs", "reads /data from the raw disk"),
    ("ssh", "openssh-client", "the SSH channel"),
)
_ROMS = (Path("/usr/lib/ipxe/qemu"), Path("/usr/share/qemu"))
_NEEDED_GIB = 15
_MIB_PER_BOOT = 2600


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCheck:
    """One thing about this host; ``remedy`` is a line to paste, empty when all is fine."""

    name: str
    is_fine: bool
    detail: str
    remedy: str = ""


def examine() -> list[HostCheck]:
    """Every check, tried and not assumed; the lab is really opened."""
    checks = [_program(*row) for row in _PROGRAMS]
    checks += [_rom(), _lab(), _attempt("namespaces for builds", _build_namespace)]
    return [*checks, _accelerator(), _store(), _memory()]


def table(checks: list[HostCheck]) -> str:
    """The checks as lines for a person, and what to do at the end."""
    width = max(len(check.name) for check in checks)
    lines = [f"{'ok     ' if check.is_fine else 'MISSING'} {check.name:{width}}  {check.detail}" for check in checks]
    remedies = list(dict.fromkeys(check.remedy for check in checks if check.remedy))
    if remedies:
        lines += ["", "to mend it:", *(f"    {remedy}" for remedy in remedies)]
    return "\n".join(lines)


def _program(program: str, package: str, purpose: str) -> HostCheck:
    try:
        path = process.require(program, package)
    except BootproofError:
        return HostCheck(name=program, is_fine=False, detail=purpose, remedy=f"sudo apt-get install {package}")
    return HostCheck(name=program, is_fine=True, detail=f"{purpose} ({path})")


def _rom() -> HostCheck:
    found = next((folder for folder in _ROMS if (folder / "pxe-virtio.rom").exists()), None)
    detail = "iPXE in the network card: the boot path ipxe-bios"
    remedy = "" if found else "sudo apt-get install ipxe-qemu"
    return HostCheck(name="iPXE ROM", is_fine=found is not None, detail=detail, remedy=remedy)


def _attempt(name: str, try_it: Callable[[], str]) -> HostCheck:
    try:
        return HostCheck(name=name, is_fine=True, detail=try_it())
    except BootproofError as error:
        first, _, rest = str(error).partition("\n")
        remedy = rest.splitlines()[-1].strip() if rest else ""
        return HostCheck(name=name, is_fine=False, detail=first, remedy=remedy)


def _lab() -> HostCheck:
    from harness import lab

    problem = lab.unavailable()
    if problem is None:
        return HostCheck(name="lab", is_fine=True, detail="a virtual network with DHCP and HTTP opens")
    lines = problem.splitlines()
    return HostCheck(
        name="lab", is_fine=False, detail=f"{lines[0]}; the user network takes its place", remedy=lines[-1]
    )


def _build_namespace() -> str:
    from harness.build import namespace

    process.output([*namespace.prefix(), "true"])
    return "builds run in namespaces of their own" + ("" if os.geteuid() == 0 else ", without root")


def _accelerator() -> HostCheck:
    from harness import accelerator
    from harness.artifacts import load_artifacts

    store = find_store()
    kernels = sorted((store.root / "artifacts").glob("*/vmlinuz"))
    if not kernels:
        detail = "KVM is tried with the first image's kernel; until then TCG is assumed"
        return HostCheck(name="accelerator", is_fine=True, detail=detail)
    kernel = load_artifacts(kernels[0].parent).kernel
    choice = accelerator.choose("auto", kernel, store.folder("accelerators"))
    return HostCheck(name="accelerator", is_fine=True, detail=f"{choice.accelerator}: {choice.reason}")


def _store() -> HostCheck:
    root = find_store().root
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    free_gib = shutil.disk_usage(existing).free / (1 << 30)
    is_fine = free_gib >= _NEEDED_GIB and os.access(existing, os.W_OK)
    remedy = "" if is_fine else "export BOOTPROOF_STORE=/a/folder/with/room"
    return HostCheck(name="store", is_fine=is_fine, detail=f"{root}, {free_gib:.0f} GiB free", remedy=remedy)


def _memory() -> HostCheck:
    rows = (line.split() for line in Path("/proc/meminfo").read_text("ascii").splitlines())
    free_mib = next(int(row[1]) for row in rows if row[0] == "MemAvailable:") >> 10  # proc(5): in KiB
    cores = usable_cores()
    detail = f"{cores} cores, {free_mib} MiB free: {max(1, free_mib // _MIB_PER_BOOT)} machines of 2 GiB at once"
    return HostCheck(name="memory", is_fine=free_mib >= _MIB_PER_BOOT, detail=detail)
