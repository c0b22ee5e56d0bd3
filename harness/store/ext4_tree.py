"""Reads every file of an ext2, ext3 or ext4 image, without root, mounting or a program.

The format is that of Linux, Documentation/filesystems/ext4. The journal is not replayed: images are unmounted ones.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path

from harness.core.errors import ImageError
from harness.store.squashfs_tree import Algorithm, TreeFile, Visitor, check_bytes, show_contents
from harness.store.squashfs_xattrs import Attributes

_MAGIC, _EXTENTS_MAGIC, _ATTRIBUTES_MAGIC = 0xEF53, 0xF30A, 0xEA020000
_FILETYPE, _RECOVER, _EXTENTS, _64BIT, _MMP, _FLEX, _EA_INODE = 0x2, 0x4, 0x40, 0x80, 0x100, 0x200, 0x400
_CSUM_SEED, _LARGE_FOLDERS, _INLINE, _ENCRYPT, _CASEFOLD = 0x2000, 0x4000, 0x8000, 0x10000, 0x20000
_READ_HERE = (
    _FILETYPE | _RECOVER | _EXTENTS | _64BIT | _MMP | _FLEX | _EA_INODE | _CSUM_SEED | _LARGE_FOLDERS | _INLINE
    | _ENCRYPT | _CASEFOLD
)  # fmt: skip
_HAS_EXTENTS, _HAS_INLINE = 0x80000, 0x10000000
_ROOT = 2
_LARGEST_EXTENT = 32768
_KINDS = {
    0x4000: "folder", 0x8000: "file", 0xA000: "link", 0x6000: "block device", 0x2000: "character device",
    0x1000: "pipe", 0xC000: "socket",
}  # fmt: skip
_PREFIXES = {1: "user.", 4: "trusted.", 6: "security.", 7: "system."}
_MOST_FILES = 1_000_000
_MOST_EXTENTS = 1_000_000
_MOST_FOLDER_BYTES = 64 << 20
_MOST_DEPTH = 8
_CHUNK_BYTES = 1 << 20

_Run = tuple[int, int, int]
"""A block of a file, the block of the image, which is 0 for zeros, and how many there are."""


@dataclass(frozen=True, slots=True)
class _Inode:
    number: int
    kind: str
    mode: int
    uid: int
    gid: int
    mtime: int
    links: int
    size: int
    flags: int
    block: bytes
    attributes_at: int
    rest: bytes


def visit_tree(image: Path, visitor: Visitor, *, algorithm: Algorithm = "sha256") -> dict[str, TreeFile]:
    """Show the files of ``image`` to ``visitor``, as `squashfs_tree.visit_tree` does."""
    with _opened(image) as volume:
        inodes = volume.files()
        files = {path: volume.described(inode) for path, inode in inodes.items()}
        first = dict[int, str]()
        for path, inode in inodes.items():
            first.setdefault(inode.number, path)
        check_bytes(files[path].size_bytes for path in first.values())
        chosen = algorithm if isinstance(algorithm, str) else algorithm(files)
        visitor.names(files)
        for path, inode in inodes.items():
            if inode.kind == "file" and first[inode.number] == path:
                chunks = volume.contents(inode)
                content = show_contents(path, files[path], chunks, visitor, hashlib.new(chosen))
                files[path] = replace(files[path], content=content)
        return {path: files[first[inode.number]] for path, inode in inodes.items()}


def read_names(image: Path) -> dict[str, TreeFile]:
    """The files of ``image`` without their contents."""
    with _opened(image) as volume:
        return {path: volume.described(inode) for path, inode in volume.files().items()}


def read_files(image: Path, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """The bytes of some regular files of ``image`` by their sizes, as `read_names` has them."""
    with _opened(image) as volume:
        inodes = volume.files()
        return {path: b"".join(volume.contents(inodes[path])) for path in sizes}


def read_attributes(image: Path) -> Attributes:
    """The extended attributes by path and name, of files that have some."""
    with _opened(image) as volume:
        found = {path: volume.attributes(inode) for path, inode in volume.files().items()}
        return {path: attributes for path, attributes in found.items() if attributes}


@contextmanager
def _opened(image: Path) -> Iterator[_Volume]:
    with image.open("rb") as file:
        try:
            yield _Volume(file, image.stat().st_size)
        except (struct.error, KeyError, IndexError, ValueError, RecursionError) as error:
            raise ImageError(f"{image} is damaged, or an ext4 that is not read here: {error}") from error


class _Volume:
    def __init__(self, file: BufferedReader, size_bytes: int) -> None:
        self._file, self._size_bytes = file, size_bytes
        head = self._at(1024, 1024)
        (magic,) = struct.unpack_from("<H", head, 0x38)
        (features,) = struct.unpack_from("<I", head, 0x60)
        if magic != _MAGIC or features & ~_READ_HERE:
            raise ValueError(f"its features are {features:#x}")
        self._first, log = struct.unpack_from("<II", head, 0x14)
        if log > 6:
            raise ValueError(f"blocks of 2^{log + 10} bytes")
        self._block_bytes = 1024 << log
        (self._per_group,) = struct.unpack_from("<I", head, 0x28)
        (revision,) = struct.unpack_from("<I", head, 0x4C)
        self._inode_bytes = struct.unpack_from("<H", head, 0x58)[0] if revision else 128
        self._group_bytes = (struct.unpack_from("<H", head, 0xFE)[0] or 32) if features & _64BIT else 32
        if not self._per_group or self._inode_bytes < 128 or self._group_bytes < 32:
            raise ValueError("its numbers do not fit together")

    def files(self) -> dict[str, _Inode]:
        """All files by their paths; the root is called "/"."""
        root = self._inode(_ROOT)
        found, todo, folders = {"/": root}, [("", root)], {_ROOT}
        known = {_ROOT: root}
        while todo:
            folder, inode = todo.pop()
            for name, number in self._entries(inode):
                path = f"{folder}/{name}" if folder else name
                child = known.get(number) or self._inode(number)
                if child.links > 1:
                    known[number] = child
                found[path] = child
                if len(found) > _MOST_FILES:
                    raise ValueError(f"it has more than {_MOST_FILES:,} files")
                if child.kind == "folder":
                    if number in folders:
                        raise ValueError(f"the folder {path!r} is in two places")
                    folders.add(number)
                    todo.append((path, child))
        return found

    def described(self, inode: _Inode) -> TreeFile:
        target = ""
        if inode.kind == "link":
            target = self._target(inode).decode("utf-8", "surrogateescape")
        elif inode.kind.endswith("device"):
            old, new = struct.unpack_from("<II", inode.block)
            numbers = (old >> 8 & 0xFF, old & 0xFF) if old else (new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00)
            target = f"{numbers[0]},{numbers[1]}"
        return TreeFile(
            kind=inode.kind,
            mode=inode.mode,
            uid=inode.uid,
            gid=inode.gid,
            mtime=inode.mtime,
            size_bytes=inode.size if inode.kind == "file" else 0,
            target=target,
        )

    def contents(self, inode: _Inode) -> Iterator[bytes]:
        """All bytes of a file, in chunks."""
        if inode.flags & _HAS_INLINE:
            inline = inode.block + self.attributes(inode).get("system.data", b"")
            yield inline[: inode.size].ljust(min(inode.size, _CHUNK_BYTES), b"\0")
            return
        at = 0
        for begin, place, count in sorted(self._runs(inode)):
            start = begin * self._block_bytes
            yield from _zeros(min(start, inode.size) - at)
            at = max(at, min(start, inode.size))
            left = min(count * self._block_bytes, inode.size - at)
            read_at = place * self._block_bytes
            while left > 0:
                part = min(left, _CHUNK_BYTES)
                yield self._at(read_at, part) if place else bytes(part)
                at, left, read_at = at + part, left - part, read_at + part
        yield from _zeros(inode.size - at)

    def attributes(self, inode: _Inode) -> dict[str, bytes]:
        found = dict[str, bytes]()
        if inode.rest[:4] == _ATTRIBUTES_MAGIC.to_bytes(4, "little"):
            found |= _attributes(inode.rest, 4, 4)
        if inode.attributes_at:
            block = self._at(inode.attributes_at * self._block_bytes, self._block_bytes)
            if block[:4] == _ATTRIBUTES_MAGIC.to_bytes(4, "little"):
                found |= _attributes(block, 32, 0)
        return found

    def _at(self, place: int, count: int) -> bytes:
        if place + count > self._size_bytes:
            raise ValueError(f"it ends before byte {place + count:,}")
        self._file.seek(place)
        return self._file.read(count)

    def _inode(self, number: int) -> _Inode:
        group, index = divmod(number - 1, self._per_group)
        table = self._at((self._first + 1) * self._block_bytes + group * self._group_bytes, self._group_bytes)
        (place,) = struct.unpack_from("<I", table, 8)
        if self._group_bytes >= 64:
            place |= struct.unpack_from("<I", table, 0x28)[0] << 32
        raw = self._at(place * self._block_bytes + index * self._inode_bytes, self._inode_bytes)
        mode, uid, size_low, _, _, mtime, _, gid, links = struct.unpack_from("<HHIIIiIHH", raw)
        (flags,) = struct.unpack_from("<I", raw, 0x20)
        acl_low, size_high = struct.unpack_from("<II", raw, 0x68)
        acl_high, uid_high, gid_high = struct.unpack_from("<HHH", raw, 0x76)
        extra = struct.unpack_from("<H", raw, 0x80)[0] if len(raw) > 0x82 else 0
        return _Inode(
            number=number,
            kind=_KINDS[mode & 0xF000],
            mode=mode & 0o7777,
            uid=uid | uid_high << 16,
            gid=gid | gid_high << 16,
            mtime=mtime,
            links=links,
            size=size_low | size_high << 32,
            flags=flags,
            block=raw[0x28:0x64],
            attributes_at=acl_low | acl_high << 32,
            rest=raw[0x80 + extra :] if extra else b"",
        )

    def _target(self, inode: _Inode) -> bytes:
        if inode.size > 4096:
            raise ValueError(f"a link leads to a name of {inode.size:,} bytes")
        if inode.size < 60 and not inode.flags & (_HAS_EXTENTS | _HAS_INLINE):
            return inode.block[: inode.size]
        return b"".join(self.contents(inode))

    def _entries(self, inode: _Inode) -> Iterator[tuple[str, int]]:
        if inode.size > _MOST_FOLDER_BYTES:
            raise ValueError(f"a folder of {inode.size:,} bytes")
        if inode.flags & _HAS_INLINE:
            yield from _names(inode.block[4:])
            yield from _names(self.attributes(inode).get("system.data", b""))
            return
        content = b"".join(self.contents(inode))
        for at in range(0, len(content), self._block_bytes):
            yield from _names(content[at : at + self._block_bytes])

    def _runs(self, inode: _Inode) -> list[_Run]:
        runs = list[_Run]()
        if inode.flags & _HAS_EXTENTS:
            self._extents(inode.block, 0, runs)
            return runs
        pointers = struct.unpack("<15I", inode.block)
        runs += [(number, place, 1) for number, place in enumerate(pointers[:12]) if place]
        number, each = 12, self._block_bytes // 4
        for depth, place in enumerate(pointers[12:], 1):
            if place:
                self._indirect(place, number, depth, runs)
            number += each**depth
        return runs

    def _extents(self, node: bytes, depth: int, runs: list[_Run]) -> None:
        magic, count, _, below = struct.unpack_from("<HHHH", node)
        if magic != _EXTENTS_MAGIC or depth > _MOST_DEPTH:
            raise ValueError("the extents of a file are damaged")
        for at in range(12, 12 + 12 * count, 12):
            if below:
                _, low, high = struct.unpack_from("<IIH", node, at)
                self._extents(self._at((low | high << 32) * self._block_bytes, self._block_bytes), depth + 1, runs)
            else:
                begin, length, high, low = struct.unpack_from("<IHHI", node, at)
                is_written = length <= _LARGEST_EXTENT
                runs.append((begin, low | high << 32 if is_written else 0, length if is_written else length - 32768))
            if len(runs) > _MOST_EXTENTS:
                raise ValueError(f"a file of more than {_MOST_EXTENTS:,} parts")

    def _indirect(self, place: int, number: int, depth: int, runs: list[_Run]) -> None:
        each = self._block_bytes // 4
        pointers = struct.unpack(f"<{each}I", self._at(place * self._block_bytes, self._block_bytes))
        for index, below in enumerate(pointers):
            if below and depth == 1:
                runs.append((number + index, below, 1))
            elif below:
                self._indirect(below, number + index * each ** (depth - 1), depth - 1, runs)
            if len(runs) > _MOST_EXTENTS:
                raise ValueError(f"a file of more than {_MOST_EXTENTS:,} parts")


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield bytes(min(count, _CHUNK_BYTES))
        count -= _CHUNK_BYTES


def _names(block: bytes) -> Iterator[tuple[str, int]]:
    at = 0
    while at + 8 <= len(block):
        number, length, name_bytes = struct.unpack_from("<IHB", block, at)
        if length < 8:
            break
        name = block[at + 8 : at + 8 + name_bytes].decode("utf-8", "surrogateescape")
        if number and name not in (".", ".."):
            if "/" in name or "\0" in name or not name:
                raise ValueError(f"{name!r} is not a name")
            yield name, number
        at += length


def _attributes(block: bytes, at: int, base: int) -> dict[str, bytes]:
    """Entries from ``at`` on; their values' places count from ``base``. Values in inodes of their own are left out."""
    found = dict[str, bytes]()
    while at + 16 <= len(block) and block[at : at + 4] != bytes(4):
        name_bytes, kind, place, inode, size = struct.unpack_from("<BBHII", block, at)
        name = _PREFIXES.get(kind, "") + block[at + 16 : at + 16 + name_bytes].decode("utf-8", "replace")
        if not inode:
            found[name] = block[base + place : base + place + size]
        at += 16 + -(-name_bytes // 4) * 4
    return found
