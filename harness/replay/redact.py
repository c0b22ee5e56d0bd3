"""Redaction: what a definition marks as secret is removed from copies of disks and from logs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from harness.core import process
from harness.core.debugfs import CORRECTED, debugfs
from harness.core.errors import ImageError
from harness.core.process import CommandFailed
from harness.qemu.disk_images import find_partition, holds_ext4, partitions, put_partition
from harness.qemu.ext4 import Ext4, open_ext4

HIDDEN = b"[secret]"
_LEAST_BYTES = 8
"""Shorter words occur in logs by chance."""


def remove_files(disk: Path, paths: Sequence[str]) -> frozenset[bytes]:
    """Remove files and folders from the file systems on the raw image ``disk``, and zero all free blocks there.

    Returns the words of the removed files, to find them in logs. `ImageError` for a file system that cannot be read:
    it may hold secrets.
    """
    words: set[bytes] = set()
    numbers = [partition.number for partition in partitions(disk)] or [0]
    for number in numbers:
        partition = find_partition(disk, number)
        if not holds_ext4(disk, partition):  # a definition has no paths on a FAT or an empty partition
            continue
        with tempfile.TemporaryDirectory(prefix=".secret.", dir=disk.parent) as scratch:
            copy = Path(scratch) / "ext4"
            with open_ext4(disk, number) as file_system:
                files, folders = _below(file_system, paths)
                for name in files:
                    with suppress(FileNotFoundError):  # a link
                        words.update(_words(file_system.read(name)))
                copy.hardlink_to(file_system.copy)
            _remove(copy, files, folders)
            put_partition(copy, disk, partition)
    return frozenset(words)


def _below(file_system: Ext4, paths: Iterable[str]) -> tuple[list[str], list[str]]:
    """All files at or below ``paths``, and their folders, the innermost first."""
    files: list[str] = []
    folders: list[str] = []
    for path in paths:
        entry = file_system.entry(path)
        if entry is None:
            continue
        if not entry.is_folder:
            files.append(path)
            continue
        inner = _below(file_system, [f"{path}/{one.name}" for one in file_system.entries(path)])
        files += inner[0]
        folders += [*inner[1], path]
    return files, folders


def _remove(copy: Path, files: Sequence[str], folders: Sequence[str]) -> None:
    """Remove them, and turn every free block into a hole: e2fsck(8), ``-E discard``."""
    problem = f"{copy}: the secret files could not be removed from this file system"
    try:
        debugfs(copy, *(f'rm "{name}"' for name in files), *(f'rmdir "{name}"' for name in folders), writes=True)
    except CommandFailed as error:
        raise ImageError(f"{problem}: {error.tail}") from error
    log = copy.with_name("log")
    try:
        process.run([process.require("e2fsck", "e2fsprogs"), "-fy", "-E", "discard", str(copy)], log=log)
    except CommandFailed as error:
        if error.status > CORRECTED:
            raise
    left = Ext4(copy, str(copy))
    if left.problems() or any(left.entry(name) for name in (*files, *folders)):
        raise ImageError(problem)


def _words(content: bytes) -> Iterator[bytes]:
    """Each line, and the text after its first equals sign or colon."""
    for line in content.splitlines():
        for part in (line, *(line.partition(mark)[2] for mark in (b"=", b":"))):
            if len(word := part.strip(b" \t\"'")) >= _LEAST_BYTES:
                yield word


def hide(content: bytes, words: Iterable[bytes]) -> bytes:
    """``content`` with those words replaced by `HIDDEN`, the longest first."""
    for word in sorted(words, key=len, reverse=True):
        content = content.replace(word, HIDDEN)
    return content
