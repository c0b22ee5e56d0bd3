"""Initrds of other builders: the kernel arguments with which their programs find the root file system."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from harness.core import process
from harness.core.errors import UsageError

_HEAD_BYTES, _LAST = 110, "TRAILER!!!"
"""cpio(5), "new ASCII format", in which the kernel takes an initrd."""
_MAGIC_BYTES = 6
_PROGRAMS = {
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -dcq"),
    b"\x1f\x8b": ("gzip", "gzip -dcq"),
    b"\xfd7zXZ": ("xz-utils", "xz -dcq"),
    b"\x5d\x00\x00": ("xz-utils", "xz -dcq --format=lzma"),
    b"\x02\x21\x4c\x18": ("lz4", "lz4 -dcq"),
    b"BZh": ("bzip2", "bzip2 -dcq"),
}
"""The first bytes of an archive that is compressed (Linux, lib/decompress.c): the Debian package and the command."""

_CASPER = "boot=casper"
_OWN = {
    # a file in the initrd: the argument
    "scripts/casper": _CASPER,  # casper, by initramfs-tools(7): boot= names a file in scripts
    "scripts/live": "boot=live",  # live-boot
    "hooks/archiso_pxe_http": "archisobasedir=arch",  # mkinitcpio-archiso, of which this is the default
    "scripts/local": "root={disk}",  # initramfs-tools
    "buildconfig": "root={disk}",  # mkinitcpio
}
_LAYERS = re.compile(rb"^(?:export )?LAYERFS_PATH=\"?([^\s\"]+)", re.MULTILINE)
"""The default of casper's layerfs-path=, in a file that initramfs-tools' init reads."""


def own_arguments(initrd: Path, disk: str) -> tuple[str, ...]:
    """The kernel arguments that name the program in ``initrd`` and its files; empty for dracut's, and if unknown.

    An initrd that downloads nothing mounts the block device ``disk``. `UsageError` if the initrd is damaged.
    """
    names, layers = set[str](), ""
    for name, content in _members(initrd):
        names.add(name)
        if name.startswith("conf/conf.d/") and (found := _LAYERS.search(content)):
            layers = f"layerfs-path={found[1].decode()}"
    argument = next((_OWN[name] for name in _OWN if name in names), "").format(disk=disk)
    return tuple(filter(None, [argument, layers if argument == _CASPER else ""]))


def _members(initrd: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file up to the end of the first compressed archive: before it come the processor's
    microcode and firmware, and after it what a builder appends."""
    try:
        with initrd.open("rb") as file:
            while head := file.read(_MAGIC_BYTES):
                padding = len(head) - len(head.lstrip(b"\0"))
                file.seek(padding - len(head), os.SEEK_CUR)
                if head.startswith(b"0707"):
                    yield from _archive(file)
                elif not padding:
                    break
            at = file.tell()
        compressed = next((program for magic, program in _PROGRAMS.items() if head.startswith(magic)), None)
        if compressed:
            package, command = compressed
            process.require(command.split()[0], package)
            script = f'tail -c "+$1" "$2" | {command}'
            with process.reading(["sh", "-c", script, "decompress", str(at + 1), str(initrd)]) as printed:
                yield from _archive(printed)
    except (ValueError, process.CommandFailed) as error:
        raise UsageError(f"{initrd} is damaged; copy it again ({error})") from error


def _archive(file: BufferedReader) -> Iterator[tuple[str, bytes]]:
    while True:
        head = file.read(_HEAD_BYTES)
        if len(head) < _HEAD_BYTES or not head.startswith(b"07070"):
            raise ValueError("its archive ends too early")
        size, name_size = int(head[54:62], 16), int(head[94:102], 16)
        name = file.read(name_size + -(_HEAD_BYTES + name_size) % 4)[: name_size - 1].decode("utf-8", "replace")
        if name == _LAST:
            return
        content = file.read(size + -size % 4)[:size]
        yield name.removeprefix("./"), content
