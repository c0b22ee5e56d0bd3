"""What operators see of a host besides its packages, as one value: to compare two versions of an image by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from harness.core.serialization import Format
from harness.model import upgrades
from harness.model.guest_contract import GuestContract


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """The facts about a ready host. Each field but ``format``, ``cpu``, ``guests`` and ``references`` maps names to
    values.

    - ``interfaces``: the place of a network card, as "pci0000:00/0000:00:03.0", to its name; an interface without a
      device is its own place
    - ``disks``: the place of a disk or partition, or its link as "by-id/scsi-0QEMU_DATA", to its name
    - ``mounts``: a folder to the kind, source and options of the file system there
    - ``defences``: see `harness.model.defences`
    - ``profiles``: a profile of AppArmor to its mode
    - ``sysctl``: a key with dots to its value, without those that change by themselves or are of one interface
    - ``limits``: "ssh.service LimitNOFILE" to the limit, where it is not the manager's default; "default LimitNOFILE"
    - ``control_groups``: the version, the controllers, and the groups of services outside of system.slice
    - ``timers``: a timer to its times and the unit that it starts
    - ``logins``: a user to home and shell; ``members``: a group to those that are in it
    - ``modules``: the kernel modules that are loaded, to an empty value
    - ``settings``: what has no kind of its own, such as the time zone

    ``references`` maps names of all kinds, and of units and users, to the files in persistent paths that refer to them.
    ``cpu`` is the model. ``guests`` is None if it was not recorded.
    """

    FORMAT: ClassVar[Format] = Format(kind="the facts about a host", number=2, upgrades={1: upgrades.host_facts_2})

    format: int = 2
    cpu: str = ""
    interfaces: dict[str, str] = field(default_factory=dict)
    disks: dict[str, str] = field(default_factory=dict)
    mounts: dict[str, str] = field(default_factory=dict)
    defences: dict[str, str] = field(default_factory=dict)
    profiles: dict[str, str] = field(default_factory=dict)
    sysctl: dict[str, str] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)
    control_groups: dict[str, str] = field(default_factory=dict)
    timers: dict[str, str] = field(default_factory=dict)
    logins: dict[str, str] = field(default_factory=dict)
    members: dict[str, str] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    guests: GuestContract | None = None
    references: dict[str, tuple[str, ...]] = field(default_factory=dict)


def names_of_link(link: str) -> tuple[str, ...]:
    """How files name the disk that has a ``link`` such as "by-id/scsi-0QEMU_DATA". A label may be any word."""
    kind, _, name = link.partition("/")
    if kind in ("by-label", "by-partlabel"):
        return link, f"{kind.removeprefix('by-').upper()}={name}"
    return (name,)
