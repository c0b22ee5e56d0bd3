"""The devices that a machine may have, by name: what a hardware profile says, and what a scan of a host prints.

Nothing but the standard library is imported: ``make hardware-scan`` packs this file for hosts with Python 3.9.
"""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):  # noqa: UP036  # in the packed scan of a host, Python may be 3.9
    from enum import StrEnum
else:
    from enum import Enum

    class StrEnum(str, Enum):  # noqa: UP042  # the same
        """Python 3.11's."""

        __str__ = str.__str__
        __format__ = str.__format__


MOST_NICS = 4

PROFILE_SCHEMA = 2
"""The number of the format of hardware profiles; 2 has ``[seen] devices``. A file without a number is 1."""


class Firmware(StrEnum):
    BIOS = "bios"
    UEFI = "uefi"


class DiskBus(StrEnum):
    """A disk's controller: shared by all disks of its kind (virtio-scsi, AHCI, MegaRAID SAS), or its own (NVMe,
    virtio-blk)."""

    SCSI = "scsi"
    SATA = "sata"
    MEGASAS = "megasas"
    NVME = "nvme"
    VIRTIO = "virtio"

    @property
    def places(self) -> int:
        """How many disks of it a machine can have: AHCI has six ports."""
        return 6 if self is DiskBus.SATA else 16


class DiskRole(StrEnum):
    """``data``: the persistent disk, for /data. ``foreign``: an ext4 of another system on the whole disk. ``blank``."""

    DATA = "data"
    FOREIGN = "foreign"
    BLANK = "blank"


class NicModel(StrEnum):
    VIRTIO = "virtio"
    E1000E = "e1000e"
    VMXNET3 = "vmxnet3"
    IGB = "igb"
