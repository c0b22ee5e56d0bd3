"""Initrds of other builders say themselves how they find the root file system."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.store.initrds import own_arguments


def cpio(files: Mapping[str, bytes]) -> bytes:
    """An archive as cpio(5) has it, padded to 512 bytes as cpio(1) does."""
    made = b""
    for name, content in {**files, "TRAILER!!!": b""}.items():
        head = f"070701{1:08x}{0o100644:08x}{0:08x}{0:08x}{1:08x}{0:08x}{len(content):08x}"
        head += f"{0:08x}" * 4 + f"{len(name) + 1:08x}{0:08x}"
        for part in (head.encode() + name.encode() + b"\0", content):
            made += part + b"\0" * (-len(part) % 4)
    return made + b"\0" * (-len(made) % 512)


def zstd(plain: bytes) -> bytes:
    return subprocess.run(["zstd", "-cq"], input=plain, check=True, capture_output=True).stdout


MICROCODE = cpio({"kernel/x86/microcode/GenuineIntel.bin": bytes(1000)})
CASPER = {
    "scripts/local": b"",
    "scripts/casper": b"",
    "conf/conf.d/default-layer.conf": b"LAYERFS_PATH=minimal.standard.squashfs\n",
}


@pytest.mark.parametrize(
    ("files", "arguments"),
    [
        (CASPER, "boot=casper layerfs-path=minimal.standard.squashfs"),
        ({"scripts/local": b"", "scripts/casper": b""}, "boot=casper"),
        ({"scripts/local": b"", "scripts/live": b""}, "boot=live"),
        ({"scripts/local": b"", "conf/conf.d/other": b"LAYERFS_PATH=a.squashfs"}, "root=DISK"),
        ({"buildconfig": b"", "hooks/archiso_pxe_http": b""}, "archisobasedir=arch"),
        ({"buildconfig": b"", "hooks/udev": b""}, "root=DISK"),
        ({"usr/lib/dracut/hooks/pre-mount/01.sh": b""}, ""),
    ],
)
def test_each_initrd_has_its_own_arguments(files: dict[str, bytes], arguments: str, tmp_path: Path) -> None:
    initrd = tmp_path / "initrd.img"
    initrd.write_bytes(MICROCODE + zstd(cpio(files)))

    assert own_arguments(initrd, "DISK") == tuple(arguments.split())


@pytest.mark.parametrize("before", [b"", MICROCODE, MICROCODE * 2], ids=["", "microcode", "microcode-twice"])
@pytest.mark.parametrize("compress", [bytes, zstd, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("after", [b"", gzip.compress(cpio({"usr/lib/initrd-release": b""}))], ids=["", "version"])
def test_archives_of_all_kinds_are_read_one_after_the_other(
    before: bytes, compress: Callable[[bytes], bytes], after: bytes, tmp_path: Path
) -> None:
    initrd = tmp_path / "initrd.img"
    initrd.write_bytes(before + compress(cpio({"./scripts/live": b"x" * 100_000})) + after)

    assert own_arguments(initrd, "DISK") == ("boot=live",)


@pytest.mark.parametrize(
    "whole", [zstd(cpio(CASPER)), MICROCODE, gzip.compress(cpio({"a": bytes(5000)}))], ids=["zstd", "cpio", "gzip"]
)
def test_a_damaged_initrd_is_said_to_be_damaged(whole: bytes, tmp_path: Path) -> None:
    initrd = tmp_path / "initrd.img"
    initrd.write_bytes(whole[: len(whole) // 2])

    with pytest.raises(UsageError, match=r"initrd\.img is damaged; copy it again"):
        own_arguments(initrd, "DISK")


def test_an_initrd_in_an_unknown_format_has_no_arguments_of_its_own(tmp_path: Path) -> None:
    initrd = tmp_path / "initrd.img"
    initrd.write_bytes(b"unknown format")

    assert own_arguments(initrd, "DISK") == ()
