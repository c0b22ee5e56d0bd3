"""Guests that the version before starts, this version starts, too: it takes no machine type, CPU model, firmware,
device or capability away."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import ImageDefinition, Lab, Machine, Versions, not_applicable
from harness.guests.broken import ContractBroken, broken
from harness.guests.contract import read_contract
from harness.machine.states import BOOTED, PREVIOUS
from harness.machine.templates import Templates
from harness.model.guest_contract import GuestContract
from harness.runs.folder import Run
from harness.verdict.coverage import GUESTS, required_checks

pytestmark = pytest.mark.check("guests")


@pytest.mark.cause("QEMU or libvirt is installed in part, or does not answer")
def test_a_host_tells_what_guests_can_have(shared_machine: Machine, definition: ImageDefinition, run: Run) -> None:
    contract = read_contract(shared_machine.channel)
    for reason in contract.unknown.values():
        run.add_unchecked(f"what guests can have: {reason}")

    if GUESTS in required_checks(definition):
        assert contract.machine_types, "there is no QEMU for x86"
        assert "capabilities" not in contract.unknown


def test_guests_of_the_version_before_start_under_this_one(
    templates: Templates, versions: Versions, definition: ImageDefinition, lab: Lab, folder: Path, run: Run
) -> None:
    if GUESTS not in required_checks(definition):
        return
    if versions.under_test == versions.old:
        not_applicable("the run has no version before: --previous names one")

    def contract(state: str) -> GuestContract:
        with templates.machine(state, f"{folder.name}-{state}", lab=lab, folder=folder / state) as machine:
            return read_contract(machine.channel)

    old, new = versions.old.manifest.version, versions.under_test.manifest.version
    if finding := broken(contract(PREVIOUS), contract(BOOTED), old, new):
        run.add_finding(finding)
        raise ContractBroken(finding)
