"""One image, many hosts: each has an identity of its own, and keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.fixtures.disk import make_disk
from harness.fixtures.machine import MakeMachine
from harness.lab import Lab
from harness.machine.machine import Machine
from harness.persistence.identity import identity, shared


def told_and_off(machine: Machine) -> dict[str, str]:
    """What tells this machine, which is on, from others. It is off then: a small host has no memory for two."""
    answers = identity(machine)
    machine.power_off()
    return answers


@pytest.mark.boots(3)
@pytest.mark.check("identity")
def test_two_machines_differ_and_each_stays_itself(
    machine: Machine, make_machine: MakeMachine, lab: Lab, folder: Path, default_boot_path: str
) -> None:
    """Identity was made at build time, in RAM, or derived from the board instead of kept on /data.

    The boards' UUIDs are swapped before the second boot: an identity taken from them would wander.
    """
    disk = make_disk(folder / "other.raw", "OTHER")
    left, path = machine, default_boot_path
    with make_machine("other", lab=lab, disks=(disk,), boot_path=path, number=1, power=False) as right:
        boards = [left.spec.uuid, right.spec.uuid]
        before = [told_and_off(left)]
        right.power_on()
        before.append(told_and_off(right))
        left.power_on(uuid=boards[1])
        after = [told_and_off(left)]
        right.power_on(uuid=boards[0])
        after.append(told_and_off(right))

    assert after == before
    assert not (same := list(shared(*before))), "; ".join(same)
