"""Machines of one image: each has its own identity and keeps it, unless the definition says it is new each boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import ImageDefinition, Lab, Machine
from harness.fixtures.machine import MakeMachine
from harness.persistence.identity import changes, duplicates, identity
from harness.qemu.disk_images import blank_disks


def identity_then_off(machine: Machine) -> dict[str, str]:
    """The identity of a machine that is on; then it is powered off, because a small host has no memory for two."""
    answers = identity(machine)
    machine.power_off()
    return answers


@pytest.mark.cause("identity was made at build time or in RAM, or derived from the board instead of stored on /data")
@pytest.mark.boots(3)
@pytest.mark.check("identity")
def test_two_machines_differ_and_each_stays_itself(
    machine: Machine,
    make_machine: MakeMachine,
    lab: Lab,
    folder: Path,
    default_boot_path: str,
    definition: ImageDefinition,
) -> None:
    # The boards' UUIDs are swapped before the second boot: an identity derived from them would follow them.
    disks = blank_disks(definition, folder / "other.raw", "OTHER")
    left, path = machine, default_boot_path
    with make_machine("other", lab=lab, disks=disks, boot_path=path, number=1, power=False) as right:
        boards = [left.spec.uuid, right.spec.uuid]
        before = [identity_then_off(left)]
        right.power_on()
        before.append(identity_then_off(right))
        left.power_on(uuid=boards[1])
        after = [identity_then_off(left)]
        right.power_on(uuid=boards[0])
        after.append(identity_then_off(right))

    changed = [change for pair in zip(before, after, strict=True) for change in changes(definition, *pair)]
    assert not changed, "; ".join(changed)
    same = [*duplicates(*before), *duplicates(*after)]
    assert not same, "; ".join(same)
