"""ext4 file systems in disk images: read without root and without mounting.

Files are read from a copy of the partition, holes kept, after its journal was replayed. Without the replay, a file
system that lost power shows a fraction of its files, and false errors. The image itself is never written.
"""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from harness.core import ext4_features, process
from harness.core.debugfs import CORRECTED, NOT_FOUND, debugfs
from harness.core.errors import HostError, ImageError
from harness.core.process import CommandFailed
from harness.model.machine_spec import DiskFormat, DiskSpec
from harness.qemu.disk_images import copy_partition, find_partition, flatten


class DamagedFileSystem(ImageError):
    """The file system at ``where`` is damaged; ``output`` is e2fsck's."""

    def __init__(self, where: str, output: str) -> None:
        super().__init__(where, output)
        self.where, self.output = where, output

    def __str__(self) -> str:
        return f"{self.where}: e2fsck finds it damaged beyond its journal:\n{self.output}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ext4Entry:
    """One name in a folder; ``mode`` is that of stat(2)."""

    name: str
    mode: int
    uid: int
    gid: int
    size_bytes: int

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


class Ext4:
    """A file system that can be read: ``copy`` is a private copy whose journal was replayed."""

    def __init__(self, copy: Path, where: str) -> None:
        self.copy, self.where = copy, where

    def read(self, path: str) -> bytes:
        """The bytes of a file; `FileNotFoundError` if there is none."""
        with tempfile.TemporaryDirectory(dir=self.copy.parent) as folder:
            target = Path(folder) / "content"
            self._ask(f'dump "{_quotable(path)}" "{target}"')
            if not target.exists():
                raise FileNotFoundError(f"{self.where}: no file {path}")
            return target.read_bytes()

    def entries(self, path: str) -> tuple[Ext4Entry, ...]:
        """The entries of a folder without ``.`` and ``..``; `FileNotFoundError` if there is no such folder."""
        rows = [row for row in self._ask(f'ls -p "{_quotable(path)}"').splitlines() if row.startswith("/")]
        if not rows:
            raise FileNotFoundError(f"{self.where}: no folder {path}")
        found = (_entry(row) for row in rows)
        return tuple(entry for entry in found if entry.name not in (".", ".."))

    def entry(self, path: str) -> Ext4Entry | None:
        """The entry at ``path``, links not followed; None if there is none."""
        folder, _, name = path.rstrip("/").rpartition("/")
        try:
            return next((entry for entry in self.entries(folder or "/") if entry.name == name), None)
        except FileNotFoundError:
            return None

    def problems(self) -> str:
        """e2fsck's output of a full check; empty if it finds no errors."""
        try:
            _e2fsck("-fn", self.copy)
        except CommandFailed as error:
            return error.tail
        return ""

    def _ask(self, request: str) -> str:
        return debugfs(self.copy, request, ignored=NOT_FOUND)


@contextmanager
def open_ext4(disk: Path | DiskSpec, which: int | UUID | None = None, *, folder: Path | None = None) -> Iterator[Ext4]:
    """The ext4 in a partition (see `find_partition`) of a disk that no machine uses, while the block lasts.

    ``disk`` is a machine's disk or a raw image. The copy is made in ``folder``, by default that of the image. Raises
    `DamagedFileSystem` if the journal cannot be replayed, `HostError` if the host's e2fsprogs are too old.
    """
    path = disk if isinstance(disk, Path) else disk.path
    with tempfile.TemporaryDirectory(prefix=".look.", dir=folder or path.parent) as scratch:
        image = path
        if isinstance(disk, DiskSpec) and disk.format is not DiskFormat.RAW:
            flatten(path, image := Path(scratch) / "raw")
        partition = find_partition(image, which)
        where = f"{path}, partition {partition.number}"
        copy = Path(scratch) / "ext4"
        copy_partition(image, partition, copy)
        try:
            _e2fsck("-p", copy)
        except CommandFailed as error:
            if features := ext4_features.refused(error.tail):
                raise HostError(
                    f"{where}: this host's e2fsprogs do not know {', '.join(features)}; use newer ones"
                ) from error
            if error.status > CORRECTED:
                raise DamagedFileSystem(where, error.tail) from error
        yield Ext4(copy, where)


def _e2fsck(option: str, copy: Path) -> None:
    """e2fsck prints its findings on standard output, which `process.run` includes in the error."""
    program = process.require("e2fsck", "e2fsprogs")
    process.run([program, option, str(copy)], log=copy.with_name("e2fsck.log"))


def _entry(row: str) -> Ext4Entry:
    """``/inode/mode/uid/gid/name/size/`` of debugfs(8), ls -p; a name has no slash, a folder no size."""
    _, _, mode, uid, gid, name, size, _ = row.split("/")
    return Ext4Entry(name=name, mode=int(mode, 8), uid=int(uid), gid=int(gid), size_bytes=int(size or 0))


def _quotable(path: str) -> str:
    if '"' in path or "\n" in path:
        raise HostError(f"debugfs cannot read {path!r}: it does not support quotes and newlines in names")
    return path
