"""Guests outlive the change of their host's version, and what the version before starts, this version starts, too: it
takes no machine type, CPU model, firmware, device or capability away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness import ImageDefinition, Lab, Machine, Versions, not_applicable
from harness.guests.broken import ContractBroken, broken
from harness.guests.contract import read_contract
from harness.guests.expectations import Ending
from harness.guests.ground import ground_of
from harness.guests.guests_service import credentials, read_service, set_ending
from harness.guests.offer import read_offer
from harness.guests.over_boots import GuestsOverBoots
from harness.guests.routes import ROUTES, Step, rows_of
from harness.guests.samples import new_seed, sample_guests
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


@pytest.mark.thorough
@pytest.mark.cause("something that guests need is not kept on /data, or starts after them")
@pytest.mark.state(PREVIOUS)
@pytest.mark.boots(3)
def test_guests_outlive_the_change_of_their_host(
    machine: Machine, versions: Versions, definition: ImageDefinition, run: Run, guest_route: str
) -> None:  # fmt: skip
    ground, offer = ground_of(definition.persistent_paths), read_offer(machine.channel)
    for row in rows_of(guest_route):
        for reason in offer.reasons_against(row):
            run.add_unchecked(f"guest {row.name}: {reason}")
    guests = GuestsOverBoots(machine, ground, sample_guests(ground, new_seed(), offer.possible(rows_of(guest_route))))
    with machine.boot_slot():  # guests that start keep the CPU busy, as a boot does
        guests.make()
    for step in ROUTES[guest_route]:
        with machine.boot_slot():
            guests.leave(step.ending, goes_back=step.into == "old")
        ending, starts_on_boot = take(step, machine, versions)
        with machine.boot_slot():
            guests.check(step.stage, ending, starts_on_boot=starts_on_boot)


def take(step: Step, machine: Machine, versions: Versions) -> tuple[Ending, bool]:
    """Let the host go down and come up again: how its guests ended, and whether libvirt-guests starts what ran.

    Where libvirt-guests is not enabled, nobody tells the guests that their host goes down.
    """
    into, service = versions.new if step.into == "new" else versions.old, read_service(machine.channel)
    ending = step.ending if service.is_active else Ending.POWER_CUT
    if step.starts_on_boot is not None and service.is_active:
        drop_in = credentials(starts_on_boot=step.starts_on_boot, file=service.file)
        machine.spec = replace(machine.spec, credentials={**machine.spec.credentials, **drop_in})
    if step.ending is Ending.POWER_CUT:
        machine.kill()
        machine.power_on(into)
    else:
        if service.is_active:
            set_ending(machine.channel, service, ending)
        machine.reboot(into=into)
    return ending, read_service(machine.channel).starts_on_boot
