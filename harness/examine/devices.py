"""Where a device is: its place in /sys, which stays the same when the kernel finds devices in another order."""

from __future__ import annotations

import re

_NET = "net"
_ENUMERATED = re.compile(r"net|block|nvme|nvme-subsystem|(virtio|nvme|host|nvme-subsys)\d+")
_SCSI = re.compile(r"(target)?\d+:(\d+:\d+(?::\d+)?)")
"""target0:0:0 and 0:0:0:0: the first number is the host's."""
_NAMESPACE = re.compile(r"nvme\d+(n\d+)")


def place_of(target: str) -> str:
    """The place of the network interface, disk or partition whose link in /sys/class leads to ``target``:
    "pci0000:00/0000:00:05.0/target0:0/0:0:0/2" for ../../devices/pci0000:00/…/block/sda/sda2.

    An interface that no device has is its own place. Empty for a disk that is made of memory or of others.
    """
    *folders, name = target.partition("devices/")[2].split("/")
    if folders[:1] == ["virtual"]:
        return name if _NET in folders else ""
    number = ""
    if _NET not in folders and (partition := re.fullmatch(rf"{re.escape(folders[-1])}p?(\d+)", name)):
        number, name = partition[1], folders.pop()
    namespace = _NAMESPACE.fullmatch(name)
    return "/".join(filter(None, [*map(_stable, folders), namespace[1] if namespace else "", number]))


def _stable(folder: str) -> str:
    """``folder`` without what depends on the order; empty if that is all of it."""
    if _ENUMERATED.fullmatch(folder):
        return ""
    found = _SCSI.fullmatch(folder)
    return f"{found[1] or ''}{found[2]}" if found else folder
