"""The kernel arguments of each boot path."""

from __future__ import annotations

import pytest

from harness.model.machine_spec import BootPath
from harness.qemu.ipxe import base_url
from harness.qemu.kernel_arguments import CONSOLE, kernel_arguments


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
        (["boot=live", "fetch={rootfs}"], "rootfs.squashfs", "ip=dhcp C"),
    ],
)
def test_what_other_builders_arguments_say_already_is_not_added(given: list[str], rootfs: str, added: str) -> None:
    expanded = added.replace("U/", "http://h/d/").replace("C", CONSOLE)

    assert kernel_arguments(given, rootfs, BootPath.DIRECT, "http://h/d")[len(given) :] == tuple(expanded.split())


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
