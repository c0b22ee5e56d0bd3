"""Kernel modules that are compressed by what Python reads."""

from __future__ import annotations

import lzma
import zlib
from contextlib import suppress

from harness.lint.elf import MAGIC

_MOST_BYTES = 16 << 20


def unpacked(content: bytes) -> bytes | None:
    """The bytes of a module; None for a compression that is not read here."""
    with suppress(lzma.LZMAError, zlib.error, EOFError):
        if content[:6] == b"\xfd7zXZ\0":
            return lzma.LZMADecompressor(memlimit=64 << 20).decompress(content, _MOST_BYTES)
        if content[:2] == b"\x1f\x8b":
            return zlib.decompressobj(31).decompress(content, _MOST_BYTES)
        if content[:4] == MAGIC:
            return content
    return None
