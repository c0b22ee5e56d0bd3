"""Network configurations that refer to what is not there."""

from __future__ import annotations

import pytest

from harness.core.errors import ImageError
from harness.examine import network_files
from harness.examine.network import Interface
from harness.examine.network_files import NetworkFiles

ENS3 = Interface(name="ens3", mac="52:54:00:00:00:01")
INTERFACES = (Interface(name="lo", kind="772", is_card=False), ENS3)
PORTS = """{"data":[["br0",["set",[]]],["eno1","could not open network device eno1 (No such device)"],\
["tap12","could not open network device tap12 (No such device)"]],"headings":["name","error"]}"""
ANSWERS = {
    "other network configuration": "look\n/etc/network/interfaces:auto lo ens3",
    "ports of Open vSwitch": PORTS,
}


def found(files: dict[str, list[str]], others: dict[str, list[str]] | None = None) -> list[tuple[str, str]]:
    judged = network_files.judge(NetworkFiles(files=files, others=others or {}), INTERFACES)
    return [(one.id, one.path) for one in judged]


def test_configurations_are_read() -> None:
    read = network_files.parse(ANSWERS, {"/etc/systemd/network/1.network": []})

    assert read.others == {"/etc/network/interfaces": ["auto lo ens3"]}
    assert [name for name, _ in read.broken_ports] == ["eno1", "tap12"]
    assert network_files.parse({**ANSWERS, "ports of Open vSwitch": "absent"}, {}).broken_ports == ()


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_another_answer_is_an_error(name: str) -> None:
    with pytest.raises(ImageError, match=name):
        network_files.parse({**ANSWERS, name: "sorry"}, {})


def test_a_port_without_its_card_is_found_and_that_of_a_guest_is_not() -> None:
    read = network_files.parse(ANSWERS, {})

    assert [one.path for one in network_files.judge(read, None)] == ["openvswitch:eno1"]


@pytest.mark.parametrize(
    "line",
    ["auto ens3 eno1", "allow-hotplug eno1", "    bridge_ports ens3 eno1", "interface-name=eno1",
     "mac-address=52:54:00:00:00:99"],
)  # fmt: skip
def test_a_card_that_is_not_there_is_found_in_other_configurations(line: str) -> None:
    path = "/etc/network/interfaces"

    assert found({}, {path: [line]}) == [("network-config-unused", path)]


@pytest.mark.parametrize("line", ["auto lo ens3", "auto /en*=x", "bridge_ports none", "mac-address=52:54:00:00:00:01"])
def test_a_card_that_is_there_is_in_order_in_other_configurations(line: str) -> None:
    assert found({}, {"/etc/network/interfaces": [line]}) == []


@pytest.mark.parametrize(
    "lines",
    [
        ["[Match]", "Name=eno1"],
        ["[Match]", "MACAddress=52:54:00:ff:ff:ff"],
        ["[Match]", "PermanentMACAddress=52-54-00-ff-ff-ff"],
        ["[Match]", "Name=ens3", "[Network]", "Bridge=br0"],
    ],
    ids=["name", "address", "permanent-address", "bridge"],
)
def test_a_configuration_for_nothing_is_found(lines: list[str]) -> None:
    path = "/etc/systemd/network/10-site.network"

    assert found({path: lines}) == [("network-config-unused", path)]
    assert found({"/usr/lib/systemd/network/10.network": lines}) == []


@pytest.mark.parametrize(
    "lines",
    [
        ["[Match]", "Name=en* eth*", "[Network]", "DHCP=yes"],
        ["[Match]", "Name=!eno1"],
        ["[Match]", "# Name=eno1", "Type=ether"],
        ["[Match]", "MACAddress=52:54:00:FF:FF:FF 52:54:00:00:00:01"],
    ],
    ids=["pattern", "all-but", "comment", "list"],
)
def test_a_configuration_that_applies_is_in_order(lines: list[str]) -> None:
    assert found({"/etc/systemd/network/10.network": lines}) == []


def test_a_device_that_was_not_made_is_found() -> None:
    path = "/etc/systemd/network/br0.netdev"

    assert found({path: ["[NetDev]", "Name=br0", "Kind=bridge"]}) == [("network-config-unused", path)]
