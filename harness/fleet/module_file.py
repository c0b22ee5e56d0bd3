"""What a kernel module, or a program, says about itself. Pure: bytes to values (elf(5)), which may be damaged."""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress

_ELF = b"\x7fELF\2\1"
"""64 bits, little endian: the only kind of x86-64."""
_MOST_BYTES = 256 << 20
_NOTE, _PROPERTY = 4, 0x6474E553
_GNU_PROPERTIES = 5
_ISA_NEEDED = 0xC0008002
"""GNU_PROPERTY_X86_ISA_1_NEEDED (System V ABI, AMD64 supplement): bit 0 is x86-64, bit 1 x86-64-v2, and so on."""
_DAMAGED = (struct.error, IndexError, ValueError, OverflowError)
_ZSTD = b"\x28\xb5\x2f\xfd"

Info = dict[str, tuple[str, ...]]


def is_zstd(content: bytes) -> bool:
    return content[:4] == _ZSTD


def unpacked(content: bytes) -> bytes | None:
    """The bytes of a module that is plain or packed by xz or gzip; None for another compression and for damage."""
    with suppress(lzma.LZMAError, zlib.error, EOFError):
        if content[:6] == b"\xfd7zXZ\0":
            return lzma.LZMADecompressor(memlimit=256 << 20).decompress(content, _MOST_BYTES)
        if content[:2] == b"\x1f\x8b":
            return zlib.decompressobj(31).decompress(content, _MOST_BYTES)
        if content[:4] == _ELF[:4]:
            return content
    return None


def module_info(module: bytes) -> Info:
    """The values of each key in the section .modinfo, such as ``alias``, ``firmware`` and ``depends``; none for what is
    not a module."""
    try:
        for name, offset, size in _sections(module):
            if name == ".modinfo":
                return info(module[offset : offset + size])
    except _DAMAGED:
        pass
    return {}


def info(section: bytes) -> Info:
    """The keys and values of ``key=value`` strings that end in zeros."""
    found = dict[str, list[str]]()
    for text in section.split(b"\0"):
        key, equals, value = text.partition(b"=")
        if equals:
            found.setdefault(key.decode("utf-8", "replace"), []).append(value.decode("utf-8", "replace"))
    return {key: tuple(values) for key, values in found.items()}


def _sections(content: bytes) -> Iterator[tuple[str, int, int]]:
    """Name, place and size of each section."""
    if content[:6] != _ELF:
        return
    (at,) = struct.unpack_from("<Q", content, 40)
    size, count, names = struct.unpack_from("<HHH", content, 58)
    rows = [struct.unpack_from("<IIQQQQ", content, at + number * size) for number in range(count)]
    strings = rows[names][4]
    for name, _, _, _, offset, length in rows:
        end = content.index(b"\0", strings + name)
        yield content[strings + name : end].decode("ascii", "replace"), offset, length


def isa_level(program: bytes) -> int:
    """The level of x86-64 that ``program`` says it needs: 3 is x86-64-v3. 0 if it says nothing."""
    try:
        return max(_levels(program), default=0)
    except _DAMAGED:
        return 0


def _levels(program: bytes) -> Iterator[int]:
    if program[:6] != _ELF:
        return
    (at,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    for number in range(count):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", program, at + number * size)
        if kind in (_NOTE, _PROPERTY):
            for key, value in _properties(program[offset : offset + length]):
                if key == _ISA_NEEDED:
                    yield int.from_bytes(value, "little").bit_length()


def _properties(notes: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 12 <= len(notes):
        name_bytes, bytes_, kind = struct.unpack_from("<III", notes, at)
        name = notes[at + 12 : at + 12 + name_bytes]
        begin = at + 12 + -(-name_bytes // 4) * 4
        end = begin + bytes_
        while kind == _GNU_PROPERTIES and name == b"GNU\0" and begin + 8 <= end:
            key, length = struct.unpack_from("<II", notes, begin)
            yield key, notes[begin + 8 : begin + 8 + length]
            begin += 8 + -(-length // 8) * 8
        at = -(-end // 4) * 4
