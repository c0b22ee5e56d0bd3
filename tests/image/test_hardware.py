"""On each hardware profile of the definition, the image boots, finds its disk and uses all devices."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import DiskSpec, ImageDefinition, Lab, Machine, not_applicable
from harness.fixtures.machine import MakeMachine
from harness.machine.board import seconds_ahead
from harness.model.hardware import find_profile, path_for
from harness.model.machine_spec import BootPath, DiskRole, MachineSpec, Network, NicModel
from harness.model.prepared import PreparedImage
from harness.persistence.locations import misplaced

pytestmark = [pytest.mark.thorough, pytest.mark.check("hardware")]

DRIVERS = {model: model.value for model in NicModel} | {NicModel.VIRTIO: "virtio_net"}
CLOCK_WITHIN_S = 600


@pytest.mark.cause("a driver is missing, or the image assumes a device that this hardware does not have")
@pytest.mark.boots(1)
def test_a_machine_of_this_hardware_boots_and_uses_all_its_devices(
    hardware_profile: str,
    definition: ImageDefinition,
    make_machine: MakeMachine,
    lab: Lab,
    disks: tuple[DiskSpec, ...],
    default_boot_path: str,
    prepared: PreparedImage,
) -> None:
    profile = find_profile(hardware_profile, definition.folder)
    if prepared.network is Network.USER and len(profile.nics) > 1:
        not_applicable("the user network has one network card, and this hardware has several")
    path = path_for(profile, BootPath(default_boot_path))
    name, begun_s = f"hardware-{Path(hardware_profile).stem}", time.time()
    with make_machine(name, lab=lab, disks=disks, boot_path=path, hardware=profile, power=False) as machine:
        foreign = [disk for disk in machine.spec.disks if disk.role is DiskRole.FOREIGN]
        written_ns = [disk.path.stat().st_mtime_ns for disk in foreign]
        machine.power_on()
        problems = [*misplaced(machine.channel, definition.persistent_paths), *_missing(machine, begun_s)]

    assert not problems, "; ".join(problems)
    assert written_ns == [disk.path.stat().st_mtime_ns for disk in foreign], "a foreign disk was written to"


def _missing(machine: Machine, begun_s: float) -> Iterator[str]:
    """A sentence for each device that the guest does not use, or sees otherwise than the machine spec has it."""
    spec = machine.spec
    cards = "for card in /sys/class/net/*/device/driver; do realpath -e $card || exit; done"
    drivers = [path.rpartition("/")[2] for path in machine.check(cards).splitlines()]
    wanted = sorted(DRIVERS[nic.model] for nic in spec.nics)
    if sorted(drivers) != wanted:
        yield f"network cards use the drivers {drivers}, expected {wanted}"
    if (cpus := int(machine.check("nproc"))) != spec.cpus:
        yield f"the guest uses {cpus} CPUs of {spec.cpus}"
    memory_mib = int(machine.check("sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")) >> 10
    if not spec.memory_mib * 0.75 < memory_mib <= spec.memory_mib:
        yield f"the guest uses {memory_mib} MiB of memory of {spec.memory_mib}"
    if spec.clock:
        yield from _wrong_clock(machine, spec, begun_s)


def _wrong_clock(machine: Machine, spec: MachineSpec, begun_s: float) -> Iterator[str]:
    """A sentence if the board's clock neither continued from its setting nor was corrected by the guest."""
    seen_s = int(machine.check("cat /sys/class/rtc/rtc0/since_epoch"))
    behind_s = time.time() + seconds_ahead(spec.clock, begun_s) - seen_s
    if abs(behind_s) > CLOCK_WITHIN_S and abs(time.time() - seen_s) > CLOCK_WITHIN_S:
        yield f"the board's clock is {behind_s:.0f} s behind its setting"
