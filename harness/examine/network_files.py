"""What a host's network configuration refers to by name or address is there.

The configurations are those of systemd-networkd, ifupdown and NetworkManager, and the database of Open vSwitch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from harness.examine.network import Interface
from harness.examine.texts import by_file, lines_of, some
from harness.guest.probes import Probe, read
from harness.lint.finding import LintFinding, fails

_OTHERS = Probe(
    "other network configuration",
    some(
        "grep -aHE '^[[:space:]]*(auto|allow-[a-z]+|bridge[_-]ports|bond-slaves|vlan[_-]raw[_-]device"
        "|interface-name|mac-address)[[:space:]=]' /etc/network/interfaces /etc/network/interfaces.d/* "
        "/etc/NetworkManager/system-connections/*"
    ),
)
"""Only lines about cards: the files have passwords of networks too."""
_PORTS = Probe(
    "ports of Open vSwitch",
    "[ -S /run/openvswitch/db.sock ] && command -v ovs-vsctl >/dev/null || { echo absent; exit; }\n"
    "ovs-vsctl --timeout=10 --format=json --columns=name,error list Interface",
)
PROBES = (_OTHERS, _PORTS)

_MADE = ("Bridge", "Bond", "VLAN", "VRF", "MACVLAN", "IPVLAN", "VXLAN", "Tunnel", "BatmanAdvanced")
_OWN_FOLDERS = ("/etc/systemd/network/", "/run/systemd/network/10-netplan-")
_OF_GUESTS = re.compile(r"(tap|vnet|qvo|qr-|qg-|veth)\S*")
"""Cards of virtual machines and of routers: they come with these."""
_LISTS = re.compile(r"\s*(auto|allow-[a-z]+|bridge[_-]ports|bond-slaves|vlan[_-]raw[_-]device)\s+(.*)")
_NO_CARDS = {"none", "all", "lo"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFiles:
    """``files`` are those of systemd.network(5) by path, ``others`` lines of interfaces(5) and of NetworkManager's
    keyfiles that name cards. ``broken_ports`` are ports of Open vSwitch, with what it says about them."""

    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    others: Mapping[str, Sequence[str]] = field(default_factory=dict)
    broken_ports: tuple[tuple[str, str], ...] = ()


def parse(answers: Mapping[str, str], files: Mapping[str, Sequence[str]]) -> NetworkFiles:
    """`ImageError` for an answer that is not as expected."""
    return NetworkFiles(
        files=files,
        others=read(answers, _OTHERS, lambda text: by_file(lines_of(text))),
        broken_ports=read(answers, _PORTS, lambda text: tuple(_broken(text))),
    )


def _broken(text: str) -> Iterator[tuple[str, str]]:
    """ovs-vsctl(8): no error is an empty set."""
    table = json.loads(text) if text != "absent" else {"headings": [], "data": []}
    for row in table["data"]:
        values = dict(zip(table["headings"], row, strict=True))
        if isinstance(values["error"], str):
            yield values["name"], values["error"]


def judge(network: NetworkFiles, interfaces: Sequence[Interface] | None) -> Iterator[LintFinding]:
    """``interfaces`` is None where they could not be listed."""
    for name, error in network.broken_ports:
        if not _OF_GUESTS.fullmatch(name):
            what = "it is a port of a bridge of Open vSwitch, and cannot be one"
            yield fails("network-config-unused", f"openvswitch:{name}", what, error)
    if interfaces is None:
        return
    names = {one.name for one in interfaces}
    macs = {one.mac.lower() for one in interfaces if one.mac}
    for path, lines in network.files.items():
        if path.startswith(_OWN_FOLDERS):
            yield from _of_networkd(path, lines, names, macs)
    for path, lines in network.others.items():
        for line in lines:
            if missing := [name for name in _named(line) if name not in names | macs | _NO_CARDS]:
                yield _finding(path, line.split()[0].partition("=")[0], missing, line, names)


def _of_networkd(path: str, lines: Sequence[str], names: set[str], macs: set[str]) -> Iterator[LintFinding]:
    section = ""
    for line in map(str.strip, lines):
        if line.startswith("["):
            section = line
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or line.startswith(("#", ";")):
            continue
        if missing := _missing(section, key, value.split(), names, macs, is_netdev=path.endswith(".netdev")):
            yield _finding(path, key, missing, line, names)


def _finding(path: str, key: str, missing: Sequence[str], line: str, names: set[str]) -> LintFinding:
    what = f"{key} names {', '.join(missing)}, and there is no such interface: the file does nothing"
    return fails("network-config-unused", path, what, f"interfaces: {', '.join(sorted(names))}", line.strip())


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


def _named(line: str) -> Iterator[str]:
    """The names and addresses of cards in a line of interfaces(5) or of a keyfile, without patterns."""
    if found := _LISTS.fullmatch(line):
        yield from (name for name in found[2].split() if not set("*[/=") & set(name))
    elif found := re.fullmatch(r"\s*(interface-name|mac-address)\s*=\s*(\S+)\s*", line):
        yield found[2].lower() if found[1] == "mac-address" else found[2]
