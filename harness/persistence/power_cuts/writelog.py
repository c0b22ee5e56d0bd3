"""Write logs: all requests to a disk, in order, as QEMU's blklogwrites records them.

The format is dm-log-writes' (Linux, drivers/md/dm-log-writes.c, version 1): a superblock, then for each request an
entry and its data, each beginning on a sector. A flush makes durable what was written before it.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

from harness.core.errors import HostError

SECTOR_BYTES = 512
_MAGIC, _VERSION = 0x6A736677736872, 1
_SUPERBLOCK = struct.Struct("<QQQI")  # magic, version, entries, bytes of a sector
_ENTRY = struct.Struct("<QQQQ")  # sector, sectors, flags, bytes of data


class Flag(IntFlag):
    """Properties of a request."""

    FLUSH = 1
    FUA = 2
    DISCARD = 4
    MARK = 8


@dataclass(frozen=True, slots=True)
class Write:
    """One request: ``size_bytes`` at ``offset_bytes`` of the disk, the data at ``data_at`` of the log's file.

    A discard has no data; the disk reads as zeros there.
    """

    offset_bytes: int
    size_bytes: int
    flags: Flag
    data_at: int

    @property
    def is_flush(self) -> bool:
        return bool(self.flags & Flag.FLUSH)


def make_log(path: Path) -> None:
    """Create an empty log that QEMU appends to."""
    with path.open("xb") as file:
        file.write(_SUPERBLOCK.pack(_MAGIC, _VERSION, 0, SECTOR_BYTES).ljust(SECTOR_BYTES, b"\0"))


def count_entries(path: Path) -> int:
    """The number of requests in the log, also while QEMU writes it."""
    with path.open("rb") as file:
        magic, version, entries, sector_bytes = _SUPERBLOCK.unpack(file.read(_SUPERBLOCK.size))
    if (magic, version, sector_bytes) != (_MAGIC, _VERSION, SECTOR_BYTES):
        raise HostError(f"{path} is not a write log of QEMU's with sectors of {SECTOR_BYTES} bytes")
    return int(entries)


class WriteLog:
    """A complete log: its ``writes``, in order, and their data."""

    def __init__(self, data: mmap.mmap, writes: tuple[Write, ...]) -> None:
        self._data, self.writes = data, writes

    def data(self, write: Write, begin: int, end: int) -> bytes:
        """The bytes from ``begin`` to ``end`` of ``write``."""
        if write.flags & Flag.DISCARD:
            return bytes(end - begin)
        return self._data[write.data_at + begin : write.data_at + end]


@contextmanager
def open_log(path: Path) -> Iterator[WriteLog]:
    """The log at ``path`` while the block lasts; `HostError` if it is not a log or truncated."""
    entries = count_entries(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        yield WriteLog(data, tuple(_writes(data, entries, path)))


def _writes(data: mmap.mmap, entries: int, path: Path) -> Iterator[Write]:
    at = SECTOR_BYTES
    for _ in range(entries):
        if at + _ENTRY.size > len(data):
            raise HostError(f"{path} ends before its {entries} entries do: the disk was full, or QEMU was killed")
        sector, sectors, flags, _ = _ENTRY.unpack_from(data, at)
        at += SECTOR_BYTES
        size_bytes = sectors * SECTOR_BYTES
        yield Write(sector * SECTOR_BYTES, size_bytes, Flag(flags), at)
        if not flags & Flag.DISCARD:
            at += size_bytes
    if at > len(data):
        raise HostError(f"{path} ends before the data of its last entry does")
