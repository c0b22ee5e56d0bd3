"""Every unit that the definition demands is enabled and runs."""

from __future__ import annotations

import pytest

from harness.guest.testinfra_host import Host

_NOT_ENABLED = {"", "disabled", "masked", "masked-runtime", "bad", "not-found"}


@pytest.mark.check("services")
def test_service_is_enabled_and_active(host: Host, service: str) -> None:
    """The service was not enabled at build time, or did not come up."""
    properties = host.service(service).systemd_properties

    assert properties["UnitFileState"] not in _NOT_ENABLED
    assert (properties["LoadState"], properties["ActiveState"]) == ("loaded", "active")


@pytest.mark.check("services")
def test_service_did_not_need_a_second_attempt(host: Host, service: str) -> None:
    """The service fails at first and is restarted by systemd."""
    assert host.service(service).systemd_properties["NRestarts"] == "0"


@pytest.mark.check("sockets")
def test_socket_is_enabled_and_listens(host: Host, socket_unit: str) -> None:
    """The socket was not enabled at build time, or cannot listen."""
    properties = host.service(socket_unit).systemd_properties

    assert properties["UnitFileState"] not in _NOT_ENABLED
    assert properties["ActiveState"] == "active"
    assert properties["SubState"] in {"listening", "running"}


@pytest.mark.check("waiting")
def test_service_that_waits_for_a_control_plane_is_enabled_and_tries(host: Host, waiting_unit: str) -> None:
    """The service is not even trying: it was not enabled, or a condition keeps it from starting."""
    properties = host.service(waiting_unit).systemd_properties

    assert properties["UnitFileState"] not in _NOT_ENABLED
    assert properties["ActiveState"] in {"active", "activating", "reloading"}
    assert properties["ExecMainStartTimestampMonotonic"] != "0"
