"""Every unit that the definition demands is enabled and runs."""

from __future__ import annotations

import pytest

from harness import Host, Machine

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


@pytest.mark.cause("the service was not enabled, or a condition keeps it from starting")
@pytest.mark.check("waiting")
def test_service_that_waits_for_a_control_plane_is_enabled_and_tries(
    host: Host, shared_machine: Machine, waiting_unit: str
) -> None:
    properties = host.service(shared_machine.unit_name(waiting_unit)).systemd_properties

    assert properties["UnitFileState"] not in _NOT_ENABLED
    assert properties["ActiveState"] in {"active", "activating", "reloading"}
    assert properties["ExecMainStartTimestampMonotonic"] != "0"
