"""An initrd is read archive by archive, whatever compresses each, and a damaged or endless one is an error."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.core import process
from harness.core.errors import ImageError
from harness.store import initrd_tree
from harness.store.initrd_tree import visit_initrd
from harness.store.squashfs_tree import TreeFile


class Kept:
    """Keeps the contents of all files."""

    def __init__(self) -> None:
        self.texts = dict[str, bytes]()

    def names(self, files: Mapping[str, TreeFile]) -> None:  # noqa: ARG002
        raise AssertionError("an initrd does not have its names first")

    def wants(self, path: str, file: TreeFile, head: bytes) -> bool:  # noqa: ARG002
        return True

    def contents(self, path: str, file: TreeFile, content: bytes) -> None:  # noqa: ARG002
        self.texts[path] = content


def entry(name: str, content: bytes = b"", mode: int = 0o100644, links: int = 1, ino: int = 1) -> bytes:
    fields = (ino, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + "".join(f"{field:08x}" for field in fields).encode() + name.encode() + b"\0"
    head += b"\0" * (-len(head) % 4)
    return head + content + b"\0" * (-len(content) % 4)


def archive(*entries: bytes) -> bytes:
    return b"".join(entries) + entry("TRAILER!!!")


def zstd(content: bytes, folder: Path) -> bytes:
    (folder / "plain").write_bytes(content)
    process.output(["zstd", "-q", "-f", str(folder / "plain"), "-o", str(folder / "packed")])
    return (folder / "packed").read_bytes()


def read(content: bytes, folder: Path) -> tuple[dict[str, TreeFile], dict[str, bytes]]:
    (folder / "initrd").write_bytes(content)
    kept = Kept()
    return visit_initrd(folder / "initrd", kept, algorithm="md5"), kept.texts


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress, "zstd", bytes], ids=["gzip", "bzip2", "xz", "zstd", "plain"]
)
def test_a_later_archive_counts_whatever_compresses_each(pack: Callable[[bytes], bytes] | str, tmp_path: Path) -> None:
    first = archive(entry("kernel/x86/microcode/GenuineIntel.bin", b"early"))
    main = archive(
        entry(".", mode=0o40755), entry("./etc", mode=0o40755), entry("etc/x", b"old"), entry("init", b"a/b", 0o120777)
    )
    packed = zstd(main * 3, tmp_path) if isinstance(pack, str) else pack(main)

    files, texts = read(
        first + b"\0" * 512 + packed + b"\0" * 7 + gzip.compress(archive(entry("etc/x", b"new"))), tmp_path
    )

    assert set(files) == {"kernel/x86/microcode/GenuineIntel.bin", "", "etc", "etc/x", "init"}
    assert texts["etc/x"] == b"new"
    assert (files["init"].kind, files["init"].target, files["etc"].kind) == ("link", "a/b", "folder")


def test_several_names_of_a_file_have_its_contents(tmp_path: Path) -> None:
    files, _ = read(
        archive(entry("a", links=2, ino=7), entry("b", b"text", links=2, ino=7), entry("c", b"", ino=8)), tmp_path
    )

    assert files["a"] == files["b"]
    assert files["a"].size_bytes == 4
    assert files["c"].size_bytes == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not an archive at all", "begins no archive"),
        (archive(entry("x", b"12345678"))[:-130], "it ends within a file"),
        (gzip.compress(archive(entry("x", b"12345678")))[:-20], "it ends within a compressed part"),
        (b"\x28\xb5\x2f\xfd\x00\x38\x00\xff", "it ends within a compressed part"),
        (archive(entry("x" * 70_000)), "a name of 70,001 bytes"),
        (entry("x") + b"0707" + b"9" * 200, "begins no file"),
    ],
    ids=["no-archive", "cut-file", "cut-gzip", "damaged-zstd", "long-name", "no-file"],
)
def test_a_damaged_one_is_a_sentence(content: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=said):
        read(content, tmp_path)


def test_one_that_does_not_end_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initrd_tree, "_MOST_BYTES", 1 << 20)

    with pytest.raises(ImageError, match="it unpacks to more than"):
        read(gzip.compress(archive(entry("x", bytes(2 << 20)))), tmp_path)
