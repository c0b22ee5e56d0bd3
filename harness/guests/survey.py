"""What a hypervisor says about its guests after a boot: which there are, in which state, where their cards are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.core.deadline import Deadline
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.guests.domains import Domain
from harness.guests.ground import Ground
from harness.guests.switch_ports import read_ports

OFF = "shut off"
_READ_S = 120.0
_TICKS_PER_S = 100
"""Of times in /proc/PID/stat: USER_HZ, on x86."""
_START = 21
"""The place of the start time in /proc/PID/stat, from 0 (proc(5))."""
_LOGS = "/var/log/libvirt/qemu/"
_LIST = Probe("guests", "virsh list --all")
_LOG_BEGINNINGS = Probe("logs", f"find {_LOGS} -maxdepth 1 -printf '%f\\n' -name '*.log' -exec head -n 1 {{}} ';'")
_PORTS = {
    True: Probe("ports of Open vSwitch", "ovs-vsctl show"),
    False: Probe("ports of bridges", "ip -o link show"),
}
_MASTER = re.compile(r"^\d+: ([^:@]+)[:@].* master (\S+)", re.MULTILINE)
_GUEST_LINE = re.compile(r"^ +(?:-|\d+) +(\S+) +(.+?) *$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenGuest:
    """A guest as its host shows it.

    ``bridge`` is the one that its card is on, empty if it is off; ``started_s`` is when its QEMU started, in seconds
    since the host's boot, 0 if it is off. ``disk_errors`` is what qemu-img(1) says about its disk, empty if that is
    whole. ``log_begins`` is the first line of its log, empty without one.
    """

    name: str
    state: str
    uuid: str
    macs: tuple[str, ...]
    autostarts: bool
    is_saved: bool
    bridge: str = ""
    started_s: float = 0.0
    disk_errors: str = ""
    log_begins: str = ""

    @property
    def is_active(self) -> bool:
        return self.state != OFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """``guests`` by name. ``units`` are those of the guests' ground that are active, with the seconds since boot at
    which each became so."""

    guests: Mapping[str, SeenGuest]
    units: Mapping[str, float]


def survey(channel: Channel, domains: Sequence[Domain], ground: Ground) -> Survey:
    """What the host says about ``domains``, without those that it does not know. `ImageError` if it does not answer."""
    units = Probe("units", f"systemctl show -p Id,ActiveState,ActiveEnterTimestampMonotonic {shlex.join(ground.units)}")
    asked = [_LIST, _LOG_BEGINNINGS, _PORTS[ground is Ground.OPENVSWITCH], *([units] if ground.units else [])]
    answers = ask(channel, asked, Deadline(_READ_S))
    states = read(answers, _LIST, read_list)
    known = [domain for domain in domains if domain.name in states]
    probes = {domain.name: _probes(domain, is_active=states[domain.name] != OFF) for domain in known}
    if known:
        answers |= ask(channel, [probe for row in probes.values() for probe in row], Deadline(_READ_S))
    logs = read(answers, _LOG_BEGINNINGS, read_logs)
    bridges = read(answers, asked[2], read_openvswitch if ground is Ground.OPENVSWITCH else read_bridges)
    guests = {
        name: _seen(name, states[name], row, answers, bridges, logs.get(name, "")) for name, row in probes.items()
    }
    return Survey(guests=guests, units=read(answers, units, read_units) if ground.units else {})


def _probes(domain: Domain, *, is_active: bool) -> tuple[Probe, ...]:
    """Of one guest: its facts, its cards, its disk, its process."""
    name, disk = domain.name, shlex.quote(domain.disk)
    probes = (
        Probe(f"guest {name}", f"virsh dominfo {name}"),
        Probe(f"cards of {name}", f"virsh domiflist {name}"),
        Probe(f"disk of {name}", f"qemu-img check -U {disk} 2>&1; echo status $?"),
    )
    process = Probe(f"process of {name}", f"cat /proc/$(cat /run/libvirt/qemu/{name}.pid)/stat")
    return (*probes, process) if is_active else probes


def _seen(
    name: str, state: str, probes: tuple[Probe, ...], answers: Mapping[str, str], bridges: Mapping[str, str], log: str
) -> SeenGuest:
    facts = read(answers, probes[0], read_facts)
    cards = read(answers, probes[1], lambda text: list(read_cards(text)))
    return SeenGuest(
        name=name,
        state=state,
        uuid=facts["UUID"],
        macs=tuple(mac for _, mac in cards),
        autostarts=facts["Autostart"] == "enable",
        is_saved=facts["Managed save"] == "yes",
        bridge=", ".join(bridges.get(port, "none") for port, _ in cards if port != "-"),
        started_s=read(answers, probes[3], read_start) if probes[3:] else 0.0,
        disk_errors=read(answers, probes[2], read_check),
        log_begins=log,
    )


def read_list(text: str) -> dict[str, str]:
    """The state of each guest, from ``virsh list --all``."""
    if "State" not in text.partition("\n")[0]:
        raise ValueError("no heading")
    return dict(_GUEST_LINE.findall(text))


def read_facts(text: str) -> dict[str, str]:
    """From ``virsh dominfo``."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def read_cards(text: str) -> Iterator[tuple[str, str]]:
    """Port and MAC of each card, from ``virsh domiflist``; the port of a guest that is off is a hyphen."""
    heading, _, *lines = text.splitlines()
    if "MAC" not in heading:
        raise ValueError("no heading")
    for line in filter(str.strip, lines):
        port, *_, mac = line.split()
        yield port, mac


def read_start(stat: str) -> float:
    """Seconds since boot, from /proc/PID/stat; the name of the program, in parentheses, may have blanks."""
    return int(stat.rpartition(") ")[2].split()[_START - 2]) / _TICKS_PER_S


def read_check(text: str) -> str:
    """What ``qemu-img check`` found: nothing with status 0; with 1 that it cannot read the disk, with 2 errors, with 3
    leaks."""
    said, _, status = text.rpartition("status ")
    expected = {0: "No errors were found", 1: "qemu-img: ", 2: "", 3: ""}.get(int(status))
    if expected is None or expected not in said:
        raise ValueError(f"qemu-img ended with status {int(status)}")
    return "; ".join(said.split("\n")[:4]).strip("; ") if int(status) else ""


def read_openvswitch(text: str) -> dict[str, str]:
    """The bridge of each port, from ``ovs-vsctl show``."""
    return {name: port.bridge for name, port in read_ports(text).items()}


def read_bridges(text: str) -> dict[str, str]:
    """The bridge of each port, from ``ip -o link show``."""
    if not text.startswith("1: lo"):
        raise ValueError("no loopback")
    return dict(_MASTER.findall(text))


def read_logs(text: str) -> dict[str, str]:
    """The first line of each guest's log, by the guest's name; find(1) prints the name of a file before it."""
    folder, *lines = text.splitlines()
    if folder.rstrip("/") != "qemu":
        raise ValueError("no folder of logs")
    return {
        line.removesuffix(".log"): following
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if line.endswith(".log")
    }


def read_units(text: str) -> dict[str, float]:
    """The active units, from ``systemctl show``."""
    blocks = (dict(line.split("=", 1) for line in block.splitlines()) for block in text.strip().split("\n\n"))
    return {
        block["Id"]: int(block["ActiveEnterTimestampMonotonic"]) / 1e6
        for block in blocks
        if block["ActiveState"] == "active"
    }
