"""A squashfs is read in one pass and in bounded memory, with its extended attributes."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from harness.core import process
from harness.core.errors import ImageError
from harness.store import squashfs_tree
from harness.store.squashfs_tree import read_names
from harness.store.squashfs_xattrs import read_attributes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tree with many files, some of them with attributes."""
    folder = tmp_path / "tree"
    for number in range(700):
        path = folder / f"folder-{number % 7}" / f"file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}" * (number % 50), "utf-8")
    for number in (3, 500, 699):
        os.setxattr(folder / f"folder-{number % 7}" / f"file-{number}", "user.number", b"%d" % number)
    (folder / "folder-1" / "link").symlink_to("file-1")
    os.mkfifo(folder / "pipe")
    (folder / "large").write_bytes(os.urandom(300_000))
    os.setxattr(folder / "large", "user.long", b"x" * 500)
    os.setxattr(folder / "folder-2", "user.folder", b"y")
    return folder


def pack(folder: Path, *options: str) -> Path:
    image = folder.parent / "image.squashfs"
    process.output(["mksquashfs", str(folder), str(image), "-noappend", "-no-progress", "-xattrs", *options])
    return image


@pytest.mark.parametrize("options", [("-comp", "zstd"), ("-comp", "gzip"), ("-comp", "xz"), ("-noI", "-comp", "zstd")])
def test_attributes_are_read_of_all_kinds_of_files(options: tuple[str, ...], folder: Path) -> None:
    assert read_attributes(pack(folder, *options)) == {
        "folder-3/file-3": {"user.number": b"3"},
        "folder-3/file-500": {"user.number": b"500"},
        "folder-6/file-699": {"user.number": b"699"},
        "folder-2": {"user.folder": b"y"},
        "large": {"user.long": b"x" * 500},
    }


def test_without_attributes_there_are_none(folder: Path) -> None:
    assert read_attributes(pack(folder, "-no-xattrs")) == {}


def test_a_compression_that_is_not_read_here_is_unknown(folder: Path) -> None:
    assert read_attributes(pack(folder, "-comp", "lz4")) is None


def test_damaged_tables_are_a_sentence(folder: Path) -> None:
    image = pack(folder)
    content = bytearray(image.read_bytes())
    content[64:72] = (100).to_bytes(8, "little")  # where the inodes begin
    image.write_bytes(content)

    with pytest.raises(ImageError, match="its tables cannot be read"):
        read_attributes(image)


def test_names_are_read_without_contents(folder: Path) -> None:
    files = read_names(pack(folder))

    assert len(files) == 711
    assert files["large"].size_bytes == 300_000
    assert files["large"].content == ""


def test_too_many_files_are_refused_before_they_are_read(folder: Path) -> None:
    image = pack(folder)
    content = bytearray(image.read_bytes())
    content[4:8] = (10_000_000).to_bytes(4, "little")
    image.write_bytes(content)

    with pytest.raises(ImageError, match="has 10,000,000 files; a root file system has at most 1,000,000"):
        read_names(image)


def test_one_that_expands_to_terabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    with (folder / "zeros").open("wb") as file:
        file.truncate(1 << 33)
    image = pack(folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(squashfs_tree, "_MOST_BYTES", 1 << 32)
        with pytest.raises(ImageError, match="its files have 8 GiB, and more than 4 GiB are not read"):
            squashfs_tree.read_tree(image, re.compile("x"))
