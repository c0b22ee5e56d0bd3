"""Hardware profiles, read from ``fixtures/hardware/NAME.toml`` or from any file.

schema = 2                       # the format's number; without, it is 1, which has no [seen] devices
description = "…"                # one line
firmware = "uefi"                # or "bios"
cpus = 8
memory_mib = 4096
clock = "2011-03-01T12:00:00"    # of the board's clock when it is first switched on, UTC
watchdog = true                  # an i6300esb
tpm = true                       # a TPM 2.0, whose state stays with the machine

[[disk]]                         # in this order
bus = "nvme"                     # scsi, sata, megasas, nvme, virtio
size_gib = 8
sector_bytes = 512               # or 4096
role = "data"                    # exactly one, for /data; "foreign" has an ext4 of another system; "blank"

[[nic]]                          # in this order
model = "virtio"                 # virtio, e1000e, vmxnet3, igb
dhcp = true                      # exactly one

[seen]                           # what else `bootproof hardware` found: not applied, but read by `bootproof fits`

Every key but the description may be missing; the image definition's value is used then.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from harness.core.config_file import ConfigTable, read_table
from harness.core.errors import SpecError, UsageError
from harness.core.serialization import NewerFormat
from harness.model.device_kinds import PROFILE_SCHEMA
from harness.model.machine_spec import (
    MOST_NICS,
    SECTOR_BYTES,
    BootPath,
    DiskBus,
    DiskRole,
    DiskSpec,
    Firmware,
    MachineSpec,
    NicModel,
    NicSpec,
)

FOLDER = Path(__file__).parents[1] / "fixtures" / "hardware"

MOST_CPUS, MOST_MEMORY_MIB, MOST_DISK_GIB = 8, 4096, 2048
"""The limits of a machine; a larger profile is reduced to them. Emulated CPUs share one of the host's, machines are
admitted by memory, and 2 TiB is the largest disk that images are tested with."""

_CLOCK = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """One disk of a profile."""

    bus: DiskBus = DiskBus.SCSI
    size_gib: int = 8
    sector_bytes: int = 512
    role: DiskRole = DiskRole.DATA


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareProfile:
    """A machine's hardware; values that are None or empty are the image definition's.

    ``name`` is the name or file as given by the user.
    """

    name: str
    description: str
    firmware: Firmware | None = None
    cpus: int | None = None
    memory_mib: int | None = None
    clock: str = ""
    has_watchdog: bool = False
    has_tpm: bool = False
    disks: tuple[Disk, ...] = ()
    nics: tuple[NicSpec, ...] = ()


def apply(profile: HardwareProfile | None, spec: MachineSpec) -> MachineSpec:
    """``spec`` on that hardware; raises `SpecError` if its boot path does not work there.

    The images of the profile's other disks are beside that of the disk for /data, and are still to be made.
    `MOST_CPUS`, `MOST_MEMORY_MIB` and `MOST_DISK_GIB` are the limits.
    """
    if profile is None:
        return spec
    return replace(
        spec,
        hardware=profile.name,
        firmware=profile.firmware or spec.firmware,
        cpus=min(profile.cpus or spec.cpus, MOST_CPUS),
        memory_mib=min(profile.memory_mib or spec.memory_mib, MOST_MEMORY_MIB),
        clock=profile.clock or spec.clock,
        has_watchdog=profile.has_watchdog or spec.has_watchdog,
        has_tpm=profile.has_tpm or spec.has_tpm,
        disks=_disks(profile, spec.disks) if profile.disks else spec.disks,
        nics=profile.nics or spec.nics,
    )


def _disks(profile: HardwareProfile, given: tuple[DiskSpec, ...]) -> tuple[DiskSpec, ...]:
    """The profile's disks in its order, with those ``given`` in the place of the disk for /data."""
    folder = given[0].path.parent if given else Path()
    disks: list[DiskSpec] = []
    for number, disk in enumerate(profile.disks):
        size_gib = min(disk.size_gib, MOST_DISK_GIB)
        if disk.role is DiskRole.DATA:
            disks += [_on(disk, one, size_gib) for one in given]
            continue
        name = f"{given[0].path.stem if given else 'disk'}-{disk.role}{number}"
        path, serial = folder / f"{name}.raw", f"{disk.role.upper()}-{number}"
        disks.append(
            DiskSpec(path=path, serial=serial, bus=disk.bus, sector_bytes=disk.sector_bytes, role=disk.role,
                     size_gib=size_gib)
        )  # fmt: skip
    return tuple(disks)


def _on(disk: Disk, given: DiskSpec, size_gib: int) -> DiskSpec:
    """``given`` on the profile's bus, unless a test has given it a bus, sectors or delay of its own."""
    is_planted = given.bus is not DiskBus.SCSI or given.sector_bytes != 512 or given.late_s
    return given if is_planted else replace(given, bus=disk.bus, sector_bytes=disk.sector_bytes, size_gib=size_gib)


def problem(profile: HardwareProfile, path: BootPath) -> str:
    """Why such a machine cannot boot on that boot path, in a sentence; empty if it can."""
    try:
        _example(profile, path)
    except SpecError as error:
        return str(error)
    return ""


def unfreezable(profile: HardwareProfile) -> str:
    """Why such machines cannot be cloned; empty if they can."""
    return _example(profile, BootPath.DIRECT).unfreezable


def _example(profile: HardwareProfile, path: BootPath) -> MachineSpec:
    disk = DiskSpec(path=Path("data"), serial="DATA")
    return apply(profile, MachineSpec(name=profile.name, uuid=UUID(int=0), boot_path=path, disks=(disk,)))


def fitting(profile: HardwareProfile | None, paths: Sequence[BootPath]) -> tuple[BootPath, ...]:
    """Those of ``paths`` on which such a machine can boot."""
    return tuple(path for path in paths if not (profile and problem(profile, path)))


def path_for(profile: HardwareProfile, default: BootPath) -> BootPath:
    """The boot path for such a machine where the test does not depend on it."""
    return fitting(profile, (default, BootPath.IPXE_UEFI, BootPath.IPXE_BIOS, BootPath.DIRECT))[0]


def names() -> tuple[str, ...]:
    """The included profiles."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.toml")))


def find_profile(name: str, folder: Path | None = None) -> HardwareProfile:
    """The profile of that name, or in the file ``name``, relative to ``folder``.

    `UsageError` lists the known names, or the most similar one.
    """
    if name in names():
        return read_profile(FOLDER / f"{name}.toml", name)
    if name.endswith(".toml"):
        return read_profile((folder or Path()) / name, name)
    near = difflib.get_close_matches(name, names(), 1)
    known = f"known: {', '.join(names())}, or a file *.toml"
    raise UsageError(f"no hardware {name!r}", remedy=f"{f'did you mean {near[0]}? ' if near else ''}{known}")


def read_profile(file: Path, name: str) -> HardwareProfile:
    """The profile in ``file``; `DefinitionError` names the file, the key and a valid value."""
    top, example = read_table(file), "2011-03-01T12:00:00"
    check_schema(top.take("schema", int, str(PROFILE_SCHEMA), 1), str(file))
    profile = HardwareProfile(
        name=name,
        description=top.take("description", str, '"two SATA disks"'),
        firmware=Firmware(top.one_of("firmware", list(Firmware), "a firmware")) if "firmware" in top.content else None,
        cpus=top.take("cpus", int, "2", 0) or None,
        memory_mib=top.take("memory_mib", int, "2048", 0) or None,
        clock=top.matching("clock", _CLOCK, example, f'UTC, for example "{example}"', ""),
        has_watchdog=top.take("watchdog", bool, "true", False),
        has_tpm=top.take("tpm", bool, "true", False),
        disks=tuple(map(_disk, top.tables("disk"))),
        nics=tuple(map(_nic, top.tables("nic"))),
    )
    top.take("seen", dict, "…, a table", {})
    top.finish()
    _check(top, profile)
    return profile


def check_schema(number: int, file: str) -> None:
    """Raise `NewerFormat` if ``file`` is a profile in a format that this Bootproof does not read."""
    if number > PROFILE_SCHEMA:
        raise NewerFormat("a hardware profile", number, PROFILE_SCHEMA, file)


def _check(top: ConfigTable, profile: HardwareProfile) -> None:
    """Raise `DefinitionError` for contradictions that no boot path can have."""
    data = sum(disk.role is DiskRole.DATA for disk in profile.disks)
    if profile.disks and data != 1:
        raise top.error("disk", f"{data} disks are for /data", 'exactly one has role = "data", the others "blank"')
    if len(profile.nics) > MOST_NICS:
        raise top.error("nic", f"{len(profile.nics)} network cards", f"at most {MOST_NICS}")
    if profile.nics and sum(nic.has_dhcp for nic in profile.nics) != 1:
        raise top.error("nic", "not exactly one has dhcp = true", "a machine has one address")
    if reason := problem(profile, BootPath.DIRECT):
        raise top.error("disk", reason.removeprefix(f"{profile.name}: "), "another bus, or other sectors")


def _disk(table: ConfigTable) -> Disk:
    disk = Disk(
        bus=DiskBus(table.one_of("bus", list(DiskBus), "a disk's controller", DiskBus.SCSI)),
        size_gib=table.take("size_gib", int, "8", 8),
        sector_bytes=table.take("sector_bytes", int, "512", 512),
        role=DiskRole(table.one_of("role", list(DiskRole), "a disk's role", DiskRole.DATA)),
    )
    table.finish()
    if disk.sector_bytes not in SECTOR_BYTES:
        raise table.error("sector_bytes", f"{disk.sector_bytes} is not valid", "512 or 4096")
    if disk.bus is DiskBus.SATA and disk.sector_bytes != 512:
        raise table.error("sector_bytes", "4096 on sata, which QEMU does not support", "scsi, megasas, nvme or virtio")
    return disk


def _nic(table: ConfigTable) -> NicSpec:
    model = NicModel(table.one_of("model", list(NicModel), "a network card", NicModel.VIRTIO))
    nic = NicSpec(model=model, has_dhcp=table.take("dhcp", bool, "true", False))
    table.finish()
    return nic
