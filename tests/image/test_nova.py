"""A control plane takes the host in, and what may wait without one is up."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness import DiskSpec, ImageDefinition, Lab
from harness.fixtures.machine import MakeMachine
from harness.guests.controller import ControlPlane
from harness.guests.nova import INSTANCES, read_causes, read_host, wait_until_registered, wrong
from harness.persistence.locations import misplaced

pytestmark = [pytest.mark.thorough, pytest.mark.check("nova")]

_JOURNAL = "journalctl -b -u nova-compute --no-pager --no-hostname -n 30"


@pytest.mark.boots(1)
@pytest.mark.cause("nova-compute does not start, or does not reach the control plane: see its journal")
def test_a_new_host_with_its_configuration_on_data_registers_once(
    control_plane: ControlPlane,
    seed: Callable[..., tuple[DiskSpec, ...]],
    make_machine: MakeMachine,
    definition: ImageDefinition,
    lab: Lab,
    default_boot_path: str,
) -> None:
    disks = seed(*control_plane.seed)
    with make_machine("new-host", lab=lab, disks=disks, boot_path=default_boot_path) as host:
        name, size = read_host(host.channel)

        registration = wait_until_registered(control_plane.cloud, host.channel, name)

        problems = [*read_causes(host.channel), *wrong(registration, size), *misplaced(host.channel, [INSTANCES])]
        assert not problems, "\n".join([*problems, host.check(_JOURNAL)])
        for unit in definition.waiting:
            host.wait_for_unit(unit)
