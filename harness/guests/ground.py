"""Where guests are connected and stored on a host, by the means that its image keeps over a reboot: a bridge, a libvirt
network on that bridge, and a pool."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from harness.guests.domains import IMAGES, Bridge, network_xml, pool_xml
from harness.guests.hypervisor import Hypervisor

BRIDGE = "br-guests"
NETWORK = POOL = "guests"
SUBNET = "198.51.100"
"""TEST-NET-2 of RFC 5737: the host is .1 on the bridge."""
_OWNER = "the guests' network"
_NETWORKD = "/etc/systemd/network"
_NETDEV = f"[NetDev]\\nName={BRIDGE}\\nKind=bridge\\n"
_LINK = (
    f"[Match]\\nName={BRIDGE}\\n[Link]\\nRequiredForOnline=no\\n"
    f"[Network]\\nAddress={SUBNET}.1/24\\nLinkLocalAddressing=no\\nConfigureWithoutCarrier=yes\\n"
)
_MAKE_BY_NETWORKD = (
    f"printf '{_NETDEV}' >{_NETWORKD}/20-{BRIDGE}.netdev && printf '{_LINK}' >{_NETWORKD}/20-{BRIDGE}.network && "
    "networkctl reload && sync"
)
_OWN_NETWORK = (
    f"<network><name>{NETWORK}</name><bridge name='{BRIDGE}'/><dns enable='no'/>"
    f"<ip address='{SUBNET}.1' netmask='255.255.255.0'/></network>"
)


class Ground(StrEnum):
    """What makes the bridge at each boot."""

    OPENVSWITCH = "Open vSwitch"
    NETWORKD = "systemd-networkd"
    LIBVIRT = "libvirt"

    @property
    def units(self) -> tuple[str, ...]:
        """The units that must have started before a guest does."""
        if self is Ground.OPENVSWITCH:
            return ("ovs-vswitchd.service", "openvswitch-switch.service", "openvswitch.service")
        return ("systemd-networkd.service",) if self is Ground.NETWORKD else ()

    @property
    def bridge(self) -> str | Bridge:
        """What a guest names that is not in the libvirt network; that network, where libvirt makes the bridge."""
        if self is Ground.LIBVIRT:
            return NETWORK
        return Bridge(name=BRIDGE, is_openvswitch=self is Ground.OPENVSWITCH)


def keeps_guests(persistent_paths: Collection[str]) -> bool:
    """Whether an image that keeps these paths keeps guests of libvirt, and their disks."""
    return {"/etc/libvirt", "/var/lib/libvirt"} <= set(persistent_paths)


def ground_of(persistent_paths: Collection[str]) -> Ground:
    """What an image that keeps these paths can make a bridge with."""
    if "/etc/openvswitch" in persistent_paths:
        return Ground.OPENVSWITCH
    return Ground.NETWORKD if _NETWORKD in persistent_paths else Ground.LIBVIRT


def make_ground(hypervisor: Hypervisor, ground: Ground) -> None:
    """Make bridge, network and pool, which start with the host."""
    machine = hypervisor.machine
    if ground is Ground.OPENVSWITCH:
        machine.check(f"ovs-vsctl --may-exist add-br {BRIDGE}")
    elif ground is Ground.NETWORKD:
        machine.check(_MAKE_BY_NETWORKD)
        machine.wait_for_file(f"/sys/class/net/{BRIDGE}")
    bridge = ground.bridge
    network = network_xml(NETWORK, bridge) if isinstance(bridge, Bridge) else _OWN_NETWORK
    hypervisor.define_xml("net-define", network, guest=_OWNER)
    hypervisor.define_xml("pool-define", pool_xml(POOL, IMAGES), guest=_OWNER)
    for command in ("net-autostart", "net-start"):
        hypervisor.virsh(f"{command} {NETWORK}", guest=_OWNER, step=command)
    for command in ("pool-autostart", "pool-start"):
        hypervisor.virsh(f"{command} {POOL}", guest=_OWNER, step=command)


def reach_guests(command: str) -> str:
    """``command``, for a host that reaches its guests then: Open vSwitch keeps a bridge, and not its address."""
    return f"ip link set {BRIDGE} up; ip address replace {SUBNET}.1/24 dev {BRIDGE}; {command}"
