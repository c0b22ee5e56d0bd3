"""Boots that begin in the initrd: which machines can, and what QEMU is started with."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.guest.initrd_stop import STOP_CREDENTIALS
from harness.machine.boot_plan import BootPlan, FrozenMachine
from harness.machine.initrd_templates import obstacle
from harness.model.machine_spec import BootPath, DiskBus, DiskSpec, MachineSpec

DISK = DiskSpec(path=Path("data.raw"), serial="S")
SPEC = MachineSpec(name="m", uuid=uuid.uuid4(), boot_path=BootPath.IPXE_BIOS, disks=(DISK,))


def test_a_machine_with_scsi_disks_or_none_can_begin_in_its_initrd() -> None:
    twin = replace(SPEC, disks=(DISK, replace(DISK, serial="T", read_only=True, reads_per_s=20, fails_writes_from=0)))
    for spec in (SPEC, replace(SPEC, disks=()), twin):
        assert obstacle(spec, 257, has_network_faults=False) == ""


@pytest.mark.parametrize(
    ("spec", "systemd", "reason"),
    [
        (SPEC, 252, "older than 256"),
        (SPEC, None, "of unknown age"),
        (replace(SPEC, boot_path=BootPath.GRUB), 257, "no boot by grub does"),
        (replace(SPEC, has_tpm=True), 257, "it has a TPM"),
        (replace(SPEC, disks=(replace(DISK, bus=DiskBus.NVME),)), 257, "a disk on nvme"),
        (replace(SPEC, disks=(replace(DISK, late_s=30),)), 257, "a time after power-on"),
        (replace(SPEC, disks=(replace(DISK, fails_writes_from=4096),)), 257, "a limit of QEMU's process"),
    ],
)
def test_another_one_says_why_it_boots_from_power_on(spec: MachineSpec, systemd: int | None, reason: str) -> None:
    assert reason in obstacle(spec, systemd, has_network_faults=False)


def test_network_faults_act_on_a_whole_boot() -> None:
    assert obstacle(SPEC, 257, has_network_faults=True) == "network faults act on the whole boot"


def test_qemu_is_started_without_the_disks_and_with_the_stop_for_both_ends_of_a_template() -> None:
    artifacts: Any = SimpleNamespace(manifest=SimpleNamespace(files=("vmlinuz", "initrd.img", "rootfs.squashfs")))
    definition: Any = SimpleNamespace()
    plan = BootPlan(number=1, folder=Path("boot-1"), spec=SPEC, artifacts=artifacts, definition=definition)
    frozen = FrozenMachine(memory=Path("m"), state=Path("s"), is_serial=True, host_memory_mib=1, is_in_initrd=True)
    made, continued = replace(plan, stops_in_initrd=True), replace(plan, frozen=frozen)

    assert plan.spec_at_start == SPEC
    assert made.spec_at_start == continued.spec_at_start
    assert made.spec_at_start.disks == ()
    assert made.spec_at_start.credentials == STOP_CREDENTIALS
    assert made.fetched == plan.fetched == ("vmlinuz", "initrd.img", "rootfs.squashfs")
    assert continued.fetched == (), "the template's boot downloaded them"
    assert continued.begins_in_initrd
    assert not continued.is_clone
    assert replace(plan, frozen=replace(frozen, is_in_initrd=False)).is_clone
