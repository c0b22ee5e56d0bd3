"""Initrds of other builders: the kernel arguments with which their programs find the root file system."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from harness.core.errors import ImageError, UsageError
from harness.store.initrd_tree import UnknownArchive, visit_initrd
from harness.store.squashfs_tree import TreeFile

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


class _Names:
    """The files of an initrd by their names, and the default of casper's layers."""

    def __init__(self) -> None:
        self.found, self.layers = set[str](), ""

    def names(self, files: Mapping[str, TreeFile]) -> None: ...

    def wants(self, path: str, file: TreeFile, head: bytes) -> bool:  # noqa: ARG002  # its name decides
        self.found.add(path)
        return path.startswith("conf/conf.d/")

    def contents(self, path: str, file: TreeFile, content: bytes) -> None:  # noqa: ARG002  # any of the folder
        if found := _LAYERS.search(content):
            self.layers = f"layerfs-path={found[1].decode()}"


def own_arguments(initrd: Path, disk: str) -> tuple[str, ...]:
    """The kernel arguments that name the program in ``initrd`` and its files; empty for dracut's, and if unknown.

    An initrd that downloads nothing mounts the block device ``disk``. `UsageError` if the initrd is damaged.
    """
    names = _Names()
    try:
        visit_initrd(initrd, names)
    except UnknownArchive:  # the kernel may know it: what came before counts
        pass
    except ImageError as error:
        raise UsageError(f"{initrd} is damaged; copy it again ({error})") from error
    argument = next((_OWN[name] for name in _OWN if name in names.found), "").format(disk=disk)
    return tuple(filter(None, [argument, names.layers if argument == _CASPER else ""]))
