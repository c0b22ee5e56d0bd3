"""A disk with one application, which UEFI firmware starts from it without any boot option of its own."""

from __future__ import annotations

import struct
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.core import process

_SECTOR_BYTES, _FIRST_SECTOR = 512, 64
_EFI_SYSTEM = 0xEF
"""The type of an EFI system partition in a master boot record (UEFI 2.10, 5.2.2)."""


def make_uefi_disk(path: Path, application: bytes, size_bytes: int) -> None:
    """Make a raw disk with one FAT partition, which has ``application`` as its loader (UEFI 2.10, 3.5.1.1).

    `FileExistsError` if there is a file, `HostError` without mtools(1).
    """
    sectors = size_bytes // _SECTOR_BYTES - _FIRST_SECTOR
    with path.open("xb") as file:
        file.write(_master_boot_record(sectors))
        file.truncate(size_bytes)
    partition = f"{path}@@{_FIRST_SECTOR * _SECTOR_BYTES}"
    mformat, mmd, mcopy = (process.require(name, "mtools") for name in ("mformat", "mmd", "mcopy"))
    process.output([mformat, "-i", partition, "-T", str(sectors), "-h", "2", "-s", "32", "-v", "TINY", "::"])
    process.output([mmd, "-i", partition, "::/EFI", "::/EFI/BOOT"])
    with TemporaryDirectory(prefix="bootproof-") as folder:
        loader = Path(folder) / "BOOTX64.EFI"
        loader.write_bytes(application)
        process.output([mcopy, "-i", partition, str(loader), "::/EFI/BOOT/"])


def _master_boot_record(sectors: int) -> bytes:
    """One partition; no address in cylinders."""
    beyond = b"\xff\xff\xff"
    entry = struct.pack("<B3sB3sII", 0, beyond, _EFI_SYSTEM, beyond, _FIRST_SECTOR, sectors)
    return bytes(446) + entry + bytes(3 * 16) + b"\x55\xaa"
