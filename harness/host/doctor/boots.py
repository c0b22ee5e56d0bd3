"""Checks what boots need besides programs."""

from __future__ import annotations

import grp
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from harness import lab
from harness.core import process
from harness.core.errors import BootproofError
from harness.core.user import user_name
from harness.host import accelerator
from harness.host.doctor.check import SUDO, WITHOUT_LAB, CheckState, HostCheck, first_line, from_packages
from harness.host.doctor.emulators import emulators
from harness.model.artifacts import KERNEL
from harness.model.machine_spec import IPXE_LOADER, Accelerator
from harness.qemu import command_line, grub, program
from harness.store.store import find_store

_ROMS = (Path("/usr/lib/ipxe/qemu"), Path("/usr/share/qemu"))
_TUN = Path("/dev/net/tun")
_SYSCTLS = (  # name, what forbids user namespaces, what allows them; the second is Debian's, the third Ubuntu's
    ("user.max_user_namespaces", "0", "10000"),
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
)
_BY_CORES = "a boot uses as many cores as its machine has; `make bench ROWS=kvm` measures what to expect"
_SLOW = "so machines are emulated, with boots of about a minute"


def for_boots() -> Iterator[HostCheck]:
    has_rom = any((folder / "pxe-virtio.rom").exists() for folder in _ROMS)
    yield from_packages(
        "iPXE ROM",
        [] if has_rom else ["ipxe-qemu"],
        "the boot path ipxe-bios",
        "no boot path ipxe-bios; --boot-path direct works, but does not test booting over the network",
    )
    uefi = {command_line.UEFI_CODE: "ovmf", command_line.UEFI_FACTORY_VARIABLES: "ovmf", IPXE_LOADER: "ipxe"}
    yield from_packages(
        "UEFI",
        dict.fromkeys(package for file, package in uefi.items() if not file.exists()),
        "the boot paths ipxe-uefi, pxe-chain and uefi-http",
        "no boot paths ipxe-uefi, pxe-chain and uefi-http; the others work",
    )
    yield from_packages(
        "GRUB",
        [package for target, package in grub.PACKAGES.items() if not (grub.MODULES / target).is_dir()],
        "the boot path grub, by BIOS and UEFI",
        "no boot path grub; the others work",
    )
    needed = [_tun(), _user_namespaces()]
    yield from needed
    yield _lab(is_explained=any(check.remedy for check in needed))
    artifacts = _newest_artifacts()
    check = _accelerator(artifacts / KERNEL if artifacts else None)
    yield check
    if not check.detail.startswith(f"{Accelerator.KVM}:"):
        yield from emulators(artifacts)


def _tun() -> HostCheck:
    try:
        os.close(os.open(_TUN, os.O_RDWR))
    except PermissionError:
        detail, remedy = f"user {user_name()} cannot open it", f"{SUDO}chmod 0666 {_TUN}"
    except FileNotFoundError:
        node = f"mkdir -p {_TUN.parent} && {SUDO}mknod -m 0666 {_TUN} c 10 200"  # Linux, admin-guide/devices
        is_loaded = Path("/sys/class/misc/tun").exists()
        detail, remedy = "does not exist", f"{SUDO}{node if is_loaded else 'modprobe tun'}"
    except OSError as error:
        detail, remedy = f"cannot be opened: {error.strerror}", f"{SUDO}modprobe tun"
    else:
        return HostCheck(name=str(_TUN), state=CheckState.OK, detail="network cards of a lab")
    if any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")):  # of Docker, of Podman
        detail += "; in a container, start it with --device /dev/net/tun"
    return HostCheck(name=str(_TUN), state=WITHOUT_LAB, detail=f"{detail}; no lab without it", remedy=remedy)


def _user_namespaces() -> HostCheck:
    try:
        process.output(["unshare", "--user", "--map-root-user", "--net", "true"])
    except BootproofError as error:
        wrong = settings_against_namespaces(Path("/proc/sys"))
        remedy = f"{SUDO}sysctl -w {' '.join(wrong)}" if wrong else ""
        hint = "" if wrong else "; in a container, start it with --privileged"
        need = "no lab without them" if os.geteuid() else "a lab is less isolated from this host without them"
        output = (error.tail if isinstance(error, process.CommandFailed) else str(error)).partition("\n")[0]
        detail = f"{need}: {output}{hint}"
        return HostCheck(name="user namespaces", state=WITHOUT_LAB, detail=detail, remedy=remedy)
    return HostCheck(name="user namespaces", state=CheckState.OK, detail="isolate a lab, without root")


def settings_against_namespaces(folder: Path) -> list[str]:
    """The settings in ``folder``, which is /proc/sys, that forbid user namespaces to users, with the values that allow
    them: ``kernel.apparmor_restrict_unprivileged_userns=0``."""
    files = {name: folder.joinpath(*name.split(".")) for name, _, _ in _SYSCTLS}
    seen = {name: file.read_text("ascii").strip() for name, file in files.items() if file.exists()}
    return [f"{name}={right}" for name, bad, right in _SYSCTLS if seen.get(name) == bad]


def _lab(*, is_explained: bool) -> HostCheck:
    """``is_explained`` if something that it needs already says how to fix it."""
    error = lab.why_no_lab()
    if error is None:
        return HostCheck(name="lab", state=CheckState.OK, detail="a virtual network with DHCP and HTTP opens")
    first = (error.problem or str(error)).partition("\n")[0]
    detail = f"{first}; the user network takes its place, on which each machine is alone: no router, DNS, DHCP faults"
    remedy = "" if is_explained or not error.remedy else SUDO + error.remedy.removeprefix("sudo ")
    return HostCheck(name="lab", state=WITHOUT_LAB, detail=detail, remedy=remedy)


def _accelerator(kernel: Path | None) -> HostCheck:
    """KVM, if ``kernel`` is known to run under it. Without KVM everything works, but takes longer."""
    device = accelerator.DEVICE
    if not device.exists():
        module = _kvm_module()
        detail = f"no {device}, {_SLOW}" + ("" if module else "; the processor or its hypervisor does not support KVM")
        remedy = f"{SUDO}modprobe {module}" if module else ""
        return HostCheck(name="accelerator", state=CheckState.LIMITED, detail=detail, remedy=remedy)
    if not os.access(device, os.R_OK | os.W_OK):
        detail = f"user {user_name()} cannot open {device}, {_SLOW}"
        return HostCheck(name="accelerator", state=CheckState.LIMITED, detail=detail, remedy=_open_kvm(device))
    if not kernel:
        detail = f"{device} exists; the first kernel that is built shows whether it works"
        return HostCheck(name="accelerator", state=CheckState.OK, detail=detail)
    try:
        qemu = program.named() or program.of_path()
        choice = accelerator.choose("auto", kernel, find_store().root / "accelerators", qemu=qemu)
    except (BootproofError, OSError) as error:
        return HostCheck(name="accelerator", state=CheckState.LIMITED, detail=f"not tried: {first_line(error)}")
    if choice.accelerator is Accelerator.KVM:
        return HostCheck(name="accelerator", state=CheckState.OK, detail=f"kvm: {choice.reason}; {_BY_CORES}")
    detail = f"{choice.reason.partition(': after')[0]}, {_SLOW}"
    return HostCheck(name="accelerator", state=CheckState.LIMITED, detail=detail)


def _newest_artifacts() -> Path | None:
    """The folder of the artifacts that were built last; None if there are none, or no store."""
    with suppress(BootproofError, OSError):
        kernels = (find_store().root / "artifacts").glob("*/vmlinuz")
        return max((path.parent for path in kernels), key=lambda folder: folder.stat().st_mtime, default=None)
    return None


def _kvm_module() -> str:
    words = Path("/proc/cpuinfo").read_text("utf-8", "replace").split()
    return "kvm_intel" if "vmx" in words else "kvm_amd" if "svm" in words else ""


def _open_kvm(device: Path) -> str:
    with suppress(KeyError, OSError):
        if grp.getgrgid(device.stat().st_gid).gr_name == "kvm":
            return f"{SUDO}usermod -aG kvm {user_name()}  # then log in again"
    return f"{SUDO}chmod 0666 {device}"
