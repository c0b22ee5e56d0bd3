"""What programs on a hypervisor print about its guests is read."""

from __future__ import annotations

import pytest

from harness.guests import survey
from harness.guests.guests_service import GuestsService, parse

LIST = """\
 Id   Name                   State
---------------------------------------
 2    q35-virtio-autostart   running
 3    paused one-of-us       paused
 -    q35-scsi-off           shut off
"""
INFO = """\
Id:             -
Name:           q35-scsi-off
UUID:           6d0c8b8e-6f4e-4a6c-9d0f-6c1f1d0f4a11
OS Type:        hvm
State:          shut off
Autostart:      disable
Managed save:   no
Security model: none
"""
CARDS = """\
 Interface   Type      Source      Model    MAC
---------------------------------------------------------------
 vnet0       bridge    br-guests   virtio   52:54:00:67:75:0b
 -           network   guests      e1000    52:54:00:67:75:0c
"""
OVS = """\
7d6a8fb8-2d0f-4d44-8f4a-6a4c0ec0e0d1
    Bridge br-guests
        Port vnet0
            Interface vnet0
        Port br-guests
            Interface br-guests
                type: internal
    Bridge "br-other"
        Port "vnet1"
            Interface "vnet1"
    ovs_version: "3.5.0"
"""
LINKS = (
    "1: lo: <LOOPBACK,UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT\\    link/loopback 00:00:00:00:00:00\n"
    "4: br-guests: <BROADCAST,UP> mtu 1500 qdisc noqueue state UP mode DEFAULT\\    link/ether 02:00:00:00:00:01\n"
    "7: vnet0: <BROADCAST,UP> mtu 1500 qdisc noqueue master br-guests state UNKNOWN\\    link/ether fe:54:00:67:75:0b\n"
)
UNITS = """\
Id=ovs-vswitchd.service
ActiveState=active
ActiveEnterTimestampMonotonic=21500000

Id=openvswitch.service
ActiveState=inactive
ActiveEnterTimestampMonotonic=0
"""


def test_states_facts_and_cards_are_read() -> None:
    assert survey.read_list(LIST)["q35-virtio-autostart"] == "running"
    assert survey.read_list(LIST)["q35-scsi-off"] == "shut off"
    assert survey.read_facts(INFO)["Autostart"] == "disable"
    assert list(survey.read_cards(CARDS)) == [("vnet0", "52:54:00:67:75:0b"), ("-", "52:54:00:67:75:0c")]


def test_the_bridge_of_a_port_is_read() -> None:
    assert survey.read_openvswitch(OVS) == {"vnet0": "br-guests", "br-guests": "br-guests", "vnet1": "br-other"}
    assert survey.read_bridges(LINKS) == {"vnet0": "br-guests"}


def test_the_start_of_a_process_is_read_though_its_name_has_blanks() -> None:
    assert survey.read_start("812 (qemu system (x) S 1 812 812 0 -1 0 0 0 0 0 9 9 0 0 20 0 4 0 5123 99 1") == 51.23


def test_a_disk_is_whole_or_has_errors() -> None:
    assert survey.read_check("No errors were found on the image.\nstatus 0") == ""
    assert survey.read_check("ERROR cluster 5 refcount=0 reference=1\n1 errors\nstatus 2").startswith("ERROR cluster 5")
    for broken in ("status 0", "sh: qemu-img: not found\nstatus 127"):
        with pytest.raises(ValueError, match="ended with status"):
            survey.read_check(broken)


def test_units_and_logs_are_read() -> None:
    assert survey.read_units(UNITS) == {"ovs-vswitchd.service": 21.5}
    assert survey.read_logs("qemu/\none.log\n2026: starting up\ntwo.log\n2026: two") == {
        "one": "2026: starting up",
        "two": "2026: two",
    }


@pytest.mark.parametrize("answer", ["", "error: failed to connect"])
def test_what_is_no_list_is_an_error(answer: str) -> None:
    for parse_answer in (survey.read_list, lambda text: list(survey.read_cards(text)), survey.read_bridges):
        with pytest.raises(ValueError):  # noqa: PT011  # as `probes.read` catches it
            parse_answer(answer)


def test_the_settings_of_libvirt_guests_are_read() -> None:
    assert parse("active=active\nboot=start\nshutdown=suspend\nfile=/etc/default/libvirt-guests") == GuestsService(
        is_active=True, starts_on_boot=True, on_shutdown="suspend", file="/etc/default/libvirt-guests"
    )
