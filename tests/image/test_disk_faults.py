"""Whatever becomes of its disk, a machine comes up with what was kept, or fails loudly: it never runs from RAM."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.core.errors import Blame
from harness.fixtures.disk import Seeded
from harness.fixtures.machine import MakeMachine
from harness.lab import Lab
from harness.machine.machine import BootFailed
from harness.model.definition import ImageDefinition
from harness.model.machine_spec import DiskFault, DiskSpec
from harness.persistence.disk_faults import make_faulty
from harness.qemu.disk_images import DATA_SERIAL, copy_sparse
from harness.runs.folder import Run

pytestmark = [pytest.mark.thorough, pytest.mark.check("disk-faults")]


@pytest.mark.boots(1)
def test_a_machine_with_a_faulty_disk_comes_up_with_what_was_kept_or_says_why_not(
    disk_fault: DiskFault, seeded_disk: Seeded, definition: ImageDefinition, make_machine: MakeMachine, lab: Lab,
    folder: Path, default_boot_path: str, run: Run,
) -> None:  # fmt: skip
    """The image runs from RAM, or takes a disk that is not its own, and nobody would notice."""
    if disk_fault is DiskFault.NO_INODES and os.geteuid():
        run.add_unchecked("a disk without a free inode: only root can make one and keep the files' owners")
        return
    disk = DiskSpec(path=folder / "data.raw", serial=DATA_SERIAL)
    copy_sparse(seeded_disk.path, disk.path)
    faulty = make_faulty(disk_fault, disk, seeded_disk.number)
    written_ns = [foreign.path.stat().st_mtime_ns for foreign in faulty.foreign]
    name, boots = f"disk-{disk_fault}", run.expected_to_fail(folder / "boots")
    losses, failure = list[str](), None
    try:
        with make_machine(name, lab=lab, disks=faulty.disks, boot_path=default_boot_path, run=boots) as machine:
            losses += seeded_disk.losses(machine, has_data=faulty.has_data)
    except BootFailed as error:
        if error.blame is not Blame.IMAGE:
            raise
        failure = error

    said = f"fails: {failure.finding.what} [{failure.finding.id}]" if failure else "comes up"
    run.add_note(f"disk {disk_fault}: {said}")
    assert written_ns == [foreign.path.stat().st_mtime_ns for foreign in faulty.foreign], (
        "a foreign disk was written to"
    )
    assert not losses, f"looks healthy, but {'; '.join(losses)}"
    if failure:
        assert disk_fault not in definition.tolerates, f"[persist] tolerates names it, but:\n{failure}"
        assert failure.finding.id != "boot-hangs", f"nothing says why it does not come up:\n{failure}"
