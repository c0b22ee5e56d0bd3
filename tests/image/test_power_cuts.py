"""Power cuts at any moment: acknowledged data is not lost, and the machine boots again."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from harness import Artifacts, BootFailed, DiskSpec, Lab
from harness.core.errors import Blame
from harness.fixtures.machine import MakeMachine
from harness.machine.confirm import confirm
from harness.machine.errors import by_hand
from harness.model.machine_spec import DiskFormat
from harness.persistence.power_cuts.campaign import PowerCutStudy, look_at_disk
from harness.persistence.power_cuts.judge import CrashResult, Judgement, boots_from_power_on
from harness.persistence.power_cuts.sweep import lay_out
from harness.qemu.disk_images import DATA_SERIAL, make_overlay
from harness.runs.folder import Run

pytestmark = [pytest.mark.thorough, pytest.mark.check("power-cuts")]


@pytest.mark.cause("a program relied on data before it was on the disk: fsync of a file or of its folder is missing")
@pytest.mark.boots(2)
def test_no_power_cut_loses_acknowledged_data(power_cuts: PowerCutStudy) -> None:
    assert not power_cuts.results.get(CrashResult.LOST), "\n".join(
        f"{one.cut}: {one.sentence}" for one in power_cuts.lost
    )


@pytest.mark.cause("the image does not recover, complete or notice a state that a power cut left")
@pytest.mark.boots(1)
def test_a_machine_boots_after_a_power_cut_with_all_its_data(
    power_cuts: PowerCutStudy,
    cut_number: int,
    make_machine: MakeMachine,
    make_machine_in_initrd: MakeMachine,
    lab: Lab,
    folder: Path,
    default_boot_path: str,
    run: Run,
    artifacts: Artifacts,
) -> None:
    judgement = power_cuts.sampled[cut_number % len(power_cuts.sampled)]

    def examine(make: MakeMachine, run: Run, folder: Path) -> None:
        _examine(
            power_cuts, judgement, partial(make, name, lab=lab, boot_path=default_boot_path), artifacts, run, folder
        )

    name = f"cut-{cut_number}"
    if boots_from_power_on(cut_number, len(power_cuts.sampled)):
        examine(make_machine, run, folder)
    else:
        confirm(examine, in_initrd=make_machine_in_initrd, from_power_on=make_machine, run=run, folder=folder)


def _examine(
    power_cuts: PowerCutStudy, judgement: Judgement, make: MakeMachine, artifacts: Artifacts, run: Run, folder: Path
) -> None:
    """Boot a machine, which ``make`` makes, from the state of ``judgement``, and look for what it lost."""
    cut = DiskSpec(path=folder / "cut.raw", serial=DATA_SERIAL)
    lay_out(power_cuts.recording, judgement.cut, cut.path)
    disk = replace(cut, path=folder / "machine.qcow2", format=DiskFormat.QCOW2)
    make_overlay(disk.path, cut.path)
    with make(disks=(disk,), run=run, power=False) as machine:
        command = by_hand(artifacts, replace(machine.spec, disks=(cut,)))
        try:
            machine.power_on()
        except BootFailed as error:
            if error.blame is not Blame.IMAGE:
                raise
            seen_before = judgement.sentence or "nothing is missing on the disk"
            lost = Judgement(
                judgement.cut, CrashResult.LOST, "no machine boots from it", f"{error.finding.what}; {seen_before}"
            )
            run.add_finding(power_cuts.finding(lost, folder, command))
            raise
        machine.power_off()
    seen = look_at_disk(disk, power_cuts.recording.partition.number, folder, power_cuts.recording.load)
    if problem := power_cuts.problem(judgement.cut, seen):
        finding = power_cuts.finding(Judgement(judgement.cut, CrashResult.LOST, problem), folder, command)
        run.add_finding(finding)
        raise BootFailed(machine.name, finding, str(folder), command)
