"""What is on /data survives everything; what is elsewhere survives nothing."""

from __future__ import annotations

import secrets
import shlex
from dataclasses import dataclass, field

import pytest

from harness.fixtures.artifacts import Versions
from harness.fixtures.machine import MakeMachine
from harness.lab import Lab
from harness.machine.machine import Machine
from harness.model.definition import ImageDefinition
from harness.model.machine_spec import BootPath, DiskSpec
from harness.persistence.identity import identity
from harness.persistence.locations import find_locations
from harness.persistence.workloads import Workload, features_of
from harness.qemu import disk_images

NONCE = "bootproof-nonce"
ELSEWHERE = ("/root", "/etc", "/var/lib")


@dataclass(slots=True)
class Journey:
    """One machine's belongings, and what became of them on the way: a nonce in each file, which is ``on_disk`` under
    that path of its file system; ``scratch`` are files that must not stay."""

    machine: Machine
    paths: tuple[str, ...]
    nonces: dict[str, str] = field(default_factory=dict)
    on_disk: dict[str, str] = field(default_factory=dict)
    scratch: tuple[str, ...] = ()
    losses: list[str] = field(default_factory=list)

    def write(self, stage: str) -> None:
        """A nonce through each ordinary path, fsynced with its folder (fsync(2)); and one that must not survive."""
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

    def look(self, stage: str) -> None:
        """All that was written is there; what was written elsewhere is not."""
        for file, nonce in self.nonces.items():
            seen = self.machine.run(f"cat {shlex.quote(file)}").text
            if seen != nonce:
                self.losses.append(f"{stage}: {file}: awaited {nonce}, seen {seen!r}")
        left = self.machine.run(f"ls -d {shlex.join(self.scratch)}").text if self.scratch else ""
        if left:
            self.losses.append(f"{stage}: still there, though not on /data: {left}")

    def look_at_disk(self) -> None:
        """All that was written is on the raw disk, of a machine that is off."""
        with disk_images.open_ext4(self.machine.spec.data) as data:
            for file, nonce in self.nonces.items():
                seen = data.read(self.on_disk[file]).decode()
                if seen != nonce:
                    self.losses.append(f"on the raw disk: {file}: awaited {nonce}, seen {seen!r}")


def gone(features: list[Workload], machine: Machine) -> list[str]:
    """The names of those that are not there any more."""
    with machine.boot_slot():
        return [feature.name for feature in features if machine.run(feature.seen).status]


def go_back(machine: Machine, versions: Versions) -> bool:
    """To the version before, where that is more than another upgrade of the same kind: what a person picks in GRUB's
    menu; with kexec, which a machine is not switched on by, the only way into the version under test."""
    if machine.spec.boot_path is BootPath.GRUB:
        machine.reboot_previous()
    elif machine.spec.boot_path is BootPath.KEXEC:
        machine.reboot(into=versions.old)
    else:
        return False
    return True


@pytest.mark.boots(2)
@pytest.mark.check("survival")
def test_data_survives_reboot_and_power_cut(machine: Machine, definition: ImageDefinition) -> None:
    """State was written to RAM, or not brought to disk by fsync."""
    journey = Journey(machine, definition.persistent_paths)
    journey.write("first")

    machine.reboot()
    journey.look("after a reboot")
    journey.write("rebooted")

    machine.kill()
    machine.power_on()
    journey.look("after a power cut")
    machine.power_off()
    journey.look_at_disk()
    assert not journey.losses, "\n".join(journey.losses)


@pytest.mark.boots(2)
@pytest.mark.check("survival")
@pytest.mark.check("libvirt")
@pytest.mark.check("openvswitch")
def test_data_survives_upgrade_and_rollback(
    machine: Machine, versions: Versions, definition: ImageDefinition
) -> None:  # fmt: skip
    """State was written to RAM, or overwritten by a version's defaults."""
    journey = Journey(machine, definition.persistent_paths)
    features = list(features_of(definition))
    before = identity(machine)
    with machine.boot_slot():
        for feature in features:
            machine.check(feature.make)
    journey.write("first")

    machine.reboot(into=versions.new)
    journey.look("after the upgrade")
    assert identity(machine) == before
    assert not gone(features, machine)
    journey.write("upgraded")

    machine.reboot(into=versions.old)
    journey.look("after the rollback")
    assert identity(machine) == before
    assert not gone(features, machine)
    machine.power_off()
    journey.look_at_disk()
    assert not journey.losses, "\n".join(journey.losses)


@pytest.mark.boots(2)
def test_machine_comes_up_and_upgrades_on_its_other_boot_paths(
    make_machine: MakeMachine, lab: Lab, disk: DiskSpec, versions: Versions, other_boot_path: str,
    definition: ImageDefinition
) -> None:  # fmt: skip
    """This boot path brings up another image, or none, or does not find /data."""
    name = f"machine-{other_boot_path}"
    with make_machine(name, lab=lab, disks=(disk,), boot_path=other_boot_path, artifacts=versions.old) as machine:
        journey = Journey(machine, definition.persistent_paths)
        journey.write("first")

        machine.reboot(into=versions.new)
        journey.look("after the upgrade")

        if go_back(machine, versions):
            journey.look("after going back")
        machine.power_off()
        assert not journey.losses, "\n".join(journey.losses)
