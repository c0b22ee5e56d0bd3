"""Late units: the machine becomes ready whichever unit starts late, and guests of a hypervisor come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import Artifacts, Lab, not_applicable
from harness.fixtures.disk import Seeded, guests_from
from harness.fixtures.machine import MakeMachine
from harness.guest.serial_shell import takes_serial_shell
from harness.guests.expectations import Ending
from harness.persistence.unit_delays import delays

pytestmark = [pytest.mark.thorough, pytest.mark.check("ordering")]


@pytest.fixture(scope="session", autouse=True)
def delays_are_possible(artifacts: Artifacts) -> None:
    """Looked at before a machine is booted for its disk."""
    if not takes_serial_shell(artifacts.manifest.systemd):
        not_applicable(f"systemd {artifacts.manifest.systemd} does not accept drop-ins as credentials, 256 does")


@pytest.mark.cause("a unit does not wait for one that it needs, which so far was always fast enough")
@pytest.mark.boots(1)
def test_a_late_unit_changes_nothing(
    order: str, disk_with_guests: Seeded, make_machine: MakeMachine, lab: Lab, folder: Path, default_boot_path: str,
) -> None:  # fmt: skip
    disks = disk_with_guests.copy(folder)
    name = f"late-{order.replace('.service', '')}"
    with make_machine(name, lab=lab, disks=disks, boot_path=default_boot_path, credentials=delays(order)) as machine:
        late = machine.check("systemctl cat " + order.replace("+", " ")).count("ExecStartPre=-+/bin/sleep")
        losses = list(disk_with_guests.losses(machine))
        if disk_with_guests.guests:
            guests = guests_from(disk_with_guests.guests, machine)
            guests.check(f"with a late {order}", Ending.POWER_CUT, starts_on_boot=False)
    assert late == order.count("+") + 1, "the delay did not reach the guest"
    assert not losses, "; ".join(losses)
