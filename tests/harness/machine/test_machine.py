"""A machine that is off: what it refuses, and what its next boot starts."""

from __future__ import annotations

import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.errors import HarnessError, UsageError
from harness.machine.machine import Machine
from harness.model.machine_spec import BootPath, MachineSpec
from harness.runs.folder import Run


def machine_on(path: BootPath, tmp_path: Path) -> Machine:
    artifacts: Any = SimpleNamespace(digest="0" * 64)
    context: Any = SimpleNamespace(run=Run(tmp_path, "main"), doubt=str)
    definition: Any = SimpleNamespace()
    return Machine(MachineSpec(name="m", uuid=uuid.uuid4(), boot_path=path), artifacts, definition, context)


def test_a_machine_that_is_off_names_the_call_that_powers_it_on(tmp_path: Path) -> None:
    machine = machine_on(BootPath.DIRECT, tmp_path)

    assert not machine.is_on
    assert not machine.is_clone
    assert machine.doubt() == ""
    with pytest.raises(HarnessError, match=r"m is off: call power_on\(\) first"):
        machine.run("true")


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (BootPath.DIRECT, "boot path direct has no menu, so no entry 1"),
        (BootPath.GRUB, "GRUB's menu has 1 entries, no entry 1; upgrade the machine first"),
    ],
)
def test_an_entry_that_no_menu_has_is_a_usage_error(path: BootPath, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        machine_on(path, tmp_path).power_on(entry=1)


def test_the_boots_of_an_earlier_machine_with_that_name_are_counted(tmp_path: Path) -> None:
    (tmp_path / "m" / "boot-1").mkdir(parents=True)

    assert machine_on(BootPath.DIRECT, tmp_path).first == 2
