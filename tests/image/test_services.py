"""Every unit that the definition demands is enabled and runs, or waits for a control plane."""

from __future__ import annotations

import pytest

from harness import Host, ImageDefinition, Machine
from harness.examine.rules import RuleFailed
from harness.guest.control_plane import find_not_waiting

_NOT_ENABLED = {"", "disabled", "masked", "masked-runtime", "bad", "not-found"}


@pytest.mark.cause("the service was not enabled at build time, or it did not start")
@pytest.mark.check("services")
def test_service_is_enabled_and_active(host: Host, shared_machine: Machine, service: str) -> None:
    properties = host.service(shared_machine.unit_name(service)).systemd_properties

    assert properties["UnitFileState"] not in _NOT_ENABLED
    assert (properties["LoadState"], properties["ActiveState"]) == ("loaded", "active")


@pytest.mark.cause("the service fails at first and systemd restarts it")
@pytest.mark.check("services")
def test_service_did_not_need_a_second_attempt(host: Host, shared_machine: Machine, service: str) -> None:
    assert host.service(shared_machine.unit_name(service)).systemd_properties["NRestarts"] == "0"


@pytest.mark.cause("the socket was not enabled at build time, or cannot listen")
@pytest.mark.check("sockets")
def test_socket_is_enabled_and_listens(host: Host, shared_machine: Machine, socket_unit: str) -> None:
    properties = host.service(shared_machine.unit_name(socket_unit)).systemd_properties

    assert properties["UnitFileState"] not in _NOT_ENABLED
    assert properties["ActiveState"] == "active"
    assert properties["SubState"] in {"listening", "running"}


@pytest.mark.check("waiting")
def test_service_that_waits_for_a_control_plane_is_enabled_and_says_so(
    host: Host, shared_machine: Machine, definition: ImageDefinition, waiting_unit: str
) -> None:
    unit = shared_machine.unit_name(waiting_unit)
    says = definition.waiting_says.get(waiting_unit, "")

    assert host.service(unit).systemd_properties["UnitFileState"] not in _NOT_ENABLED, f"{unit} is not enabled"
    if finding := find_not_waiting(shared_machine.channel, unit, says, "image.toml: expect.waiting"):
        raise RuleFailed(finding)
