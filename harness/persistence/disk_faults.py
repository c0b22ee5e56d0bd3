"""Disk faults: the disks that a machine gets in place of the good one it was shut down with."""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core import process
from harness.core.debugfs import CORRECTED, debugfs
from harness.core.errors import HarnessError, HostError
from harness.core.process import CommandFailed
from harness.model.machine_spec import DiskBus, DiskFault, DiskRole, DiskSpec
from harness.qemu.disk_images import (
    DATA_GIB,
    Partition,
    copy_partition,
    copy_sparse,
    find_partition,
    furnish,
    make_disk,
    put_partition,
)

_LATE_S = 30.0
_SLOW_READS_PER_S = 20
_FOREIGN_GIB, _HUGE_GIB = 8, 2048
_INODES_A_FOLDER = 500
_MOST_LEFT = 16
_NO_BLOCK = "fallocate: Could not allocate block .*"
"""In a fragmented file system, the map of a file that fills it takes the last blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultyDisk:
    """The ``disks`` of a machine. With ``has_data`` one of them still has the old data; ``foreign`` are those that
    belong to another system and must not be written to."""

    disks: tuple[DiskSpec, ...]
    has_data: bool = True
    foreign: tuple[DiskSpec, ...] = ()


def make_faulty(fault: DiskFault, disk: DiskSpec, number: int) -> FaultyDisk:
    """Apply ``fault`` to ``disk``, a raw image that may be damaged, whose file system is in partition ``number``.

    New images are created in the same folder.
    """
    return _MAKERS[fault](disk, find_partition(disk.path, number))


def _twin(disk: DiskSpec, _: Partition) -> FaultyDisk:
    copy = disk.path.with_name("twin.raw")
    copy_sparse(disk.path, copy)
    return FaultyDisk(disks=(disk, replace(disk, path=copy, serial="TWIN")))


def _foreign_first(disk: DiskSpec, _: Partition) -> FaultyDisk:
    other = _foreign(disk)
    return FaultyDisk(disks=(other, disk), foreign=(other,))


def _foreign_instead(disk: DiskSpec, _: Partition) -> FaultyDisk:
    other = _foreign(disk)
    return FaultyDisk(disks=(other,), has_data=False, foreign=(other,))


def _foreign(disk: DiskSpec) -> DiskSpec:
    """A disk of another system: one file system without a partition table."""
    path = disk.path.with_name("foreign.raw")
    other = DiskSpec(path=path, serial="FOREIGN", role=DiskRole.FOREIGN, size_gib=_FOREIGN_GIB)
    furnish((other,))
    return other


def _full(disk: DiskSpec, partition: Partition) -> FaultyDisk:
    """All blocks are in use, also those reserved for root."""
    with _replayed(disk, partition) as state:
        last = int(_superblock_field(state, "Free blocks")) - 1
        debugfs(state, "write /dev/null fill", f"fallocate fill 0 {last}", writes=True, ignored=_NO_BLOCK)
        left = int(_superblock_field(state, "Free blocks"))
        if left > _MOST_LEFT:
            raise HostError(f"{disk.path} cannot be filled: {left} blocks stay free")
    return FaultyDisk(disks=(disk,))


def _no_inodes(disk: DiskSpec, partition: Partition) -> FaultyDisk:
    """The same files in a file system of the same label and UUID with few inodes, all in use.

    Only root can preserve the files' owners.
    """
    with _replayed(disk, partition) as state, tempfile.TemporaryDirectory(dir=disk.path.parent) as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        debugfs(state, f'rdump / "{tree}"')
        blocks = partition.size_bytes // 4096
        label = _superblock_field(state, "Filesystem volume name").replace("<none>", "")
        names = ["-L", label, "-U", _superblock_field(state, "Filesystem UUID")]
        argv = [process.require("mkfs.ext4", "e2fsprogs"), "-q", "-F", "-b", "4096", "-N", "1", "-d", str(tree)]
        process.output([*argv, *names, str(state), str(blocks)])
        free = int(_superblock_field(state, "Free inodes"))
        folders = [f"mkdir fill{number}" for number in range(free // _INODES_A_FOLDER + 1)]
        files = [f"write /dev/null fill{n // _INODES_A_FOLDER}/{n}" for n in range(free - len(folders))]
        debugfs(state, *folders, *files, writes=True)
    return FaultyDisk(disks=(disk,))


def _bad_superblock(disk: DiskSpec, partition: Partition) -> FaultyDisk:
    with disk.path.open("r+b") as file:
        file.seek(partition.start_bytes + 1024)
        file.write(bytes(1024))
    return FaultyDisk(disks=(disk,))


def _bad_journal(disk: DiskSpec, partition: Partition) -> FaultyDisk:
    """The beginning of the journal, which locates its transactions, is random bytes."""
    with _partition_of(disk, partition) as state:
        blocks = [int(word) for word in debugfs(state, "blocks <8>").split()[:8]]
        with state.open("r+b") as file:
            for block in blocks:
                file.seek(block * 4096)
                file.write(random.Random(block).randbytes(4096))
    return FaultyDisk(disks=(disk,))


def _long_check(disk: DiskSpec, partition: Partition) -> FaultyDisk:
    """Marked as having errors, on a slow disk: e2fsck -p checks everything."""
    with _replayed(disk, partition) as state:
        process.output([process.require("tune2fs", "e2fsprogs"), "-E", "force_fsck", str(state)])
    return FaultyDisk(disks=(replace(disk, reads_per_s=_SLOW_READS_PER_S),))


def _write_errors_beyond(disk: DiskSpec, partition: Partition) -> FaultyDisk:
    """Writes fail from the middle of the file system on, where mkfs.ext4 puts the journal unless it is small."""
    return FaultyDisk(disks=(replace(disk, fails_writes_from=partition.start_bytes + partition.size_bytes // 2),))


def _blank(disk: DiskSpec, *, size_gib: int = DATA_GIB, sector_bytes: int = 512) -> FaultyDisk:
    new = make_disk(disk.path.with_name("blank.raw"), disk.serial, size_gib=size_gib)
    return FaultyDisk(disks=(replace(new, sector_bytes=sector_bytes),), has_data=False)


_MAKERS: dict[DiskFault, Callable[[DiskSpec, Partition], FaultyDisk]] = {
    DiskFault.ABSENT: lambda _, __: FaultyDisk(disks=(), has_data=False),
    DiskFault.LATE: lambda disk, _: FaultyDisk(disks=(replace(disk, late_s=_LATE_S),)),
    DiskFault.TWIN: _twin,
    DiskFault.FOREIGN: _foreign_instead,
    DiskFault.FOREIGN_FIRST: _foreign_first,
    DiskFault.NVME: lambda disk, _: FaultyDisk(disks=(replace(disk, bus=DiskBus.NVME),)),
    DiskFault.FULL: _full,
    DiskFault.NO_INODES: _no_inodes,
    DiskFault.READ_ONLY: lambda disk, _: FaultyDisk(disks=(replace(disk, read_only=True),)),
    DiskFault.WRITE_ERRORS: lambda disk, _: FaultyDisk(disks=(replace(disk, fails_writes_from=0),)),
    DiskFault.WRITE_ERRORS_BEYOND: _write_errors_beyond,
    DiskFault.SLOW_READS: lambda disk, _: FaultyDisk(disks=(replace(disk, reads_per_s=_SLOW_READS_PER_S),)),
    DiskFault.BAD_SUPERBLOCK: _bad_superblock,
    DiskFault.BAD_JOURNAL: _bad_journal,
    DiskFault.LONG_CHECK: _long_check,
    DiskFault.BIG_SECTORS: lambda disk, _: _blank(disk, sector_bytes=4096),
    DiskFault.HUGE: lambda disk, _: _blank(disk, size_gib=_HUGE_GIB),
}


@contextmanager
def _partition_of(disk: DiskSpec, partition: Partition) -> Iterator[Path]:
    """The file system of a disk as a file, written back when the block ends."""
    with tempfile.TemporaryDirectory(dir=disk.path.parent) as folder:
        state = Path(folder) / "state"
        copy_partition(disk.path, partition, state)
        yield state
        put_partition(state, disk.path, partition)


@contextmanager
def _replayed(disk: DiskSpec, partition: Partition) -> Iterator[Path]:
    """The same, with its journal replayed: a later replay would undo changes."""
    with _partition_of(disk, partition) as state:
        argv = [process.require("e2fsck", "e2fsprogs"), "-fp", str(state)]
        status, text = process.answer(argv)
        if status > CORRECTED:
            raise CommandFailed(tuple(argv), status, text)
        yield state


def _superblock_field(state: Path, name: str) -> str:
    """A field of the superblock, as dumpe2fs(8) prints it; `HarnessError` if it does not."""
    text = process.output([process.require("dumpe2fs", "e2fsprogs"), "-h", str(state)])
    found = re.search(rf"^{name}: +(.*)$", text, re.MULTILINE)
    if not found:
        raise HarnessError(f"dumpe2fs -h prints no field {name!r} of {state}:\n{text}")
    return found[1]
