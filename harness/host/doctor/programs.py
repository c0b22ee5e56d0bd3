"""Checks the programs that builds and boots call, by their Debian package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.core import process
from harness.core.errors import BootproofError
from harness.host.doctor.check import INSTALL, WITHOUT_LAB, CheckState, HostCheck, first_line


@dataclass(frozen=True, slots=True)
class _Package:
    """Programs of one Debian package. ``oldest`` is the version in Debian 12: older ones are not tested."""

    name: str
    programs: tuple[str, ...]
    purpose: str
    oldest: str = ""
    version: str = "--version"
    without: CheckState = CheckState.MISSING
    too_old: CheckState = CheckState.LIMITED


_GRUB = "makes the disk of the boot path grub"

_PACKAGES = (
    _Package("qemu-system-x86", ("qemu-system-x86_64",), "boots the images", "7.2", too_old=CheckState.MISSING),
    _Package("qemu-utils", ("qemu-img",), "makes disks"),
    _Package("dnsmasq-base", ("dnsmasq",), "DHCP, TFTP and DNS of a lab", "2.89", without=WITHOUT_LAB),
    _Package("iproute2", ("ip",), "the network of a lab", without=WITHOUT_LAB),
    _Package(
        "nftables", ("nft",), "network faults that lose packets or refuse connections", without=CheckState.LIMITED
    ),
    _Package("util-linux", ("unshare", "setpriv", "setsid"), "namespaces of labs and builds", "2.38"),
    _Package("openssh-client", ("ssh", "ssh-keygen"), "the SSH channel"),
    _Package("e2fsprogs", ("debugfs", "e2fsck"), "reads /data from the raw disk"),
    _Package("fdisk", ("sfdisk",), "finds /data on the raw disk"),
    _Package("grub-common", ("grub-mkimage",), _GRUB, without=CheckState.LIMITED),
    _Package("mtools", ("mformat", "mmd", "mcopy"), f"{_GRUB}, and test guests by UEFI", without=CheckState.LIMITED),
    _Package("swtpm", ("swtpm",), "TPMs of hardware profiles", without=CheckState.LIMITED),
    _Package("parallel", ("parallel",), "runs shards on many hosts", without=CheckState.LIMITED),
    _Package("mmdebstrap", ("mmdebstrap",), "bootstraps images", "1.3"),
    _Package("squashfs-tools", ("mksquashfs",), "packs root file systems", "4.5", version="-version"),
)


def programs() -> Iterator[HostCheck]:
    for package in _PACKAGES:
        yield _check(package)


def _check(package: _Package) -> HostCheck:
    remedy = INSTALL + package.name
    try:
        paths = [process.require(program, package.name) for program in package.programs]
        printed = process.output([paths[0], package.version]) if package.oldest else ""
    except (BootproofError, OSError) as error:
        detail = f"{package.purpose}; {first_line(error)}"
        return HostCheck(name=package.name, state=package.without, detail=detail, remedy=remedy)
    version = re.search(r"\d+(\.\d+)+", printed)
    if package.oldest and not version:
        detail = f"{paths[0]} {package.version} prints no version but {printed[:80]!r}"
        return HostCheck(name=package.name, state=package.without, detail=detail, remedy=remedy)
    if version and _numbers(version[0]) < _numbers(package.oldest):
        detail = f"{paths[0]} is {version[0]}; the oldest tested version is {package.oldest}, of Debian 12"
        return HostCheck(name=package.name, state=package.too_old, detail=detail, remedy=remedy)
    detail = " ".join([package.purpose, *([f"({version[0]})"] if version else [])])
    return HostCheck(name=package.name, state=CheckState.OK, detail=detail)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]
