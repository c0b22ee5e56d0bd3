"""Disk images are made and read without root and without mounting."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path
from uuid import UUID

import pytest

from harness.core.debugfs import debugfs
from harness.core.errors import HostError, ImageError
from harness.model.definition import load_definition
from harness.model.machine_spec import DiskFormat, DiskSpec
from harness.qemu import disk_images
from harness.qemu.disk_images import DATA_SERIAL, Partition, blank_disks
from harness.qemu.ext4 import DamagedFileSystem, open_ext4

DATA_TYPE = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
BOOT_TYPE = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
MIB = 1 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk of two partitions; the second holds ``/nova/a file`` and a link, with its journal in use."""
    path = tmp_path / "disk.raw"
    disk_images.make_raw(path, size_bytes=256 * MIB)
    table = f"label: gpt\nsize=64M,type={BOOT_TYPE},name=BOOT\ntype={DATA_TYPE},name=data\n"
    subprocess.run(["/usr/sbin/sfdisk", "-q", str(path)], input=table.encode(), check=True)
    tree = tmp_path / "tree"
    (tree / "nova").mkdir(parents=True)
    (tree / "nova" / "a file").write_bytes(b"kept\x00")
    (tree / "link").symlink_to("nova")
    second = disk_images.find_partition(path, 2)
    options = ["-q", "-d", str(tree), "-E", f"offset={second.start_bytes}"]
    size_kib = str(second.size_bytes // 1024)
    subprocess.run(["/usr/sbin/mkfs.ext4", *options, str(path), f"{size_kib}k"], check=True)
    return path


def test_a_raw_disk_takes_no_space_and_is_never_emptied(tmp_path: Path) -> None:
    disk_images.make_raw(tmp_path / "disk", size_bytes=8 << 30)

    seen = (tmp_path / "disk").stat()
    assert (seen.st_size, seen.st_blocks) == (8 << 30, 0)
    with pytest.raises(FileExistsError):
        disk_images.make_raw(tmp_path / "disk", size_bytes=1)


def test_an_overlay_names_its_base(tmp_path: Path) -> None:
    disk_images.make_raw(tmp_path / "base", size_bytes=MIB)
    disk_images.make_overlay(tmp_path / "top.qcow2", tmp_path / "base")

    text = subprocess.check_output(["qemu-img", "info", "--output=json", str(tmp_path / "top.qcow2")])
    assert json.loads(text)["backing-filename"] == str(tmp_path / "base")
    assert [disk_images.format_of(tmp_path / name) for name in ("base", "top.qcow2")] == [
        DiskFormat.RAW,
        DiskFormat.QCOW2,
    ]


def test_partitions_are_found_by_number_and_by_type(image: Path) -> None:
    by_number = disk_images.find_partition(image, 2)

    assert by_number == disk_images.find_partition(image, DATA_TYPE)
    assert disk_images.partitions(image)[0] == Partition(
        number=1, start_bytes=MIB, size_bytes=64 * MIB, type=BOOT_TYPE, name="BOOT"
    )


def test_a_missing_partition_is_the_image_s_fault_and_lists_what_is_there(image: Path) -> None:
    with pytest.raises(ImageError, match=f"0 partitions are 7; there: 1 .*{DATA_TYPE}"):
        disk_images.find_partition(image, 7)


def test_a_blank_disk_has_no_partitions(tmp_path: Path) -> None:
    disk_images.make_raw(tmp_path / "disk", size_bytes=MIB)

    assert disk_images.partitions(tmp_path / "disk") == ()


def test_a_file_is_read_from_the_partition(image: Path) -> None:
    with open_ext4(image, 2) as file_system:
        assert file_system.read("/nova/a file") == b"kept\x00"


def test_folders_and_links_are_distinguished(image: Path) -> None:
    with open_ext4(image, DATA_TYPE) as file_system:
        names = {entry.name for entry in file_system.entries("/")}
        folder, link = file_system.entry("/nova"), file_system.entry("/link")

    assert names == {"lost+found", "nova", "link"}
    assert folder is not None
    assert folder.is_folder
    assert link is not None
    assert stat.S_ISLNK(link.mode)


def test_a_missing_file_is_named(image: Path) -> None:
    with open_ext4(image, 2) as file_system:
        assert file_system.entry("/nova/other") is None
        with pytest.raises(FileNotFoundError, match="partition 2: no file /nova/other"):
            file_system.read("/nova/other")


def test_a_sound_file_system_has_no_problems_and_the_image_stays_as_it_was(image: Path) -> None:
    before = image.stat()

    with open_ext4(image, 2) as file_system:
        assert file_system.problems() == ""

    assert image.stat().st_mtime_ns == before.st_mtime_ns
    assert not list(image.parent.glob(".look.*"))


def test_damage_is_reported_as_e2fsck_prints_it(image: Path) -> None:
    with open_ext4(image, 2) as file_system:
        subprocess.run(
            ["/usr/sbin/debugfs", "-w", "-R", 'clri "/nova/a file"', str(file_system.copy)],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        assert "a file" in file_system.problems()


def test_a_wiped_file_system_is_damaged(image: Path) -> None:
    with image.open("r+b") as file:
        file.seek(disk_images.find_partition(image, 2).start_bytes)
        file.write(bytes(64 * MIB))

    with pytest.raises(DamagedFileSystem, match="partition 2: e2fsck finds it damaged"), open_ext4(image, 2):
        pass


def test_a_file_system_that_is_too_new_for_the_host_is_not_damaged(image: Path, tmp_path: Path) -> None:
    partition = disk_images.find_partition(image, 2)
    disk_images.copy_partition(image, partition, tmp_path / "ext4")
    debugfs(tmp_path / "ext4", "feature FEATURE_I30", writes=True)
    disk_images.put_partition(tmp_path / "ext4", image, partition)

    with pytest.raises(HostError, match="this host's e2fsprogs do not know FEATURE_I30"), open_ext4(image, 2):
        pass


def test_a_copy_keeps_holes_and_what_is_between_them(tmp_path: Path) -> None:
    source = tmp_path / "source"
    disk_images.make_raw(source, size_bytes=64 * MIB)
    with source.open("r+b") as file:
        file.seek(32 * MIB)
        file.write(b"kept" * 1000)

    disk_images.copy_sparse(source, tmp_path / "copy")

    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert (tmp_path / "copy").stat().st_blocks * 512 < MIB


def test_a_machines_overlay_is_read_as_the_guest_saw_it(image: Path, tmp_path: Path) -> None:
    overlay = DiskSpec(path=tmp_path / "top.qcow2", serial="x", format=DiskFormat.QCOW2)
    disk_images.make_overlay(overlay.path, image)

    with open_ext4(overlay, 2) as data:
        assert data.read("/nova/a file") == b"kept\x00"


def test_partitions_of_a_disk_with_large_sectors_are_found(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    disk_images.make_raw(path, size_bytes=256 * MIB)
    wanted = b"g\nn\n1\n\n+64M\nn\n2\n\n\nw\n"
    subprocess.run(["/usr/sbin/fdisk", "-b", "4096", str(path)], input=wanted, check=True, capture_output=True)

    first, second = disk_images.partitions(path)
    assert (first.number, first.start_bytes, first.size_bytes) == (1, MIB, 64 * MIB)
    assert (second.number, second.start_bytes, second.type) == (2, 65 * MIB, DATA_TYPE)
    assert second.start_bytes + second.size_bytes <= 256 * MIB


def test_a_machine_has_a_blank_disk_if_its_image_has_persistent_paths_and_none_otherwise(tmp_path: Path) -> None:
    images = Path(__file__).parents[3] / "images"

    (disk,) = blank_disks(load_definition(images / "base"), tmp_path / "data.raw")

    assert (disk.path, disk.serial) == (tmp_path / "data.raw", DATA_SERIAL)
    assert disk.path.exists()
    assert blank_disks(load_definition(images / "base-stateless"), tmp_path / "other.raw") == ()
    assert not (tmp_path / "other.raw").exists()
