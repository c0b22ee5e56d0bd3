"""The extended attributes of a squashfs, which unsquashfs 4.5 does not print. Only tables are read, no file's contents.

The format is that of Linux, Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h.
"""

from __future__ import annotations

import lzma
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from harness.core import process
from harness.core.errors import ImageError

_GZIP, _XZ, _ZSTD = 1, 4, 6
_NONE = 0xFFFFFFFF
_ABSENT = 0xFFFFFFFFFFFFFFFF
_BLOCK_BYTES = 8192
_MOST_TABLE_BYTES = 256 << 20
_PREFIXES = {0: "user.", 1: "trusted.", 2: "security."}
_OUT_OF_LINE = 0x100

Attributes = dict[str, dict[str, bytes]]


def read_attributes(image: Path) -> Attributes | None:
    """The attributes by path and name; None for a compression that is not read here. `ImageError` if it is damaged."""
    try:
        with image.open("rb") as file:
            head = file.read(96)
            (compression,) = struct.unpack_from("<H", head, 20)
            _, _, ids, xattrs, inodes, folders, fragments, exports = struct.unpack_from("<8Q", head, 32)
            if xattrs == _ABSENT:
                return {}
            if compression not in (_GZIP, _XZ, _ZSTD):
                return None
            tables = _Tables(image, compression)
            (block_bytes,) = struct.unpack_from("<I", head, 12)
            end = min(tables.first(at) for at in (ids, fragments, exports) if at != _ABSENT)
            with_attributes, listed = _inodes(tables.read(inodes, folders)[0], block_bytes)
            parents = _parents(*tables.read(folders, end), folders, listed)
            values = _values(tables, xattrs)
            return {
                _path(inode, parents): values[index] for inode, index in with_attributes.items() if inode in parents
            }
    except (struct.error, IndexError, KeyError, ValueError, zlib.error, lzma.LZMAError, process.CommandFailed) as error:
        raise ImageError(f"{image} is damaged: its tables cannot be read ({error})") from error


class _Tables:
    """Tables in blocks of 8 KiB, each with its length before it, compressed or not."""

    def __init__(self, image: Path, compression: int) -> None:
        self._image, self._compression = image, compression

    def first(self, at: int) -> int:
        """The first block of a table whose list of blocks is at ``at``."""
        return int.from_bytes(self.part(at, 8), "little")

    def part(self, at: int, count: int) -> bytes:
        if count > _MOST_TABLE_BYTES:
            raise ValueError(f"a table of {count:,} bytes")
        with self._image.open("rb") as file:
            file.seek(at)
            return file.read(count)

    def read(self, begin: int, end: int) -> tuple[bytes, dict[int, int]]:
        """The bytes of all blocks, and where in them the block that is at a place in the file begins."""
        packed, at, blocks, starts = self.part(begin, end - begin), 0, list[tuple[bool, bytes]](), dict[int, int]()
        while at < len(packed):
            header = int.from_bytes(packed[at : at + 2], "little")
            size = header & 0x7FFF
            starts[begin + at] = len(blocks) * _BLOCK_BYTES
            blocks.append((not header & 0x8000, packed[at + 2 : at + 2 + size]))
            at += 2 + size
            if len(blocks) * _BLOCK_BYTES > _MOST_TABLE_BYTES:
                raise ValueError(f"a table of more than {_MOST_TABLE_BYTES:,} bytes")
        return self._unpacked(blocks), starts

    def _unpacked(self, blocks: list[tuple[bool, bytes]]) -> bytes:
        if self._compression != _ZSTD:
            unpack = _gunzip if self._compression == _GZIP else _unxz
            return b"".join(unpack(block) if is_packed else block for is_packed, block in blocks)
        with tempfile.NamedTemporaryFile(prefix="bootproof-") as file:
            file.writelines(block if is_packed else _frame(block) for is_packed, block in blocks)
            file.flush()
            with process.reading([process.require("zstd", "zstd"), "-dcq", file.name]) as printed:
                content = printed.read(len(blocks) * _BLOCK_BYTES + 1)
        if len(content) > len(blocks) * _BLOCK_BYTES:
            raise ValueError("a block has more than 8 KiB")
        return content


def _gunzip(block: bytes) -> bytes:
    return zlib.decompressobj().decompress(block, _BLOCK_BYTES)


def _unxz(block: bytes) -> bytes:
    return lzma.LZMADecompressor(memlimit=64 << 20).decompress(block, _BLOCK_BYTES)


def _frame(block: bytes) -> bytes:
    """A frame of zstd with ``block`` as it is (RFC 8878, 3.1.1)."""
    return b"\x28\xb5\x2f\xfd\x00\x38" + (len(block) << 3 | 1).to_bytes(3, "little") + block


_Folder = tuple[int, int, int]
"""Block, place in it, and length of a folder's list of names."""


def _inodes(table: bytes, block_bytes: int) -> tuple[dict[int, int], dict[int, _Folder]]:
    """The attributes' index of each inode that has some, and the lists of folders."""
    found, folders, at = dict[int, int](), dict[int, _Folder](), 0
    while at + 16 <= len(table):
        kind, number = struct.unpack_from("<H10xI", table, at)
        at += 16
        index = _NONE
        match kind:
            case 1:
                block, _, size, offset, _ = struct.unpack_from("<IIHHI", table, at)
                folders[number] = block, offset, size
                at += 16
            case 8:
                _, size, block, _, entries, offset, index = struct.unpack_from("<IIIIHHI", table, at)
                folders[number] = block, offset, size
                at += 24
                for _ in range(entries):
                    at += 12 + struct.unpack_from("<I", table, at + 8)[0] + 1
            case 2:
                _, fragment, _, size = struct.unpack_from("<IIII", table, at)
                at += 16 + 4 * _blocks(size, fragment, block_bytes)
            case 9:
                _, size, _, _, fragment, _, index = struct.unpack_from("<QQQIIII", table, at)
                at += 40 + 4 * _blocks(size, fragment, block_bytes)
            case 3:
                at += 8 + struct.unpack_from("<I", table, at + 4)[0]
            case 10:
                at += 8 + struct.unpack_from("<I", table, at + 4)[0]
                (index,) = struct.unpack_from("<I", table, at)
                at += 4
            case 4 | 5:
                at += 8
            case 11 | 12:
                (index,) = struct.unpack_from("<8xI", table, at)
                at += 12
            case 6 | 7:
                at += 4
            case 13 | 14:
                (index,) = struct.unpack_from("<4xI", table, at)
                at += 8
            case _:
                raise ValueError(f"an inode of kind {kind}")
        if index != _NONE:
            found[number] = index
    return found, folders


def _blocks(size: int, fragment: int, block_bytes: int) -> int:
    return size // block_bytes if fragment != _NONE else -(-size // block_bytes)


def _parents(
    table: bytes, starts: dict[int, int], begin: int, folders: dict[int, _Folder]
) -> dict[int, tuple[int, str]]:
    """The folder and the name of each inode; the root is in none."""
    parents = dict[int, tuple[int, str]]()
    for folder, (block, offset, size) in folders.items():
        at = starts[begin + block] + offset
        end = at + size - 3
        while at < end:
            count, _, base = struct.unpack_from("<III", table, at)
            at += 12
            for _ in range(count + 1):
                _, delta, _, length = struct.unpack_from("<HhHH", table, at)
                name = table[at + 8 : at + 9 + length].decode("utf-8", "surrogateescape")
                parents[base + delta] = folder, name
                at += 9 + length
    return parents


def _path(inode: int, parents: dict[int, tuple[int, str]]) -> str:
    names = list[str]()
    while inode in parents and len(names) < 4096:
        inode, name = parents[inode]
        names.append(name)
    return "/".join(reversed(names))


def _values(tables: _Tables, at: int) -> list[dict[str, bytes]]:
    """The attributes of each index."""
    begin, count = struct.unpack("<QI", tables.part(at, 12))
    blocks = -(-count * 16 // _BLOCK_BYTES)
    places = struct.unpack(f"<{blocks}Q", tables.part(at + 16, 8 * blocks))
    table, starts = tables.read(begin, places[0])
    index = tables.read(places[0], at)[0]
    found = list[dict[str, bytes]]()
    for number in range(count):
        reference, pairs, _ = struct.unpack_from("<QII", index, 16 * number)
        place = starts[begin + (reference >> 16)] + (reference & 0xFFFF)
        found.append(dict(_pairs(table, place, pairs, starts, begin)))
    return found


def _pairs(table: bytes, at: int, count: int, starts: dict[int, int], begin: int) -> Iterator[tuple[str, bytes]]:
    for _ in range(count):
        kind, length = struct.unpack_from("<HH", table, at)
        name = table[at + 4 : at + 4 + length].decode("utf-8", "replace")
        at += 4 + length
        (size,) = struct.unpack_from("<I", table, at)
        place = at + 4
        at = place + size
        if kind & _OUT_OF_LINE:
            (reference,) = struct.unpack_from("<Q", table, place)
            place = starts[begin + (reference >> 16)] + (reference & 0xFFFF)
            (size,) = struct.unpack_from("<I", table, place)
            place += 4
        yield _PREFIXES.get(kind & 0xFF, "") + name, table[place : place + size]
