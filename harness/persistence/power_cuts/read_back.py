"""The contents of a file system after a power cut: replayed, checked and read on the host, without root."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import struct
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.core import process
from harness.core.debugfs import CORRECTED, debugfs
from harness.core.errors import HostError
from harness.qemu.disk_images import data_extents

_FORCED = "check forced"
"""Printed by e2fsck -p when it checked everything, as -fn would."""


@dataclass(frozen=True, slots=True)
class DiskContents:
    """``problem`` is what e2fsck finds wrong after the replay of the journal; ``files`` maps each path to a digest.

    A folder's digest is ``folder``; a link's begins with ``-> ``. ``load`` is the content of the write load's file.
    """

    problem: str
    files: dict[str, str]
    load: bytes = b""


_SUPERBLOCK_BYTES, _UUID = 1024, slice(104, 120)
"""Size of an ext4 superblock and its s_uuid; it begins at byte 1024 (Linux, Documentation/filesystems/ext4/super.rst).
"""
_OF_REPLAY = tuple(
    slice(begin, end)
    for begin, end in ((0x30, 0x34), (0x40, 0x44), (0x178, 0x180), (0x274, 0x275), (0x277, 0x278), (0x3FC, 0x400))
)
"""Of a superblock: s_wtime, s_lastcheck, s_kbytes_written, the high bits of the times, and s_checksum. They have the
time at which e2fsck wrote or checked, and how much."""
_CHUNK_BYTES = 1 << 16
_NOTHING = bytes(_CHUNK_BYTES)
_MOST_KNOWN, _MOST_CHUNKS = 256, 1024


@dataclass(slots=True)
class KnownContents:
    """The contents of the file systems that were read last, by a digest of all their blocks after the replay.

    The journal does not count, nor do the time and the size of the replay. Many crash states are equal then: what they
    have of the journal is not a complete transaction, so that the replay drops it. Only chunks that differ from those
    of the first file system, in ``base``, are part of a digest: comparing is ten times as fast.
    """

    contents: OrderedDict[bytes, DiskContents] = field(default_factory=OrderedDict)
    journals: dict[bytes, list[tuple[int, int]]] = field(default_factory=dict)
    """Where the journal is, in bytes, by the UUID of the file system."""
    base: dict[int, bytes] = field(default_factory=dict)

    def find(self, key: bytes) -> DiskContents | None:
        if found := self.contents.get(key):
            self.contents.move_to_end(key)
        return found

    def note(self, key: bytes, seen: DiskContents) -> DiskContents:
        self.contents[key] = seen
        if len(self.contents) > _MOST_KNOWN:
            self.contents.popitem(last=False)
        return seen

    def key(self, state: Path) -> bytes:
        """The digest of the file system in ``state``, whose journal was replayed."""
        with state.open("rb", buffering=0) as file:
            superblock = os.pread(file.fileno(), _SUPERBLOCK_BYTES, _SUPERBLOCK_BYTES)
            uuid = superblock[_UUID]
            if uuid not in self.journals:
                self.journals[uuid] = _journal(state, superblock)
            digest, missing = hashlib.sha256(_before_replay(superblock)), set(self.base)
            is_first = not self.base
            skipped = [(_SUPERBLOCK_BYTES, 2 * _SUPERBLOCK_BYTES), *self.journals[uuid]]
            for begin, end in _chunks(file.fileno()):
                for at, stop in _outside(begin, end, skipped):
                    data = os.pread(file.fileno(), stop - at, at)
                    if data == _NOTHING[: len(data)]:
                        continue
                    missing.discard(at)
                    if self.base.get(at) == data:
                        continue
                    digest.update(struct.pack("<QQ", at, stop) + data)
                    if is_first and len(self.base) < _MOST_CHUNKS:
                        self.base[at] = data
            digest.update(repr(sorted(missing)).encode())
            return digest.digest()


def _chunks(descriptor: int) -> Iterator[tuple[int, int]]:
    """The chunks of a file that are not all hole, in order."""
    size_bytes, done = os.fstat(descriptor).st_size, 0
    for begin, end in data_extents(descriptor, 0, size_bytes):
        for at in range(max(done, begin // _CHUNK_BYTES * _CHUNK_BYTES), end, _CHUNK_BYTES):
            done = at + _CHUNK_BYTES
            yield at, min(done, size_bytes)


def _before_replay(superblock: bytes) -> bytes:
    plain = bytearray(superblock)
    for place in _OF_REPLAY:
        plain[place] = bytes(place.stop - place.start)
    return bytes(plain)


def _journal(state: Path, superblock: bytes) -> list[tuple[int, int]]:
    """The ranges of bytes of the journal, which is inode 8, in order."""
    block_bytes = 1024 << int.from_bytes(superblock[24:28], "little")
    ranges = list[tuple[int, int]]()
    for block in sorted(map(int, debugfs(state, "blocks <8>").split())):
        at = block * block_bytes
        if ranges and ranges[-1][1] == at:
            ranges[-1] = (ranges[-1][0], at + block_bytes)
        else:
            ranges.append((at, at + block_bytes))
    return ranges


def _outside(begin: int, end: int, skipped: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The parts of a range that are in none of those ``skipped``, which are in order."""
    for first, last in skipped:
        if last <= begin or first >= end:
            continue
        if begin < first:
            yield begin, first
        begin = last
    if begin < end:
        yield begin, end


def read_disk(state: Path, scratch: Path, load: str = "", known: KnownContents | None = None) -> DiskContents:
    """Replay, check and read the ext4 in ``state``, which this changes. ``scratch`` is a folder to be created.

    ``load`` is the path of the write load's file. What equals one of the ``known`` after the replay is not read again.
    """
    e2fsck = process.require("e2fsck", "e2fsprogs")
    status, text = _answer([e2fsck, "-p", str(state)])
    if status > CORRECTED:
        return DiskContents(f"e2fsck -p: {_sentence(text, state)}", {})
    is_checked = _FORCED in text
    try:
        key = None if known is None else known.key(state) + bytes([is_checked])
    except process.CommandFailed:  # it is damaged so that its journal is not found; e2fsck -fn says how
        key = None
    if known is None or key is None:
        return _check_and_read(state, scratch, load, is_checked=is_checked)
    return known.find(key) or known.note(key, _check_and_read(state, scratch, load, is_checked=is_checked))


def _check_and_read(state: Path, scratch: Path, load: str, *, is_checked: bool) -> DiskContents:
    if not is_checked:
        status, text = _answer([process.require("e2fsck", "e2fsprogs"), "-fn", str(state)])
        if status:
            return DiskContents(f"e2fsck -fn: {_sentence(text, state)}", {})
    scratch.mkdir()
    try:
        _dump(state, scratch)
        if os.geteuid():
            _make_readable(scratch)
        files = dict(_walk(scratch))
        kept = Path(f"{scratch}{load}").read_bytes() if files.pop(load, None) else b""
        return DiskContents("", files, kept)
    finally:
        shutil.rmtree(scratch)


def _answer(argv: list[str]) -> tuple[int, str]:
    status, text = process.answer(argv)
    _check_room(text)
    return status, text


def _dump(state: Path, scratch: Path) -> None:
    """Copy all files to ``scratch``; only root can preserve their owners."""
    try:
        debugfs(state, f'rdump / "{scratch}"', ignored=".* while changing ownership of .*")
    except process.CommandFailed as error:
        _check_room(error.tail)
        raise


def _check_room(text: str) -> None:
    if os.strerror(errno.ENOSPC) in text:
        raise HostError(f"the host has no room to lay out crash states: {text.strip().splitlines()[-1]}")


def _make_readable(folder: Path) -> None:
    """debugfs restores the modes of files, which may keep users other than root from reading or removing them."""
    folder.chmod(0o700)
    for at, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(at, name)
            if not path.is_symlink():
                path.chmod(0o700)


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    stack = [""]
    while stack:
        inside = stack.pop()
        with os.scandir(f"{folder}{inside}") as entries:
            for entry in entries:
                path = f"{inside}/{entry.name}"
                if entry.is_symlink():
                    yield path, f"-> {os.readlink(entry.path)}"
                elif entry.is_dir():
                    yield path, "folder"
                    stack.append(path)
                else:
                    yield path, _digest(entry.path)


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.blake2b(file.read(), digest_size=8).hexdigest()


def _sentence(text: str, state: Path) -> str:
    """The first complaint of e2fsck, without the names of our files."""
    lines = (line.replace(str(state), "").strip(": ") for line in text.splitlines())
    noise = ("e2fsck ", "/", "Pass ")
    return next((line for line in lines if line and not line.startswith(noise)), "it cannot be read")
