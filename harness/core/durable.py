"""Files that survive a crash of the host: each is complete or missing, and flushed to the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

_CHUNK_BYTES = 1 << 20


@contextmanager
def made(place: Path) -> Iterator[Path]:
    """An empty folder to fill, which is renamed to ``place`` when the block ends without an error."""
    place.parent.mkdir(exist_ok=True)
    half_made = place.with_name(f".new-{place.name}")
    shutil.rmtree(half_made, ignore_errors=True)
    half_made.mkdir()
    half_made.chmod(0o755)
    try:
        yield half_made
        sync(half_made)
        half_made.rename(place)
    except BaseException:
        shutil.rmtree(half_made, ignore_errors=True)
        raise
    sync(place.parent)


def link(target: Path, place: Path) -> None:
    """Make the symbolic link ``place`` point to ``target``, in one step: rename(2)."""
    if place.is_symlink() and place.readlink() == target:
        return
    half_made = place.with_name(f".new-{place.name}")
    half_made.unlink(missing_ok=True)
    half_made.symlink_to(target)
    half_made.replace(place)


def copy(source: Path, target: Path) -> str:
    """Copy ``source`` to ``target``; read-only and flushed to the disk; the SHA-256 of its bytes."""
    seen = sha256()
    with source.open("rb", buffering=0) as reader, target.open("xb", buffering=0) as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            seen.update(chunk)
            view = memoryview(chunk)
            while view:
                view = view[writer.write(view) :]
        os.fchmod(writer.fileno(), 0o444)
        os.fsync(writer.fileno())
    return seen.hexdigest()


def write(path: Path, content: bytes) -> None:
    """Write a new read-only file, and flush it to the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
