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
from harness.model.definition import ImageDefinition
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
    """Make a blank, sparse image; `FileExistsError` if there is a file."""
    with path.open("xb") as file:
        file.truncate(size_bytes)


def make_disk(path: Path, serial: str = DATA_SERIAL, *, size_gib: int = DATA_GIB) -> DiskSpec:
    """Make a blank, sparse image for /data, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    make_raw(path, size_bytes=size_gib << 30)
    return DiskSpec(path=path, serial=serial)


def blank_disks(definition: ImageDefinition, path: Path, serial: str = DATA_SERIAL) -> tuple[DiskSpec, ...]:
    """The disks of a new machine of the image: a blank persistent disk at ``path``; none without persistent paths."""
    return (make_disk(path, serial),) if definition.persistent_paths else ()


def furnish(disks: Iterable[DiskSpec]) -> None:
    """Make the images that are missing: blank, or for `DiskRole.FOREIGN` with an ext4 on the whole disk.

    A blank image that exists is resized.
    """
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
    """Copy ``source`` to ``target``, holes kept."""
    with source.open("rb", buffering=0) as reader, target.open("xb", buffering=0) as writer:
        size_bytes = os.fstat(reader.fileno()).st_size
        writer.truncate(size_bytes)
        _copy_data(reader.fileno(), writer.fileno(), 0, size_bytes)


def flatten(overlay: Path, target: Path) -> None:
    """Write the content of ``overlay`` to the raw image ``target``."""
    _qemu_img("convert", "-O", "raw", str(overlay), str(target))


def to_qcow2(raw: Path, target: Path) -> None:
    """Write the content of the raw image ``raw`` to ``target``, a qcow2 without a backing file or compression."""
    _qemu_img("convert", "-f", "raw", "-O", "qcow2", str(raw), str(target))


def pack(disk: Path, target: Path) -> None:
    """Write the content of ``disk`` to ``target``, a compressed qcow2 without a backing file."""
    _qemu_img("convert", "-c", "-f", format_of(disk), "-O", "qcow2", str(disk), str(target))


def detach(overlay: Path) -> None:
    """Make ``overlay`` independent of its base. (`qemu-img rebase` would also read everything that is empty.)"""
    whole = overlay.with_name(f".{overlay.name}.whole")
    try:
        _qemu_img("convert", "-f", "qcow2", "-O", "qcow2", str(overlay), str(whole))
        whole.replace(overlay)
    finally:
        whole.unlink(missing_ok=True)


def format_of(path: Path) -> DiskFormat:
    """The format by the first bytes (QEMU, docs/interop/qcow2.txt); raw if it is not qcow2."""
    with path.open("rb") as file:
        return DiskFormat.QCOW2 if file.read(4) == b"QFI\xfb" else DiskFormat.RAW


def make_overlay(path: Path, base: Path, *, base_format: DiskFormat = DiskFormat.RAW) -> None:
    """Make a qcow2 overlay over ``base``, which must not change while the overlay is used."""
    _qemu_img("create", "-q", "-f", "qcow2", "-F", base_format, "-b", str(base.resolve()), str(path))


def _qemu_img(*words: str) -> None:
    process.output([process.require("qemu-img", "qemu-utils"), *words])


def partitions(image: Path) -> tuple[Partition, ...]:
    """The GPT of a raw ``image``; empty if it has no partition table."""
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
        raise UsageError(f"{image}: its partition table is {table['label']}, not gpt")
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
    """The GPT of a disk with sectors of 4096 bytes, which sfdisk(8) cannot read from a file (UEFI 2.10, 5.3)."""
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
    """The partition with that number or type, by default the one with an ext4; number 0 is the whole disk.

    `ImageError` unless there is exactly one.
    """
    if which == 0:
        return Partition(number=0, start_bytes=0, size_bytes=image.stat().st_size, type=UUID(int=0))
    known = partitions(image)
    if which is None:
        found = [partition for partition in known if holds_ext4(image, partition)]
    else:
        found = [partition for partition in known if which in (partition.number, partition.type)]
    if len(found) != 1:
        there = ", ".join(f"{row.number} (type {row.type})" for row in known) or "none"
        wanted = "ext4" if which is None else str(which)
        raise ImageError(f"{image}: {len(found)} partitions are {wanted}; there: {there}")
    return found[0]


def holds_ext4(image: Path, partition: Partition) -> bool:
    """By s_magic, at offset 56 of the superblock at 1024 (Linux, Documentation/filesystems/ext4/super.rst)."""
    with image.open("rb") as file:
        file.seek(partition.start_bytes + 0x438)
        return file.read(2) == b"\x53\xef"


def copy_partition(image: Path, partition: Partition, target: Path) -> None:
    """Copy the partition's data to ``target``, holes left out (lseek(2), SEEK_DATA)."""
    end = partition.start_bytes + partition.size_bytes
    with image.open("rb", buffering=0) as source, target.open("xb", buffering=0) as sink:
        if os.fstat(source.fileno()).st_size < end:
            raise ImageError(f"{image}: shorter than its partition {partition.number}, which ends at {end} bytes")
        sink.truncate(partition.size_bytes)
        _copy_data(source.fileno(), sink.fileno(), partition.start_bytes, end)


def put_partition(source: Path, image: Path, partition: Partition) -> None:
    """Replace the partition's data by the content of ``source``."""
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
    """Copy bytes ``begin`` to ``end`` of ``source``, without holes, to offset ``to`` of ``sink``."""
    for start, stop in data_extents(source, begin, end):
        at = start
        while at < stop:
            at += os.copy_file_range(source, sink, min(_COPY_BYTES, stop - at), at, at - begin + to)


def data_extents(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The ranges of a file between ``start`` and ``end`` that are not holes (lseek(2), SEEK_DATA)."""
    while start < end:
        try:
            data = os.lseek(fd, start, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            return
        start = os.lseek(fd, data, os.SEEK_HOLE)
        if data < end:
            yield data, min(start, end)
