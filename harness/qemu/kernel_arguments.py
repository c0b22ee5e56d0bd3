"""The kernel arguments of a boot: the manifest's, and those that its boot path must add."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.errors import UsageError
from harness.model.machine_spec import BOOT_LABEL, BootPath

CONSOLE = "console=ttyS0,115200"
"""The first serial port is the console; the second, ttyS1, carries the guest's shell."""
ROOTFS_SERIAL = "rootfs"
"""Serial of the virtio disk that holds the root file system of boot path ``direct``."""
ROOTFS_DISK = f"/dev/disk/by-id/virtio-{ROOTFS_SERIAL}"

URL_PLACEHOLDER = "{rootfs}"
"""In a manifest's kernel arguments: replaced by the URL of the root file system, for initrds other than dracut's."""

_DOWNLOADS = {
    "boot=casper": ("url={rootfs}", "ip=dhcp"),  # casper(7); casper's scripts/casper takes only URLs that end in .iso
    "boot=live": ("fetch={rootfs}", ""),  # live-boot(7); it takes dhcp in ip= for the name of a network card
    "archisobasedir": ("archiso_http_srv={rootfs}?", "ip=dhcp"),
}
"""The arguments of initrds other than dracut's: one that names the initrd, then those with which it downloads.

mkinitcpio-archiso's hooks/archiso_pxe_http appends ``arch/x86_64/airootfs.sfs`` to its URL; a web server serves the
file before the question mark.
"""


def loads_from_disk(arguments: Sequence[str], rootfs: str, boot_path: BootPath) -> bool:
    """Whether the root file system is a disk of the machine; if not, it is fetched over HTTP.

    dracut's dmsquash-live finds a squashfs on a bare disk, but no other file system. With ``root=`` in the manifest's
    arguments it is always a disk on boot path ``direct``.
    """
    names_root = any(argument.startswith("root=") for argument in arguments)
    is_disk = not names_url(arguments) and (names_root or rootfs.endswith(".squashfs"))
    return boot_path is BootPath.DIRECT and is_disk


def names_url(arguments: Sequence[str]) -> bool:
    """Whether the initrd downloads the root file system by an argument of its own, which is not dracut's."""
    return any(URL_PLACEHOLDER in argument for argument in (*arguments, *_download(arguments)))


def kernel_arguments(
    arguments: Sequence[str], rootfs: str, boot_path: BootPath, base_url: str, *, needs_network: bool = False
) -> tuple[str, ...]:
    """All kernel arguments of a boot: the manifest's ``arguments``, then those that this boot path must add.

    ``rootfs`` is the file's name; ``base_url`` is the folder of the artifacts, as in `ipxe.boot_script`, or with GRUB a
    folder on the boot disk. A key that is given is not added. dracut.cmdline(7): ``root=live:`` takes a device or a
    URL; a URL needs ``ip=``; an image in a tar is unpacked by ``rd.writable.fsimg``. `UsageError` if the root file
    system must be a disk, and this boot path has none.
    """
    if f"root={ROOTFS_DISK}" in arguments and boot_path is not BootPath.DIRECT:
        raise UsageError(
            f"boot path {boot_path}: the initrd mounts root={ROOTFS_DISK}, a disk that only boot path direct has; "
            "add --boot-path direct, or an initrd that downloads (dracut, live-boot, casper, archiso)"
        )
    url = f"{base_url}/{rootfs}"
    if boot_path is BootPath.GRUB:
        wanted = [
            f"root=live:LABEL={BOOT_LABEL}",
            f"rd.live.dir={base_url}",
            f"rd.live.squashimg={rootfs}",
            "ip=dhcp" if needs_network else "",
        ]
    elif download := _download(arguments):
        wanted = list(download)
    else:
        has_disk = loads_from_disk(arguments, rootfs, boot_path)
        wanted = [
            f"root=live:{ROOTFS_DISK if has_disk else url}" if not names_url(arguments) else "",
            "rd.writable.fsimg" if rootfs.endswith(".img") else "",
            "ip=dhcp" if needs_network or not has_disk else "",
        ]
    keys = {argument.partition("=")[0] for argument in arguments}
    added = [word for word in wanted if word and word.partition("=")[0] not in keys]
    if not any(argument.startswith(CONSOLE.partition(",")[0]) for argument in arguments):
        added.append(CONSOLE)
    return tuple(word.replace(URL_PLACEHOLDER, url) for word in (*arguments, *added))


def _download(arguments: Sequence[str]) -> tuple[str, ...]:
    """The arguments with which the initrd that is named in ``arguments`` downloads; dracut's is not named."""
    named = (word for given in arguments for word in _DOWNLOADS if word in (given, given.partition("=")[0]))
    return next((_DOWNLOADS[word] for word in named), ())
