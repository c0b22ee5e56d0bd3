"""The file systems of persistent paths, and those of their features that an older version may refuse."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core import ext4_features
from harness.machine.verbs import GuestVerbs
from harness.persistence.guest_python import read_json
from harness.persistence.locations import find_locations

_LOOK = r"""
import json, struct, sys

found = {}
for device in sys.argv[1:]:
    with open(device, "rb") as file:
        file.seek(1024)
        superblock = file.read(1024)
    if superblock[0x38:0x3A] == b"\x53\xef":
        found[device] = struct.unpack_from("<III", superblock, 0x5C)
print(json.dumps(found))
"""
"""s_magic, then s_feature_compat, s_feature_incompat and s_feature_ro_compat (Linux, filesystems/ext4/super.rst)."""


def formats(machine: GuestVerbs, paths: Sequence[str]) -> dict[str, str]:
    """The features of each ext4 that holds ``paths``, without those that every release has."""
    devices = {
        location.device: location.path
        for location in reversed(find_locations(machine.channel, paths))
        if location.device.startswith("/dev/")
    }
    found: dict[str, tuple[int, int, int]] = read_json(machine, _LOOK, tuple(devices)) if devices else {}
    return {f"the file system of {devices[device]}": describe(*masks) for device, masks in found.items()}


def describe(compatible: int, incompatible: int, read_only: int) -> str:
    return f"ext4 with {', '.join(ext4_features.uncommon(compatible, incompatible, read_only)) or 'common features'}"
