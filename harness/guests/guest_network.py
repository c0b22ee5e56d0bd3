"""Guests of two hosts that see each other over a tunnel between the hosts, each VLAN for itself.

A tiny guest cannot ping. The sender is a network namespace on the host that stays on: its only card is a port of the
same bridge, with the tag of its VLAN, as a guest's is.

make → check → begin_pings → (the other host is upgraded) → check → end_pings
"""

from __future__ import annotations

import gzip
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from uuid import NAMESPACE_DNS, uuid5

from harness.core.deadline import Deadline
from harness.guest import waiting
from harness.guest.probes import Probe, ask, read
from harness.guest.waiting import WaitFailed
from harness.guests.domains import IMAGES, Bridge, Domain
from harness.guests.ground import BRIDGE, SUBNET, Ground, make_ground
from harness.guests.hypervisor import GuestFailed, Hypervisor
from harness.guests.ping_log import PingLog, read_log
from harness.guests.survey import read_cards
from harness.guests.switch_ports import Wiring, changes, read_ports, wiring
from harness.guests.tiny_guest import TinyGuest
from harness.guests.tunnels import OFFERS, Offers, Tunnel, add_sender, add_tunnel, read_offers
from harness.model.verdict import Finding

EVERY_S = 0.2
_ANSWER_S = 60.0
"""How long a guest may take to answer after its host is ready, on the reference machine."""
_PORTS = Probe("ports of Open vSwitch", "ovs-vsctl show")
_PING = "ip netns exec {sender} ping -n -c {count} -i {every_s} -W {wait_s} {address}"
_BEGIN = """\
systemd-run -q --collect --unit=bootproof-ping-{guest} -p StandardOutput=file:{log} \
bash -c 'date "+begin %s.%N"; exec ip netns exec {sender} ping -n -D -i {every_s} {address}'
"""
_END = """\
systemctl stop bootproof-ping-{guest}.service || exit
date '+end %s.%N' >>{log} || exit
gzip -f {log} || exit
base64 -w 0 {log}.gz"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkGuest:
    """A guest on a VLAN: on the host that is ``upgraded``, or on the one that stays. ``number`` is the last byte of its
    address and of its MAC."""

    name: str
    number: int
    vlan: int
    is_upgraded: bool

    @property
    def address(self) -> str:
        return f"{SUBNET}.{self.number}"

    @property
    def mac(self) -> str:
        return f"52:54:00:67:75:{self.number:02x}"

    @property
    def domain(self) -> Domain:
        """It starts with its host, and goes on if it was suspended."""
        return Domain(
            name=self.name,
            uuid=uuid5(NAMESPACE_DNS, self.name),
            mac=self.mac,
            disk=f"{IMAGES}/{self.name}.qcow2",
            network=Bridge(name=BRIDGE, is_openvswitch=True, vlan=self.vlan),
            autostarts=True,
        )


GUESTS = (
    NetworkGuest(name="upgraded-vlan-10", number=21, vlan=10, is_upgraded=True),
    NetworkGuest(name="upgraded-vlan-20", number=22, vlan=20, is_upgraded=True),
    NetworkGuest(name="staying-vlan-10", number=23, vlan=10, is_upgraded=False),
)
VLANS = tuple(sorted({guest.vlan for guest in GUESTS}))


def offers_of(hypervisor: Hypervisor) -> Offers:
    """What the host has for bridges and tunnels; `ImageError` if it does not tell."""
    return read(ask(hypervisor.machine.channel, [OFFERS]), OFFERS, read_offers)


@dataclass(slots=True)
class GuestNetwork:
    """`GUESTS` on a host that is to be upgraded and on one that stays, both on and in one lab."""

    upgraded: Hypervisor
    staying: Hypervisor
    tunnel: Tunnel
    _wired: dict[str, Wiring] = field(default_factory=dict)

    def host_of(self, guest: NetworkGuest) -> Hypervisor:
        return self.upgraded if guest.is_upgraded else self.staying

    def make(self) -> None:
        """Make bridges, tunnel, guests and senders. `GuestFailed` or `ImageError` if one cannot be made."""
        for host, other in ((self.upgraded, self.staying), (self.staying, self.upgraded)):
            make_ground(host, Ground.OPENVSWITCH)
            host.machine.check(add_tunnel(BRIDGE, self.tunnel, other.machine.spec.address))
        for vlan in VLANS:
            self.staying.machine.check(add_sender(BRIDGE, _sender(vlan), vlan, f"{SUBNET}.{200 + vlan}/24"))
        for guest in GUESTS:
            host, domain = self.host_of(guest), guest.domain
            host.put_disk(domain, TinyGuest(nonce=guest.name, addresses={guest.mac: guest.address}))
            host.define(domain, host.kind())
            host.start(guest.name)
        self.upgraded.machine.check("sync")

    def check(self, stage: str) -> None:
        """Each guest answers the sender of its VLAN, and no other. `GuestFailed` otherwise, with the
        first finding; the run has all that were found."""
        wired = {host.machine.name: self._wiring(host) for host in (self.upgraded, self.staying)}
        before, self._wired = self._wired, self._wired or wired
        changed = [line for name, was in before.items() for line in changes(was, wired[name])]
        evidence = (*changed, *(line for one in wired.values() for line in one.lines()))
        found = [self._report(kind, problems, stage, evidence) for kind, problems in self._problems() if problems]
        if found:
            raise GuestFailed(found[0])

    def _problems(self) -> Iterator[tuple[str, dict[str, str]]]:
        """What is wrong with which guest, by the id of the finding."""
        yield "guest-cut-off", {guest.name: why for guest in GUESTS if (why := self._silence(guest))}
        yield "guest-not-isolated", dict(self._leaks())

    def _report(self, kind: str, problems: Mapping[str, str], stage: str, evidence: tuple[str, ...]) -> Finding:
        first = next(guest for guest in GUESTS if guest.name in problems)
        return self.host_of(first).report(kind, problems, stage=stage, evidence=evidence)

    def _silence(self, guest: NetworkGuest) -> str:
        """Why ``guest`` does not answer on its VLAN; empty if it does, at once or soon."""
        host, staying = self.host_of(guest), self.staying.machine
        ping = waiting.command_succeeds(_ping(guest, guest.vlan, count=1, wait_s=5))
        try:
            waiting.wait(staying.name, staying.channel, ping, Deadline(_ANSWER_S))
        except WaitFailed as error:
            state = host.machine.run(f"virsh -q domstate {guest.name}")
            return (
                f"it is {state.text or state.errors}, and has not answered ping on VLAN {guest.vlan} from "
                f"{staying.name} for {error.waited_s:.0f} s"
            )
        return ""

    def _leaks(self) -> Iterator[tuple[str, str]]:
        """The guests that answer on another VLAN than theirs: all are asked at once."""
        strangers = [(guest, vlan) for guest in GUESTS for vlan in VLANS if vlan != guest.vlan]
        script = "".join(
            f"{{ {_ping(guest, vlan, count=3, wait_s=5)} >/dev/null && echo {guest.name} {guest.vlan} {vlan}; }} &\n"
            for guest, vlan in strangers
        )
        for line in self.staying.machine.check(f"{script}wait", Deadline(60)).splitlines():
            name, own, other = line.split()
            yield name, f"it is on VLAN {own}, and answers ping on VLAN {other}"

    def _wiring(self, host: Hypervisor) -> Wiring:
        names = [guest.name for guest in GUESTS if self.host_of(guest) is host]
        cards = {name: Probe(f"cards of {name}", f"virsh domiflist {name}") for name in names}
        answers = ask(host.machine.channel, [_PORTS, *cards.values()], Deadline(120))
        ports = read(answers, _PORTS, read_ports)
        by_guest = {
            name: port
            for name, probe in cards.items()
            for port, _ in read(answers, probe, lambda text: [*read_cards(text)])
        }
        return wiring(host.machine.name, ports, by_guest)

    def now_s(self) -> float:
        """Unix time on the clock of the senders."""
        return float(self.staying.machine.check("date +%s.%N"))

    def begin_pings(self) -> None:
        """From now on, all guests are pinged by the sender of their VLAN, whether they answer or not."""
        for guest in GUESTS:
            log, sender = _log(guest), _sender(guest.vlan)
            begin = _BEGIN.format(guest=guest.name, log=log, sender=sender, every_s=EVERY_S, address=guest.address)
            self.staying.machine.check(begin)

    def end_pings(self) -> Mapping[str, PingLog]:
        """When each guest answered, by name. `ImageError` if the host that stays has no record of it."""
        logs = dict[str, PingLog]()
        for guest in GUESTS:
            probe = Probe(f"answers of {guest.name}", _END.format(guest=guest.name, log=_log(guest)))
            packed = ask(self.staying.machine.channel, [probe], Deadline(60))
            logs[guest.name] = read(packed, probe, lambda text: read_log(gzip.decompress(b64decode(text)).decode()))
        return logs


def _log(guest: NetworkGuest) -> str:
    return f"/run/bootproof-ping-{guest.name}"


def _sender(vlan: int) -> str:
    return f"sender{vlan}"


def _ping(guest: NetworkGuest, vlan: int, *, count: int, wait_s: int) -> str:
    sender, address = _sender(vlan), guest.address
    return _PING.format(sender=sender, count=count, every_s=0.5, wait_s=wait_s, address=address)
