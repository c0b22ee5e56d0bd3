"""Machines of one image: each has its own identity. test_survival.py proves that each keeps it."""

from __future__ import annotations

import pytest

from harness import Machine
from harness.persistence.identity import duplicates, identity


@pytest.mark.cause("identity was made at build time")
@pytest.mark.check("identity")
def test_two_machines_differ(second_machine: Machine, machine: Machine) -> None:
    same = list(duplicates(identity(machine), identity(second_machine)))
    assert not same, "; ".join(same)
