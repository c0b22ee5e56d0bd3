"""The guests that tests put on a hypervisor: a row for each kind of board and for each way to be left."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import NAMESPACE_DNS, uuid5

from harness.guests.domains import IMAGES, Bridge, DiskBus, Domain, Firmware, NicModel
from harness.guests.ground import BRIDGE, NETWORK, POOL, SUBNET, Ground
from harness.guests.tiny_guest import TinyGuest


class Activity(StrEnum):
    """How its operator leaves a guest before the host goes down."""

    RUNNING = "running"
    PAUSED = "paused"
    SAVED = "saved"  # by virsh managedsave
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleGuest:
    """A guest on a host, and how it is left; ``address`` is its own in the network of `SUBNET`."""

    domain: Domain
    tiny: TinyGuest
    activity: Activity

    @property
    def name(self) -> str:
        return self.domain.name

    @property
    def bridge(self) -> str:
        """The bridge that its card must be on."""
        return BRIDGE

    @property
    def address(self) -> str:
        return self.tiny.addresses[self.domain.mac]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A guest in the list: its board, how it is left, and what else it has. Without ``is_on_bridge``, its card is in
    the libvirt network; with ``has_pool``, its disk is a volume of the pool."""

    name: str
    machine_type: str = "q35"
    disk_bus: DiskBus = "virtio"
    nic_model: NicModel = "virtio"
    firmware: Firmware = "bios"
    has_tpm: bool = False
    memory_mib: int = 16
    activity: Activity = Activity.RUNNING
    autostarts: bool = False
    is_on_bridge: bool = False
    has_pool: bool = False


ROWS = (
    Row(name="q35-virtio-autostart", autostarts=True, has_pool=True),
    Row(name="pc-ide-e1000", machine_type="pc", disk_bus="ide", nic_model="e1000", is_on_bridge=True),
    Row(name="q35-sata-paused", disk_bus="sata", nic_model="e1000e", activity=Activity.PAUSED, is_on_bridge=True),
    Row(name="pc-virtio-saved", machine_type="pc", activity=Activity.SAVED),
    Row(name="q35-scsi-off", disk_bus="scsi", nic_model="rtl8139", activity=Activity.OFF, is_on_bridge=True),
)
FIRMWARE_ROWS = (
    Row(name="q35-uefi", firmware="efi", nic_model="e1000e", memory_mib=128, is_on_bridge=True),
    Row(name="q35-tpm", has_tpm=True),
)
"""Those of which the host keeps more than a disk. On an emulated host, UEFI firmware needs as long as a host's boot."""
AUTOSTARTED = (
    Row(name="q35-virtio-network", autostarts=True, has_pool=True),
    Row(name="pc-ide-bridge", machine_type="pc", disk_bus="ide", nic_model="e1000", autostarts=True, is_on_bridge=True),
)
"""Those that start by themselves, and need all that a host gives to guests: a bridge, a network, a pool."""


def new_seed() -> str:
    return secrets.token_hex(4)


def sample_guests(ground: Ground, seed: str, rows: Sequence[Row] = ROWS) -> tuple[SampleGuest, ...]:
    """The guests of ``rows``. ``seed`` makes their UUIDs and nonces: the same ones for the same seed."""
    return tuple(_guest(row, number, ground.bridge, seed) for number, row in enumerate(rows, start=11))


def _guest(row: Row, number: int, bridge: str | Bridge, seed: str) -> SampleGuest:
    mac = f"52:54:00:67:75:{number:02x}"
    domain = Domain(
        name=row.name,
        uuid=uuid5(NAMESPACE_DNS, f"{row.name}.{seed}"),
        mac=mac,
        disk=f"{IMAGES}/{row.name}.qcow2",
        network=bridge if row.is_on_bridge else NETWORK,
        pool=POOL if row.has_pool else "",
        machine_type=row.machine_type,
        disk_bus=row.disk_bus,
        nic_model=row.nic_model,
        firmware=row.firmware,
        has_tpm=row.has_tpm,
        memory_mib=row.memory_mib,
        autostarts=row.autostarts,
    )
    tiny = TinyGuest(nonce=f"{number}-{seed}", addresses={mac: f"{SUBNET}.{number}"})
    return SampleGuest(domain=domain, tiny=tiny, activity=row.activity)
