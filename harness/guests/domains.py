"""What libvirt is told about a tiny guest, its network and the pool of its disk: XML, pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from uuid import UUID
from xml.sax.saxutils import quoteattr

from harness.core.errors import SpecError

DiskBus = Literal["virtio", "scsi", "sata", "ide"]
NicModel = Literal["virtio", "e1000", "e1000e", "rtl8139"]
Firmware = Literal["bios", "efi"]
Kind = Literal["kvm", "qemu"]
"""Whether the host's KVM runs the guest, or QEMU emulates it."""

IMAGES = "/var/lib/libvirt/images"
_TARGETS: dict[DiskBus, str] = {"virtio": "vda", "scsi": "sda", "sata": "sda", "ide": "hda"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """A bridge of the host, of the kernel or of Open vSwitch; ``vlan`` is the tag of a guest's port, 0 for none."""

    name: str
    is_openvswitch: bool = False
    vlan: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A tiny guest as libvirt knows it.

    ``disk`` is the file of its disk on the host; with ``pool``, the volume of that name there. ``network`` is the name
    of a libvirt network, or a bridge; None for a guest without a card. ``machine_type`` may be an alias, which libvirt
    resolves when it defines the guest. With ``firmware`` "efi", libvirt chooses the firmware and its variables.
    """

    name: str
    uuid: UUID
    mac: str
    disk: str
    network: str | Bridge | None
    pool: str = ""
    machine_type: str = "q35"
    disk_bus: DiskBus = "virtio"
    nic_model: NicModel = "virtio"
    firmware: Firmware = "bios"
    has_tpm: bool = False
    memory_mib: int = 16
    autostarts: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SpecError(f"{self.name!r} is not a name of a guest: letters, digits, dots, hyphens, underscores")
        if self.disk_bus == "ide" and "q35" in self.machine_type:
            raise SpecError(f"{self.name}: {self.machine_type} has no IDE bus; use sata")


def domain_xml(domain: Domain, kind: Kind) -> str:
    """The definition of ``domain``. It has no device that costs an idle guest CPU time: see docs/guests.md."""
    return f"""\
<domain type='{kind}'>
  <name>{domain.name}</name>
  <uuid>{domain.uuid}</uuid>
  <memory unit='MiB'>{domain.memory_mib}</memory>
  {_os(domain)}
  <features><acpi/></features>
  <clock offset='utc'><timer name='rtc' track='guest'/></clock>
  <devices>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <video><model type='none'/></video>
    {_disk(domain)}
    {_card(domain)}
    <serial type='pty'/>
    {_TPM if domain.has_tpm else ""}
  </devices>
</domain>
"""


_TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"


def _os(domain: Domain) -> str:
    board = f"<type machine={quoteattr(domain.machine_type)}>hvm</type><boot dev='hd'/>"
    if domain.firmware == "bios":
        return f"<os>{board}</os>"
    return f"<os firmware='efi'>{board}<firmware><feature enabled='no' name='secure-boot'/></firmware></os>"


def _disk(domain: Domain) -> str:
    """On other disks than virtio's, the guest does not flush what it wrote: QEMU has to write through."""
    cache = "" if domain.disk_bus == "virtio" else " cache='writethrough'"
    kind, source = "file", f"<source file={quoteattr(domain.disk)}/>"
    if domain.pool:
        volume = domain.disk.rpartition("/")[2]
        kind, source = "volume", f"<source pool={quoteattr(domain.pool)} volume={quoteattr(volume)}/>"
    controller = "<controller type='scsi' model='virtio-scsi'/>" if domain.disk_bus == "scsi" else ""
    return (
        f"{controller}<disk type='{kind}' device='disk'><driver name='qemu' type='qcow2'{cache}/>{source}"
        f"<target dev='{_TARGETS[domain.disk_bus]}' bus='{domain.disk_bus}'/></disk>"
    )


def _card(domain: Domain) -> str:
    if domain.network is None:
        return ""
    return (
        f"<interface type='{'network' if isinstance(domain.network, str) else 'bridge'}'>"
        f"<mac address={quoteattr(domain.mac)}/>{_source(domain.network)}"
        f"<model type={quoteattr(domain.nic_model)}/><rom enabled='no'/></interface>"
    )


def _source(network: str | Bridge) -> str:
    if isinstance(network, str):
        return f"<source network={quoteattr(network)}/>"
    port = "<virtualport type='openvswitch'/>" if network.is_openvswitch else ""
    vlan = f"<vlan><tag id='{network.vlan}'/></vlan>" if network.vlan else ""
    return f"<source bridge={quoteattr(network.name)}/>{port}{vlan}"


def network_xml(name: str, bridge: Bridge) -> str:
    """A libvirt network ``name`` whose ports are on ``bridge``."""
    port = "<virtualport type='openvswitch'/>" if bridge.is_openvswitch else ""
    return (
        f"<network><name>{name}</name><forward mode='bridge'/><bridge name={quoteattr(bridge.name)}/>{port}</network>\n"
    )


def pool_xml(name: str, folder: str) -> str:
    """A libvirt pool ``name`` of the files in ``folder``."""
    return f"<pool type='dir'><name>{name}</name><target><path>{folder}</path></target></pool>\n"
