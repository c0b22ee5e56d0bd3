"""One tree of files, whatever the root file system is packed in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from harness.core import process
from harness.core.errors import ImageError
from harness.store.ext4_tree import read_files, read_names
from harness.store.rootfs_tree import RootTree, root_tree
from harness.store.squashfs_tree import TreeFile


class Seen:
    """Keeps all contents."""

    def __init__(self) -> None:
        self.listed = set[str]()
        self.found = dict[str, bytes]()

    def names(self, files: Mapping[str, TreeFile]) -> None:
        self.listed = set(files)

    def wants(self, path: str, file: TreeFile, head: bytes) -> bool:  # noqa: ARG002
        return True

    def contents(self, path: str, file: TreeFile, content: bytes) -> None:  # noqa: ARG002
        self.found[path] = content


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "etc" / "deep" / "er").mkdir(parents=True)
    (folder / "etc" / "small").write_bytes(b"small")
    (folder / "etc" / "empty").write_bytes(b"")
    (folder / "large").write_bytes(os.urandom(3_000_000))
    with (folder / "sparse").open("wb") as file:
        file.seek(2_500_000)
        file.write(b"end")
        file.truncate(2_600_000)
    (folder / "many").mkdir()
    for number in range(500):
        (folder / "many" / f"a file with a name of its own {number}").write_text(str(number))
    (folder / "short").symlink_to("etc/small")
    (folder / "long").symlink_to("x/" * 100)
    (folder / "etc" / "small").chmod(0o640)
    os.link(folder / "etc" / "small", folder / "other name")
    os.mkfifo(folder / "pipe")
    return folder


def ext4(folder: Path, *options: str) -> Path:
    image = folder.with_suffix(".ext4")
    program = process.require("mkfs.ext4", "e2fsprogs")
    process.output([program, "-q", "-F", *options, "-d", str(folder), str(image), "24M"])
    return image


def squashfs(folder: Path, *options: str) -> Path:
    image = folder.with_suffix(".squashfs")
    process.output(["mksquashfs", str(folder), str(image), "-noappend", "-no-progress", "-quiet", *options])
    return image


FORMS = [
    ["-O", "none"],
    ["-t", "ext4"],
    ["-b", "1024", "-O", "^64bit"],
    ["-b", "4096", "-O", "inline_data", "-I", "512"],
    ["-t", "ext3"],
]


@pytest.mark.parametrize("options", FORMS, ids=" ".join)
def test_an_ext4_has_the_files_that_a_squashfs_has(options: list[str], folder: Path) -> None:
    found = []
    if "inline_data" in options:
        (folder / "sparse").unlink()  # mkfs.ext4 1.47 gives it another size then
    for image in (squashfs(folder), ext4(folder, *options)):
        with root_tree(image) as tree:
            assert tree
            seen = Seen()
            files = {path.strip("/"): file for path, file in tree.visit(seen, algorithm="md5").items()}
            assert {path.strip("/") for path in seen.listed} == set(files)
            files.pop("lost+found", None)
            contents = {hashlib.md5(content).hexdigest() for content in seen.found.values()}
            found.append(({path: file for path, file in files.items() if path}, contents))

    assert found[0] == found[1]
    assert len(found[0][0]) >= 511


def test_some_files_are_read_alone(folder: Path) -> None:
    image = ext4(folder)
    names = read_names(image)

    assert read_files(image, {"etc/small": names["etc/small"].size_bytes}) == {"etc/small": b"small"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives capabilities")
def test_attributes_are_the_same_in_both(folder: Path) -> None:
    capable = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(folder / "large", "security.capability", capable)
    found = []
    for image in (squashfs(folder), ext4(folder)):
        with root_tree(image) as tree:
            assert tree
            found.append(tree.read_attributes())

    assert found == [{"large": {"security.capability": capable}}] * 2


@pytest.mark.parametrize("place", range(1024, 40000, 1111))
def test_a_damaged_ext4_is_a_sentence_and_no_crash(place: int, folder: Path) -> None:
    """Whatever is overwritten: either it is not a part of any file, or it is noticed, or a file differs."""
    image = ext4(folder, "-b", "1024")
    with image.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 1111)

    with suppress(ImageError):  # any other error fails
        RootTree((image,)).visit(Seen(), algorithm="md5")


def test_a_higher_layer_replaces_and_removes_files(tmp_path: Path) -> None:
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    for path, content in {"kept": "1", "replaced": "1", "gone": "1", "folder/x": "1", "other/x": "1"}.items():
        (lower / path).parent.mkdir(parents=True, exist_ok=True)
        (lower / path).write_text(content)
    upper.mkdir()
    for path in ("replaced", "other", "new"):
        (upper / path).write_text("2")
    pseudo = ["-p", "gone c 0 0 0 0 0", "-p", "folder c 0 0 0 0 0"]
    tree = RootTree((squashfs(lower), squashfs(upper, *pseudo)))
    seen = Seen()

    files = {path: file for path, file in tree.visit(seen, algorithm="md5").items() if path != "/"}

    assert seen.found == {"kept": b"1", "replaced": b"2", "other": b"2", "new": b"2"}
    assert set(files) == set(seen.found) == seen.listed - {"/"}
    assert files["replaced"].content == hashlib.md5(b"2").hexdigest()
    assert tree.read_files({"kept": 1, "replaced": 1}) == {"kept": b"1", "replaced": b"2"}
    assert tree.read_attributes() == {}
