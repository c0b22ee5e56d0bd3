"""What tells a machine from others of the same image, and must stay the same over its reboots and upgrades."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.machine.machine import Machine
from harness.model.definition import ImageDefinition


@dataclass(frozen=True, slots=True)
class IdentityProbe:
    """``question`` is asked in the guest. An answer is owed by images that have ``owed_by``, a persistent path or a
    service, or by all; others have it or not."""

    name: str
    question: str
    owed_by: str | None = ""

    def is_owed(self, definition: ImageDefinition) -> bool:
        return self.owed_by == "" or self.owed_by in (*definition.persistent_paths, *definition.services)


PROBES = (
    IdentityProbe("machine-id", "cat /etc/machine-id"),
    IdentityProbe(
        "SSH host keys",
        "sshd -T | sed -n 's/^hostkey //p' | sort | while read -r key; do ssh-keygen -lf $key; done",
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


def identity(machine: Machine) -> dict[str, str]:
    """The answers of ``machine``, which is on; one that is owed may be empty, another is left out then."""
    answers = {mark: machine.run(f"({mark.question}) 2>/dev/null").text.strip() for mark in PROBES}
    return {mark.name: said for mark, said in answers.items() if said or mark.is_owed(machine.definition)}


def shared(first: dict[str, str], second: dict[str, str]) -> Iterator[str]:
    """What does not tell two machines apart, a sentence each."""
    for name, said in first.items():
        if not said:
            yield f"a machine has no {name}"
        elif second.get(name) == said:
            yield f"{name} is the same on both machines: {said}"
