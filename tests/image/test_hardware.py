"""On each hardware profile of the definition, the image boots, finds its disk and uses all devices.

Its network cards have the names that the version before gives them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from harness import BootFailed, DiskSpec, ImageDefinition, Lab, Machine, Versions, not_applicable
from harness.examine.network import unstable_names
from harness.fixtures.machine import MakeMachine
from harness.machine.board import seconds_ahead
from harness.model.hardware import find_profile, path_for
from harness.model.machine_spec import BootPath, DiskRole, MachineSpec, Network, NicModel
from harness.model.prepared import PreparedImage
from harness.persistence import network_cards
from harness.persistence.locations import misplaced
from harness.qemu.disk_images import blank_disks
from harness.runs.folder import Run

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
    versions: Versions,
    folder: Path,
    run: Run,
) -> None:
    profile = find_profile(hardware_profile, definition.folder)
    if prepared.network is Network.USER and len(profile.nics) > 1:
        not_applicable("the user network has one network card, and this hardware has several")
    path = path_for(profile, BootPath(default_boot_path))
    name, begun_s = f"hardware-{Path(hardware_profile).stem}", time.time()
    make = partial(make_machine, lab=lab, boot_path=path, hardware=profile)
    with make(name, disks=disks, power=False) as machine:
        foreign = [disk for disk in machine.spec.disks if disk.role is DiskRole.FOREIGN]
        written_ns = [disk.path.stat().st_mtime_ns for disk in foreign]
        machine.power_on()
        problems = [*misplaced(machine.channel, definition.persistent_paths), *_missing(machine, begun_s)]
        problems += [f"{one.path}: {one.what}" for one in unstable_names(machine.channel)]
        cards = network_cards.names(machine)
    if versions.under_test == versions.new != versions.old:  # without --previous, both are of one definition
        blank = blank_disks(definition, folder / "before.raw")
        in_before = partial(make, f"{name}-before", disks=blank, artifacts=versions.old)
        problems += network_cards.renamed(_names_before(in_before, run, folder), cards)

    assert not problems, "; ".join(problems)
    assert written_ns == [disk.path.stat().st_mtime_ns for disk in foreign], "a foreign disk was written to"


def _names_before(make: MakeMachine, run: Run, folder: Path) -> dict[str, str]:
    """The names that the version before gives the cards; none if it does not boot on this hardware."""
    try:
        with make(run=run.expected_to_fail(folder / "before")) as machine:
            return network_cards.names(machine)
    except BootFailed as error:
        run.add_unchecked(
            "whether network cards have the names that they had: the version before does not boot on this hardware: "
            f"{error.finding.what}"
        )
        return {}


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
