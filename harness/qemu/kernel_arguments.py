"""The kernel arguments of a boot: the manifest's, and those that its boot path must add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


def added_arguments(
    arguments: Sequence[str], rootfs: str, boot_path: BootPath, base_url: str, *, needs_network: bool = False
) -> tuple[str, ...]:
    """The arguments that this boot path must add to the manifest's ``arguments``; a key that is given is not added.

    ``rootfs`` is the file's name. dracut.cmdline(7): ``root=live:`` takes a device or a URL; a URL needs ``ip=``; an
    image in a tar is unpacked by ``rd.writable.fsimg``. With GRUB ``base_url`` is a folder on the boot disk.
    """
    if boot_path is BootPath.GRUB:
        wanted = {
            "root=": f"root=live:LABEL={BOOT_LABEL}",
            "rd.live.dir=": f"rd.live.dir={base_url}",
            "rd.live.squashimg=": f"rd.live.squashimg={rootfs}",
            "ip=": "ip=dhcp" if needs_network else "",
            CONSOLE.split(",")[0]: CONSOLE,
        }
        return _missing(wanted, arguments)
    has_disk = loads_from_disk(arguments, rootfs, boot_path)
    url = f"{base_url}/{rootfs}"
    wanted = {
        "root=": f"root=live:/dev/disk/by-id/virtio-{ROOTFS_SERIAL}" if has_disk else f"root=live:{url}",
        "rd.writable.fsimg": "rd.writable.fsimg" if rootfs.endswith(".img") else "",
        "ip=": "ip=dhcp" if needs_network or not has_disk else "",
        CONSOLE.split(",")[0]: CONSOLE,
    }
    if any(URL_PLACEHOLDER in argument for argument in arguments):
        wanted["root="] = ""
    return _missing(wanted, arguments)


def _missing(wanted: Mapping[str, str], arguments: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for key, word in wanted.items() if word and not any(given.startswith(key) for given in arguments))


def kernel_arguments(
    arguments: Sequence[str], rootfs: str, boot_path: BootPath, base_url: str, *, needs_network: bool = False
) -> tuple[str, ...]:
    """All kernel arguments of a boot; ``base_url`` is the folder of the artifacts, as in `ipxe.boot_script`."""
    added = added_arguments(arguments, rootfs, boot_path, base_url, needs_network=needs_network)
    return (*(given.replace(URL_PLACEHOLDER, f"{base_url}/{rootfs}") for given in arguments), *added)
