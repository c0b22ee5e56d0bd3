"""The guests that tests put on a hypervisor: a row for each kind of board and for each way to be left."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import StrEnum
from uuid import uuid4

from harness.guests.domains import IMAGES, Bridge, DiskBus, Domain, NicModel
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
class _Row:
    name: str
    machine_type: str
    disk_bus: DiskBus
    nic_model: NicModel
    activity: Activity
    autostarts: bool = False
    is_on_bridge: bool = False
    has_pool: bool = False


_ROWS = (
    _Row(
        name="q35-virtio-autostart", machine_type="q35", disk_bus="virtio", nic_model="virtio",
        activity=Activity.RUNNING, autostarts=True, has_pool=True,
    ),
    _Row(
        name="pc-ide-e1000", machine_type="pc", disk_bus="ide", nic_model="e1000", activity=Activity.RUNNING,
        is_on_bridge=True,
    ),
    _Row(
        name="q35-sata-e1000e-paused", machine_type="q35", disk_bus="sata", nic_model="e1000e",
        activity=Activity.PAUSED, is_on_bridge=True,
    ),
    _Row(
        name="pc-virtio-saved", machine_type="pc", disk_bus="virtio", nic_model="virtio", activity=Activity.SAVED,
    ),
    _Row(
        name="q35-scsi-off", machine_type="q35", disk_bus="scsi", nic_model="rtl8139", activity=Activity.OFF,
        is_on_bridge=True,
    ),
)  # fmt: skip


def sample_guests(ground: Ground) -> tuple[SampleGuest, ...]:
    """All of them, with UUIDs and nonces of their own."""
    return tuple(_guest(row, number, ground.bridge) for number, row in enumerate(_ROWS, start=11))


def _guest(row: _Row, number: int, bridge: str | Bridge) -> SampleGuest:
    mac = f"52:54:00:67:75:{number:02x}"
    domain = Domain(
        name=row.name,
        uuid=uuid4(),
        mac=mac,
        disk=f"{IMAGES}/{row.name}.qcow2",
        network=bridge if row.is_on_bridge else NETWORK,
        pool=POOL if row.has_pool else "",
        machine_type=row.machine_type,
        disk_bus=row.disk_bus,
        nic_model=row.nic_model,
        autostarts=row.autostarts,
    )
    tiny = TinyGuest(nonce=f"{row.name[:14]}-{secrets.token_hex(4)}", addresses={mac: f"{SUBNET}.{number}"})
    return SampleGuest(domain=domain, tiny=tiny, activity=row.activity)
