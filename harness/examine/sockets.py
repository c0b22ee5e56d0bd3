"""Nothing listens to the network that the definition does not declare: ``[expect] listens``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address

from harness.examine.processes import Process
from harness.examine.texts import by_file, lines_of, some
from harness.examine.units import UnitRow
from harness.guest.probes import Probe, read
from harness.lint.finding import LintFinding, fails, warns

_NAMES = ("tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "packet")
TABLES = Probe(
    "sockets of the network",
    some(f"grep -aH '' {' '.join(f'/proc/net/{name}' for name in _NAMES)} /sys/class/net/*/ifindex"),
)
_OTHERS = Probe(
    "sockets of other network namespaces",
    f"""\
echo look
found=
for place in /run/netns/* /proc/[0-9]*/ns/net; do
    [ -e "$place" ] || continue
    for known in /proc/self/ns/net $found; do
        [ ! "$place" -ef "$known" ] || continue 2
    done
    found="$found $place"
    echo "namespace $place"
    case $place in
        /proc/*) (cd "${{place%ns/net}}net" && grep -aH '' dev {" ".join(_NAMES)}) ;;
        *) command -v nsenter >/dev/null || {{ echo "absent nsenter"; continue; }}
           nsenter --net="$place" sh -c 'cd /proc/self/net && grep -aH "" dev {" ".join(_NAMES)}' ;;
    esac 2>/dev/null || [ $? -le 2 ] || exit
done
""",
)
"""A process that ends meanwhile takes its folder in /proc with it, and grep(1) ends with 2 for a table that this kernel
lacks. Names of `ip netns` come first: they tell more than a process."""
_HOSTS = Probe(
    "sockets of virtual machines",
    "grep -q '^AF_VSOCK' /proc/net/protocols || { [ $? = 1 ] && echo absent vsock; exit; }\n"
    "command -v ss >/dev/null || { echo absent ss; exit; }\nss -lnp --vsock",
)
"""vsock(7) has no table in /proc."""
PROBES = (TABLES, _OTHERS, _HOSTS)

_LISTENS, _UNCONNECTED = "0A", "07"
"""TCP_LISTEN and TCP_CLOSE of Linux, include/net/tcp_states.h. A connected UDP socket is "01"."""
_CLIENTS = (
    (r"udp .*:68", r"systemd-network|dhclient|dhcpcd|NetworkManager|udhcpc"),
    (r"udp \[.*\]:546", r"systemd-network|dhclient|dhcpcd|NetworkManager"),
    (r"raw \S+:58", r"systemd-network|dhcpcd|NetworkManager"),
    (r"packet \S+:(0800|88CC)", r"systemd-network|dhclient|dhcpcd|NetworkManager|udhcpc"),
    (r"udp .*:(3[2-9]|[45]\d|6[0-6])\d{3}", r"systemd-resolve|systemd-timesyn|chronyd|ntpd"),
)
"""Clients of a protocol that take no request: DHCP, DHCPv6, router advertisements (ICMPv6), DHCP and LLDP before there
is an address, and questions of DNS and NTP from a port of the range in /proc/sys/net/ipv4/ip_local_port_range, while an
answer is awaited."""
_LOOPBACK = "lo"
_USERS = re.compile(r'users:\(\("[^"]*",pid=(\d+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """``address`` as "0.0.0.0:22" or "[::]:22"; a raw socket has the number of its protocol for a port, a packet socket
    has the name of a card or * for an address, and an EtherType for a port. ``inode`` is 0 where only ``pid`` is known.

    ``namespace`` is the path of the network namespace, empty for that of process 1.
    """

    protocol: str
    address: str
    inode: int = 0
    pid: int = 0
    namespace: str = ""

    @property
    def is_local(self) -> bool:
        return self.address.startswith(("127.", "[::1]:", "[::ffff:127.", f"{_LOOPBACK}:"))


def parse(answers: Mapping[str, str]) -> tuple[Socket, ...]:
    """Those that take packets from whoever sends them. `ImageError` for an answer that is not as expected."""
    own = read(answers, TABLES, parse_tables)
    others = read(answers, _OTHERS, lambda text: tuple(_of_namespaces(lines_of(text))))
    return (*own, *others, *read(answers, _HOSTS, lambda text: tuple(_of_hosts(text))))


def parse_tables(text: str) -> tuple[Socket, ...]:
    """Those of the host's own network namespace, from the answer to `TABLES`; `ValueError` for another text."""
    return tuple(_sockets(by_file(lines_of(text))))


def parse_unseen(answers: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence for each thing that could not be looked at."""
    unseen = []
    if answers[_HOSTS.name] == "absent ss":
        unseen.append("which sockets take packets from virtual machines (vsock): the image has no ss(8)")
    if "absent nsenter" in answers[_OTHERS.name].splitlines():
        unseen.append("sockets of network namespaces without processes: the image has no nsenter(1)")
    return tuple(unseen)


def _sockets(tables: Mapping[str, Sequence[str]]) -> Iterator[Socket]:
    """``tables`` are files of /proc/net, and the numbers of network cards where those are known."""
    by_name = {path.rpartition("/")[2]: rows for path, rows in tables.items() if not path.endswith("/ifindex")}
    cards = {rows[0]: path.split("/")[4] for path, rows in tables.items() if path.endswith("/ifindex")}
    for name in ("tcp", "udp"):
        if "local_address" not in by_name[name][0]:
            raise ValueError(f"no heading of /proc/net/{name}")
    for name, rows in by_name.items():
        protocol = name.rstrip("6")
        for words in map(str.split, rows[1:]):
            if name == "packet":
                yield from _of_packets(words, cards)
            elif words[3] == (_LISTENS if protocol == "tcp" else _UNCONNECTED):
                yield Socket(protocol=protocol, address=_address(words[1]), inode=int(words[9]))


def _of_packets(words: Sequence[str], cards: Mapping[str, str]) -> Iterator[Socket]:
    """packet(7): a socket without a protocol takes nothing. Linux, net/packet/af_packet.c, packet_seq_show."""
    protocol, card, runs = words[3:6]
    if int(protocol, 16) and runs == "1":
        name = "*" if card == "0" else cards.get(card, f"#{card}")
        yield Socket(protocol="packet", address=f"{name}:{protocol.upper()}", inode=int(words[8]))


def _of_namespaces(lines: Sequence[str]) -> Iterator[Socket]:
    """Those of namespaces that have more than a loopback card."""
    places = dict[str, list[str]]()
    for line in lines:
        heading, _, place = line.partition(" ")
        if heading == "namespace":
            places[place] = []
        elif heading == "absent":
            places.popitem()
        else:
            places[[*places][-1]].append(f"/{line}")
    for place, rows in places.items():
        tables = by_file(rows)
        cards = {row.partition(":")[0].strip() for row in tables.pop("/dev", [])[2:]}
        if tables and cards - {_LOOPBACK}:
            yield from (replace(socket, namespace=place) for socket in _sockets(tables))
        elif not tables and not place.startswith("/proc/"):
            raise ValueError(f"nothing about {place}")


def _of_hosts(text: str) -> Iterator[Socket]:
    """vsock(7): 4294967295, which ss(8) prints as *, is any machine."""
    heading, *rows = text.splitlines()
    if heading in ("absent vsock", "absent ss"):
        return
    if not heading.startswith("Netid"):
        raise ValueError(f"no heading of ss(8) but {heading!r}")
    for row in rows:
        users = _USERS.search(row)
        yield Socket(protocol="vsock", address=row.split()[4], pid=int(users[1]) if users else 0)


def _address(text: str) -> str:
    """Linux prints each 32 bits in the byte order of an x86 processor."""
    digits, _, port = text.partition(":")
    raw = b"".join(bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8))
    host = str(IPv4Address(raw)) if len(raw) == 4 else f"[{IPv6Address(raw)}]"
    return f"{host}:{int(port, 16)}"


def holder(socket: Socket, processes: Mapping[int, Process], units: Mapping[str, UnitRow]) -> tuple[str, str]:
    """The program and the unit of a socket; systemd holds those that wait for their service. "-" for the kernel's."""
    holders = sorted(
        (one for one in processes.values() if socket.inode in one.sockets or socket.pid == one.pid),
        key=lambda one: one.pid == 1,
    )
    if not holders:
        return "-", "none: the kernel itself listens"
    first = holders[0]
    port = socket.address.rpartition(":")[2]
    waiting = (name for name, row in units.items() if re.search(rf"(^|:|\s){port} \(", row.listen))
    return first.name, next(waiting, "init.scope") if first.pid == 1 else first.unit or "none"


def judge(
    sockets: Sequence[Socket],
    processes: Mapping[int, Process],
    units: Mapping[str, UnitRow],
    declared: Sequence[str],
) -> Iterator[LintFinding]:
    """``declared`` are "tcp 0.0.0.0:22 sshd", or "tcp 0.0.0.0:22 sshd in blue" of the network namespace blue; * stands
    for any text in them."""
    used = set[str]()
    for socket in sockets:
        program, unit = holder(socket, processes, units)
        name = f"{socket.protocol} {socket.address} {'*'.join(program.split())}{_where(socket, processes)}"
        matching = {one for one in declared if _is_declared(name, one)}
        used |= matching
        if matching or socket.is_local or _is_client(socket, program):
            continue
        what = "it takes packets from the network, and the definition does not declare it"
        yield fails("listener-undeclared", f"socket:{name}", what, f"unit: {unit}", f'listens = ["{name}"]')
    for one in declared:
        if one not in used:
            yield warns("listener-missing", f"socket:{one}", "the definition declares it, and nothing listens so")


def _is_declared(name: str, declaration: str) -> bool:
    """A declaration without a namespace is about none."""
    (socket, _, namespace), (pattern, _, place) = (
        name.partition(" in "),
        declaration.replace("[", "[[]").partition(" in "),
    )
    return fnmatchcase(socket, pattern) and fnmatchcase(namespace, place)


def _where(socket: Socket, processes: Mapping[int, Process]) -> str:
    """The name of a namespace, or else the unit of the process that made it known."""
    if not socket.namespace:
        return ""
    if not socket.namespace.startswith("/proc/"):
        return f" in {socket.namespace.rpartition('/')[2]}"
    process = processes.get(int(socket.namespace.split("/")[2]))
    return f" in {(process.unit or '*'.join(process.name.split())) if process else 'another'}"


def _is_client(socket: Socket, program: str) -> bool:
    name = f"{socket.protocol} {socket.address}"
    return any(re.fullmatch(address, name) and re.fullmatch(client, program) for address, client in _CLIENTS)
