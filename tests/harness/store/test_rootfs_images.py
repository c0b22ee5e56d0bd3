"""Files of root file systems are read without mounting them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.store.rootfs_images import reading

BYTES = bytes(range(256)) * 32
"""No text: databases of package managers are not."""


@pytest.fixture(params=["ext4", "squashfs"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A root file system as other builders make it: /etc/os-release and /lib are links."""
    tree = tmp_path / "tree"
    (tree / "usr/lib").mkdir(parents=True)
    (tree / "etc").mkdir()
    (tree / "usr/lib/os-release").write_text("ID=debian\n")
    (tree / "etc/os-release").symlink_to("../usr/lib/os-release")
    (tree / "lib").symlink_to("usr/lib")
    (tree / "var/db/some").mkdir(parents=True)
    (tree / "var/db/some/file").write_bytes(BYTES)
    (tree / "var/db/empty").touch()
    image = tmp_path / "rootfs"
    if request.param == "squashfs":
        subprocess.run(["mksquashfs", str(tree), str(image), "-quiet", "-no-progress"], check=True)
    else:
        subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-d", str(tree), str(image), "4M"], check=True)
    return image


def test_a_file_is_read_and_links_and_what_is_missing_are_nothing(image: Path) -> None:
    """Two links among the names: unsquashfs 4.5.1 crashes if it is asked for both at once."""
    with reading(image) as read:
        assert read is not None
        found = read(["usr/lib/os-release", "etc/os-release", "etc/none", "lib/some/none", "none"])

    assert found == {"usr/lib/os-release": b"ID=debian\n"}


def test_all_files_below_a_folder_are_read_to_the_byte(image: Path) -> None:
    with reading(image) as read:
        assert read is not None
        found = read(["var/db", "var/none", "etc/os-release"])

    assert found == {"var/db/some/file": BYTES, "var/db/empty": b""}


def test_a_damaged_image_is_said_to_be_damaged(image: Path) -> None:
    with image.open("r+b") as file:
        file.truncate(image.stat().st_size // 16)

    with pytest.raises(UsageError, match="is damaged; copy it again"):
        _read_release(image)


def _read_release(image: Path) -> None:
    with reading(image) as read:
        assert read is not None
        read(["usr/lib/os-release"])
