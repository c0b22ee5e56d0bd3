"""What is sent to guests, and what the sender writes about it."""

from __future__ import annotations

import socket
import subprocess
from ipaddress import IPv4Address

import pytest

from harness.guests.answer_log import AnswerLog, read_log
from harness.guests.network_guests import FLOWS, GUESTS, VLANS, Flow, Way, stream_script


def test_guests_of_the_upgraded_host_are_on_both_vlans_and_each_has_an_address_of_its_own() -> None:
    assert {guest.vlan for guest in GUESTS if guest.is_upgraded} == set(VLANS)
    assert len({IPv4Address(guest.address) for guest in GUESTS}) == len({guest.mac for guest in GUESTS}) == len(GUESTS)
    for guest in GUESTS:
        assert guest.domain.autostarts
        assert guest.domain.network.vlan == guest.vlan  # type: ignore[union-attr]  # it is a bridge


def test_each_flow_has_a_unit_and_a_log_of_its_own_and_begins_in_the_namespace_of_its_vlan() -> None:
    assert len({flow.unit for flow in FLOWS}) == len({flow.log for flow in FLOWS}) == len(GUESTS) * len(Way)
    for flow in FLOWS:
        assert f" ip netns exec sender{flow.guest.vlan} " in flow.begin
        assert flow.guest.address in flow.begin
    assert " ping -n -D -i 0.2 " in Flow(guest=GUESTS[0], way=Way.PING).begin


def stream(*, answers: int, last: bytes) -> AnswerLog:
    """What is written about an echo that gives ``answers``, then ``last``, and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = stream_script("127.0.0.1", server.getsockname()[1])
        with subprocess.Popen(
            ["bash", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as child:
            with server.accept()[0] as connection, connection.makefile("rb") as lines:
                for _ in range(answers):
                    connection.sendall(lines.readline())
                lines.readline()
                connection.sendall(last)
            said = child.communicate(timeout=60)[0]
    return read_log(f"begin 1.0\n{said}end 9999999999.0\n")


@pytest.mark.parametrize("last", [b"", b"line 7\n", b"li"], ids=["closed", "another-line", "half-a-line"])
def test_a_stream_writes_each_echo_and_where_it_was_lost(last: bytes) -> None:
    log = stream(answers=2, last=last)

    assert len(log.answers_s) == 2
    assert log.answers_s[0] < log.answers_s[1]
    assert log.lost == "3: no answer"


def test_a_stream_that_nobody_takes_is_lost_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    script = stream_script("127.0.0.1", port)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)

    log = read_log(f"begin 1.0\n{done.stderr}{done.stdout}end 2.0\n")

    assert log.answers_s == ()
    assert log.lost.startswith("0: ")
    assert "refused" in log.lost
