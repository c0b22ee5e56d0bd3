"""The disks that the fixtures give to machines."""

from __future__ import annotations

from pathlib import Path

from harness.fixtures.disk import Seeded


def test_a_copy_of_the_seeded_disk_of_an_image_that_keeps_nothing_is_no_disk(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(b"data")

    (copied,) = Seeded(path=tmp_path / "disk.raw", number=2, nonces={}).copy(tmp_path)

    assert copied.path.read_bytes() == b"data"
    assert Seeded(path=None, number=0, nonces={}).copy(tmp_path) == ()
