"""Artifacts of other builders are found by content and name, or refused in a sentence."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from harness.build.imported import find_files, take_in
from harness.core import serialization
from harness.core.errors import UsageError
from harness.model.artifacts import FILES, MANIFEST, Manifest, describe
from harness.model.definition import load_definition
from harness.model.kernel_image import kernel_version
from harness.store.rootfs_images import format_of, reading
from harness.store.store import Store
from tests.harness.store.test_initrds import cpio
from tests.harness.store.test_rootfs_images import make_medium, needs_xorriso

IMAGES = Path(__file__).parents[3] / "images"
SQUASHFS, XFS = b"hsqs".ljust(0x440, b"\0"), b"XFSB".ljust(0x440, b"\0")
ISO = bytes(0x8001) + b"CD001"
STATUS = "Package: bash\nStatus: install ok installed\nVersion: 5.3-1\n"
EXT4 = bytes(0x438) + b"\x53\xef".ljust(8, b"\0")


def bzimage(version: str) -> bytes:
    """The head of a kernel as Linux's arch/x86/boot.rst has it: its version's place is at 0x20e, less 0x200."""
    head = bytearray(0x400)
    head[0x202:0x206] = b"HdrS"
    head[0x20E:0x210] = (0x300 - 0x200).to_bytes(2, "little")
    head[0x300 : 0x300 + len(version)] = version.encode()
    return bytes(head)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vmlinuz-6.1.0-1-amd64").write_bytes(bzimage("6.1.0-1-amd64"))
    (tmp_path / "initramfs-6.1.0-1-amd64.img").write_bytes(b"\x28\xb5\x2f\xfd")
    (tmp_path / "SHA256SUMS").write_text("…")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "content", "stored_as"),
    [
        ("filesystem.squashfs", SQUASHFS, "rootfs.squashfs"),
        ("rootfs.img", SQUASHFS, "rootfs.squashfs"),
        ("root.ext4", EXT4, "rootfs.ext4"),
        ("root", XFS, "rootfs.xfs"),
        ("ubuntu-26.04-live-server-amd64.iso", ISO, "rootfs.iso"),
        ("rootfs.img", gzip.compress(b"x", mtime=0), "rootfs.img"),
    ],
)
def test_the_three_files_are_found_whatever_they_are_called(
    folder: Path, name: str, content: bytes, stored_as: str
) -> None:
    (folder / name).write_bytes(content)

    found = find_files(folder)

    assert list(found) == ["vmlinuz", "initrd.img", stored_as]
    assert found[stored_as] == folder / name
    assert kernel_version(found["vmlinuz"]) == "6.1.0-1-amd64"


def test_artifacts_that_are_another_images_by_their_manifest_are_refused(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    for name in FILES:
        (made / name).write_text(name)
    files = {name: describe(made / name) for name in FILES}
    serialization.write(made / MANIFEST, Manifest(
        image="kvm", version="1", kernel_version="6.12", kernel_arguments=(), files=files, packages={},
        dracut_modules=(), initrd_drivers=(), definition="", sources={}, builder={"mmdebstrap": "1"},
    ))  # fmt: skip

    with pytest.raises(UsageError, match=r"holds artifacts of kvm by its manifest\.json, not of base"):
        take_in(made, load_definition(IMAGES / "base"), Store(tmp_path / "store"))
    previous = take_in(made, load_definition(IMAGES / "base"), Store(tmp_path / "store"), is_previous=True)
    assert previous.manifest.image == "kvm", "an upgrade from an image with another name"


def test_a_gzip_that_is_not_named_rootfs_is_none(folder: Path) -> None:
    (folder / "logs.tar.gz").write_bytes(gzip.compress(b"x", mtime=0))

    with pytest.raises(UsageError, match="holds no root file system"):
        find_files(folder)


@pytest.mark.parametrize(
    ("removed", "added", "sentence"),
    [
        ("initramfs-6.1.0-1-amd64.img", None, r"holds no initrd \(a file named initrd\* or initramfs\*\); found: "),
        ("vmlinuz-6.1.0-1-amd64", None, r"holds no kernel \(a bzImage"),
        (None, ("initrd.img", b"x"), "2 files that could be the initrd: initramfs-6.1.0-1-amd64.img, initrd.img"),
        (None, ("bzImage", bzimage("6.2")), "2 files that could be the kernel"),
        (None, ("other.squashfs", SQUASHFS), "2 files that could be the root file system"),
    ],
)
def test_missing_and_ambiguous_files_are_named(
    folder: Path, removed: str | None, added: tuple[str, bytes] | None, sentence: str
) -> None:
    (folder / "root.squashfs").write_bytes(SQUASHFS)
    if removed:
        (folder / removed).unlink()
    if added:
        (folder / added[0]).write_bytes(added[1])

    with pytest.raises(UsageError, match=sentence):
        find_files(folder)


@pytest.mark.parametrize(
    ("content", "kind"),
    [(SQUASHFS, "squashfs"), (EXT4, "ext4"), (XFS, "xfs"), (ISO, "iso"), (b"\x1f\x8b", "tar"), (b"", None)],
)
def test_a_format_is_recognised_by_its_magic(tmp_path: Path, content: bytes, kind: str | None) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)

    assert format_of(file) == kind


@pytest.mark.parametrize("content", [SQUASHFS, gzip.compress(b"no tar", mtime=0)])
def test_a_damaged_root_filesystem_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "rootfs.img"
    file.write_bytes(content)

    with pytest.raises(UsageError, match=r"rootfs\.img is damaged"), reading(file):
        pass


def test_a_format_that_no_program_here_reads_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "rootfs.xfs"
    file.write_bytes(XFS)

    with reading(file) as read:
        assert read is None


@pytest.mark.parametrize(
    ("initrd", "given", "arguments"),
    [
        ("scripts/live", None, "quiet boot=live"),
        ("scripts/live", "splash", "splash boot=live"),
        ("scripts/live", "boot=live-custom", "boot=live-custom"),
        ("scripts/live", "x={rootfs}", "x={rootfs}"),
        ("scripts/local", None, "quiet root=/dev/disk/by-id/virtio-rootfs"),
        ("scripts/local", "root=LABEL=root", "root=LABEL=root"),
        ("usr/lib/dracut/modules.txt", None, "quiet"),
    ],
)
def test_the_manifest_has_the_kernel_arguments_that_the_initrd_needs(
    folder: Path, tmp_path: Path, initrd: str, given: str | None, arguments: str
) -> None:
    (folder / "rootfs.xfs").write_bytes(XFS)
    (folder / "cmdline").write_text("quiet\n")
    (folder / "initramfs-6.1.0-1-amd64.img").write_bytes(cpio({initrd: b""}))
    definition = load_definition(IMAGES / "base")

    words = None if given is None else given.split()
    taken = take_in(folder, definition, Store(tmp_path / "store"), kernel_arguments=words)

    assert taken.manifest.kernel_arguments == tuple(arguments.split())


@needs_xorriso
def test_a_live_medium_of_casper_is_described_by_the_layers_that_its_initrd_mounts(
    folder: Path, tmp_path: Path
) -> None:
    layers = {"minimal": {"usr/lib/os-release": "IMAGE_VERSION=1\n"}, "minimal.live": {"var/lib/dpkg/status": STATUS}}
    made = make_medium(tmp_path / "medium", {**layers, "minimal.live.hwe": {"var/lib/dpkg/status": ""}})
    made.rename(folder / "ubuntu.iso")
    conf = {"conf/conf.d/default-layer.conf": b"LAYERFS_PATH=minimal.live.squashfs\n"}
    (folder / "initramfs-6.1.0-1-amd64.img").write_bytes(cpio({"scripts/casper": b"", **conf}))

    manifest = take_in(folder, load_definition(IMAGES / "base"), Store(tmp_path / "store")).manifest

    assert manifest.kernel_arguments[-2:] == ("boot=casper", "layerfs-path=minimal.live.squashfs")
    assert manifest.rootfs == "rootfs.iso"
    assert (manifest.version, manifest.packages) == ("1", {"bash": "5.3-1"})
