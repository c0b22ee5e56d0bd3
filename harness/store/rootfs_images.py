"""Root file systems in image files: their format, and some files in them, read without root and without mounting."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.core import process
from harness.core.debugfs import NOT_FOUND, debugfs
from harness.core.errors import UsageError

Read = Callable[[Sequence[str]], dict[str, bytes]]
"""The bytes of the files with these paths, which have no first slash, and of all files below the folders among them.
What does not exist is left out, and so are links."""

_MAGICS = (
    # offset, bytes, format, source
    (0, b"hsqs", "squashfs"),  # Linux, fs/squashfs/squashfs_fs.h
    (0x438, b"\x53\xef", "ext4"),  # Linux, Documentation/filesystems/ext4/super.rst
    (0, b"XFSB", "xfs"),  # Linux, fs/xfs/libxfs/xfs_format.h
    (0, b"\x1f\x8b", "tar"),  # RFC 1952: a gzip, in which we expect a tar
)
_NOT_FATAL = 2
"""unsquashfs(1): errors that are not fatal, such as owners that only root can give; a damaged file gives 1."""
_NOT_ROOT = ".*: Operation not permitted while changing ownership of .*"
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
            yield lambda names: _from_squashfs(path, names, Path(scratch))
            return
        elif kind == "ext4":
            image = path
        is_ext4 = image.exists() and format_of(image) == "ext4"
        yield (lambda names: _from_ext4(image, names, Path(scratch))) if is_ext4 else None


def _output(argv: list[str], path: Path) -> str:
    """The output of a program that reads ``path``; `UsageError` if it fails."""
    process.require(argv[0], "squashfs-tools" if argv[0] == "unsquashfs" else argv[0])
    try:
        return process.output(argv)
    except process.CommandFailed as error:
        raise _damaged(path, error) from error


def _from_squashfs(path: Path, names: Sequence[str], scratch: Path) -> dict[str, bytes]:
    """A command for each name: with several, unsquashfs 4.5.1 frees memory twice where two of them are or lead through
    links, and crashes or writes to folders with random names.
    """
    found = dict[str, bytes]()
    for name in names:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            target = Path(folder) / "tree"
            argv = ["unsquashfs", "-no-progress", "-quiet", "-no-xattrs", "-dest", str(target), str(path), name]
            try:
                process.output(argv)
            except process.CommandFailed as error:
                if error.status != _NOT_FATAL:
                    raise _damaged(path, error) from error
            found |= _files(target)
    return found


def _from_ext4(image: Path, names: Sequence[str], scratch: Path) -> dict[str, bytes]:
    """debugfs follows no link, and reads the target of a link as the numbers of blocks."""
    found = dict[str, bytes]()
    for name in names:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            target = Path(folder) / name
            try:
                seen = debugfs(image, f'stat "/{name}"', ignored=NOT_FOUND)
                target.parent.mkdir(parents=True, exist_ok=True)
                if "Type: regular" in seen:
                    debugfs(image, f'dump "/{name}" "{target}"')
                elif "Type: directory" in seen:
                    debugfs(image, f'rdump "/{name}" "{target.parent}"', ignored=_NOT_ROOT)
            except process.CommandFailed as error:
                raise _damaged(image, error) from error
            found |= _files(Path(folder))
    return found


def _files(tree: Path) -> dict[str, bytes]:
    found = (path for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(tree)): path.read_bytes() for path in found}


def _damaged(path: Path, error: process.CommandFailed) -> UsageError:
    printed = next(iter(error.tail.strip().splitlines()), "nothing")
    return UsageError(f"{path} is damaged; copy it again ({error.argv[0]} printed: {printed})")
