"""The ports of a bridge, and what a host no longer has as it was."""

from __future__ import annotations

import pytest

from harness.guests.switch_ports import SwitchPort, changes, read_ports, wiring

SHOWN = """\
f3b6d1c5-8e43-4f0f-9d7a-2f9f0d9b1a11
    Bridge br-guests
        datapath_type: system
        Port vnet0
            tag: 10
            Interface vnet0
        Port tunnel0
            Interface tunnel0
                type: geneve
                options: {key=flow, remote_ip="10.77.0.11"}
        Port br-guests
            Interface br-guests
                type: internal
        Port "vnet1"
            tag: 20
            Interface "vnet1"
                error: "could not open network device vnet1 (No such device)"
    Bridge br-other
        Port br-other
            Interface br-other
                type: internal
    ovs_version: "3.5.0"
"""
CARDS = {"one": "vnet0", "two": "vnet1"}


def test_ports_have_bridge_tag_kind_other_end_and_error() -> None:
    ports = read_ports(SHOWN)

    assert ports == {
        "vnet0": SwitchPort(bridge="br-guests", name="vnet0", vlan=10),
        "tunnel0": SwitchPort(bridge="br-guests", name="tunnel0", kind="geneve", remote="10.77.0.11"),
        "br-guests": SwitchPort(bridge="br-guests", name="br-guests", kind="internal"),
        "vnet1": SwitchPort(
            bridge="br-guests",
            name="vnet1",
            vlan=20,
            error="could not open network device vnet1 (No such device)",
        ),
        "br-other": SwitchPort(bridge="br-other", name="br-other", kind="internal"),
    }


def test_another_answer_is_not_one_without_ports() -> None:
    with pytest.raises(ValueError, match="no version"):
        read_ports("ovs-vsctl: database connection failed\n")


def test_the_wiring_of_a_host_is_that_of_its_tunnels_and_guests() -> None:
    assert list(wiring("left", read_ports(SHOWN), CARDS).lines()) == [
        "left: tunnel tunnel0: geneve to 10.77.0.11",
        "left: port of one: tag 10",
        "left: port of two: tag 20, could not open network device vnet1 (No such device)",
    ]


def test_what_changed_is_named_and_a_new_name_of_a_port_is_no_change() -> None:
    before = wiring("left", read_ports(SHOWN), CARDS)
    renamed = SHOWN.replace("vnet0", "vnet7")
    without_tag = SHOWN.replace("            tag: 10\n", "")
    without_tunnel = SHOWN.replace("type: geneve", "type: internal")

    assert list(changes(before, wiring("left", read_ports(renamed), {**CARDS, "one": "vnet7"}))) == []
    assert list(changes(before, wiring("left", read_ports(without_tag), CARDS))) == [
        "port of one on left: tag 10 → no tag"
    ]
    assert list(changes(before, wiring("left", read_ports(without_tunnel), {"one": "vnet0"}))) == [
        "tunnel tunnel0 on left: geneve to 10.77.0.11 → none",
        "port of two on left: tag 20, could not open network device vnet1 (No such device) → none",
    ]
