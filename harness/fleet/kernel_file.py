"""What a kernel's file and its configuration say: can UEFI start it, is it signed, which firmware files it unpacks."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

_PE32_PLUS = 0x20B
_CERTIFICATES = 4
"""The place of the certificate table among the data directories (Microsoft, PE Format)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFile:
    """``is_efi``: UEFI can start it. ``is_signed``: it carries a signature, of whomever."""

    is_efi: bool = False
    is_signed: bool = False


def read_kernel(head: bytes) -> KernelFile:
    """From the first 4 KiB of the file."""
    try:
        (at,) = struct.unpack_from("<I", head, 0x3C)
        if head[:2] != b"MZ" or head[at : at + 4] != b"PE\0\0":
            return KernelFile()
        optional = at + 24
        (magic,) = struct.unpack_from("<H", head, optional)
        (directories,) = struct.unpack_from("<I", head, optional + 108)
        _, size = struct.unpack_from("<II", head, optional + 112 + 8 * _CERTIFICATES)
    except (struct.error, OverflowError):
        return KernelFile()
    return KernelFile(is_efi=magic == _PE32_PLUS, is_signed=directories > _CERTIFICATES and size > 0)


def firmware_suffixes(config: str | None, version: str) -> tuple[str, ...]:
    """The ends of names of compressed firmware files that the kernel reads.

    Without its configuration, what a kernel of that version can read if its distribution lets it: .xz since 5.3,
    .zst since 5.19 (Linux, drivers/base/firmware_loader/Kconfig).
    """
    if config is not None:
        options = {line.removesuffix("=y") for line in config.splitlines() if line.endswith("=y")}
        has_kinds = re.search(r"CONFIG_FW_LOADER_COMPRESS_(XZ|ZSTD)\b", config) is not None
        xz = "CONFIG_FW_LOADER_COMPRESS" in options and ("CONFIG_FW_LOADER_COMPRESS_XZ" in options or not has_kinds)
        zstd = "CONFIG_FW_LOADER_COMPRESS_ZSTD" in options
    else:
        numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
        xz, zstd = numbers >= (5, 3), numbers >= (5, 19)
    return tuple(suffix for suffix, is_read in ((".zst", zstd), (".xz", xz)) if is_read)
