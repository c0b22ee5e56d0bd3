"""Machines of one image: each has its own identity. test_survival.py proves that each keeps it."""

from __future__ import annotations

import pytest

from harness import Machine
from harness.persistence.identity import duplicates, identity


@pytest.mark.cause("identity was made at build time")
@pytest.mark.check("identity")
def test_two_machines_differ(second_machine: Machine, machine: Machine) -> None:
    same = list(duplicates(identity(machine), identity(second_machine)))
    name = machine.check("cat /proc/sys/kernel/hostname")
    if name == second_machine.check("cat /proc/sys/kernel/hostname"):
        same.append(f"the host name is the same on both machines: {name}")
    assert not same, "; ".join(same)
