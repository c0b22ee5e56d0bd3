"""The kernel arguments of each boot path."""

from __future__ import annotations

import pytest

from harness.core.errors import UsageError
from harness.model.machine_spec import BootPath
from harness.qemu.ipxe import base_url
from harness.qemu.kernel_arguments import CONSOLE, ROOTFS_DISK, kernel_arguments, loads_from_disk


def test_a_boot_path_adds_only_what_it_must() -> None:
    url = base_url("d1gest")

    assert kernel_arguments(["quiet"], "rootfs.squashfs", BootPath.DIRECT, url) == (
        "quiet",
        "root=live:/dev/disk/by-id/virtio-rootfs",
        "console=ttyS0,115200",
    )
    assert kernel_arguments(["quiet"], "rootfs.squashfs", BootPath.IPXE_BIOS, url) == (
        "quiet",
        "root=live:http://10.77.0.1/d1gest/rootfs.squashfs",
        "ip=dhcp",
        "console=ttyS0,115200",
    )


@pytest.mark.parametrize(
    ("given", "rootfs", "added"),
    [
        ([], "rootfs.ext4", "root=live:U/rootfs.ext4 ip=dhcp C"),
        ([], "rootfs.img", "root=live:U/rootfs.img rd.writable.fsimg ip=dhcp C"),
        (["rd.writable.fsimg=1", "ip=eth0:dhcp"], "rootfs.img", "root=live:U/rootfs.img C"),
        (["root=/dev/vda", "console=ttyS0,9600"], "rootfs.ext4", ""),
        (["fetch={rootfs}"], "rootfs.squashfs", "ip=dhcp C"),
        (["console=tty0"], "rootfs.ext4", "root=live:U/rootfs.ext4 ip=dhcp C"),
        (["boot=live", "fetch={rootfs}"], "rootfs.squashfs", "C"),
        (["boot=casper", "url=http://other/x.iso", "ip=:::::ens4:dhcp"], "rootfs.iso", "C"),
    ],
)
def test_what_other_builders_arguments_say_already_is_not_added(given: list[str], rootfs: str, added: str) -> None:
    expanded = added.replace("U/", "http://h/d/").replace("C", CONSOLE)

    assert kernel_arguments(given, rootfs, BootPath.DIRECT, "http://h/d")[len(given) :] == tuple(expanded.split())


@pytest.mark.parametrize("path", [BootPath.DIRECT, BootPath.IPXE_UEFI, BootPath.KEXEC])
@pytest.mark.parametrize(
    ("given", "rootfs", "added"),
    [
        ("boot=live components", "rootfs.squashfs", "fetch=U/rootfs.squashfs C"),
        ("boot=live", "rootfs.iso", "fetch=U/rootfs.iso C"),
        ("boot=casper layerfs-path=a.b.squashfs", "rootfs.iso", "url=U/rootfs.iso ip=dhcp C"),
        ("archisobasedir=arch", "rootfs.squashfs", "archiso_http_srv=U/rootfs.squashfs? ip=dhcp C"),
        ("", "rootfs.iso", "root=live:U/rootfs.iso ip=dhcp C"),
    ],
)
def test_an_initrd_downloads_by_its_own_arguments_on_every_path(
    given: str, rootfs: str, added: str, path: BootPath
) -> None:
    expanded = added.replace("U/", "http://h/d/").replace("C", CONSOLE)

    assert kernel_arguments(given.split(), rootfs, path, "http://h/d") == (*given.split(), *expanded.split())
    assert not loads_from_disk(given.split(), rootfs, path)


def test_an_initrd_that_mounts_a_disk_boots_where_the_machine_has_that_disk() -> None:
    given = [f"root={ROOTFS_DISK}"]

    assert kernel_arguments(given, "rootfs.ext4", BootPath.DIRECT, "http://h/d") == (*given, CONSOLE)
    assert loads_from_disk(given, "rootfs.ext4", BootPath.DIRECT)
    with pytest.raises(UsageError, match="a disk that only boot path direct has"):
        kernel_arguments(given, "rootfs.ext4", BootPath.IPXE_BIOS, "http://h/d")


def test_the_url_of_the_root_file_system_is_filled_in() -> None:
    arguments = kernel_arguments(["fetch={rootfs}"], "rootfs.squashfs", BootPath.DIRECT, "http://h/d")

    assert arguments[0] == "fetch=http://h/d/rootfs.squashfs"


def test_a_guest_that_is_reached_over_ssh_gets_an_address_on_every_path() -> None:
    arguments = kernel_arguments((), "rootfs.squashfs", BootPath.DIRECT, "http://h/d", needs_network=True)

    assert "ip=dhcp" in arguments


def test_grub_finds_the_root_file_system_on_its_disk_and_nothing_is_fetched() -> None:
    arguments = kernel_arguments(("quiet",), "rootfs.squashfs", BootPath.GRUB, "/8592356f1c25")

    assert arguments[1:] == (
        "root=live:LABEL=bootproof-boot",
        "rd.live.dir=/8592356f1c25",
        "rd.live.squashimg=rootfs.squashfs",
        "console=ttyS0,115200",
    )
