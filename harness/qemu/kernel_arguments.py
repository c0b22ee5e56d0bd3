"""The kernel arguments of a boot: the manifest's, and those that its boot path must add."""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.machine_spec import BOOT_LABEL, BootPath

CONSOLE = "console=ttyS0,115200"
"""The first serial port is the console; the second, ttyS1, carries the guest's shell."""
ROOTFS_SERIAL = "rootfs"
"""Serial of the virtio disk that holds the root file system of boot path ``direct``."""

URL_PLACEHOLDER = "{rootfs}"
"""In a manifest's kernel arguments: replaced by the URL of the root file system, for initrds other than dracut's."""


def loads_from_disk(arguments: Sequence[str], rootfs: str, boot_path: BootPath) -> bool:
    """Whether the root file system is a disk of the machine; if not, it is fetched over HTTP.

    dracut's dmsquash-live finds a squashfs on a bare disk, but no other file system. With ``root=`` in the manifest's
    arguments it is always a disk on boot path ``direct``.
    """
    fetches = any(URL_PLACEHOLDER in argument for argument in arguments)
    names_root = any(argument.startswith("root=") for argument in arguments)
    return boot_path is BootPath.DIRECT and not fetches and (names_root or rootfs.endswith(".squashfs"))


def kernel_arguments(
    arguments: Sequence[str], rootfs: str, boot_path: BootPath, base_url: str, *, needs_network: bool = False
) -> tuple[str, ...]:
    """All kernel arguments of a boot: the manifest's ``arguments``, then those that this boot path must add.

    ``rootfs`` is the file's name; ``base_url`` is the folder of the artifacts, as in `ipxe.boot_script`, or with GRUB a
    folder on the boot disk. A key that is given is not added. dracut.cmdline(7): ``root=live:`` takes a device or a
    URL; a URL needs ``ip=``; an image in a tar is unpacked by ``rd.writable.fsimg``.
    """
    url = f"{base_url}/{rootfs}"
    given = tuple(argument.replace(URL_PLACEHOLDER, url) for argument in arguments)
    if boot_path is BootPath.GRUB:
        wanted = {
            "root=": f"root=live:LABEL={BOOT_LABEL}",
            "rd.live.dir=": f"rd.live.dir={base_url}",
            "rd.live.squashimg=": f"rd.live.squashimg={rootfs}",
        }
    else:
        has_disk = loads_from_disk(arguments, rootfs, boot_path)
        needs_network = needs_network or not has_disk
        source = f"/dev/disk/by-id/virtio-{ROOTFS_SERIAL}" if has_disk else url
        wanted = {
            "root=": f"root=live:{source}" if given == tuple(arguments) else "",  # else they name the URL already
            "rd.writable.fsimg": "rd.writable.fsimg" if rootfs.endswith(".img") else "",
        }
    wanted |= {"ip=": "ip=dhcp" if needs_network else "", CONSOLE.split(",")[0]: CONSOLE}
    added = (word for key, word in wanted.items() if word and not any(old.startswith(key) for old in arguments))
    return (*given, *added)
