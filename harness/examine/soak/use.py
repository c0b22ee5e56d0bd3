"""Using a host as its operator and its network do: logins, renewals, rotation, events, a guest."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from harness.core.errors import ImageError
from harness.examine.soak.ground import Ground
from harness.guest.channel import Channel
from harness.lint.finding import LintFinding, fails
from harness.model.definition import ImageDefinition

_RENEW = """
for lease in /run/systemd/netif/leases/*; do
    for card in /sys/class/net/*; do
        [ "$(cat "$card/ifindex")" != "${lease##*/}" ] || networkctl renew "${card##*/}" || exit
    done
done
"""
"""systemd-networkd has a file for each lease, by the number of its card."""
_ROTATE = "[ ! -e /etc/logrotate.conf ] || logrotate -f /etc/logrotate.conf"
_EVENTS = "udevadm trigger --action=change --subsystem-match=net --subsystem-match=block && udevadm settle --timeout=60"
"""Of cards and disks. Those of all devices take ten seconds under emulation."""
_GUEST = (
    "<domain type='qemu'><name>bootproof-soak</name><memory unit='MiB'>64</memory>"
    "<os><type arch='x86_64'>hvm</type></os></domain>"
)
"""A guest without a disk: only its firmware runs."""
_HYPERVISORS = ("libvirtd", "virtqemud")


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """``command`` must end with status 0; a login is one over the network, as root."""

    name: str
    command: str
    is_login: bool = False


def actions_of(ground: Ground, definition: ImageDefinition) -> Iterator[Action]:
    """What can be done with such a host: pure."""
    yield Action(name="login", command="true", is_login=True)
    if "networkctl" in ground.programs:
        yield Action(name="dhcp-renewal", command=_RENEW)
    yield Action(name="journal-rotation", command="journalctl --rotate")
    if "logrotate" in ground.programs:
        yield Action(name="log-rotation", command=_ROTATE)
    if "udevadm" in ground.programs:
        yield Action(name="udev-events", command=_EVENTS)
    if "virsh" in ground.programs and _has_hypervisor(definition):
        yield Action(
            name="guest",
            command=f"printf %s {shlex.quote(_GUEST)} >/run/bootproof-soak.xml && "
            "virsh -q create /run/bootproof-soak.xml && virsh -q destroy bootproof-soak",
        )


def _has_hypervisor(definition: ImageDefinition) -> bool:
    return any(unit.startswith(_HYPERVISORS) for unit in (*definition.services, *definition.sockets))


def unchecked(ground: Ground, definition: ImageDefinition) -> Iterator[str]:
    """A sentence for each use that this host cannot be put to: pure."""
    done = {action.name for action in actions_of(ground, definition)}
    if "dhcp-renewal" not in done:
        yield "renewals of the DHCP lease: the image has no networkctl(1)"
    if "log-rotation" not in done:
        yield "the rotation of log files: the image has no logrotate(8)"


def use_once(action: Action, channel: Channel, login: Channel, number: int) -> LintFinding | None:
    """Do it for the ``number``-th time; a finding if it fails."""
    try:
        done = (login if action.is_login else channel).run(action.command)
    except ImageError as error:
        return fails("use-fails", f"use:{action.name}", f"round {number}: {error}")
    if done.status == 0:
        return None
    return fails("use-fails", f"use:{action.name}", f"round {number}: it {done.ending}", *done.errors.splitlines()[-4:])
