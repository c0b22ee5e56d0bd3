"""The disks that the fixtures give to machines."""

from __future__ import annotations

from pathlib import Path

from harness.fixtures.disk import Seeded, blank_disks
from harness.model.definition import load_definition
from harness.qemu.disk_images import DATA_SERIAL

from .conftest import ROOT


def test_a_machine_has_a_blank_disk_if_its_image_has_persistent_paths_and_none_otherwise(tmp_path: Path) -> None:
    images = ROOT / "images"

    (disk,) = blank_disks(load_definition(images / "base"), tmp_path / "data.raw")

    assert (disk.path, disk.serial) == (tmp_path / "data.raw", DATA_SERIAL)
    assert disk.path.exists()
    assert blank_disks(load_definition(images / "base-stateless"), tmp_path / "other.raw") == ()
    assert not (tmp_path / "other.raw").exists()


def test_a_copy_of_the_seeded_disk_of_an_image_that_keeps_nothing_is_no_disk(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(b"data")

    (copied,) = Seeded(path=tmp_path / "disk.raw", number=2, nonces={}).copy(tmp_path)

    assert copied.path.read_bytes() == b"data"
    assert Seeded(path=None, number=0, nonces={}).copy(tmp_path) == ()
