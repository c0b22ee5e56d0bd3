"""Each disk fault changes a disk as its name says, and in no other way."""

from __future__ import annotations

import subprocess
from pathlib import Path
from uuid import UUID

import pytest

from harness.core.debugfs import debugfs
from harness.model.machine_spec import DiskBus, DiskFault, DiskSpec
from harness.persistence.disk_faults import make_faulty
from harness.qemu import disk_images
from harness.qemu.ext4 import DamagedFileSystem, open_ext4

MIB = 1 << 20
TYPE = UUID("7be3d0c0-7584-4fb4-ae35-1eaa49f836d1")


@pytest.fixture
def disk(tmp_path: Path) -> DiskSpec:
    """Two partitions; the second holds ``/kept``."""
    path = tmp_path / "disk.raw"
    disk_images.make_raw(path, size_bytes=128 * MIB)
    table = f"label: gpt\nsize=16M\ntype={TYPE}\n"
    subprocess.run(["/usr/sbin/sfdisk", "-q", str(path)], input=table.encode(), check=True)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "kept").write_bytes(b"kept")
    second = disk_images.find_partition(path, 2)
    options = ["-q", "-d", str(tree), "-E", f"offset={second.start_bytes}", "-b", "4096"]
    subprocess.run(["/usr/sbin/mkfs.ext4", *options, str(path), str(second.size_bytes // 4096)], check=True)
    return DiskSpec(path=path, serial="S")


def statistics(disk: DiskSpec) -> dict[str, str]:
    with open_ext4(disk, 2) as data:
        text = subprocess.check_output(["/usr/sbin/dumpe2fs", "-h", str(data.copy)], text=True)
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


@pytest.mark.parametrize("fault", DiskFault)
def test_the_data_is_still_on_the_disk_of_each_fault_that_has_data(disk: DiskSpec, fault: DiskFault) -> None:
    faulty = make_faulty(fault, disk, 2)

    if faulty.has_data and fault not in (DiskFault.BAD_SUPERBLOCK, DiskFault.BAD_JOURNAL):
        own = next(one for one in faulty.disks if one.serial == "S")
        with open_ext4(own, 2) as data:
            assert data.read("/kept") == b"kept"
            assert data.problems() == ""
    assert len({one.serial for one in faulty.disks}) == len(faulty.disks)
    assert not [file for file in disk.path.parent.iterdir() if file.name.startswith(".")]


@pytest.mark.parametrize(("fault", "what"), [(DiskFault.FULL, "Free blocks"), (DiskFault.NO_INODES, "Free inodes")])
def test_a_full_disk_is_full(disk: DiskSpec, fault: DiskFault, what: str) -> None:
    assert int(statistics(disk)[what]) > 1000

    assert int(statistics(make_faulty(fault, disk, 2).disks[0])[what]) < 20


def test_a_fragmented_disk_is_filled_too(disk: DiskSpec, tmp_path: Path) -> None:
    (tmp_path / "block").write_bytes(b"x" * 4096)
    partition = disk_images.find_partition(disk.path, 2)
    disk_images.copy_partition(disk.path, partition, state := tmp_path / "state")
    write = [f"write {tmp_path}/block f{number}" for number in range(4000)]
    debugfs(state, *write, *(f"rm f{number}" for number in range(0, 4000, 2)), writes=True)
    disk_images.put_partition(state, disk.path, partition)

    (full,) = make_faulty(DiskFault.FULL, disk, 2).disks

    assert int(statistics(full)["Free blocks"]) < 20
    with open_ext4(full, 2) as data:
        assert data.problems() == ""


def test_a_damaged_superblock_is_beyond_mending_without_asking(disk: DiskSpec) -> None:
    faulty = make_faulty(DiskFault.BAD_SUPERBLOCK, disk, 2)

    with pytest.raises(DamagedFileSystem), open_ext4(faulty.disks[0], 2):
        pass


def test_a_damaged_journal_is_noise_where_it_begins(disk: DiskSpec) -> None:
    before = disk.path.read_bytes()
    make_faulty(DiskFault.BAD_JOURNAL, disk, 2)
    after = disk.path.read_bytes()

    changed = [at // 4096 for at in range(0, len(before), 4096) if before[at : at + 4096] != after[at : at + 4096]]
    assert 1 <= len(changed) <= 8


def test_a_check_is_due_and_slow(disk: DiskSpec) -> None:
    (slow,) = make_faulty(DiskFault.LONG_CHECK, disk, 2).disks

    assert slow.reads_per_s
    with disk.path.open("rb") as file:
        file.seek(disk_images.find_partition(disk.path, 2).start_bytes + 1024 + 0x3A)
        assert file.read(1)[0] & 2, "ext4's super.rst: s_state, errors detected"


def test_what_the_machine_sees_of_it(disk: DiskSpec) -> None:
    made = {fault: make_faulty(fault, disk, 2).disks for fault in (DiskFault.NVME, DiskFault.LATE, DiskFault.READ_ONLY)}

    assert made[DiskFault.NVME][0].bus is DiskBus.NVME
    assert made[DiskFault.LATE][0].late_s == 30
    assert made[DiskFault.READ_ONLY][0].read_only
    assert make_faulty(DiskFault.ABSENT, disk, 2).disks == ()
    (other,) = make_faulty(DiskFault.FOREIGN, disk, 2).disks
    assert other.serial == "FOREIGN"
    other.path.unlink()
    first, second = make_faulty(DiskFault.FOREIGN_FIRST, disk, 2).disks
    assert (first.serial, second) == ("FOREIGN", disk)
    (huge,) = make_faulty(DiskFault.HUGE, disk, 2).disks
    assert huge.path.stat().st_size == 2 << 40
