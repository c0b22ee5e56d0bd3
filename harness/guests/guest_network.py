"""Guests of two hosts that see each other over a tunnel between the hosts, each VLAN for itself.

A tiny guest sends nothing by itself. The sender is a network namespace on the host that stays on: its only card is a
port of the same bridge, with the tag of its VLAN, as a guest's is.

make → check → begin_traffic → (the other host is upgraded) → check → wait_for_streams → end_traffic
"""

from __future__ import annotations

import gzip
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from harness.core.deadline import Deadline
from harness.guest import waiting
from harness.guest.probes import Probe, ask, read
from harness.guest.waiting import WaitFailed
from harness.guests.answer_log import AnswerLog, read_log
from harness.guests.ground import BRIDGE, SUBNET, Ground, make_ground
from harness.guests.hypervisor import GuestFailed, Hypervisor
from harness.guests.network_guests import FLOWS, GUESTS, VLANS, Flow, NetworkGuest, Way, sender
from harness.guests.survey import read_cards
from harness.guests.switch_ports import Wiring, changes, read_ports, wiring
from harness.guests.tiny_guest import TinyGuest
from harness.guests.tunnels import OFFERS, Offers, Tunnel, add_sender, add_tunnel, read_offers
from harness.model.verdict import Finding

_ANSWER_S = 60.0
"""How long a guest may take to answer after its host is ready, on the reference machine."""
_CARD_FIELDS = ("link", "received", "answered")
"""What a guest says about its network card: whether its fault is before the card or behind it."""
_STREAM_S = 150.0
"""How long the kernel of the sender may wait before it sends once more to a guest that did not answer: TCP_RTO_MAX,
120 s in Linux. It does not depend on the host."""
_PORTS = Probe("ports of Open vSwitch", "ovs-vsctl show")
_PING = "ip netns exec {sender} ping -n -c {count} -i {every_s} -W {wait_s} {address}"
_STREAM_GOES = "grep -q ' lost ' {log} || [ $(grep -c ' echo ' {log}) -gt {known} ]"


def offers_of(hypervisor: Hypervisor) -> Offers:
    """What the host has for bridges and tunnels; `ImageError` if it does not tell."""
    return read(ask(hypervisor.machine.channel, [OFFERS]), OFFERS, read_offers)


@dataclass(slots=True)
class GuestNetwork:
    """`GUESTS` on a host that is to be upgraded and on one that stays, both on and in one lab.

    ``patience_s`` is how long guests may take to answer when they are looked for, on the reference machine.
    """

    upgraded: Hypervisor
    staying: Hypervisor
    tunnel: Tunnel
    patience_s: float = _ANSWER_S
    _wired: dict[str, Wiring] = field(default_factory=dict)

    def host_of(self, guest: NetworkGuest) -> Hypervisor:
        return self.upgraded if guest.is_upgraded else self.staying

    def make(self) -> None:
        """Make bridges, tunnel, guests and senders. `GuestFailed` or `ImageError` if one cannot be made."""
        for host, other in ((self.upgraded, self.staying), (self.staying, self.upgraded)):
            make_ground(host, Ground.OPENVSWITCH)
            host.machine.check(add_tunnel(BRIDGE, self.tunnel, other.machine.spec.address))
        for vlan in VLANS:
            self.staying.machine.check(add_sender(BRIDGE, sender(vlan), vlan, f"{SUBNET}.{200 + vlan}/24"))
        for guest in GUESTS:
            host, domain = self.host_of(guest), guest.domain
            host.put_disk(domain, TinyGuest(nonce=guest.name, addresses={guest.mac: guest.address}))
            host.define(domain, host.kind())
            host.start(guest.name)
        self.upgraded.machine.check("sync")

    def check(self, stage: str) -> None:
        """Each guest answers the sender of its VLAN, and no other. `GuestFailed` otherwise, with the first finding; the
        run has all that were found."""
        wired = {host.machine.name: self._wiring(host) for host in (self.upgraded, self.staying)}
        before, self._wired = self._wired, self._wired or wired
        changed = [line for name, was in before.items() for line in changes(was, wired[name])]
        evidence = (*changed, *(line for one in wired.values() for line in one.lines()))
        found = [self._report(kind, problems, stage, evidence) for kind, problems in self._problems() if problems]
        if found:
            raise GuestFailed(found[0])

    def _problems(self) -> Iterator[tuple[str, dict[str, str]]]:
        """What is wrong with which guest, by the id of the finding."""
        yield "guest-cut-off", dict(self._silent())
        yield "guest-not-isolated", dict(self._leaks())

    def _report(self, kind: str, problems: Mapping[str, str], stage: str, evidence: tuple[str, ...]) -> Finding:
        first = next(guest for guest in GUESTS if guest.name in problems)
        return self.host_of(first).report(kind, problems, stage=stage, evidence=evidence)

    def _silent(self) -> Iterator[tuple[str, str]]:
        """The guests that do not answer on their VLAN, at once or soon."""
        pings = {guest: _ping(guest, guest.vlan, count=1, wait_s=5) for guest in GUESTS}
        staying, wait = self.staying.machine, waiting.command_succeeds(" && ".join(pings.values()))
        try:
            waiting.wait(staying.name, staying.channel, wait, Deadline(self.patience_s))
        except WaitFailed as error:
            for guest, ping in pings.items():
                if staying.run(ping).status:
                    yield guest.name, self._silence(guest, error.waited_s)

    def _silence(self, guest: NetworkGuest, waited_s: float) -> str:
        host, name = self.host_of(guest), self.staying.machine.name
        state = host.machine.run(f"virsh -q domstate {guest.name}")
        said = state.errors if state.status else state.text
        silence = f"it is {said}, and has not answered ping on VLAN {guest.vlan} from {name} for {waited_s:.0f} s"
        if said != "running":
            return silence
        if answer := host.status_of(guest.name):
            seen = " ".join(f"{field}={answer.fields.get(field, '-')}" for field in _CARD_FIELDS)
            return f"{silence}; on its serial port it says {seen}"
        return f"{silence}; on its serial port it says nothing either"

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

    def begin_traffic(self) -> None:
        """From now on, all guests are pinged by the sender of their VLAN, whether they answer or not, and have a
        connection to it."""
        for flow in FLOWS:
            self.staying.machine.check(flow.begin)

    def wait_for_streams(self) -> None:
        """Wait until each connection goes on, or is lost, or for as long as a sender may wait: the logs tell which."""
        streams = [flow for flow in FLOWS if flow.way is Way.TCP]
        counts = self.staying.machine.check("".join(f"grep -c ' echo ' {flow.log} || :\n" for flow in streams)).split()
        goes = (
            f"{{ {_STREAM_GOES.format(log=flow.log, known=known)}; }}"
            for flow, known in zip(streams, counts, strict=True)
        )
        staying, wait = self.staying.machine, waiting.command_succeeds(" && ".join(goes))
        with suppress(WaitFailed):
            waiting.wait(staying.name, staying.channel, wait, Deadline(_STREAM_S, scaled=False))

    def end_traffic(self) -> Mapping[Flow, AnswerLog]:
        """When each guest answered. `ImageError` if the host that stays has no record of it."""
        return {flow: self._end(flow) for flow in FLOWS}

    def _end(self, flow: Flow) -> AnswerLog:
        probe = Probe(f"answers of {flow.guest.name}", flow.end)
        packed = ask(self.staying.machine.channel, [probe], Deadline(60))
        return read(packed, probe, lambda text: read_log(gzip.decompress(b64decode(text)).decode()))


def _ping(guest: NetworkGuest, vlan: int, *, count: int, wait_s: int) -> str:
    return _PING.format(sender=sender(vlan), count=count, every_s=0.5, wait_s=wait_s, address=guest.address)
