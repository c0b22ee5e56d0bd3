"""Data and identity survive upgrades, rollbacks and power cuts; data that is not on /data survives none of them.

An upgrade takes no network card its name, and no defence from the kernel.

An image without persistent paths makes the same boots, and nothing may survive them; then its check is not applicable.
"""

from __future__ import annotations

from uuid import uuid4

import pytest

from harness import BootPath, ImageDefinition, Machine, Versions, not_applicable
from harness.examine.defences import defences, weakened
from harness.machine.states import PREVIOUS
from harness.model.definition import KEEPS_NOTHING
from harness.persistence import network_cards
from harness.persistence.identity import changes, identity
from harness.persistence.journey import Journey
from harness.persistence.workloads import failures, make_workloads, workloads_of


def end(journey: Journey, definition: ImageDefinition) -> None:
    """Fails if anything is lost; the test is not applicable to an image without persistent paths."""
    journey.end()
    assert not journey.losses, "\n".join(journey.losses)
    if not definition.persistent_paths:
        not_applicable(KEEPS_NOTHING)


def go_back(machine: Machine, versions: Versions) -> bool:
    """Boot the version before, where that differs from an upgrade: by GRUB's menu or by kexec. False elsewhere."""
    if machine.running_boot.plan.boot_path is BootPath.GRUB:
        machine.reboot_previous()
    elif machine.running_boot.plan.boot_path is BootPath.KEXEC:
        machine.kexec(versions.old)
    else:
        return False
    return True


@pytest.mark.cause("state was written to RAM, fsync did not bring it to the disk, or the identity follows the board")
@pytest.mark.boots(1)
@pytest.mark.check("survival")
@pytest.mark.check("identity")
def test_data_and_identity_survive_a_power_cut_in_another_board(
    second_machine: Machine, definition: ImageDefinition
) -> None:  # fmt: skip
    machine = second_machine
    journey = Journey(machine)
    before = identity(machine)
    journey.write("first")

    machine.kill()
    machine.power_on(uuid=uuid4())
    journey.check("after a power cut")
    if changed := "; ".join(changes(definition, before, identity(machine))):
        journey.losses.append(changed)
    end(journey, definition)


@pytest.mark.cause("state was written to RAM, or overwritten by the defaults of a version")
@pytest.mark.state(PREVIOUS)
@pytest.mark.boots(2)
@pytest.mark.check("survival")
@pytest.mark.check("libvirt")
@pytest.mark.check("openvswitch")
def test_data_survives_upgrade_and_rollback(
    machine: Machine, versions: Versions, definition: ImageDefinition
) -> None:  # fmt: skip
    journey = Journey(machine)
    workloads = workloads_of(definition)
    before, cards, defended = identity(machine), network_cards.names(machine), defences(machine.channel)
    make_workloads(machine, workloads)
    journey.write("first")

    machine.reboot(into=versions.new)
    journey.check("after the upgrade")
    assert list(changes(definition, before, identity(machine))) == []
    assert list(network_cards.renamed(cards, network_cards.names(machine))) == []
    assert list(weakened(defended, defences(machine.channel))) == []
    assert failures(machine, workloads) == []
    journey.write("upgraded")

    machine.reboot(into=versions.old)
    journey.check("after the rollback")
    assert list(changes(definition, before, identity(machine))) == []
    assert failures(machine, workloads) == []
    end(journey, definition)


@pytest.mark.cause("this boot path boots another image, or none, or does not find /data")
@pytest.mark.boots(2)
def test_a_machine_boots_and_upgrades_on_its_other_boot_paths(
    machine_to_upgrade: Machine, versions: Versions, other_boot_path: str, definition: ImageDefinition
) -> None:
    machine = machine_to_upgrade
    has_booted_so = machine.spec.boot_path == other_boot_path
    journey = Journey(machine)
    journey.write("first")
    before = identity(machine)

    if other_boot_path == BootPath.KEXEC:
        machine.kexec(versions.new)
    else:  # the version under test must boot by this path
        into = versions.new if has_booted_so else versions.under_test
        machine.reboot(into, boot_path=BootPath(other_boot_path))
    journey.check("after the upgrade")
    journey.losses += changes(definition, before, identity(machine))

    if go_back(machine, versions):
        journey.check("after going back")
    machine.power_off()
    assert not journey.losses, "\n".join(journey.losses)
