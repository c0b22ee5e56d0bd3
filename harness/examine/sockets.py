"""Nothing listens to the network that the definition does not declare: ``[expect] listens``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address

from harness.examine.processes import Process
from harness.examine.texts import by_file, lines_of, some
from harness.examine.units import UnitRow
from harness.guest.probes import Probe, read
from harness.lint.finding import LintFinding, fails, warns

_TABLES = Probe(
    "sockets of the network",
    some("grep -aH '' /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6 /proc/net/raw /proc/net/raw6"),
)
PROBES = (_TABLES,)

_LISTENS, _UNCONNECTED = "0A", "07"
"""TCP_LISTEN and TCP_CLOSE of Linux, include/net/tcp_states.h. A connected UDP socket is "01"."""
_CLIENTS = (
    (r"udp .*:68", r"systemd-network|dhclient|dhcpcd|NetworkManager|udhcpc"),
    (r"udp \[.*\]:546", r"systemd-network|dhclient|dhcpcd|NetworkManager"),
    (r"raw \S+:58", r"systemd-network|dhcpcd|NetworkManager"),
    (r"udp .*:(3[2-9]|[45]\d|6[0-6])\d{3}", r"systemd-resolve|systemd-timesyn|chronyd|ntpd"),
)
"""Clients of a protocol that take no request: DHCP, DHCPv6, router advertisements (ICMPv6), and questions of DNS and
NTP from a port of the range in /proc/sys/net/ipv4/ip_local_port_range, while an answer is awaited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """``address`` as "0.0.0.0:22" or "[::]:22"; a raw socket has the number of its protocol for a port."""

    protocol: str
    address: str
    inode: int

    @property
    def is_local(self) -> bool:
        return self.address.startswith(("127.", "[::1]:", "[::ffff:127."))


def parse(answers: Mapping[str, str]) -> tuple[Socket, ...]:
    """Those that take packets from whoever sends them. `ImageError` for an answer that is not as expected."""
    return read(answers, _TABLES, lambda text: tuple(_sockets(text)))


def _sockets(text: str) -> Iterator[Socket]:
    tables = by_file(lines_of(text))
    for path in ("/proc/net/tcp", "/proc/net/udp"):
        if "local_address" not in tables[path][0]:
            raise ValueError(f"no heading of {path}")
    for path, rows in tables.items():
        protocol = path.rpartition("/")[2].rstrip("6")
        for row in rows[1:]:
            words = row.split()
            if words[3] == (_LISTENS if protocol == "tcp" else _UNCONNECTED):
                yield Socket(protocol=protocol, address=_address(words[1]), inode=int(words[9]))


def _address(text: str) -> str:
    """Linux prints each 32 bits in the byte order of an x86 processor."""
    digits, _, port = text.partition(":")
    raw = b"".join(bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8))
    host = str(IPv4Address(raw)) if len(raw) == 4 else f"[{IPv6Address(raw)}]"
    return f"{host}:{int(port, 16)}"


def holder(socket: Socket, processes: Mapping[int, Process], units: Mapping[str, UnitRow]) -> tuple[str, str]:
    """The program and the unit of a socket; systemd holds those that wait for their service. "-" for the kernel's."""
    holders = sorted((one for one in processes.values() if socket.inode in one.sockets), key=lambda one: one.pid == 1)
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
    """``declared`` are "tcp 0.0.0.0:22 sshd"; * stands for any text in them."""
    used = set[str]()
    for socket in sockets:
        program, unit = holder(socket, processes, units)
        name = f"{socket.protocol} {socket.address} {program}"
        matching = {one for one in declared if one == name or fnmatchcase(name, one.replace("[", "[[]"))}
        used |= matching
        if matching or socket.is_local or _is_client(socket, program):
            continue
        what = "it takes packets from the network, and the definition does not declare it"
        yield fails("listener-undeclared", f"socket:{name}", what, f"unit: {unit}", f'listens = ["{name}"]')
    for one in declared:
        if one not in used:
            yield warns("listener-missing", f"socket:{one}", "the definition declares it, and nothing listens so")


def _is_client(socket: Socket, program: str) -> bool:
    name = f"{socket.protocol} {socket.address}"
    return any(re.fullmatch(address, name) and re.fullmatch(client, program) for address, client in _CLIENTS)
