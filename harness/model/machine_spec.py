"""Machine specs: machines on paper, as frozen values. Nothing here opens, starts or waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from harness.core.errors import SpecError
from harness.model.device_kinds import MOST_NICS as MOST_NICS
from harness.model.device_kinds import DiskBus as DiskBus
from harness.model.device_kinds import DiskRole as DiskRole
from harness.model.device_kinds import Firmware as Firmware
from harness.model.device_kinds import NicModel as NicModel


class BootPath(StrEnum):
    """How a machine boots.

    ``direct``: QEMU loads the kernel. ``ipxe-*``: iPXE in the network card's ROM. ``pxe-chain``, ``uefi-http``: the
    firmware's own PXE or HTTP boot fetches iPXE. ``grub``: from a local disk. ``kexec``: a running system starts the
    next kernel.
    """

    DIRECT = "direct"
    IPXE_BIOS = "ipxe-bios"
    IPXE_UEFI = "ipxe-uefi"
    PXE_CHAIN = "pxe-chain"
    UEFI_HTTP = "uefi-http"
    GRUB = "grub"
    KEXEC = "kexec"

    @property
    def firmware(self) -> Firmware | None:
        """The firmware that it needs; None if it works with either."""
        if self in (BootPath.IPXE_UEFI, BootPath.UEFI_HTTP):
            return Firmware.UEFI
        return Firmware.BIOS if self is BootPath.IPXE_BIOS else None

    def is_uefi(self, firmware: Firmware | None = None) -> bool:
        """Whether a board boots by it with UEFI; ``firmware`` is the board's, None for one that has both."""
        default = Firmware.UEFI if self is BootPath.PXE_CHAIN else Firmware.BIOS
        return (firmware or self.firmware or default) is Firmware.UEFI

    @property
    def chains(self) -> bool:
        """Whether the firmware fetches iPXE over the network."""
        return self in (BootPath.PXE_CHAIN, BootPath.UEFI_HTTP)

    @property
    def is_netboot(self) -> bool:
        """Whether kernel and initrd are fetched over the network before Linux runs."""
        return self not in (BootPath.DIRECT, BootPath.GRUB, BootPath.KEXEC)


IPXE_LOADER, IPXE_BIOS_LOADER = Path("/usr/lib/ipxe/ipxe.efi"), Path("/usr/lib/ipxe/undionly.kpxe")
"""From Debian's package ipxe: what firmware without iPXE fetches."""


def default_boot_path(paths: Sequence[BootPath]) -> BootPath:
    """The one of ``paths`` to use where one is enough: ``ipxe-bios`` if it is among them, else the first."""
    return BootPath.IPXE_BIOS if BootPath.IPXE_BIOS in paths else paths[0]


class Accelerator(StrEnum):
    KVM = "kvm"
    TCG = "tcg"


class Network(StrEnum):
    """A machine's network: a lab of its own, or QEMU's user network."""

    LAB = "lab"
    USER = "user"


class BreakPoint(StrEnum):
    """Where a machine waits for a person at its console.

    Before its first instruction, in iPXE's shell (``exit`` continues the boot), or at GRUB's command line.
    """

    FIRMWARE = "firmware"
    IPXE = "ipxe"
    GRUB = "grub"


class DiskFormat(StrEnum):
    RAW = "raw"
    QCOW2 = "qcow2"


SECTOR_BYTES = (512, 4096)


class DiskFault(StrEnum):
    """What can be wrong with the persistent disk when a machine is switched on."""

    ABSENT = "absent"
    LATE = "late"
    TWIN = "twin"
    FOREIGN = "foreign"
    FOREIGN_FIRST = "foreign-first"
    NVME = "nvme"
    FULL = "full"
    NO_INODES = "no-inodes"
    READ_ONLY = "read-only"
    WRITE_ERRORS = "write-errors"
    WRITE_ERRORS_BEYOND = "write-errors-beyond"
    SLOW_READS = "slow-reads"
    BAD_SUPERBLOCK = "bad-superblock"
    BAD_JOURNAL = "bad-journal"
    LONG_CHECK = "long-check"
    BIG_SECTORS = "4k-sectors"
    HUGE = "2-tib"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpec:
    """A disk of a machine: ``/dev/sda`` is the first on SCSI, ``/dev/nvme0n1`` the first NVMe.

    All writes of all boots are recorded in the log ``writes``, which must exist. The disk appears ``late_s`` seconds
    after power-on. ``reads_per_s`` limits its speed (0: no limit). Writes at or beyond byte ``fails_writes_from`` end
    with EIO. An image that is blank or missing is made ``size_gib`` large (0: as large as it is).
    """

    path: Path
    serial: str
    bus: DiskBus = DiskBus.SCSI
    format: DiskFormat = DiskFormat.RAW
    read_only: bool = False
    sector_bytes: int = 512
    late_s: float = 0.0
    reads_per_s: int = 0
    fails_writes_from: int | None = None
    writes: Path | None = None
    role: DiskRole = DiskRole.DATA
    size_gib: int = 0

    def __post_init__(self) -> None:
        if self.sector_bytes not in SECTOR_BYTES:
            raise SpecError(f"disk {self.serial}: sectors of {self.sector_bytes} bytes; disks have 512 or 4096")
        if self.bus is DiskBus.SATA and self.sector_bytes != 512:
            raise SpecError(f"disk {self.serial}: sata has sectors of 512 bytes (QEMU's ide-hd takes no others)")
        if self.bus is not DiskBus.SCSI and self.late_s:
            raise SpecError(f"disk {self.serial}: only a disk on scsi can be plugged in late, not one on {self.bus}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NicSpec:
    """A network card of a machine; ``has_dhcp`` if a DHCP server answers on its network."""

    model: NicModel = NicModel.VIRTIO
    has_dhcp: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """One machine on paper.

    ``number`` is its number in the lab (0 to 63), which decides its MACs and address; they are the same in every lab.
    One of its ``nics`` gets the address. ``firmware`` is by default what the boot path needs, else UEFI for
    ``pxe-chain`` and BIOS for others. ``clock`` is the time of the board's clock when it is first switched on (ISO
    8601, UTC; empty: now). ``hardware`` names the hardware profile, if any. ``credentials`` are systemd credentials by
    name, passed in SMBIOS type 11 (systemd.system-credentials(7)).
    """

    name: str
    number: int = 0
    uuid: UUID
    boot_path: BootPath
    accelerator: Accelerator = Accelerator.TCG
    cpus: int = 2
    memory_mib: int = 2048
    disks: tuple[DiskSpec, ...] = ()
    nics: tuple[NicSpec, ...] = (NicSpec(),)
    firmware: Firmware | None = None
    clock: str = ""
    has_watchdog: bool = False
    has_tpm: bool = False
    hardware: str = ""
    credentials: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.number < 64:
            raise SpecError(f"{self.name}: number {self.number} is not valid: 0 to 63")
        serials = [disk.serial for disk in self.disks]
        if len(set(serials)) != len(serials):
            raise SpecError(f"{self.name}: each disk needs its own serial, got {serials}")
        if len(self.nics) > MOST_NICS:
            raise SpecError(f"{self.name}: {len(self.nics)} network cards; at most {MOST_NICS}")
        if sum(nic.has_dhcp for nic in self.nics) > 1:
            raise SpecError(f"{self.name}: several network cards have DHCP; exactly one can")
        if self.firmware and self.boot_path.firmware not in (None, self.firmware):
            raise SpecError(f"{self.name}: boot path {self.boot_path} needs {self.boot_path.firmware} firmware")
        for bus, count in Counter(disk.bus for disk in self.disks).items():
            if count > bus.places:
                raise SpecError(f"{self.name}: {count} disks on {bus}; at most {bus.places}")
        self._check_boot_card()

    def _check_boot_card(self) -> None:
        """Whether the firmware can boot from the network card that has DHCP."""
        if not self.boot_path.is_netboot or self.dhcp_nic is None:
            return
        model = self.nics[self.dhcp_nic].model
        if self.boot_path.chains and model is not NicModel.VIRTIO:
            raise SpecError(f"{self.name}: boot path {self.boot_path}: OVMF has drivers for virtio only, not {model}")
        if model is NicModel.IGB:
            raise SpecError(f"{self.name}: boot path {self.boot_path}: iPXE has no ROM for igb; use direct")

    @property
    def is_emulated(self) -> bool:
        return self.accelerator is Accelerator.TCG

    @property
    def data(self) -> DiskSpec:
        """The first disk for /data; the machine must have one."""
        return next(disk for disk in self.disks if disk.role is DiskRole.DATA)

    @property
    def unfreezable(self) -> str:
        """Why such a machine cannot be frozen; empty if it can."""
        if any(disk.bus is DiskBus.NVME for disk in self.disks):
            return "it has an NVMe disk, whose state QEMU cannot write"
        return "it has a TPM, whose state is in another process" if self.has_tpm else ""

    @property
    def is_uefi(self) -> bool:
        return self.boot_path.is_uefi(self.firmware)

    @property
    def has_plain_rom(self) -> bool:
        """Whether its BIOS boots by a network card's plain PXE ROM, which fetches iPXE by TFTP first."""
        return self.boot_path is BootPath.PXE_CHAIN and not self.is_uefi

    @property
    def loader(self) -> Path | None:
        """The iPXE that its firmware fetches; None if it fetches none."""
        if not self.boot_path.chains:
            return None
        return IPXE_LOADER if self.is_uefi else IPXE_BIOS_LOADER

    @property
    def dhcp_nic(self) -> int | None:
        """The index of the network card with DHCP; None if there is none."""
        return next((place for place, nic in enumerate(self.nics) if nic.has_dhcp), None)

    @property
    def mac(self) -> str:
        """The MAC of the network card that has the address, or of the first without DHCP."""
        return mac_of(self.number, self.dhcp_nic or 0)

    @property
    def address(self) -> str:
        return address_of(self.number)


GATEWAY = "10.77.0.1"
"""The lab's own address, of its DHCP, TFTP, DNS and HTTP servers."""
PREFIX_LENGTH = 24
BOOT_LABEL = "bootproof-boot"
"""Label of the file system that GRUB boots from. The persistent disk may have another one labelled BOOT."""
BOOT_URL = f"http://{GATEWAY}/boot.ipxe"
"""The script that DHCP gives to iPXE."""

CONTROLLER, CONTROLLER_NUMBER = "controller", 63
"""The name of the machine that is a control plane, in every lab, and its number: the last one."""


def mac_of(number: int, nic: int = 0) -> str:
    """The MAC of network card ``nic`` of machine ``number``; 52:54:00 is QEMU's prefix."""
    return f"52:54:00:77:{nic:02x}:{number:02x}"


def address_of(number: int) -> str:
    return f"10.77.0.{10 + number}"


_PLACES = {
    name: number
    for number in range(64)
    for name in (address_of(number), *(mac_of(number, nic) for nic in range(MOST_NICS)))
}


def place_of(client: str) -> int | None:
    """The number of the machine with the MAC or address ``client``; None if there is none."""
    return _PLACES.get(client)


def nic_of(mac: str) -> int:
    """The index of the network card with that MAC; 0 if it is not of the lab."""
    return int(mac.split(":")[4], 16) if mac in _PLACES else 0
