"""Disk images on the host: making, layering and copying them, and their partition tables. None of it needs root."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from harness.core import process
from harness.core.errors import ImageError, UsageError
from harness.core.process import CommandFailed
from harness.model.machine_spec import DiskFormat, DiskRole, DiskSpec

DATA_GIB = 8
DATA_SERIAL = "BOOTPROOF-DATA"
_COPY_BYTES = 1 << 30
_BIG_SECTOR = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One row of a GPT; ``number`` is that of /dev/sdaN."""

    number: int
    start_bytes: int
    size_bytes: int
    type: UUID
    name: str = ""


def make_raw(path: Path, *, size_bytes: int) -> None:
    """A blank disk that takes no space yet; `FileExistsError` rather than emptying one that is there."""
    with path.open("xb") as file:
        file.truncate(size_bytes)


def make_disk(path: Path, serial: str = DATA_SERIAL, *, size_gib: int = DATA_GIB) -> DiskSpec:
    """A blank, sparse disk, for /data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    make_raw(path, size_bytes=size_gib << 30)
    return DiskSpec(path=path, serial=serial)


def furnish(disks: Iterable[DiskSpec]) -> None:
    """Make the images that are not there yet: blank, or somebody else's file system on the whole of it. One that is
    there and blank gets its size."""
    for disk in disks:
        if not disk.size_gib:
            continue
        size_bytes = disk.size_gib << 30
        if disk.path.exists():
            if disk.format is DiskFormat.RAW and not disk.path.stat().st_blocks:
                os.truncate(disk.path, size_bytes)
            continue
        make_raw(disk.path, size_bytes=size_bytes)
        if disk.role is DiskRole.FOREIGN:
            process.output([process.require("mkfs.ext4", "e2fsprogs"), "-q", "-F", "-L", "precious", str(disk.path)])


def copy_sparse(source: Path, target: Path) -> None:
    """``target`` becomes a copy of ``source``, its holes kept."""
    with source.open("rb", buffering=0) as reader, target.open("xb", buffering=0) as writer:
        size_bytes = os.fstat(reader.fileno()).st_size
        writer.truncate(size_bytes)
        _copy_data(reader.fileno(), writer.fileno(), 0, size_bytes)


def flatten(overlay: Path, target: Path) -> None:
    """A raw disk ``target`` of all that ``overlay`` shows."""
    program = process.require("qemu-img", "qemu-utils")
    process.output([program, "convert", "-O", "raw", str(overlay), str(target)])


def pack(disk: Path, target: Path) -> None:
    """A compressed qcow2 ``target`` of all that ``disk`` shows, and that needs no other file."""
    program = process.require("qemu-img", "qemu-utils")
    process.output([program, "convert", "-c", "-f", format_of(disk), "-O", "qcow2", str(disk), str(target)])


def detach(overlay: Path) -> None:
    """What ``overlay`` shows of its base becomes its own. (`qemu-img rebase` would read all that is empty, too.)"""
    program, whole = process.require("qemu-img", "qemu-utils"), overlay.with_name(f".{overlay.name}.whole")
    try:
        process.output([program, "convert", "-f", "qcow2", "-O", "qcow2", str(overlay), str(whole)])
        whole.replace(overlay)
    finally:
        whole.unlink(missing_ok=True)


def format_of(path: Path) -> DiskFormat:
    """By its first bytes (QEMU, docs/interop/qcow2.txt); what is no qcow2 is raw."""
    with path.open("rb") as file:
        return DiskFormat.QCOW2 if file.read(4) == b"QFI\xfb" else DiskFormat.RAW


def make_overlay(path: Path, base: Path, *, base_format: DiskFormat = DiskFormat.RAW) -> None:
    """A qcow2 disk over ``base``, which must stay as it is while the overlay is used."""
    program = process.require("qemu-img", "qemu-utils")
    process.output([program, "create", "-q", "-f", "qcow2", "-F", base_format, "-b", str(base.resolve()), str(path)])


def partitions(image: Path) -> tuple[Partition, ...]:
    """The partition table of a raw ``image``; empty if it has none."""
    if rows := _partitions_in_4k(image):
        return rows
    try:
        text = process.output([process.require("sfdisk", "fdisk"), "--json", str(image)])
    except CommandFailed as error:
        if "does not contain a recognized partition table" in error.tail:
            return ()
        raise
    table = json.loads(text)["partitiontable"]
    if table["label"] != "gpt":
        raise UsageError(f"{image}: its partition table is {table['label']}; only gpt is understood")
    sector_bytes = int(table["sectorsize"])
    return tuple(
        Partition(
            number=int(row["node"][len(table["device"]) :].lstrip("p")),
            start_bytes=row["start"] * sector_bytes,
            size_bytes=row["size"] * sector_bytes,
            type=UUID(row["type"]),
            name=row.get("name", ""),
        )
        for row in table.get("partitions", ())
    )


def _partitions_in_4k(image: Path) -> tuple[Partition, ...]:
    """Those of a disk with sectors of 4096 bytes, which sfdisk(8) does not know of a file (UEFI 2.10, section 5.3)."""
    with image.open("rb") as file:
        file.seek(_BIG_SECTOR)
        header = file.read(92)
        if header[:8] != b"EFI PART":
            return ()
        first, count, size = struct.unpack_from("<QII", header, 72)
        file.seek(first * _BIG_SECTOR)
        rows = [file.read(size)[:128] for _ in range(count)]
    return tuple(
        Partition(
            number=number,
            start_bytes=int.from_bytes(row[32:40], "little") * _BIG_SECTOR,
            size_bytes=(int.from_bytes(row[40:48], "little") + 1 - int.from_bytes(row[32:40], "little")) * _BIG_SECTOR,
            type=UUID(bytes_le=row[:16]),
            name=row[56:].decode("utf-16-le").rstrip("\0"),
        )
        for number, row in enumerate(rows, 1)
        if any(row[:16])
    )


def find_partition(image: Path, which: int | UUID | None = None) -> Partition:
    """The one partition of that number or type, or that holds an ext4; `ImageError` if there are none or several.

    Number 0 is the whole disk.
    """
    if which == 0:
        return Partition(number=0, start_bytes=0, size_bytes=image.stat().st_size, type=UUID(int=0))
    known = partitions(image)
    if which is None:
        found = [partition for partition in known if holds_ext4(image, partition)]
    else:
        found = [partition for partition in known if which in (partition.number, partition.type)]
    if len(found) != 1:
        there = ", ".join(f"{row.number} (type {row.type})" for row in known) or "none at all"
        wanted = "ext4" if which is None else str(which)
        raise ImageError(f"{image}: {len(found)} partitions are {wanted}; there: {there}")
    return found[0]


def holds_ext4(image: Path, partition: Partition) -> bool:
    """Linux, Documentation/filesystems/ext4/super.rst: s_magic, 56 bytes into the superblock at 1024."""
    with image.open("rb") as file:
        file.seek(partition.start_bytes + 0x438)
        return file.read(2) == b"\x53\xef"


def copy_partition(image: Path, partition: Partition, target: Path) -> None:
    """The partition's data becomes a file, its holes left out: lseek(2), SEEK_DATA."""
    end = partition.start_bytes + partition.size_bytes
    with image.open("rb", buffering=0) as source, target.open("xb", buffering=0) as sink:
        if os.fstat(source.fileno()).st_size < end:
            raise ImageError(f"{image}: shorter than its partition {partition.number}, which ends at {end} bytes")
        sink.truncate(partition.size_bytes)
        _copy_data(source.fileno(), sink.fileno(), partition.start_bytes, end)


def put_partition(source: Path, image: Path, partition: Partition) -> None:
    """The data of the file ``source`` becomes the partition's."""
    end = partition.start_bytes + partition.size_bytes
    half_made = image.with_name(f".{image.name}.new")
    with image.open("rb", buffering=0) as old, source.open("rb", buffering=0) as new:
        size_bytes = os.fstat(old.fileno()).st_size
        with half_made.open("xb", buffering=0) as sink:
            sink.truncate(size_bytes)
            _copy_data(old.fileno(), sink.fileno(), 0, partition.start_bytes)
            _copy_data(new.fileno(), sink.fileno(), 0, partition.size_bytes, partition.start_bytes)
            _copy_data(old.fileno(), sink.fileno(), end, size_bytes, end)
    half_made.replace(image)


def _copy_data(source: int, sink: int, begin: int, end: int, to: int = 0) -> None:
    """What is between ``begin`` and ``end`` of ``source``, holes apart, to ``sink`` from ``to`` on."""
    for start, stop in _extents(source, begin, end):
        at = start
        while at < stop:
            at += os.copy_file_range(source, sink, min(_COPY_BYTES, stop - at), at, at - begin + to)


def _extents(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end:
        try:
            data = os.lseek(fd, start, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            return
        start = os.lseek(fd, data, os.SEEK_HOLE)
        if data < end:
            yield data, min(start, end)
