"""Identity: what distinguishes machines of one image, and must stay the same over reboots and upgrades."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.machine.machine import Machine
from harness.model.definition import Identity, ImageDefinition


@dataclass(frozen=True, slots=True)
class IdentityProbe:
    """``command`` prints one part of the identity in the guest.

    It is required of images that have ``required_by``, a persistent path or a service; of all images if that is empty,
    of none if it is None.
    """

    name: str
    command: str
    required_by: str | None = ""

    def is_required(self, definition: ImageDefinition) -> bool:
        return self.required_by == "" or self.required_by in (*definition.persistent_paths, *definition.services)


PROBES = (
    IdentityProbe("machine-id", "cat /etc/machine-id"),
    IdentityProbe(
        "SSH host keys", "sshd -T | sed -n 's/^hostkey //p' | sort | while read -r key; do ssh-keygen -lf $key; done"
    ),
    IdentityProbe(
        "DHCP client id",
        "networkctl status $(ls /sys/class/net | grep -vx lo) | sed -n 's/.*DHCPv\\?4 Client ID: *//p'",
        "systemd-networkd.service",
    ),
    IdentityProbe("Open vSwitch system id", "ovs-vsctl get Open_vSwitch . external-ids:system-id", "/etc/openvswitch"),
    IdentityProbe(
        "libvirt host UUID",
        "virsh capabilities | sed -n '/<host>/,/<cpu>/s:.*<uuid>\\(.*\\)</uuid>.*:\\1:p'",
        "/etc/libvirt",
    ),
    IdentityProbe("nova compute id", "cat /var/lib/nova/compute_id", None),
    IdentityProbe("iSCSI initiator name", "sed -n 's/^InitiatorName=//p' /etc/iscsi/initiatorname.iscsi", None),
)


_INTENDED = f'identity = "{Identity.NEW_EACH_BOOT}" below [expect] in image.toml'


def identity(machine: Machine) -> dict[str, str]:
    """The identity of ``machine``, which is on, by probe; a probe without an answer is left out unless required."""
    answers = {probe: machine.run(f"({probe.command}) 2>/dev/null").text.strip() for probe in PROBES}
    return {probe.name: text for probe, text in answers.items() if text or probe.is_required(machine.definition)}


def changes(definition: ImageDefinition, before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    """A sentence for each part of a machine's identity that is not as it was in an earlier boot: pure.

    None if the definition says that the identity is new at each boot.
    """
    if definition.identity is Identity.NEW_EACH_BOOT:
        return
    hint = "" if definition.persistent_paths else f"; if that is intended, write {_INTENDED}"
    for name in before | after:
        if before.get(name) != after.get(name):
            yield f"{name} was {before.get(name)!r}, is {after.get(name)!r}{hint}"


def duplicates(first: dict[str, str], second: dict[str, str]) -> Iterator[str]:
    """A sentence for each part of the identity that is empty, or the same on both machines: pure."""
    for name, answer in first.items():
        if not answer:
            yield f"a machine has no {name}"
        elif second.get(name) == answer:
            yield f"{name} is the same on both machines: {answer}"
