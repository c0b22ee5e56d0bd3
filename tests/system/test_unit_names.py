"""Services that the image definition demands by the names of another distribution."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.core.deadline import Deadline
from harness.guest.waiting import WaitFailed
from harness.lab import Lab
from harness.machine.boot_plan import BootContext
from harness.machine.machine import boot
from harness.model.artifacts import Artifacts
from harness.model.definition import ImageDefinition
from harness.model.machine_spec import MachineSpec
from harness.runs.folder import Run
from harness.store.store import find_store

UNIT = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"
WANTED = {
    "systemd.extra-unit.crond.service": UNIT,
    "systemd.extra-unit.chrony.service": UNIT,
    "systemd.unit-dropin.multi-user.target~others": "[Unit]\nWants=crond.service chrony.service\n",
}


def test_demanded_services_are_found_by_their_names_in_the_guest(
    spec: MachineSpec, lab: Lab, run: Run, artifacts: Artifacts, base: ImageDefinition
) -> None:
    """crond is cron on Debian, and chrony is chronyd elsewhere; sshd is an alias in the image itself."""
    theirs = replace(base, services=("sshd.service", "cron.service", "chronyd.service"))
    context = BootContext(lab=lab, run=run, slots=find_store().folder("slots"))

    with boot(replace(spec, credentials=WANTED), artifacts, theirs, context=context) as machine:
        assert machine.unit_name("cron.service") == "crond.service"
        assert machine.unit_name("chronyd.service") == "chrony.service"
        assert machine.unit_name("sshd.service") == "sshd.service"
        machine.wait_for_unit("cronie.service")
        machine.systemctl("stop crond.service").checked("machine")
        with pytest.raises(WaitFailed, match=r"the start of crond\.service"):
            machine.wait_for_unit("cron.service", Deadline(2.0))
