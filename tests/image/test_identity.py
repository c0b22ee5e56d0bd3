"""Machines of one image: each has its own identity and keeps it, unless the definition says it is new each boot."""

from __future__ import annotations

import pytest

from harness import ImageDefinition, Machine
from harness.persistence.identity import changes, duplicates, identity
from harness.persistence.journey import IDENTITY, REBOOTED


@pytest.mark.cause("identity was made at build time or in RAM, or derived from the board instead of stored on /data")
@pytest.mark.state(REBOOTED)
@pytest.mark.check("identity")
def test_two_machines_differ_and_one_stays_itself_in_another_board(
    second_machine: Machine, machine: Machine, definition: ImageDefinition
) -> None:
    before, after, second = machine.notes[IDENTITY], identity(machine), identity(second_machine)

    changed = list(changes(definition, before, after))
    assert not changed, "; ".join(changed)
    same = [*duplicates(before, second), *duplicates(after, second)]
    assert not same, "; ".join(same)
