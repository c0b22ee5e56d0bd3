"""Two hosts that migrate guests to each other: what they need for it, put there as an operator does."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.guests.certificates import install, make_authority
from harness.guests.domains import Bridge, Kind, network_xml, pool_xml
from harness.guests.hypervisor import HostVersion, Hypervisor
from harness.machine.machine import Machine

FOLDER = "/var/lib/libvirt/bootproof"
"""Of the pool for the guests' disks: libvirt makes the disk of a guest that arrives only in a pool."""
POOL = NETWORK = "bootproof"
HOST_ADDRESS = "192.0.2.1"
_BRIDGE = Bridge(name="bootproof0")
_SETUP = "set-up for migration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A host, the ``name`` by which the other reaches it, its versions, how it runs guests, and its machine types: each
    maps to what it is an alias of, "" for none."""

    hypervisor: Hypervisor
    name: str
    version: HostVersion
    kind: Kind
    machine_types: Mapping[str, str]

    @property
    def machine(self) -> Machine:
        return self.hypervisor.machine


def make_peers(machines: Iterable[Machine], folder: Path) -> tuple[Peer, ...]:
    """Let ``machines``, which are on and in one lab, migrate guests to each other, with certificates of an authority in
    the new ``folder``. `ImageError` if a machine does not take them."""
    authority = make_authority(folder)
    peers = []
    for machine in machines:
        name = f"{machine.check('hostname -s')}.lab.test"
        install(machine, authority.keys_for(name, machine.spec.address))
        peers.append(_make_peer(machine, name))
    return tuple(peers)


def _make_peer(machine: Machine, name: str) -> Peer:
    hypervisor = Hypervisor(machine)
    machine.check(
        f"mkdir -p {FOLDER} && ip link add {_BRIDGE.name} type bridge && ip link set {_BRIDGE.name} up && "
        f"ip address add {HOST_ADDRESS}/24 dev {_BRIDGE.name}"
    )
    hypervisor.define_xml("pool-define", pool_xml(POOL, FOLDER), guest=_SETUP)
    hypervisor.define_xml("net-define", network_xml(NETWORK, _BRIDGE), guest=_SETUP)
    for verb in (f"pool-start {POOL}", f"net-start {NETWORK}"):
        hypervisor.virsh(verb, guest=_SETUP, step=verb)
    capabilities = hypervisor.virsh("capabilities", guest=_SETUP, step="capabilities", limit_s=240)
    return Peer(
        hypervisor=hypervisor,
        name=name,
        version=hypervisor.origin,
        kind=hypervisor.kind(),
        machine_types=machine_types(capabilities),
    )


def machine_types(capabilities: str) -> dict[str, str]:
    """Those for x86-64 in ``virsh capabilities``, with what each is an alias of: pure."""
    of_x86 = ElementTree.fromstring(capabilities).iterfind("guest/arch[@name='x86_64']//machine")
    return {machine.text or "": machine.get("canonical", "") for machine in of_x86}
