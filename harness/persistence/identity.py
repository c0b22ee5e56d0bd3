"""Identity: what distinguishes machines of one image, and must stay the same over reboots and upgrades."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.guest.probes import Probe, ask
from harness.machine.machine import Machine
from harness.model.definition import Identity, ImageDefinition


@dataclass(frozen=True, slots=True)
class IdentityProbe:
    """``command`` prints what has one part of the identity in the guest: in each line, the group of ``pattern``.

    It is required of images that have ``required_by``, a persistent path or a service; of all images if that is empty,
    of none if it is None. Of other images it is asked if the test ``exists``, shell builtins only, succeeds.
    """

    name: str
    command: str
    required_by: str | None = ""
    exists: str = "false"
    pattern: str = "(.+)"

    def is_required(self, definition: ImageDefinition) -> bool:
        return self.required_by == "" or self.required_by in (*definition.persistent_paths, *definition.services)

    def probe(self, definition: ImageDefinition) -> Probe:
        """The probe of an image; it answers `_ABSENT` where the image lacks this part."""
        if self.is_required(definition):
            return Probe(self.name, self.command)
        return Probe(self.name, f"{self.exists} || {{ echo {_ABSENT}; exit; }}\n{self.command}")

    def parse(self, answer: str) -> str:
        """The identity in an answer, sorted lines; empty if it has none."""
        found = re.findall(self.pattern, answer) if answer != _ABSENT else []
        return "\n".join(sorted(text.strip() for text in found))


_ABSENT = "absent"
_QUOTED_LINES = 5
_ASK_S = 240.0
_HOST_KEYS = """
settings=$(sshd -T) || exit
while read -r word file; do
    [ "$word" = hostkey ] && [ -e "$file" ] || continue
    ssh-keygen -lf "$file" || exit
done <<END
$settings
END
"""
"""sshd_config(5): the default settings name keys that need not exist."""
_HOST_NAME = """
read -r name </proc/sys/kernel/hostname || exit
tries=0
while [ "$name" = localhost ] && [ $tries -lt 10 ]; do
    sleep 0.5
    tries=$((tries + 1))
    read -r name </proc/sys/kernel/hostname || exit
done
echo "$name"
"""
"""A name that DHCP sends may come some seconds after the host is ready. That there is none is a finding of the check
``host``."""

PROBES = (
    IdentityProbe("machine-id", "cat /etc/machine-id"),
    IdentityProbe("SSH host keys", _HOST_KEYS),
    IdentityProbe("host name", _HOST_NAME, None, exists="true", pattern=r"(?m)^(?!localhost\b|\(none\))(.+)$"),
    IdentityProbe(
        "DHCP client id",
        "networkctl status --all --no-pager",
        "systemd-networkd.service",
        exists="[ -d /run/systemd/netif/links ]",
        pattern=r"DHCPv?4 Client ID: *(.+)",
    ),
    IdentityProbe(
        "Open vSwitch system id",
        "ovs-vsctl get Open_vSwitch . external-ids",
        "/etc/openvswitch",
        exists="[ -S /run/openvswitch/db.sock ]",
        pattern='system-id="?([^",}]+)',
    ),
    IdentityProbe(
        "libvirt host UUID",
        "virsh capabilities",
        "/etc/libvirt",
        exists="[ -S /run/libvirt/libvirt-sock ]",
        pattern="<host>\\s*<uuid>(.+)</uuid>",
    ),
    IdentityProbe("nova compute id", "cat /var/lib/nova/compute_id", None, exists="[ -e /var/lib/nova/compute_id ]"),
    IdentityProbe(
        "iSCSI initiator name",
        "cat /etc/iscsi/initiatorname.iscsi",
        None,
        exists="[ -e /etc/iscsi/initiatorname.iscsi ]",
        pattern="(?m)^InitiatorName=(.+)",
    ),
)


_INTENDED = f'identity = "{Identity.NEW_EACH_BOOT}" below [expect] in image.toml'


def identity(machine: Machine) -> dict[str, str]:
    """The identity of ``machine``, which is on, by probe; a part that it neither has nor must have is left out.

    `ImageError` if a required part is missing, or a command fails.
    """
    definition = machine.definition
    answers = ask(machine.channel, [probe.probe(definition) for probe in PROBES], Deadline(_ASK_S))
    return dict(parts(answers, definition))


def parts(answers: dict[str, str], definition: ImageDefinition) -> Iterator[tuple[str, str]]:
    """The identity in the answers to all `PROBES`: pure. `ImageError` for a required part without an answer."""
    for probe in PROBES:
        text = probe.parse(answers[probe.name])
        if text:
            yield probe.name, text
        elif probe.is_required(definition):
            begin = "\n".join(answers[probe.name].splitlines()[:_QUOTED_LINES])
            raise ImageError(f"the machine has no {probe.name}: `{probe.command.strip()}` printed:\n{begin}")


def changes(definition: ImageDefinition, before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    """A sentence for each part of a machine's identity that is not as it was in an earlier boot: pure.

    None for a part that it did not have then, and none if the definition says that the identity is new at each boot.
    """
    if definition.identity is Identity.NEW_EACH_BOOT:
        return
    hint = "" if definition.persistent_paths else f"; if that is intended, write {_INTENDED}"
    for name in before:
        if before[name] != after.get(name):
            yield f"{name} was {before[name]!r}, is {after.get(name)!r}{hint}"


def duplicates(first: dict[str, str], second: dict[str, str]) -> Iterator[str]:
    """A sentence for each part of the identity that is the same on both machines: pure."""
    for name, answer in first.items():
        if second.get(name) == answer:
            yield f"{name} is the same on both machines: {answer}"
