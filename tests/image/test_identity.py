"""One image, many hosts: each has an identity of its own, and keeps it."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from harness.fixtures.disk import make_disk
from harness.fixtures.machine import MakeMachine
from harness.lab import Lab
from harness.machine import Machine

_QUESTIONS = {
    "machine-id": "cat /etc/machine-id",
    "SSH host keys": "sshd -T | sed -n 's/^hostkey //p' | sort | while read -r key; do ssh-keygen -lf $key; done",
}


def identity(machine: Machine, board: UUID) -> dict[str, str]:
    """What tells this machine from others, on a board with that UUID; no answer is empty on a good image.

    It is on for no longer than that: a small host has no memory for two.
    """
    machine.power_on(uuid=board)
    answers = {name: machine.check(question) for name, question in _QUESTIONS.items()}
    machine.power_off()
    return answers


@pytest.mark.boots(4)
@pytest.mark.check("identity")
def test_two_machines_differ_and_each_stays_itself(
    make_machine: MakeMachine, lab: Lab, folder: Path, favourite_boot_path: str
) -> None:
    """Identity was made at build time, in RAM, or derived from the board instead of kept on /data.

    The boards' UUIDs are swapped before the second boot: an identity taken from them would wander.
    """
    left_disk, right_disk = (make_disk(folder / f"{side}.raw", side.upper()) for side in ("left", "right"))
    path = favourite_boot_path
    with (
        make_machine("left", lab=lab, disks=(left_disk,), boot_path=path, power=False) as left,
        make_machine("right", lab=lab, disks=(right_disk,), boot_path=path, number=1, power=False) as right,
    ):
        boards = [left.spec.uuid, right.spec.uuid]
        before = [identity(left, boards[0]), identity(right, boards[1])]
        after = [identity(left, boards[1]), identity(right, boards[0])]

    assert after == before
    for name in _QUESTIONS:
        assert before[0][name], f"no {name}"
        assert before[0][name] != before[1][name], f"{name} is the same on both machines"
