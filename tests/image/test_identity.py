"""One image, many hosts: each has an identity of its own, and keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.fixtures.disk import make_disk
from harness.fixtures.machine import MakeMachine
from harness.lab import Lab
from harness.machine import Machine

_QUESTIONS = {
    "machine-id": "cat /etc/machine-id",
    "SSH host keys": "sshd -T | sed -n 's/^hostkey //p' | sort | while read -r key; do ssh-keygen -lf $key; done",
}


def identity(machine: Machine) -> dict[str, str]:
    """What tells this machine from others; no answer is empty on a good image."""
    return {name: machine.check(question) for name, question in _QUESTIONS.items()}


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
        make_machine("left", lab=lab, disks=(left_disk,), boot_path=path) as left,
        make_machine("right", lab=lab, disks=(right_disk,), boot_path=path, number=1) as right,
    ):
        before = [identity(machine) for machine in (left, right)]
        boards = [machine.spec.uuid for machine in (left, right)]

        left.reboot(uuid=boards[1])
        right.reboot(uuid=boards[0])
        after = [identity(machine) for machine in (left, right)]

    assert after == before
    for name in _QUESTIONS:
        assert before[0][name], f"no {name}"
        assert before[0][name] != before[1][name], f"{name} is the same on both machines"
