"""A host's name, its addresses and routes, and its names of other hosts."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import Any

from harness.examine.texts import by_file, lines_of, some
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.lint.finding import LintFinding, fails

_NAME = Probe("host name", "cat /proc/sys/kernel/hostname")
_OWN_NAME = Probe("/etc/hostname", "[ -e /etc/hostname ] || { echo none; exit; }\necho look\ncat /etc/hostname")
_NO_IP = "command -v ip >/dev/null || { echo absent; exit; }\n"
_ADDRESSES = Probe("addresses", f"{_NO_IP}ip -j addr")
_ROUTES = Probe("routes", f"{_NO_IP}ip -j route")
_CARDS = Probe(
    "network cards",
    some("grep -aH '' /sys/class/net/*/address /sys/class/net/*/type /sys/class/net/*/name_assign_type"),
)
_DEVICES = Probe("devices of network cards", some("ls -d /sys/class/net/*/device"))
_LEASES = Probe("leases", some("grep -aH '' /run/systemd/netif/leases/*"))
_MANAGED = Probe("cards of networkd", some("grep -aH '^ADMIN_STATE=' /run/systemd/netif/links/*"))
_RESOLVER = Probe(
    "resolv.conf",
    "[ -e /etc/resolv.conf ] || { echo missing; exit; }\n"
    "stat -L -c '%a %U %F' /etc/resolv.conf || exit\ncat /etc/resolv.conf",
)
_ARGUMENTS = Probe("kernel arguments", "cat /proc/cmdline")
PROBES = (_NAME, _OWN_NAME, _ADDRESSES, _ROUTES, _CARDS, _DEVICES, _LEASES, _MANAGED, _RESOLVER)

_NO_NAMES = ("", "localhost", "localhost.localdomain", "(none)", "localhost6")
_VALID_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")
"""hostname(7)."""
_ETHERNET, _LOOPBACK, _MTU, _LEAST_MTU = "1", "772", 1500, 1280
"""ARPHRD_ETHER and ARPHRD_LOOPBACK; RFC 894; RFC 8200 section 5."""
_FOREVER = 2**32 - 1
"""INFINITY_LIFE_TIME of Linux, include/net/addrconf.h."""
_NETWORKD = "systemd-network"
_OTHER_CLIENTS = {"dhclient", "dhcpcd", "NetworkManager", "udhcpc", "connmand", "wickedd-dhcp4"}
"""As /proc/PID/comm has them, which are 15 letters at most."""
_BY_ORDER, _ENUMERATED = "1", "net.ifnames=0"
"""NET_NAME_ENUM of Linux, include/uapi/linux/netdevice.h: the name depends on the order in which cards are found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """``addresses`` are IPv4's and have a mask's length, ``leased`` are those that end.

    ``is_card`` if it is a device of the machine, ``is_managed`` if networkd configures it.
    """

    name: str
    index: int = 0
    mac: str = ""
    kind: str = _ETHERNET
    is_card: bool = True
    assigned: str = "3"
    mtu: int = _MTU
    is_up: bool = True
    master: str = ""
    addresses: tuple[str, ...] = ()
    leased: tuple[str, ...] = ()
    is_managed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A default route of IPv4."""

    interface: str
    gateway: str = ""
    protocol: str = ""
    metric: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkReading:
    """``own_name`` is /etc/hostname, empty if there is none; ``interfaces`` is None without ip(8). ``resolver`` is the
    text of resolv.conf, None if there is none; ``files`` are those of systemd.network(5) by path. ``resolved`` is what
    a question for a name of the lab gave: its status, empty if it was not asked."""

    name: str = "node-7"
    own_name: str = ""
    interfaces: tuple[Interface, ...] | None = ()
    routes: tuple[Route, ...] = ()
    leases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    resolver: str | None = "nameserver 127.0.0.53"
    resolver_mode: int = 0o644
    resolved: str = ""
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)


def resolve_probe(name: str) -> Probe:
    """A question for the address of ``name``."""
    question = f"getent ahosts {shlex.quote(name)}"
    return Probe("a name of the network", f'said=$({question} 2>&1)\necho "status $?"\necho "$said"')


def parse(
    answers: Mapping[str, str], files: Mapping[str, Sequence[str]], question: Probe | None = None
) -> NetworkReading:
    """``question`` is a `resolve_probe`, if it was asked. `ImageError` for an answer that is not as expected."""
    mode, text = read(answers, _RESOLVER, _resolver)
    return NetworkReading(
        name=answers[_NAME.name].strip(),
        own_name=read(answers, _OWN_NAME, lambda text: "" if text == "none" else _own_name(lines_of(text))),
        interfaces=_interfaces(answers),
        routes=read(answers, _ROUTES, lambda text: tuple(_routes(text))),
        leases=read(answers, _LEASES, lambda text: by_file(lines_of(text))),
        resolver=text,
        resolver_mode=mode,
        resolved=read(answers, question, _resolved) if question else "",
        files=files,
    )


def _resolved(text: str) -> str:
    """getent(1) ends with 2 for a name that is not found, and prints addresses of others."""
    status, _, said = text.partition("\n")
    if (number := int(status.removeprefix("status "))) > 125 or (number == 0 and not said.strip()):
        raise ValueError("getent did not run")
    return text


def _own_name(lines: Sequence[str]) -> str:
    """hostname(5)."""
    return next((line.strip() for line in lines if line.strip() and not line.startswith("#")), "")


def _resolver(text: str) -> tuple[int, str | None]:
    if text == "missing":
        return 0, None
    first, _, rest = text.partition("\n")
    return int(first.split()[0], 8), rest


def _interfaces(answers: Mapping[str, str]) -> tuple[Interface, ...] | None:
    if answers[_ADDRESSES.name] == "absent":
        return None
    values = read(answers, _CARDS, lambda text: by_file(lines_of(text)))
    devices = {path.split("/")[4] for path in read(answers, _DEVICES, lines_of)}
    states = read(answers, _MANAGED, lambda text: by_file(lines_of(text)))
    unmanaged = {int(path.rpartition("/")[2]) for path, rows in states.items() if rows == ["ADMIN_STATE=unmanaged"]}

    def value(name: str, file: str) -> str:
        return values.get(f"/sys/class/net/{name}/{file}", [""])[0]

    def parsed(text: str) -> tuple[Interface, ...]:
        return tuple(
            Interface(
                name=row["ifname"],
                index=int(row["ifindex"]),
                mac=value(row["ifname"], "address"),
                kind=value(row["ifname"], "type"),
                is_card=row["ifname"] in devices,
                assigned=value(row["ifname"], "name_assign_type"),
                mtu=int(row["mtu"]),
                is_up="LOWER_UP" in row["flags"],
                master=row.get("master", ""),
                addresses=tuple(_addresses_of(row)),
                leased=tuple(_addresses_of(row, shortest_s=_FOREVER)),
                is_managed=int(row["ifindex"]) not in unmanaged,
            )
            for row in json.loads(text)
        )

    return read(answers, _ADDRESSES, parsed)


def _addresses_of(row: Mapping[str, Any], shortest_s: int = _FOREVER + 1) -> Iterator[str]:
    """Of IPv4, those that are valid for less than ``shortest_s``."""
    for one in row["addr_info"]:
        if one["family"] == "inet" and one.get("valid_life_time", _FOREVER) < shortest_s:
            yield f"{one['local']}/{one['prefixlen']}"


def _routes(text: str) -> Iterator[Route]:
    for row in json.loads(text) if text != "absent" else ():
        if row["dst"] == "default":
            for way in row.get("nexthops", [row]):
                yield Route(
                    interface=way.get("dev", ""),
                    gateway=way.get("gateway", ""),
                    protocol=row.get("protocol", ""),
                    metric=int(row.get("metric", 0)),
                )


def judge(
    network: NetworkReading, arguments: Sequence[str], programs: Collection[str] = (_NETWORKD,)
) -> Iterator[LintFinding]:
    """``arguments`` are the kernel's, ``programs`` the names of all processes."""
    yield from _name(network)
    yield from _resolution(network)
    for interface in network.interfaces or ():
        yield from _addresses(interface, network)
        yield from _leases(interface, network, programs)
        yield from _packet_size(interface, network)
    yield from _same_networks(network.interfaces or ())
    yield from _gateways(network.routes)
    yield from _names_of_cards(network.interfaces or (), arguments)


def _name(network: NetworkReading) -> Iterator[LintFinding]:
    if network.name in _NO_NAMES:
        yield fails("host-name-not-set", "host:name", f"the host is called {network.name or 'nothing'}")
    elif not _VALID_NAME.fullmatch(network.name):
        yield fails("host-name-not-set", "host:name", f"the host is called {network.name!r}, which is not a valid name")
    elif network.own_name and network.own_name != network.name:
        what = f"the host is called {network.name}, and by /etc/hostname {network.own_name}"
        yield fails("host-name-not-set", "/etc/hostname", what)


def _resolution(network: NetworkReading) -> Iterator[LintFinding]:
    path = "/etc/resolv.conf"
    if network.resolver is None:
        yield fails("dns-unusable", path, "it is missing, or a link to nothing")
        return
    if network.resolver_mode & 0o444 != 0o444 or network.resolver_mode & 0o7133:
        what = f"it has mode {network.resolver_mode:04o}: everybody must be able to read it, and only root to write it"
        yield fails("dns-unusable", path, what)
    if not re.search(r"^\s*nameserver\s+\S", network.resolver, re.MULTILINE):
        yield fails("dns-unusable", path, "it names no server", *network.resolver.splitlines())
    if network.resolved and not network.resolved.startswith("status 0"):
        what = "a name that the network's server knows is not found"
        yield fails("dns-unusable", path, what, *network.resolved.splitlines(), *network.resolver.splitlines())


def _addresses(interface: Interface, network: NetworkReading) -> Iterator[LintFinding]:
    given = max((sum(map(_is_address, lines)) for lines in network.files.values()), default=0)
    if interface.kind != _LOOPBACK and len(interface.addresses) > max(1, given):
        what = f"it has {len(interface.addresses)} addresses: one is left over from the initrd, or was added by hand"
        yield fails("network-ambiguous", f"interface:{interface.name}", what, *interface.addresses)


def _leases(interface: Interface, network: NetworkReading, programs: Collection[str]) -> Iterator[LintFinding]:
    """Addresses that end while nobody renews them, such as that of the initrd."""
    if not _OTHER_CLIENTS.isdisjoint(programs):
        return
    lines = network.leases.get(f"/run/systemd/netif/leases/{interface.index}", ())
    for address in interface.leased:
        is_networkds = f"ADDRESS={address.partition('/')[0]}" in lines
        if not (is_networkds and interface.is_managed and _NETWORKD in programs):
            what = f"its address {address} was leased for a time, and nothing renews it: the host will lose it"
            yield fails("lease-not-renewed", f"interface:{interface.name}", what, *lines)


def _same_networks(interfaces: Sequence[Interface]) -> Iterator[LintFinding]:
    first = dict[object, Interface]()
    for interface in interfaces:
        networks = {ip_interface(address).network for address in interface.addresses}
        for network in networks if interface.kind != _LOOPBACK else ():
            other = first.setdefault(network, interface)
            if other is not interface and network.prefixlen < network.max_prefixlen:
                what = f"it and {other.name} have addresses of {network}: any of them may answer for the other"
                yield fails("network-ambiguous", f"interface:{interface.name}", what, *other.addresses)


def _is_address(line: str) -> bool:
    """Of IPv4; 0.0.0.0 stands for one that is chosen: systemd.network(5)."""
    setting = line.replace(" ", "")
    return setting.startswith("Address=") and ":" not in setting and not setting.startswith("Address=0.0.0.0")


def _gateways(routes: Sequence[Route]) -> Iterator[LintFinding]:
    by_interface = dict[str, list[Route]]()
    for route in routes:
        by_interface.setdefault(route.interface, []).append(route)
    for name, own in by_interface.items():
        if own[1:]:
            what = f"it has {len(own)} default routes: one is left over from the initrd, or was added by hand"
            yield fails("network-ambiguous", f"interface:{name}", what, *map(_route, own))
    first = {min(own, key=lambda one: one.metric) for own in by_interface.values()}
    least = min((route.metric for route in first), default=0)
    best = sorted((route for route in first if route.metric == least), key=lambda one: one.interface)
    if best[1:]:
        what = f"{', '.join(one.interface for one in best)} have default routes with one metric: any of them is used"
        yield fails("network-ambiguous", f"interface:{best[0].interface}", what, *map(_route, best))


def _route(route: Route) -> str:
    by = f" proto {route.protocol}" if route.protocol else ""
    return f"default via {route.gateway or 'no gateway'} dev {route.interface}{by} metric {route.metric}"


def _packet_size(interface: Interface, network: NetworkReading) -> Iterator[LintFinding]:
    if interface.kind != _ETHERNET or not (interface.is_card or interface.addresses):
        return
    settings = (line.replace(" ", "") for path in network.files for line in network.files[path])
    declared = {line.partition("=")[2] for line in settings if line.startswith("MTUBytes=")}
    declared |= {line.partition("=")[2] for lines in network.leases.values() for line in lines if line[:4] == "MTU="}
    if interface.mtu < _LEAST_MTU or (interface.mtu != _MTU and declared.isdisjoint({str(interface.mtu)})):
        what = f"its MTU is {interface.mtu}, and no configuration and no lease says so"
        if interface.mtu < _LEAST_MTU:
            what = f"its MTU is {interface.mtu}: IPv6 needs {_LEAST_MTU}"
        yield fails("mtu-wrong", f"interface:{interface.name}", what)


def unstable_names(channel: Channel) -> tuple[LintFinding, ...]:
    """A finding for each network card of a ready machine whose name another order of cards would change.

    `ImageError` if a command fails.
    """
    answers = ask(channel, [_ADDRESSES, _CARDS, _DEVICES, _MANAGED, _ARGUMENTS])
    return tuple(_names_of_cards(_interfaces(answers) or (), answers[_ARGUMENTS.name].split()))


def _names_of_cards(interfaces: Sequence[Interface], arguments: Sequence[str]) -> Iterator[LintFinding]:
    cards = [one for one in interfaces if one.is_card and one.kind == _ETHERNET]
    for card in cards if cards[1:] else ():
        if card.assigned == _BY_ORDER or _ENUMERATED in arguments:
            what = "there are several cards, and its name depends on the order in which they are found"
            yield fails("interface-name-unstable", f"interface:{card.name}", what)


def unchecked(network: NetworkReading) -> Iterator[str]:
    if network.interfaces is None:
        yield "addresses, routes and MTU: the image has no ip(8)"
    if not network.resolved:
        yield "whether names resolve: the network of this run has no name that is known to resolve"
