"""The boot disk of GRUB's machines, without booting it: its table, its files, and where its loaders look."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core import process
from harness.core.errors import UsageError
from harness.model.artifacts import FILES, Artifacts
from harness.model.machine_spec import DiskBus, DiskFormat
from harness.qemu import grub
from harness.qemu.disk_images import partitions
from harness.qemu.ext4 import open_ext4

from ... import samples

SECTOR_BYTES = 512


@pytest.fixture
def old(tmp_path: Path) -> Artifacts:
    return samples.artifacts(tmp_path / "old", "2026.10")


@pytest.fixture
def new(tmp_path: Path) -> Artifacts:
    return samples.artifacts(tmp_path / "new", "2026.11")


def _entry(artifacts: Artifacts) -> grub.MenuEntry:
    return grub.MenuEntry(artifacts=artifacts, arguments=("quiet", "root=live:LABEL=x", "note=a;b"))


def test_the_menu_has_an_entry_for_each_version_the_first_by_default(old: Artifacts, new: Artifacts) -> None:
    text = grub.configuration([_entry(new), _entry(old)])

    titles = [line for line in text.splitlines() if line.startswith("menuentry")]
    assert titles == [
        f"menuentry 'base 2026.11 ({new.digest[:12]})' --hotkey=1 {{",
        f"menuentry 'base 2026.10 ({old.digest[:12]})' --hotkey=2 {{",
    ]
    assert "set default=0\n" in text
    assert f"    linux /{new.digest[:12]}/vmlinuz quiet root=live:LABEL=x 'note=a;b'\n" in text
    assert f"    initrd /{old.digest[:12]}/initrd.img\n" in text


def test_the_menu_uses_the_serial_console_before_it_says_that_it_is_ready(old: Artifacts) -> None:
    lines = grub.configuration([_entry(old)]).splitlines()

    assert lines[:3] == ["serial --unit=0 --speed=115200", "terminal_input serial console", "terminal_output serial"]
    assert lines.index(f'echo "{grub.READY}"') > 2


def test_a_deployment_keeps_what_ran_as_the_second_entry(old: Artifacts, new: Artifacts) -> None:
    assert grub.offers(new, old) == (new, old)
    assert grub.offers(new, new, (new, old)) == (new, old)  # installed once more
    assert grub.offers(old, old, (new, old)) == (old, new)  # an older one is confirmed after it was picked by hand
    assert grub.offers(new, new) == (new,)


def test_only_a_squashfs_that_dracut_finds_by_itself_can_be_on_the_boot_disk(tmp_path: Path) -> None:
    rooted = samples.artifacts(tmp_path / "rooted", "1", kernel_arguments=("root=/dev/sda1",))

    with pytest.raises(UsageError, match="root="):
        grub.check(rooted.manifest)
    downloads = samples.artifacts(tmp_path / "downloads", "1", kernel_arguments=("boot=live",))
    with pytest.raises(UsageError, match="only dracut's initrd"):
        grub.check(downloads.manifest)


@pytest.fixture
def boot_disk(tmp_path: Path, old: Artifacts, new: Artifacts) -> Path:
    path = tmp_path / "boot-disk.img"
    grub.make_disk(path, [_entry(new), _entry(old)])
    return path


def test_the_disk_has_a_place_for_each_loader_and_for_the_versions(boot_disk: Path) -> None:
    assert [row.name for row in partitions(boot_disk)] == ["grub", "esp", "bootproof-boot"]
    assert boot_disk.stat().st_size < 4 << 30


def test_both_versions_and_the_menu_are_on_boot(boot_disk: Path, old: Artifacts, new: Artifacts) -> None:
    with open_ext4(boot_disk, 3) as boot:
        for artifacts in (old, new):
            for name in FILES:
                assert boot.read(f"{grub.folder_of(artifacts.digest)}/{name}") == (artifacts.folder / name).read_bytes()
        assert boot.read("/grub.cfg").decode() == grub.configuration([_entry(new), _entry(old)])
        assert boot.problems() == ""
        features = process.output([process.require("dumpe2fs", "e2fsprogs"), "-h", str(boot.copy)])

    unknown_to_grub = {"metadata_csum_seed", "orphan_file"}
    (row,) = (line for line in features.splitlines() if line.startswith("Filesystem features:"))
    assert not unknown_to_grub & set(row.split())


def test_uefi_finds_grub_where_it_looks_on_removable_disks(boot_disk: Path) -> None:
    start = partitions(boot_disk)[1].start_bytes
    mtype = process.require("mtype", "mtools")

    status, _ = process.answer([mtype, "-i", f"{boot_disk}@@{start}", "::/EFI/BOOT/BOOTX64.EFI"])

    assert status == 0


def test_bios_finds_core_img_and_that_its_rest(boot_disk: Path) -> None:
    """GRUB's boot.img has a sector at 0x5c, core.img one at 12 bytes before the end of its first."""
    core = partitions(boot_disk)[0].start_bytes
    content = boot_disk.read_bytes()[: 2 << 20]

    assert int.from_bytes(content[0x5C:0x64], "little") * SECTOR_BYTES == core
    begin, count = content[core + 500 : core + 508], content[core + 508 : core + 510]
    assert int.from_bytes(begin, "little") * SECTOR_BYTES == core + SECTOR_BYTES
    rest = content[core + SECTOR_BYTES :].rstrip(b"\0")
    assert 0 < len(rest) <= int.from_bytes(count, "little") * SECTOR_BYTES
    assert content[510:512] == b"\x55\xaa"


def test_a_disk_is_made_anew_only_where_its_menu_changes(tmp_path: Path, old: Artifacts, new: Artifacts) -> None:
    folder = tmp_path / "machine"
    folder.mkdir()
    disk = grub.install(folder, [_entry(old)])
    first = disk.path.stat().st_mtime_ns

    assert grub.install(folder, [_entry(old)]).path.stat().st_mtime_ns == first
    assert grub.install(folder, [_entry(new), _entry(old)]).path.stat().st_mtime_ns != first
    assert (disk.bus, disk.serial) == (DiskBus.VIRTIO, grub.SERIAL)
    assert [file.name for file in folder.iterdir() if file.name.startswith(".")] == []


def test_a_copy_of_a_frozen_machine_has_its_boot_disk_and_leaves_the_kept_one(tmp_path: Path, old: Artifacts) -> None:
    machine, kept, clone, again = (tmp_path / name for name in ("machine", "kept", "clone", "again"))
    for folder in (machine, kept, clone, again):
        folder.mkdir()
    content = grub.install(machine, [_entry(old)]).path.read_bytes()
    grub.keep(machine, kept)

    disk = grub.take(kept, clone)
    assert disk.format is DiskFormat.QCOW2
    assert grub.install(clone, [_entry(old)]) == disk  # it boots from what it has
    grub.keep(clone, again)

    assert (again / grub.DISK).read_bytes() == (kept / grub.DISK).read_bytes() == content
