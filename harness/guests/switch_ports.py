"""The ports of an Open vSwitch bridge, as ``ovs-vsctl show`` prints them, and what changed there: pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_LINE = re.compile(r'^ +(Bridge|Port|tag|type|options|error): ?(.+)$|^ +(Bridge|Port) "?([^"\n]+)"?$')
_REMOTE = re.compile(r'remote_ip="([^"]+)"')
TUNNELS = ("geneve", "vxlan", "gre")


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchPort:
    """``vlan`` is its tag, 0 for none; ``kind`` is "geneve", "internal", … and empty for another card; ``remote`` is
    the other end of a tunnel; ``error`` is why it does not work."""

    bridge: str
    name: str
    vlan: int = 0
    kind: str = ""
    remote: str = ""
    error: str = ""

    def __str__(self) -> str:
        parts = [f"tag {self.vlan}" if self.vlan else "no tag" if not self.remote else ""]
        parts += [f"{self.kind} to {self.remote}" if self.remote else "", self.error]
        return ", ".join(filter(None, parts))


def read_ports(text: str) -> dict[str, SwitchPort]:
    """All ports by name. `ValueError` if ``text`` is not the answer of ``ovs-vsctl show``."""
    if "ovs_version" not in text:
        raise ValueError("no version")
    found, bridge = dict[str, SwitchPort](), ""
    for row in _rows(text):
        if "Bridge" in row:
            bridge = row["Bridge"]
        else:
            found[row["Port"]] = _port(bridge, row)
    return found


def _rows(text: str) -> Iterator[dict[str, str]]:
    """A row for each bridge and each port, with what is below it."""
    row = dict[str, str]()
    for line in text.splitlines():
        match = _LINE.match(line)
        if match and match[3]:
            if row:
                yield row
            row = {match[3]: match[4]}
        elif match:
            row[match[1]] = match[2]
    if row:
        yield row


def _port(bridge: str, row: Mapping[str, str]) -> SwitchPort:
    remote = _REMOTE.search(row.get("options", ""))
    return SwitchPort(
        bridge=bridge,
        name=row["Port"],
        vlan=int(row.get("tag", "0")),
        kind=row.get("type", ""),
        remote=remote[1] if remote else "",
        error=row.get("error", "").strip('"'),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What connects guests on a host: ``ports`` of its tunnels and guests, by what each is for."""

    host: str
    ports: Mapping[str, SwitchPort]

    def lines(self) -> Iterator[str]:
        """For a finding."""
        for what, port in self.ports.items():
            yield f"{self.host}: {what}: {port}"


def wiring(host: str, ports: Mapping[str, SwitchPort], cards: Mapping[str, str]) -> Wiring:
    """Of ``ports`` of ``host``, those of tunnels and of the guests in ``cards``, which maps guests to ports."""
    tunnels = {f"tunnel {name}": port for name, port in ports.items() if port.kind in TUNNELS}
    guests = {f"port of {guest}": ports[name] for guest, name in cards.items() if name in ports}
    return Wiring(host=host, ports={**tunnels, **guests})


def changes(before: Wiring, after: Wiring) -> Iterator[str]:
    """What a host no longer has as it was: a port's tag, a tunnel. The names of guests' ports may differ."""
    for what, port in before.ports.items():
        now = after.ports.get(what)
        if str(now) != str(port):
            yield f"{what} on {after.host}: {port} → {now or 'none'}"
