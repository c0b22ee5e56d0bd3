"""What came up, as far as a running guest can show it: fingerprints of its kernel, initrd and root file system.

They tell another build's files from these in milliseconds. That they are these to the last byte is known of what was
served (`downloads`), and of the running root file system where a test reads all of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.model.artifacts import Artifacts
from harness.model.kernel_image import kernel_banner
from harness.model.verdict import Finding

_SQUASHFS = b"hsqs"
_MARK_BYTES = 96
"""A squashfs superblock: Linux, fs/squashfs/squashfs_fs.h. It has the sizes and places of all tables, which another
content moves, and the time it was made."""

LOOK = rf"""
printf 'kernel_build=%s\n' "$(uname -v)"
printf 'initrd_bytes=%s\n' "$(od -An -tu4 -j540 -N4 /sys/kernel/boot_params/data | tr -d ' ')"
while read -r place _ type _; do
    [ "$type" = squashfs ] || continue
    printf 'rootfs_mark=%s\n' "$(head -c {_MARK_BYTES} "$place" | sha256sum | cut -d ' ' -f 1)"
    break
done </proc/mounts
"""
"""The kernel's own account, each a line; ramdisk_size is at 0x21c (Linux, Documentation/arch/x86/zero-page.rst)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What ``uname -v`` says; the bytes of the initrd that the boot loader handed over; SHA-256 of the superblock of a
    root file system that is a squashfs. Empty or 0 where it is not known."""

    kernel_build: str = ""
    initrd_bytes: int = 0
    rootfs_mark: str = ""


def prints_of(artifacts: Artifacts) -> Fingerprint:
    """Those of a machine that runs ``artifacts``."""
    with artifacts.rootfs.open("rb") as file:
        head = file.read(_MARK_BYTES)
    _, mark, rest = kernel_banner(artifacts.kernel).partition("#")
    return Fingerprint(
        kernel_build=mark + rest,
        initrd_bytes=artifacts.manifest.files[artifacts.initrd.name].size_bytes,
        rootfs_mark=hashlib.sha256(head).hexdigest() if head.startswith(_SQUASHFS) else "",
    )


def read(pairs: Mapping[str, str]) -> Fingerprint:
    """What `LOOK` printed."""
    size = pairs.get("initrd_bytes", "")
    return Fingerprint(
        kernel_build=pairs.get("kernel_build", ""),
        initrd_bytes=int(size) if size.isdecimal() else 0,
        rootfs_mark=pairs.get("rootfs_mark", ""),
    )


def compare(seen: Fingerprint, awaited: Fingerprint, where: str) -> Iterator[Finding]:
    """A finding for each file that is another's; what either side does not know says nothing."""
    rows = (
        ("kernel", seen.kernel_build, awaited.kernel_build),
        ("initrd", seen.initrd_bytes, awaited.initrd_bytes),
        ("root file system", seen.rootfs_mark[:12], awaited.rootfs_mark[:12]),
    )
    for what, ran, built in rows:
        if ran and built and ran != built:
            yield Finding(
                id="wrong-image",
                what=f"the {what} that runs is not the one that was to boot: {ran} seen, {built} awaited",
                where=where,
                cause="an old local copy started, or kernel, initrd and root file system are of different builds",
            )
