"""Fingerprints of a running guest's kernel, initrd and root file system: which build is running?

They distinguish the files of two builds in milliseconds. That all bytes are right is known from the files that were
served (``machine/downloads.py``), and for the root file system from a test that reads all of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.guest.probes import Probe, read
from harness.model.artifacts import Artifacts
from harness.model.kernel_image import kernel_banner
from harness.model.verdict import Finding

_SQUASHFS = b"hsqs"
_MARK_BYTES = 96
"""The squashfs superblock (Linux, fs/squashfs/squashfs_fs.h): it has the time of its creation, and the sizes and
offsets of all tables, which depend on the content."""

_NO_SQUASHFS = "no squashfs is mounted"
_BUILD = Probe("kernel build", "uname -v")
_INITRD = Probe("initrd size", "od -An -v -tu4 -j540 -N4 /sys/kernel/boot_params/data")
"""ramdisk_size is at 0x21c (Linux, Documentation/arch/x86/zero-page.rst)."""
_SUPERBLOCK = Probe(
    "root file system's superblock",
    f"""
while read -r place _ type _; do
    [ "$type" != squashfs ] || exec od -An -v -tx1 -N{_MARK_BYTES} "$place"
done </proc/mounts || exit
echo {_NO_SQUASHFS}
""",
)
PROBES = (_BUILD, _INITRD, _SUPERBLOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """``uname -v``, the size of the initrd that the boot loader passed, and SHA-256 of a squashfs root's superblock.
    Empty or 0 if unknown, as of a guest whose root is another file system."""

    kernel_build: str = ""
    initrd_bytes: int = 0
    rootfs_mark: str = ""


def fingerprint_of(artifacts: Artifacts) -> Fingerprint:
    """The fingerprint of a machine that runs ``artifacts``."""
    with artifacts.rootfs.open("rb") as file:
        head = file.read(_MARK_BYTES)
    _, mark, rest = kernel_banner(artifacts.kernel).partition("#")
    return Fingerprint(
        kernel_build=mark + rest,
        initrd_bytes=artifacts.manifest.files[artifacts.initrd.name].size_bytes,
        rootfs_mark=hashlib.sha256(head).hexdigest() if head.startswith(_SQUASHFS) else "",
    )


def parse(answers: Mapping[str, str]) -> Fingerprint:
    """The fingerprint in the answers to `PROBES`; `ImageError` for an answer that is not as expected."""
    return Fingerprint(
        kernel_build=answers[_BUILD.name],
        initrd_bytes=read(answers, _INITRD, int),
        rootfs_mark=read(answers, _SUPERBLOCK, _mark),
    )


def _mark(text: str) -> str:
    if text == _NO_SQUASHFS:
        return ""
    superblock = bytes.fromhex(text)
    if len(superblock) != _MARK_BYTES:
        raise ValueError(f"{len(superblock)} bytes instead of {_MARK_BYTES}")
    return hashlib.sha256(superblock).hexdigest()


def compare(seen: Fingerprint, expected: Fingerprint, where: str) -> Iterator[Finding]:
    """A finding for each file that differs; a value that either side does not know is not compared."""
    rows = (
        ("kernel", seen.kernel_build, expected.kernel_build),
        ("initrd", seen.initrd_bytes, expected.initrd_bytes),
        ("root file system", seen.rootfs_mark[:12], expected.rootfs_mark[:12]),
    )
    for file, running, built in rows:
        if running and built and running != built:
            yield Finding(
                id="wrong-image",
                what=f"the running {file} is not the one that was booted: {running} seen, {built} expected",
                where=where,
                cause="an old local copy started, or kernel, initrd and root file system are of different builds",
            )
