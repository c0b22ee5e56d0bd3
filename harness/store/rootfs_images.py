"""Root file systems in image files: their format, and single files in them, read without root and without mounting."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.core import process
from harness.core.debugfs import NOT_FOUND, debugfs
from harness.core.errors import UsageError

Read = Callable[[str], bytes | None]
"""The bytes of a file by its path without the first slash; None if it does not exist. Links are not followed."""

_MAGICS = (
    # offset, bytes, format, source
    (0, b"hsqs", "squashfs"),  # Linux, fs/squashfs/squashfs_fs.h
    (0x438, b"\x53\xef", "ext4"),  # Linux, Documentation/filesystems/ext4/super.rst
    (0, b"XFSB", "xfs"),  # Linux, fs/xfs/libxfs/xfs_format.h
    (0, b"\x1f\x8b", "tar"),  # RFC 1952: a gzip, in which we expect a tar
)
_NO_SUCH_FILE = 2
"""unsquashfs(1): errors that are not fatal; a damaged file gives 1."""
_LIVE = "LiveOS/rootfs.img"
"""The file system image inside the squashfs of Fedora's and Debian's live media."""


def format_of(path: Path) -> str | None:
    """``squashfs``, ``ext4``, ``xfs``, ``tar`` (gzipped), or None for any other format."""
    with path.open("rb") as file:
        head = file.read(0x440)
    return next((kind for at, magic, kind in _MAGICS if head[at : at + len(magic)] == magic), None)


@contextmanager
def reading(path: Path) -> Iterator[Read | None]:
    """A function that reads files of the root file system at ``path``; None for a format that no program here reads.

    Raises `UsageError` if the file is damaged.
    """
    kind = format_of(path)
    with tempfile.TemporaryDirectory(prefix="bootproof-") as scratch:
        image = Path(scratch) / "rootfs.img"
        if kind == "squashfs" and f"/{_LIVE}\n" in _output(["unsquashfs", "-lc", str(path), _LIVE], path):
            _output(["unsquashfs", "-no-progress", "-dest", f"{scratch}/tree", str(path), _LIVE], path)
            (Path(scratch) / "tree" / _LIVE).rename(image)
        elif kind == "tar":
            _output(["tar", "-xzSf", str(path), "-C", scratch, "--wildcards", "--no-anchored", "rootfs.img"], path)
            found = next(iter(sorted(Path(scratch).rglob("rootfs.img"))), None)
            if found is None:
                raise UsageError(f"{path} is not a root file system: it is a gzip without rootfs.img in it")
            found.rename(image)
        elif kind == "squashfs":
            yield lambda name: _from_squashfs(path, name)
            return
        elif kind == "ext4":
            image = path
        yield (lambda name: _from_ext4(image, name)) if image.exists() and format_of(image) == "ext4" else None


def _output(argv: list[str], path: Path) -> str:
    """The output of a program that reads ``path``; `UsageError` if it fails."""
    process.require(argv[0], "squashfs-tools" if argv[0] == "unsquashfs" else argv[0])
    try:
        return process.output(argv)
    except process.CommandFailed as error:
        raise _damaged(path, error) from error


def _from_squashfs(path: Path, name: str) -> bytes | None:
    try:
        return process.output(["unsquashfs", "-cat", str(path), name]).encode()
    except process.CommandFailed as error:
        if error.status == _NO_SUCH_FILE:
            return None
        raise _damaged(path, error) from error


def _from_ext4(image: Path, name: str) -> bytes | None:
    """debugfs follows no link, and reads the target of a link as the numbers of blocks."""
    try:
        if "Type: regular" not in debugfs(image, f'stat "/{name}"', ignored=NOT_FOUND):
            return None
        return debugfs(image, f'cat "/{name}"').encode() or None
    except process.CommandFailed as error:
        raise _damaged(image, error) from error


def _damaged(path: Path, error: process.CommandFailed) -> UsageError:
    printed = next(iter(error.tail.strip().splitlines()), "nothing")
    return UsageError(f"{path} is damaged; copy it again ({error.argv[0]} printed: {printed})")
