"""Version and build of a kernel image."""

from __future__ import annotations

from pathlib import Path

from harness.core.errors import ImageError


def kernel_version(kernel: Path) -> str:
    """The release in a bzImage, which ``uname -r`` prints when it runs."""
    return kernel_banner(kernel).split(" ")[0]


def kernel_banner(kernel: Path) -> str:
    """Release, builder and build in a bzImage (Linux, arch/x86/boot.rst: "HdrS", kernel_version)."""
    with kernel.open("rb") as file:
        head = file.read(0x8000)
    if head[0x202:0x206] != b"HdrS":
        raise ImageError(f"{kernel.name} is not a bzImage: no HdrS at offset 0x202")
    start = int.from_bytes(head[0x20E:0x210], "little") + 0x200
    return head[start : head.index(b"\0", start)].decode("ascii", "replace")
