"""Data on /data survives reboots, power cuts and upgrades; data elsewhere does not survive a reboot.

An image without persistent paths makes the same boots, and nothing may survive them; then its check is not applicable.
"""

from __future__ import annotations

import secrets
import shlex
from dataclasses import dataclass, field

import pytest

from harness import BootPath, DiskSpec, ImageDefinition, Lab, Machine, Versions, not_applicable
from harness.fixtures.machine import MakeMachine
from harness.model.definition import KEEPS_NOTHING
from harness.persistence.identity import changes, identity
from harness.persistence.locations import find_locations
from harness.persistence.workloads import failures, make_workloads, workloads_of
from harness.qemu.ext4 import open_ext4

NONCE = "bootproof-nonce"
ELSEWHERE = ("/root", "/etc", "/var/lib")


@dataclass(slots=True)
class Journey:
    """The files of one machine over its boots. ``nonces`` maps each persistent file to its content, ``on_disk`` to its
    path on its file system; ``scratch`` are files that must not survive; ``losses`` are sentences about failures."""

    machine: Machine
    paths: tuple[str, ...]
    nonces: dict[str, str] = field(default_factory=dict)
    on_disk: dict[str, str] = field(default_factory=dict)
    scratch: tuple[str, ...] = ()
    losses: list[str] = field(default_factory=list)

    def write(self, stage: str) -> None:
        """Write a nonce below each persistent path, synced with its folder (fsync(2)), and scratch files elsewhere."""
        kept = find_locations(self.machine.channel, self.paths)
        elsewhere = find_locations(self.machine.channel, ELSEWHERE)
        devices = {location.device for location in kept}
        self.scratch = tuple(f"{place.path}/scratch" for place in elsewhere if place.device not in devices)
        commands = [f"echo gone > {file}" for file in self.scratch]
        for location in kept:
            path, name = location.path, f"{NONCE}-{stage}"
            file = f"{path}/{name}"
            self.nonces[file] = secrets.token_hex(16)
            self.on_disk[file] = f"{location.inner}/{name}"
            commands.append(f"printf %s {self.nonces[file]} > {shlex.quote(file)}")
            commands.append(f"sync {shlex.quote(file)} {shlex.quote(path)}/.")
        self.machine.check(" && ".join(commands))

    def check(self, stage: str) -> None:
        """Add to ``losses`` each nonce that is missing, and each scratch file that survived."""
        for file, nonce in self.nonces.items():
            done = self.machine.run(f"cat {shlex.quote(file)}")
            if done.status:
                self.losses.append(f"{stage}: {file} cannot be read, expected {nonce}: {done.errors}")
            elif done.text != nonce:
                self.losses.append(f"{stage}: {file} has {done.text!r}, expected {nonce}")
        look = f'for file in {shlex.join(self.scratch)}; do if [ -e "$file" ]; then echo "$file"; fi; done'
        if left := self.machine.check(look):
            self.losses.append(f"{stage}: not on /data, but survived: {left}")

    def end(self) -> None:
        """Power the machine off, and look for the nonces on its raw disk; fails if anything is lost.

        Ends the test as not applicable if the image has no persistent paths.
        """
        self.machine.power_off()
        if self.paths:
            self._check_disk()
        assert not self.losses, "\n".join(self.losses)
        if not self.paths:
            not_applicable(KEEPS_NOTHING)

    def _check_disk(self) -> None:
        with open_ext4(self.machine.spec.data) as data:
            for file, nonce in self.nonces.items():
                seen = data.read(self.on_disk[file]).decode()
                if seen != nonce:
                    self.losses.append(f"on the raw disk: {file} has {seen!r}, expected {nonce}")


def go_back(machine: Machine, versions: Versions) -> bool:
    """Boot the version before, where that differs from an upgrade: by GRUB's menu or by kexec. False elsewhere."""
    if machine.spec.boot_path is BootPath.GRUB:
        machine.reboot_previous()
    elif machine.spec.boot_path is BootPath.KEXEC:
        machine.reboot(into=versions.old)
    else:
        return False
    return True


@pytest.mark.cause("state was written to RAM, or fsync did not bring it to the disk")
@pytest.mark.boots(2)
@pytest.mark.check("survival")
def test_data_survives_reboot_and_power_cut(machine: Machine, definition: ImageDefinition) -> None:
    journey = Journey(machine, definition.persistent_paths)
    journey.write("first")

    machine.reboot()
    journey.check("after a reboot")
    journey.write("rebooted")

    machine.kill()
    machine.power_on()
    journey.check("after a power cut")
    journey.end()


@pytest.mark.cause("state was written to RAM, or overwritten by the defaults of a version")
@pytest.mark.boots(2)
@pytest.mark.check("survival")
@pytest.mark.check("libvirt")
@pytest.mark.check("openvswitch")
def test_data_survives_upgrade_and_rollback(
    machine: Machine, versions: Versions, definition: ImageDefinition
) -> None:  # fmt: skip
    journey = Journey(machine, definition.persistent_paths)
    workloads = workloads_of(definition)
    before = identity(machine)
    make_workloads(machine, workloads)
    journey.write("first")

    machine.reboot(into=versions.new)
    journey.check("after the upgrade")
    assert list(changes(definition, before, identity(machine))) == []
    assert failures(machine, workloads) == []
    journey.write("upgraded")

    machine.reboot(into=versions.old)
    journey.check("after the rollback")
    assert list(changes(definition, before, identity(machine))) == []
    assert failures(machine, workloads) == []
    journey.end()


@pytest.mark.cause("this boot path boots another image, or none, or does not find /data")
@pytest.mark.boots(2)
def test_a_machine_boots_and_upgrades_on_its_other_boot_paths(
    make_machine: MakeMachine,
    lab: Lab,
    disks: tuple[DiskSpec, ...],
    versions: Versions,
    other_boot_path: str,
    definition: ImageDefinition,
) -> None:
    name = f"machine-{other_boot_path}"
    with make_machine(name, lab=lab, disks=disks, boot_path=other_boot_path, artifacts=versions.old) as machine:
        journey = Journey(machine, definition.persistent_paths)
        journey.write("first")

        machine.reboot(into=versions.new)
        journey.check("after the upgrade")

        if go_back(machine, versions):
            journey.check("after going back")
        machine.power_off()
        assert not journey.losses, "\n".join(journey.losses)
