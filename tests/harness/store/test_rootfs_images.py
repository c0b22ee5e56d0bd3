"""Files of root file systems are read without mounting them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.core.process import find
from harness.store.rootfs_images import format_of, reading

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


needs_xorriso = pytest.mark.skipif(not find("xorriso"), reason="no xorriso")
LAYERS = {
    "minimal": {"usr/lib/os-release": "ID=ubuntu\n", "var/lib/dpkg/status": "1"},
    "minimal.standard": {"var/lib/dpkg/status": "2"},
    "minimal.standard.live": {"etc/live": "yes"},
    "minimal.de": {"var/lib/dpkg/status": "3"},
}
"""Of Ubuntu's live media; a file of a layer replaces that of the layers below."""


def make_medium(folder: Path, layers: dict[str, dict[str, str]], *, place: str = "casper") -> Path:
    """A live medium with these squashfs images in ``place``."""
    for layer, files in layers.items():
        tree = folder / "trees" / layer
        for name, text in files.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(text)
        image = folder / "medium" / place / f"{layer}.squashfs"
        image.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mksquashfs", str(tree), str(image), "-quiet", "-no-progress"], check=True)
    medium = folder / "live.iso"
    argv = ["xorriso", "-as", "mkisofs", "-quiet", "-R", "-J", "-o", str(medium), str(folder / "medium")]
    subprocess.run(argv, check=True, capture_output=True)
    return medium


@needs_xorriso
@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["layerfs-path=minimal.standard.live.squashfs"], b"2"), (["layerfs-path=minimal.de.squashfs"], b"3")],
)
def test_the_layers_of_a_live_medium_are_one_root_filesystem(
    arguments: list[str], status: bytes, tmp_path: Path
) -> None:
    medium = make_medium(tmp_path, LAYERS)

    with reading(medium, ["quiet", *arguments]) as read:
        assert read is not None
        found = read(["usr/lib/os-release", "var/lib/dpkg/status"])

    assert format_of(medium) == "iso"
    assert found == {"usr/lib/os-release": b"ID=ubuntu\n", "var/lib/dpkg/status": status}


@needs_xorriso
def test_a_live_medium_of_live_boot_is_read(tmp_path: Path) -> None:
    medium = make_medium(tmp_path, {"filesystem": {"etc/os-release": "ID=debian\n"}}, place="live")

    with reading(medium) as read:
        assert read is not None
        assert read(["etc/os-release"]) == {"etc/os-release": b"ID=debian\n"}


@needs_xorriso
def test_a_medium_without_the_layers_that_are_asked_for_is_refused(tmp_path: Path) -> None:
    medium = make_medium(tmp_path, LAYERS)
    with pytest.raises(UsageError, match=r"lacks casper/minimal\.fr\.squashfs, a layer of layerfs-path=minimal\.fr\."):
        _open(medium, ["layerfs-path=minimal.fr.live.squashfs"])


@needs_xorriso
def test_an_iso_that_is_no_live_medium_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a live medium: it has no squashfs in casper, live, LiveOS"):
        _open(make_medium(tmp_path, LAYERS, place="install"), [])


def _open(medium: Path, arguments: list[str]) -> None:
    with reading(medium, arguments):
        pass
