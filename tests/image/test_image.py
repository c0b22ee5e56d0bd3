"""The running image is the one that was built."""

from __future__ import annotations

import shlex

import pytest

from harness import Artifacts, Host, Machine, not_applicable
from harness.packages import database_of
from harness.qemu.grub import folder_of

pytestmark = pytest.mark.check("image")


@pytest.mark.cause("kernel and root file system are of different builds")
def test_the_running_kernel_is_the_manifests(host: Host, artifacts: Artifacts) -> None:
    assert host.check_output("uname -r") == artifacts.manifest.kernel_version


@pytest.mark.cause("an old copy was booted, or the build did not stamp os-release")
def test_the_running_image_is_the_manifests(host: Host, artifacts: Artifacts) -> None:
    release = dict(
        line.split("=", 1) for line in host.file("/etc/os-release").content_string.splitlines() if "=" in line
    )
    manifest = artifacts.manifest
    if not (manifest.is_ours or manifest.version):
        not_applicable("the manifest names no version: the image's os-release has no IMAGE_VERSION")

    if manifest.is_ours:
        assert release.get("IMAGE_ID", "").strip('"') == manifest.image
    if manifest.version:
        assert release.get("IMAGE_VERSION", "").strip('"') == manifest.version


@pytest.mark.cause("the image carries modules of another kernel")
def test_the_modules_are_the_running_kernels(host: Host, artifacts: Artifacts) -> None:
    assert host.check_output("ls /lib/modules").split() == [artifacts.manifest.kernel_version]


@pytest.mark.cause("the module index is missing or broken because depmod did not run")
def test_a_module_of_the_root_file_system_can_be_loaded(host: Host) -> None:
    assert host.run("modprobe --dry-run --first-time dummy").rc == 0


@pytest.mark.cause("the root is on a disk, so files that services write there outlive the reboot")
def test_the_root_is_ram_over_the_image(host: Host) -> None:
    source, kind = host.check_output("findmnt -n -o SOURCE,FSTYPE /").split()
    backing = host.check_output("losetup --list --noheadings --output BACK-FILE")

    assert kind == "overlay" or (source.startswith("/dev/mapper/live-") and "/run/initramfs/" in backing)


@pytest.mark.cause("the manifest describes another root file system")
def test_the_installed_packages_are_the_manifests(host: Host, artifacts: Artifacts) -> None:
    packages = artifacts.manifest.packages
    database = database_of(packages)
    if database is None:
        not_applicable("no known package manager is in the manifest" if packages else "the manifest lists no packages")

    listing = host.check_output(shlex.join(database.list_command))

    assert database.read_list(listing) == packages


@pytest.mark.cause("a boot loader or the image adds or drops kernel arguments")
def test_no_kernel_argument_is_unaccounted_for(shared_machine: Machine, host: Host) -> None:
    given = set(shared_machine.running_boot.plan.arguments)
    running = set(host.check_output("cat /proc/cmdline").split())

    loaders = {"initrd=initrd.img", "BOOT_IMAGE=vmlinuz", "vmlinuz"}  # iPXE's own: BIOS, then UEFI
    loaders.add(f"BOOT_IMAGE={folder_of(shared_machine.artifacts.digest)}/vmlinuz")  # GRUB's
    assert running - given <= loaders
    assert given <= running
