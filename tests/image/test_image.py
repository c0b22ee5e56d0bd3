"""What runs is what was built."""

from __future__ import annotations

import pytest

from harness.guest.testinfra_host import Host
from harness.machine.machine import Machine
from harness.model.artifacts import Artifacts
from harness.qemu.grub import folder_of

pytestmark = pytest.mark.check("image")


def test_the_running_kernel_is_the_manifests(host: Host, artifacts: Artifacts) -> None:
    """Kernel and root file system are of different builds."""
    assert host.check_output("uname -r") == artifacts.manifest.kernel_version


def test_the_running_image_is_the_manifests(host: Host, artifacts: Artifacts) -> None:
    """An old copy was booted, or os-release was not stamped."""
    release = dict(
        line.split("=", 1) for line in host.file("/etc/os-release").content_string.splitlines() if "=" in line
    )
    manifest = artifacts.manifest

    if manifest.is_ours:
        assert release.get("IMAGE_ID", "").strip('"') == manifest.image
    if manifest.version:  # where it is not known, the verdict says that this could not be checked
        assert release.get("IMAGE_VERSION", "").strip('"') == manifest.version


def test_the_modules_are_the_running_kernels(host: Host, artifacts: Artifacts) -> None:
    """The image carries modules of another kernel."""
    assert host.check_output("ls /lib/modules").split() == [artifacts.manifest.kernel_version]


def test_a_module_of_the_root_file_system_can_be_loaded(host: Host) -> None:
    """The module index is missing or broken: depmod did not run."""
    assert host.run("modprobe --dry-run --first-time dummy").rc == 0


def test_the_root_is_ram_over_the_image(host: Host) -> None:
    """The root is on a disk: what a service writes there outlives the reboot, on this host alone."""
    source, kind = host.check_output("findmnt -n -o SOURCE,FSTYPE /").split()
    backing = host.check_output("losetup --list --noheadings --output BACK-FILE")

    assert kind == "overlay" or (source.startswith("/dev/mapper/live-") and "/run/initramfs/" in backing)


def test_the_installed_packages_are_the_manifests(host: Host, artifacts: Artifacts) -> None:
    """The manifest does not describe this root file system."""
    if not artifacts.manifest.packages:
        return  # the verdict says that this could not be checked
    listing = host.check_output(r"dpkg-query -W -f '${db:Status-Abbrev}${Package} ${Version}\n'")
    installed = dict(line[3:].split(" ") for line in listing.splitlines() if line.startswith("ii"))

    assert installed == artifacts.manifest.packages


def test_no_kernel_argument_is_unaccounted_for(shared_machine: Machine, host: Host) -> None:
    """A boot loader or image adds arguments that the verdict does not list."""
    given = set(shared_machine.running_boot.plan.arguments)
    running = set(host.check_output("cat /proc/cmdline").split())

    loaders = {"initrd=initrd.img", "BOOT_IMAGE=vmlinuz", "vmlinuz"}  # iPXE's own: BIOS, then UEFI
    loaders.add(f"BOOT_IMAGE={folder_of(shared_machine.artifacts.digest)}/vmlinuz")  # GRUB's
    assert running - given <= loaders
    assert given <= running
