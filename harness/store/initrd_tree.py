"""Reads every file of an initrd: the archives of cpio in it, compressed or not, one after the other.

The format is that of Linux, Documentation/driver-api/early-userspace/buffer-format.rst: the kernel unpacks the archives
in order, so of two files with one name the later counts. Nothing is unpacked to a disk.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO

from harness.core import process
from harness.core.errors import ImageError
from harness.store.squashfs_tree import TreeFile, Visitor

_CHUNK_BYTES = 1 << 20
_MOST_BYTES = 8 << 30
_MOST_FILES = 200_000
_MOST_NAME_BYTES = 1 << 16
_KEPT_BYTES = 256 << 20
"""An initrd is unpacked into RAM; what is larger was made to exhaust a reader."""
_NEWC = (b"070701", b"070702")
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPED = range(0x184D2A50, 0x184D2A60)
"""RFC 8878: frames that are to be skipped."""
_KINDS = {
    stat.S_IFDIR: "folder",
    stat.S_IFREG: "file",
    stat.S_IFLNK: "link",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
}


class UnknownArchive(ImageError):
    """Nothing here reads what follows in the initrd; the files before it were shown to the visitor."""


class _Unknown(ValueError): ...


class _Gzip:
    """zlib's decompressor with the methods of those of lzma and bz2."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, most: int) -> bytes:
        return self._inner.decompress(data or self._inner.unconsumed_tail, most)


_Inflater = _Gzip | bz2.BZ2Decompressor | lzma.LZMADecompressor
_INFLATERS: dict[bytes, Callable[[], _Inflater]] = {
    b"\x1f\x8b": _Gzip,
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(memlimit=1 << 30),
    b"\x5d\x00\x00": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=1 << 30),
}
_PROGRAMS = {b"\x02\x21\x4c\x18": "lz4", _ZSTD: "zstd"}


def visit_initrd(initrd: Path, visitor: Visitor, *, algorithm: str = "sha256") -> dict[str, TreeFile]:
    """Show the files of ``initrd`` to ``visitor``, as `squashfs_tree.visit_tree` does.

    `ImageError` if it is damaged, `UnknownArchive` at a part that is compressed in an unknown way.
    `Visitor.names` is not called, because the names stand between the contents.
    """
    files = dict[str, TreeFile]()
    with initrd.open("rb") as file:
        try:
            size_bytes = initrd.stat().st_size
            while at := _next_archive(file, size_bytes):
                file.seek(at - 1)
                _archive(file, at - 1, size_bytes, files, visitor, algorithm)
        except _Unknown as error:
            raise UnknownArchive(
                f"{initrd} is damaged, or compressed in a way that is not known here: {error}"
            ) from error
        except (process.CommandFailed, ValueError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            said = str(error).splitlines()[0] if str(error) else "it ends early"
            raise ImageError(f"{initrd} is damaged, or compressed in a way that is not known here: {said}") from error
    return files


def _next_archive(file: IO[bytes], size_bytes: int) -> int:
    """One more than the place of the next byte that is not zero; 0 at the end."""
    while chunk := file.read(_CHUNK_BYTES):
        rest = chunk.lstrip(b"\0")
        if rest:
            return file.tell() - len(rest) + 1
    assert file.tell() >= size_bytes
    return 0


def _archive(
    file: IO[bytes], at: int, size_bytes: int, files: dict[str, TreeFile], visitor: Visitor, algorithm: str
) -> None:
    """Read what begins at ``at``, and leave ``file`` behind it."""
    magic = file.read(8)
    file.seek(at)
    if magic.startswith(_NEWC):
        end = _entries(_Bytes(iter(lambda: file.read(_CHUNK_BYTES), b"")), files, visitor, algorithm)
        file.seek(at + end)
        return
    for known, inflater in _INFLATERS.items():
        if magic.startswith(known):
            unused = list[int]()
            _rest(_Bytes(_inflated(file, inflater(), unused)), files, visitor, algorithm)
            file.seek(unused[0])
            return
    program = next((name for known, name in _PROGRAMS.items() if magic.startswith(known)), "")
    if not program:
        raise _Unknown(f"at byte {at:,} is {magic.hex()}, which begins no archive")
    end = _end_of_zstd(file, at) if program == "zstd" else size_bytes
    with ExitStack() as stack:
        packed = stack.enter_context(tempfile.NamedTemporaryFile(prefix="bootproof-"))
        file.seek(at)
        for start in range(at, end, _CHUNK_BYTES):
            packed.write(file.read(min(_CHUNK_BYTES, end - start)))
        packed.flush()
        argv = [process.require(program, program), "-dcq", packed.name]
        printed = stack.enter_context(process.reading(argv))
        _rest(_Bytes(iter(lambda: printed.read1(_CHUNK_BYTES), b"")), files, visitor, algorithm)
    file.seek(end)


def _rest(data: _Bytes, files: dict[str, TreeFile], visitor: Visitor, algorithm: str) -> None:
    """All archives of one compressed part, in which zeros may stand between them."""
    while data.skip_zeros():
        _entries(data, files, visitor, algorithm)


def _inflated(file: IO[bytes], inflater: _Inflater, unused: list[int]) -> Iterator[bytes]:
    """The bytes of one compressed stream; ``unused`` gets the place behind it."""
    while not inflater.eof:
        packed = file.read(_CHUNK_BYTES) if inflater.needs_input else b""
        if inflater.needs_input and not packed:
            raise EOFError("it ends within a compressed part")
        if part := inflater.decompress(packed, _CHUNK_BYTES):
            yield part
    unused.append(file.tell() - len(inflater.unused_data))


def _end_of_zstd(file: IO[bytes], at: int) -> int:
    """The place behind all frames of zstd that follow each other (RFC 8878, 3.1.1)."""
    while True:
        file.seek(at)
        head = file.read(18)
        if len(head) >= 8 and int.from_bytes(head[:4], "little") in _ZSTD_SKIPPED:
            at += 8 + int.from_bytes(head[4:8], "little")
            continue
        if head[:4] != _ZSTD:
            return at
        flags = head[4]
        is_single, has_checksum = flags >> 5 & 1, flags >> 2 & 1
        size = (0, 2, 4, 8)[flags >> 6] or is_single
        at += 5 + (not is_single) + (0, 1, 2, 4)[flags & 3] + size
        is_last = 0
        while not is_last:
            file.seek(at)
            block = file.read(3)
            if len(block) < 3:
                raise EOFError("it ends within a compressed part")
            header = int.from_bytes(block, "little")
            is_last, kind, length = header & 1, header >> 1 & 3, header >> 3
            at += 3 + (1 if kind == 1 else length)
        at += 4 * has_checksum


class _Bytes:
    """Bytes that come in chunks; ``taken`` counts those that were read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._chunk, self._at, self.taken = chunks, b"", 0, 0

    def chunks(self, size_bytes: int) -> Iterator[bytes]:
        self.taken += size_bytes
        if self.taken > _MOST_BYTES:
            raise ValueError(f"it unpacks to more than {_MOST_BYTES >> 30} GiB")
        while size_bytes:
            if not self._has_more():
                raise EOFError("it ends within a file")
            part = self._chunk[self._at : self._at + size_bytes]
            self._at += len(part)
            size_bytes -= len(part)
            yield part

    def _has_more(self) -> bool:
        if self._at == len(self._chunk):
            self._chunk, self._at = next(self._chunks, b""), 0
        return bool(self._chunk)

    def take(self, size_bytes: int) -> bytes:
        return b"".join(self.chunks(size_bytes))

    def skip_zeros(self) -> bool:
        """Whether something other than zeros is left."""
        while self._has_more():
            begin, self._at = self._at, len(self._chunk) - len(self._chunk[self._at :].lstrip(b"\0"))
            self.taken += self._at - begin
            if self._at < len(self._chunk):
                return True
        return False


def _entries(data: _Bytes, files: dict[str, TreeFile], visitor: Visitor, algorithm: str) -> int:
    """Read one archive; the number of bytes that it takes."""
    began, same = data.taken, dict[bytes, list[str]]()
    while True:
        header = data.take(110)
        if header[:6] not in _NEWC:
            raise ValueError(f"{header[:6]!r} begins no file of an archive")
        _, mode, uid, gid, links, mtime, size = (int(header[at : at + 8], 16) for at in range(6, 62, 8))
        major, minor, name_bytes = (int(header[at : at + 8], 16) for at in (78, 86, 94))
        if name_bytes > _MOST_NAME_BYTES or len(files) > _MOST_FILES:
            raise ValueError(f"it has a name of {name_bytes:,} bytes, or more than {_MOST_FILES:,} files")
        name = data.take(name_bytes)[:-1].decode("utf-8", "surrogateescape")
        data.take(-(110 + name_bytes) % 4)
        if name == "TRAILER!!!":
            return data.taken - began
        kind = _KINDS.get(stat.S_IFMT(mode), "file")
        path = name.removeprefix("./").strip("/")
        file = TreeFile(
            kind=kind, mode=stat.S_IMODE(mode), uid=uid, gid=gid, mtime=mtime, size_bytes=size if kind == "file" else 0,
            target=f"{major},{minor}" if kind.endswith("device") else "",
        )  # fmt: skip
        file = _read(path, file, data, size, visitor, algorithm)
        data.take(-size % 4)
        files[path if path != "." else ""] = file
        if links > 1 and kind == "file":
            names = same.setdefault(header[6:14] + header[62:78], [])
            names.append(path)
            if size:
                files.update(dict.fromkeys(names, file))


def _read(path: str, file: TreeFile, data: _Bytes, size: int, visitor: Visitor, algorithm: str) -> TreeFile:
    if file.kind == "link":
        if size > _MOST_NAME_BYTES:
            raise ValueError(f"a link leads to a name of {size:,} bytes")
        return replace(file, target=data.take(size).decode("utf-8", "surrogateescape"))
    hashed, head = hashlib.new(algorithm), bytearray()
    chunks = data.chunks(size)
    while len(head) < min(4096, size):
        head += next(chunks)
    is_wanted = file.kind == "file" and size <= _KEPT_BYTES and visitor.wants(path, file, bytes(head[:4096]))
    hashed.update(head)
    for chunk in chunks:
        hashed.update(chunk)
        if is_wanted:
            head += chunk
    if is_wanted:
        visitor.contents(path, file, bytes(head))
    return replace(file, content=hashed.hexdigest()) if file.kind == "file" else file
