"""Disk faults: a machine boots with its data or fails with a reason; it never runs from RAM."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from harness import BootFailed, ImageDefinition, Lab, not_applicable
from harness.core.errors import Blame
from harness.fixtures.disk import Seeded
from harness.fixtures.machine import MakeMachine
from harness.machine.confirm import confirm
from harness.model.machine_spec import DiskFault
from harness.persistence.disk_faults import make_faulty
from harness.runs.folder import Run

pytestmark = [pytest.mark.thorough, pytest.mark.check("disk-faults")]

_SEVERAL_DISKS = {DiskFault.TWIN, DiskFault.FOREIGN_FIRST}
"""A kernel that finds two disks one after the other does not meet an image that takes the first."""

_FROM_POWER_ON = {*tuple(DiskFault)[::5], *_SEVERAL_DISKS}


@pytest.mark.cause("the image runs from RAM, or uses a disk that is not its own, without an error")
@pytest.mark.boots(1)
def test_a_machine_with_a_faulty_disk_boots_with_its_data_or_fails_with_a_reason(
    disk_fault: DiskFault, seeded_disk: Seeded, definition: ImageDefinition, make_machine: MakeMachine,
    make_machine_in_initrd: MakeMachine, lab: Lab, folder: Path, default_boot_path: str, run: Run,
) -> None:  # fmt: skip
    if disk_fault is DiskFault.NO_INODES and os.geteuid():
        not_applicable("only root can make a disk without a free inode and preserve the files' owners")

    def examine(make: MakeMachine, run: Run, folder: Path) -> None:
        make = partial(make, f"disk-{disk_fault}", lab=lab, boot_path=default_boot_path)
        _examine(disk_fault, seeded_disk, definition, make, run, folder)

    if disk_fault in _FROM_POWER_ON:
        examine(make_machine, run, folder)
    else:
        confirm(examine, in_initrd=make_machine_in_initrd, from_power_on=make_machine, run=run, folder=folder)


def _examine(
    disk_fault: DiskFault, seeded_disk: Seeded, definition: ImageDefinition, make: MakeMachine, run: Run, folder: Path
) -> None:
    """Boot a machine, which ``make`` makes, with the fault on its disk."""
    (disk,) = seeded_disk.copy(folder)
    faulty = make_faulty(disk_fault, disk, seeded_disk.number)
    written_ns = [foreign.path.stat().st_mtime_ns for foreign in faulty.foreign]
    losses: list[str] = []
    failure = None
    try:
        with make(disks=faulty.disks, run=run.expected_to_fail(folder / "boots")) as machine:
            losses += seeded_disk.losses(machine, has_data=faulty.has_data)
    except BootFailed as error:
        if error.blame is not Blame.IMAGE:
            raise
        failure = error

    outcome = f"fails: {failure.finding.what} [{failure.finding.id}]" if failure else "boots"
    run.add_note(f"disk {disk_fault}: {outcome}")
    assert written_ns == [foreign.path.stat().st_mtime_ns for foreign in faulty.foreign], (
        "a foreign disk was written to"
    )
    assert not losses, f"the machine is ready, but {'; '.join(losses)}"
    if failure:
        assert disk_fault not in definition.tolerates, f"[persist] tolerates names this fault, but:\n{failure}"
        assert failure.finding.id != "boot-hangs", f"the boot hangs without a reason:\n{failure}"
