"""The guests that two hosts connect with each other, and what is sent to them all the time: on paper."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from uuid import NAMESPACE_DNS, uuid5

from harness.guests.domains import IMAGES, Bridge, Domain
from harness.guests.ground import BRIDGE, SUBNET

EVERY_S = 0.2
"""Between an answer of a stream and what is sent next, and between pings, answered or not."""
ECHO_PORT = 7
_STREAM_S = 1200
"""How long a stream waits for an answer. The kernel gives one up after 924 s or more (tcp(7), tcp_retries2)."""
_PING = "exec ping -n -D -i {every_s} {address}"
_STREAM = """\
export LC_ALL=C
trap '' PIPE
number=0
say() {{ printf '[%s] %s %d\\n' "$EPOCHREALTIME" "$1" $number; }}
exec 3<>/dev/tcp/{address}/{port} || {{ say lost; exit; }}
while printf 'line %d\\n' $((++number)) >&3 && read -r -t {limit_s} answer <&3 && [ "$answer" = "line $number" ]; do
    say echo
    sleep {every_s}
done
say lost
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkGuest:
    """A guest on a VLAN: on the host that is to be upgraded, or on the one that stays. ``number`` is the last byte of
    its address and of its MAC."""

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


def sender(vlan: int) -> str:
    """The network namespace on the host that stays, and its port, that has this tag."""
    return f"sender{vlan}"


def stream_script(address: str, port: int = ECHO_PORT) -> str:
    """For bash(1): send a line over one connection, wait until it comes back, and so on, with the time of each."""
    return _STREAM.format(address=address, port=port, every_s=EVERY_S, limit_s=_STREAM_S)


class Way(StrEnum):
    """What is sent to a guest: pings, or lines over one connection that lasts."""

    PING = "ping"
    TCP = "TCP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What is sent to ``guest`` all the time by the sender of its VLAN."""

    guest: NetworkGuest
    way: Way

    @property
    def unit(self) -> str:
        return f"bootproof-{self.way.lower()}-{self.guest.name}.service"

    @property
    def log(self) -> str:
        """The file with what the sender saw, on the host that stays."""
        return f"/run/{self.unit}.log"

    @property
    def begin(self) -> str:
        """The command that begins to send."""
        is_ping, address = self.way is Way.PING, self.guest.address
        sending = _PING.format(address=address, every_s=EVERY_S) if is_ping else stream_script(address)
        script = shlex.quote(f"date '+begin %s.%N'\n{sending}")
        return (
            f"systemd-run -q --collect --unit={self.unit} -p StandardOutput=file:{self.log} "
            f"ip netns exec {sender(self.guest.vlan)} bash -c {script}"
        )

    @property
    def end(self) -> str:
        """Commands that end it, and print the log, packed."""
        stop = f"systemctl stop {self.unit} 2>/dev/null; ! systemctl is-active -q {self.unit} || exit"
        return f"{stop}\ndate '+end %s.%N' >>{self.log} || exit\ngzip -f {self.log} || exit\nbase64 -w 0 {self.log}.gz"


FLOWS = tuple(Flow(guest=guest, way=way) for guest, way in product(GUESTS, Way))
