"""dnsmasq's configuration is a function of values, and dnsmasq agrees with it."""

from __future__ import annotations

from pathlib import Path

from harness.core import process
from harness.lab.dnsmasq import PLACES, DhcpConfig, configuration, hosts


def test_every_place_has_its_address() -> None:
    lines = hosts(DhcpConfig(folder=Path("/lab"))).splitlines()

    assert len(lines) == PLACES
    assert "52:54:00:77:00:00,10.77.0.10,machine-0,3600" in lines
    assert "52:54:00:77:00:3e,10.77.0.72,machine-62,3600" in lines


def test_the_last_place_is_that_of_a_control_plane() -> None:
    assert "52:54:00:77:00:3f,10.77.0.73,controller,3600" in hosts(DhcpConfig(folder=Path("/lab"))).splitlines()


def test_a_machines_name_is_known_before_it_asks_for_its_address() -> None:
    lines = configuration(DhcpConfig(folder=Path("/lab"), names={2: "compute"})).splitlines()

    assert "host-record=machine-1.lab.test,10.77.0.11" in lines
    assert "host-record=compute.lab.test,10.77.0.12" in lines
    assert "host-record=controller.lab.test,10.77.0.73" in lines


def test_of_a_machines_network_cards_one_is_answered_or_none() -> None:
    lines = hosts(DhcpConfig(folder=Path("/lab"), nics={1: 2, 2: None})).splitlines()

    assert len(lines) == PLACES - 1
    assert "52:54:00:77:02:01,10.77.0.11,machine-1,3600" in lines


def test_a_machine_can_have_a_name_of_its_own() -> None:
    text = hosts(DhcpConfig(folder=Path("/lab"), names={1: "compute"}, lease_s=120))

    assert "52:54:00:77:00:01,10.77.0.11,compute,120\n" in text


def test_ipxe_gets_the_script_and_plain_pxe_gets_ipxe() -> None:
    lines = configuration(DhcpConfig(folder=Path("/lab"))).splitlines()

    assert "dhcp-match=set:ipxe,175" in lines
    assert "dhcp-boot=tag:ipxe,tag:!plain,http://10.77.0.1/boot.ipxe" in lines
    assert "dhcp-boot=tag:!ipxe,tag:!uefi,tag:!http,undionly.kpxe" in lines
    assert "dhcp-boot=tag:!ipxe,tag:uefi,ipxe.efi" in lines
    assert "dhcp-boot=tag:!ipxe,tag:http,http://10.77.0.1/ipxe.efi" in lines


def test_dnsmasq_itself_accepts_it(tmp_path: Path) -> None:
    file = tmp_path / "dnsmasq.conf"
    file.write_text(configuration(DhcpConfig(folder=tmp_path)))

    process.output([process.require("dnsmasq", "dnsmasq-base"), "--test", f"--conf-file={file}"])
