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
    (0x8001, b"CD001", "iso"),  # ECMA-119, 8.4: the primary volume descriptor
)
_NOT_FATAL = 2
"""unsquashfs(1): errors that are not fatal, such as owners that only root can give; a damaged file gives 1."""
_NOT_ROOT = ".*: Operation not permitted while changing ownership of .*"
_PACKAGES = {"unsquashfs": "squashfs-tools", "tar": "tar", "grub-fstest": "grub-common"}
_LIVE = "LiveOS/rootfs.img"
"""The file system image inside the squashfs of Fedora's and Debian's live media."""
_MEDIA = {"casper": ".squashfs", "live": ".squashfs", "LiveOS": "squashfs.img"}
"""The folder of a live medium with its squashfs images, and the ends of their names: casper(7), live-boot(7),
dracut.cmdline(7)."""
_LAYER = "layerfs-path="
"""casper(7): the uppermost layer. The layers of ``a.b.squashfs`` are ``a.squashfs`` and ``a.b.squashfs``."""


def format_of(path: Path) -> str | None:
    """``squashfs``, ``ext4``, ``xfs``, ``tar`` (gzipped), ``iso`` or None for any other format."""
    with path.open("rb") as file:
        head = file.read(0x8006)
    return next((kind for at, magic, kind in _MAGICS if head[at : at + len(magic)] == magic), None)


@contextmanager
def reading(path: Path, arguments: Sequence[str] = ()) -> Iterator[Read | None]:
    """A function that reads files of the root file system at ``path``; None for a format that no program here reads.

    The kernel ``arguments`` may choose among the layers of a live medium. Raises `UsageError` if the file is damaged.
    """
    with layers(path, arguments) as found, tempfile.TemporaryDirectory(prefix="bootproof-") as scratch:
        if not found:
            yield None
        elif format_of(found[0]) == "squashfs":
            yield lambda names: _from_layers(found, names, Path(scratch))
        else:
            yield lambda names: _from_ext4(found[0], names, Path(scratch))


@contextmanager
def layers(path: Path, arguments: Sequence[str] = ()) -> Iterator[list[Path]]:
    """The images in the root file system at ``path``, the lowest first: one ext4, or one or more squashfs.

    Empty for a format that no program here reads. Arguments and errors are those of `reading`.
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
            yield [path]
            return
        elif kind == "iso":
            yield [_from_iso(path, name, Path(scratch)) for name in _layers(path, arguments)]
            return
        elif kind == "ext4":
            image = path
        yield [image] if image.exists() and format_of(image) == "ext4" else []


def _output(argv: list[str], path: Path) -> str:
    """The output of a program that reads ``path``; `UsageError` if it fails."""
    process.require(argv[0], _PACKAGES[argv[0]])
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


def _layers(iso: Path, arguments: Sequence[str]) -> list[str]:
    """The paths of the squashfs images of a live medium that are its root file system, the lowest first."""
    folders = {name.strip("/") for name in _list(iso, "")}
    folder = next((name for name in _MEDIA if name in folders), None)
    images = sorted(name for name in _list(iso, f"{folder}/") if name.endswith(_MEDIA[folder])) if folder else []
    if not images:
        raise UsageError(f"{iso} is not a live medium: it has no squashfs in {', '.join(_MEDIA)}")
    top = next((word.removeprefix(_LAYER) for word in arguments if word.startswith(_LAYER)), None)
    if top:
        parts = top.removesuffix(".squashfs").split(".")
        wanted = [".".join(parts[:n]) + ".squashfs" for n in range(1, len(parts) + 1)]
        if missing := [name for name in wanted if name not in images]:
            raise UsageError(f"{iso} lacks {folder}/{missing[0]}, a layer of {_LAYER}{top}")
        images = wanted
    return [f"{folder}/{name}" for name in images]


def _list(iso: Path, folder: str) -> list[str]:
    return _output(["grub-fstest", str(iso), "ls", f"(loop0)/{folder}"], iso).split()


def _from_iso(iso: Path, name: str, scratch: Path) -> Path:
    target = scratch / name.replace("/", "-")
    _output(["grub-fstest", str(iso), "cp", f"(loop0)/{name}", str(target)], iso)
    return target


def _from_layers(layers: Sequence[Path], names: Sequence[str], scratch: Path) -> dict[str, bytes]:
    """A file of a higher layer replaces that of a lower one. Files that a higher layer removes are still read."""
    found = dict[str, bytes]()
    for layer in layers:
        found |= _from_squashfs(layer, names, scratch)
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
