"""Network faults that the definition says the image tolerates: it boots and is healthy in spite of them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from harness import Deadline, DiskSpec, ImageDefinition, Lab
from harness.fixtures.machine import MakeMachine
from harness.model.network_faults import DhcpFault, path_for, read
from harness.plugin.state import RunState

pytestmark = [pytest.mark.thorough, pytest.mark.check("network-faults")]


@pytest.mark.cause("the image gives up at the first network fault, or boots without noticing that something is missing")
@pytest.mark.boots(1)
def test_a_machine_boots_in_spite_of_the_fault(
    tolerated_network_fault: str,
    inject_faults: Callable[..., None],
    make_machine: MakeMachine,
    lab: Lab,
    disks: tuple[DiskSpec, ...],
    definition: ImageDefinition,
    bootproof: RunState,
) -> None:
    known = read(tolerated_network_fault)
    paths = [bootproof.options.default_path_of(definition.name), *bootproof.options.paths_of(definition.name)]
    inject_faults(tolerated_network_fault)

    with make_machine(f"fault-{known.name}", lab=lab, disks=disks, boot_path=path_for(known, paths).value) as machine:
        ready_s = time.monotonic()
        if isinstance(known, DhcpFault) and known.lease_s:
            renewed = lab.trace.wait_for(
                lambda step: step.kind == "request" and step.time_s > ready_s, Deadline(known.lease_s, scaled=False)
            )
            assert renewed, f"no request to renew its lease of {known.lease_s} s after the machine was ready"
            assert machine.spec.address in machine.check("ip -4 -brief address"), (
                "the machine lost its address with its lease"
            )
