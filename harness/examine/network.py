"""A host's name, its addresses and routes, its names of other hosts, and the configuration that refers to cards."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

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
_RESOLVER = Probe(
    "resolv.conf",
    "[ -e /etc/resolv.conf ] || { echo missing; exit; }\n"
    "stat -L -c '%a %U %F' /etc/resolv.conf || exit\ncat /etc/resolv.conf",
)
_ARGUMENTS = Probe("kernel arguments", "cat /proc/cmdline")
PROBES = (_NAME, _OWN_NAME, _ADDRESSES, _ROUTES, _CARDS, _DEVICES, _LEASES, _RESOLVER)

_NO_NAMES = ("", "localhost", "localhost.localdomain", "(none)", "localhost6")
_ETHERNET, _MTU, _LEAST_MTU = "1", 1500, 1280
"""ARPHRD_ETHER; RFC 894; RFC 8200 section 5."""
_BY_ORDER, _ENUMERATED = "1", "net.ifnames=0"
"""NET_NAME_ENUM of Linux, include/uapi/linux/netdevice.h: the name depends on the order in which cards are found."""
_MADE = ("Bridge", "Bond", "VLAN", "VRF", "MACVLAN", "IPVLAN", "VXLAN", "Tunnel", "BatmanAdvanced")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """``addresses`` are IPv4's and have a mask's length; ``is_card`` if it is a device of the machine."""

    name: str
    mac: str = ""
    kind: str = _ETHERNET
    is_card: bool = True
    assigned: str = "3"
    mtu: int = _MTU
    is_up: bool = True
    master: str = ""
    addresses: tuple[str, ...] = ()


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

    def value(name: str, file: str) -> str:
        return values.get(f"/sys/class/net/{name}/{file}", [""])[0]

    def parsed(text: str) -> tuple[Interface, ...]:
        return tuple(
            Interface(
                name=row["ifname"],
                mac=value(row["ifname"], "address"),
                kind=value(row["ifname"], "type"),
                is_card=row["ifname"] in devices,
                assigned=value(row["ifname"], "name_assign_type"),
                mtu=int(row["mtu"]),
                is_up="LOWER_UP" in row["flags"],
                master=row.get("master", ""),
                addresses=tuple(
                    f"{one['local']}/{one['prefixlen']}" for one in row["addr_info"] if one["family"] == "inet"
                ),
            )
            for row in json.loads(text)
        )

    return read(answers, _ADDRESSES, parsed)


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


def judge(network: NetworkReading, arguments: Sequence[str]) -> Iterator[LintFinding]:
    """``arguments`` are the kernel's."""
    yield from _name(network)
    yield from _resolution(network)
    for interface in network.interfaces or ():
        yield from _addresses(interface, network)
        yield from _packet_size(interface, network)
    yield from _gateways(network.routes)
    yield from _names_of_cards(network.interfaces or (), arguments)
    yield from _references(network)


def _name(network: NetworkReading) -> Iterator[LintFinding]:
    if network.name in _NO_NAMES:
        yield fails("host-name-not-set", "host:name", f"the host is called {network.name or 'nothing'}")
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
    if interface.is_card and len(interface.addresses) > max(1, given):
        what = f"it has {len(interface.addresses)} addresses: one is left over from the initrd, or was added by hand"
        yield fails("network-ambiguous", f"interface:{interface.name}", what, *interface.addresses)


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
    answers = ask(channel, [_ADDRESSES, _CARDS, _DEVICES, _ARGUMENTS])
    return tuple(_names_of_cards(_interfaces(answers) or (), answers[_ARGUMENTS.name].split()))


def _names_of_cards(interfaces: Sequence[Interface], arguments: Sequence[str]) -> Iterator[LintFinding]:
    cards = [one for one in interfaces if one.is_card and one.kind == _ETHERNET]
    for card in cards if cards[1:] else ():
        if card.assigned == _BY_ORDER or _ENUMERATED in arguments:
            what = "there are several cards, and its name depends on the order in which they are found"
            yield fails("interface-name-unstable", f"interface:{card.name}", what)


def _references(network: NetworkReading) -> Iterator[LintFinding]:
    """What files of /etc/systemd/network refer to by name or address is there."""
    if network.interfaces is None:
        return
    names = {one.name for one in network.interfaces}
    macs = {one.mac.lower() for one in network.interfaces if one.mac}
    for path, lines in network.files.items():
        if not path.startswith("/etc/systemd/network/"):
            continue
        section = ""
        for line in map(str.strip, lines):
            if line.startswith("["):
                section = line
            key, equals, value = (part.strip() for part in line.partition("="))
            if not equals or line.startswith(("#", ";")):
                continue
            missing = _missing(section, key, value.split(), names, macs, is_netdev=path.endswith(".netdev"))
            if missing:
                what = f"{key} names {', '.join(missing)}, and there is no such interface: the file does nothing"
                yield fails("network-config-unused", path, what, f"interfaces: {', '.join(sorted(names))}", line)


def _missing(
    section: str, key: str, values: Sequence[str], names: set[str], macs: set[str], *, is_netdev: bool
) -> list[str]:
    """The ``values`` to which no interface corresponds; of patterns and lists, only if none does."""
    if section == "[Match]" and key in ("Name", "OriginalName") and not is_netdev:
        wanted = [value for value in values if not value.startswith("!")]
        is_met = len(wanted) < len(values) or any(fnmatchcase(name, value) for name in names for value in wanted)
        return [] if is_met or key == "OriginalName" else wanted
    if section == "[Match]" and key in ("MACAddress", "PermanentMACAddress"):
        wanted = [value.lower().replace("-", ":") for value in values]
        return [] if macs & set(wanted) else wanted
    if section == "[NetDev]" and key == "Name":
        return [value for value in values if value not in names]
    if section == "[Network]" and key in _MADE:
        return [value for value in values if value not in names]
    return []


def unchecked(network: NetworkReading) -> Iterator[str]:
    if network.interfaces is None:
        yield "addresses, routes and MTU: the image has no ip(8)"
    if not network.resolved:
        yield "whether names resolve: the network of this run has no name that is known to resolve"
