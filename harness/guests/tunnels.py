"""Tunnels between the Open vSwitch bridges of two hosts, and what a host's kernel needs for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.guest.probes import Probe

SWITCH = "openvswitch"
PORT = "tunnel0"


class Tunnel(StrEnum):
    """The protocol, by the name that Open vSwitch and the kernel's module have for it; the first one is preferred."""

    GENEVE = "geneve"
    VXLAN = "vxlan"


_WANTED = (SWITCH, *Tunnel)
OFFERS = Probe(
    "kernel modules",
    f'for name in {" ".join(_WANTED)}; do if modprobe -n -q $name; then echo "$name yes"; else echo "$name no"; fi; '
    "done; ping -V || :",
)
"""modprobe(8): a dry run finds what is built in, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """The kernel modules of a host that a bridge and a tunnel need, and whether its ping(8) writes time stamps."""

    modules: frozenset[str]
    has_ping: bool


def read_offers(text: str) -> Offers:
    lines = text.splitlines()
    rows = dict(line.split(" ") for line in lines[: len(_WANTED)])
    return Offers(
        modules=frozenset(name for name in _WANTED if rows[name] == "yes"),
        has_ping="iputils" in "".join(lines[len(_WANTED) :]),
    )


def choose(hosts: Sequence[Offers]) -> tuple[Tunnel | None, str]:
    """The tunnel that all ``hosts`` can make, or None and what is missing: pure."""
    common = frozenset.intersection(*(host.modules for host in hosts))
    if SWITCH not in common:
        return None, f"the kernel has no module {SWITCH}"
    if not all(host.has_ping for host in hosts):
        return None, "the image has no ping(8) of iputils, which writes time stamps"
    found = next((tunnel for tunnel in Tunnel if tunnel in common), None)
    return found, "" if found else f"the kernel has none of the modules {', '.join(Tunnel)}"


def add_tunnel(bridge: str, tunnel: Tunnel, remote: str) -> str:
    """The command that connects ``bridge`` to that of the host at ``remote``."""
    return (
        f"ovs-vsctl --may-exist add-port {bridge} {PORT} -- "
        f"set interface {PORT} type={tunnel} options:remote_ip={remote}"
    )


def add_sender(bridge: str, name: str, vlan: int, address: str) -> str:
    """The command that makes a network namespace ``name``, whose only card is a port of ``bridge`` with this tag and
    this address, as of a guest."""
    return (
        f"ip netns add {name} && "
        f"ovs-vsctl --may-exist add-port {bridge} {name} tag={vlan} -- set interface {name} type=internal && "
        f"ip link set {name} netns {name} && ip -n {name} address add {address} dev {name} && "
        f"ip -n {name} link set {name} up"
    )
