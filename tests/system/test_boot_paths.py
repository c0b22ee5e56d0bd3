"""Boot paths grub, pxe-chain under BIOS, and kexec, and how they fail."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.build.pipeline import build
from harness.core import serialization
from harness.core.process import output, require
from harness.lab import Lab
from harness.machine.errors import BootFailed
from harness.machine.machine import Machine
from harness.model.artifacts import Artifacts, load_artifacts
from harness.model.definition import ImageDefinition
from harness.model.machine_spec import BootPath, Firmware, MachineSpec
from harness.qemu import disk_images, grub
from harness.runs.folder import Run
from harness.store.store import find_store

Booting = Callable[..., AbstractContextManager[Machine]]


def _with_argument(artifacts: Artifacts, folder: Path, argument: str) -> Artifacts:
    """The same files under another digest: one kernel argument differs."""
    for name in artifacts.manifest.files:
        (folder / name).symlink_to(artifacts.folder / name)
    arguments = (*artifacts.manifest.kernel_arguments, argument)
    serialization.write(folder / "manifest.json", replace(artifacts.manifest, kernel_arguments=arguments))
    return load_artifacts(folder)


@pytest.fixture(scope="session")
def other(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """Another version of the image."""
    return _with_argument(artifacts, tmp_path_factory.mktemp("other"), "bootproof.other")


@pytest.fixture(scope="session")
def silent(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """The image with its console on the tenth serial port, which the machine lacks."""
    return _with_argument(artifacts, tmp_path_factory.mktemp("silent"), "console=ttyS09")


def _runs(machine: Machine, artifacts: Artifacts) -> bool:
    """Which artifacts run, by the kernel arguments, which are the only difference."""
    is_other = "bootproof.other" in machine.check("cat /proc/cmdline").split()
    return is_other == ("bootproof.other" in artifacts.manifest.kernel_arguments)


def test_grub_boots_upgrades_and_goes_back_by_its_menu(
    booting: Booting, spec: MachineSpec, run: Run, artifacts: Artifacts, other: Artifacts
) -> None:
    with booting(replace(spec, boot_path=BootPath.GRUB)) as machine:
        assert _runs(machine, artifacts)
        machine.check("touch /data/kept")

        machine.reboot(into=other)
        assert _runs(machine, other)

        machine.reboot_previous()
        assert machine.artifacts == artifacts
        assert _runs(machine, artifacts)
        machine.check("ls /data/kept")
        assert machine.running_boot.watch.downloads.records == []

    assert not run.findings()
    assert [boot.artifacts for boot in run.boots()] == [artifacts.digest, other.digest, artifacts.digest]
    assert {boot.boot_path for boot in run.boots()} == {"grub"}
    assert all("grub" in boot.phases for boot in run.boots())


def test_uefi_starts_grub_from_a_disk_that_was_written_anew(
    booting: Booting, spec: MachineSpec, run: Run, artifacts: Artifacts, other: Artifacts
) -> None:
    """The UEFI variables name the previous boot disk, whose partitions had other ids."""
    with booting(replace(spec, boot_path=BootPath.GRUB, firmware=Firmware.UEFI)) as machine:
        assert machine.run("test -d /sys/firmware/efi").status == 0
        machine.power_off()

        machine.power_on(other, entry=1)
        assert machine.artifacts == artifacts
        assert _runs(machine, artifacts)

    assert not run.findings()
    assert [boot.artifacts for boot in run.boots()] == [artifacts.digest, artifacts.digest]


def test_grub_without_its_kernel_is_found_at_once(booting: Booting, spec: MachineSpec) -> None:
    """An incomplete deployment: the kernel is missing."""
    with booting(replace(spec, boot_path=BootPath.GRUB), power=False) as machine:
        machine.folder.mkdir(parents=True)
        plan = machine._plan(None)
        disk = grub.install(machine.folder, plan.menu)
        boot = disk_images.find_partition(disk.path, 3)
        kernel = f"{grub.folder_of(machine.artifacts.digest)}/vmlinuz"
        output([require("debugfs", "e2fsprogs"), "-w", "-R", f"rm {kernel}", f"{disk.path}?offset={boot.start_bytes}"])

        with pytest.raises(BootFailed) as failed:
            machine.power_on()

    assert failed.value.finding.id == "grub-failed"
    assert "vmlinuz' not found" in failed.value.finding.evidence[-1]


def test_a_stale_local_copy_that_starts_instead_is_found(
    booting: Booting, spec: MachineSpec, artifacts: Artifacts, base: ImageDefinition
) -> None:
    """A deployment that reported success without writing the new version."""
    new = build(base, find_store(), version=f"{base.version}+next")
    with booting(replace(spec, boot_path=BootPath.GRUB), artifacts=new, power=False) as machine:
        menu = machine._plan(None).menu
        to, old = (grub.folder_of(one.digest) for one in (new, artifacts))
        arguments = tuple(word.replace(to, old) for word in menu[0].arguments)
        machine.folder.mkdir(parents=True)
        grub.make_disk(machine.folder / grub.DISK, [grub.MenuEntry(artifacts=artifacts, arguments=arguments)])
        (machine.folder / grub.CONFIGURATION).write_text(grub.configuration(menu), "utf-8")

        with pytest.raises(BootFailed) as failure:
            machine.power_on()

    assert failure.value.finding.id == "wrong-image"


def test_a_plain_pxe_rom_fetches_ipxe_by_tftp_and_that_the_rest_by_http(
    booting: Booting, spec: MachineSpec, lab: Lab
) -> None:
    with booting(replace(spec, boot_path=BootPath.PXE_CHAIN, firmware=Firmware.BIOS)) as machine:
        assert machine.check("test -d /sys/firmware/efi || echo bios") == "bios"
    steps = [(step.protocol, step.what.rpartition("/")[2]) for step in lab.trace.events(spec.number)]

    assert ("tftp", "undionly.kpxe") in steps
    assert steps.index(("tftp", "undionly.kpxe")) < steps.index(("http", "boot.ipxe"))


def test_kexec_upgrades_without_firmware(
    booting: Booting, spec: MachineSpec, run: Run, artifacts: Artifacts, other: Artifacts
) -> None:
    with booting(replace(spec, boot_path=BootPath.KEXEC)) as machine:
        pid, boot_id = machine.running_boot.child.pid, machine.check("cat /proc/sys/kernel/random/boot_id")
        machine.check("touch /data/kept /root/scratch")

        machine.reboot(into=other)
        assert _runs(machine, other)
        assert machine.running_boot.child.pid == pid
        assert machine.check("cat /proc/sys/kernel/random/boot_id") != boot_id
        machine.check("ls /data/kept")
        assert machine.run("ls /root/scratch").status

    assert not run.findings()
    assert [(boot.boot_path, boot.artifacts) for boot in run.boots()] == [
        ("direct", artifacts.digest),
        ("kexec", other.digest),
    ]
    assert list(run.boots()[1].phases) == ["shutdown", "kernel", "initrd", "userspace"]
    assert set(run.boots()[1].downloads) == set(other.manifest.files)


RESET_INSTEAD = "[Unit]\nSuccessAction=reboot-force\n"


def test_kexec_into_a_kernel_that_says_nothing_is_not_waited_for(
    booting: Booting, spec: MachineSpec, silent: Artifacts
) -> None:
    with booting(replace(spec, boot_path=BootPath.KEXEC)) as machine, pytest.raises(BootFailed) as failed:
        machine.reboot(into=silent)

    assert failed.value.finding.id == "kexec-hangs"
    assert any("Starting new kernel" in line for line in failed.value.finding.evidence)


def test_kexec_that_resets_or_cannot_begin_is_found(booting: Booting, spec: MachineSpec) -> None:
    """In an order in which the guest survives all faults but the last."""
    with booting(replace(spec, boot_path=BootPath.KEXEC)) as machine:
        machine.check("mount --bind /bin/false /usr/sbin/kexec")
        with pytest.raises(BootFailed) as refused:
            machine.reboot()
        machine.check("umount /usr/sbin/kexec && mv /usr/sbin/kexec /root/")
        with pytest.raises(BootFailed) as missing:
            machine.reboot()
        machine.check("mv /root/kexec /usr/sbin/")
        folder = "/run/systemd/system/systemd-kexec.service.d"
        machine.check(f"mkdir -p {folder} && printf '{RESET_INSTEAD}' >{folder}/reset.conf && systemctl daemon-reload")
        with pytest.raises(BootFailed) as reset:
            machine.reboot()

    found = [failed.value.finding.id for failed in (refused, missing, reset)]
    assert found == ["kexec-load-failed", "kexec-missing", "kexec-reset"]
