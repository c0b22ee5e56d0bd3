"""What libvirt is told about a guest."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from uuid import UUID

import pytest

from harness.core.errors import SpecError
from harness.guests.domains import Bridge, Domain, domain_xml, network_xml, pool_xml

DOMAIN = Domain(
    name="one", uuid=UUID(int=7), mac="52:54:00:00:00:01", disk="/var/lib/libvirt/images/one.qcow2", network="guests"
)


def read(domain: Domain) -> ElementTree.Element:
    return ElementTree.fromstring(domain_xml(domain, "kvm"))


def attributes(found: ElementTree.Element | None) -> dict[str, str]:
    assert found is not None
    return found.attrib


def test_a_guest_has_its_name_uuid_board_disk_and_card() -> None:
    xml = read(replace(DOMAIN, machine_type="pc", disk_bus="ide", nic_model="e1000"))

    assert xml.get("type") == "kvm"
    assert (xml.findtext("name"), xml.findtext("uuid")) == ("one", "00000000-0000-0000-0000-000000000007")
    assert attributes(xml.find("os/type")) == {"machine": "pc"}
    assert attributes(xml.find("devices/disk/target")) == {"dev": "hda", "bus": "ide"}
    assert attributes(xml.find("devices/disk/driver"))["cache"] == "writethrough"
    assert attributes(xml.find("devices/interface/model")) == {"type": "e1000"}
    assert attributes(xml.find("devices/interface/mac")) == {"address": "52:54:00:00:00:01"}


def test_its_card_is_in_a_network_or_on_a_bridge() -> None:
    in_network = read(DOMAIN)
    on_bridge = read(replace(DOMAIN, network=Bridge(name="br0", is_openvswitch=True, vlan=7)))

    assert attributes(in_network.find("devices/interface/source")) == {"network": "guests"}
    assert attributes(on_bridge.find("devices/interface/source")) == {"bridge": "br0"}
    assert attributes(on_bridge.find("devices/interface/virtualport")) == {"type": "openvswitch"}
    assert attributes(on_bridge.find("devices/interface/vlan/tag")) == {"id": "7"}


def test_its_disk_may_be_a_volume_of_a_pool() -> None:
    xml = read(replace(DOMAIN, pool="guests"))

    assert attributes(xml.find("devices/disk")) == {"type": "volume", "device": "disk"}
    assert attributes(xml.find("devices/disk/source")) == {"pool": "guests", "volume": "one.qcow2"}


def test_it_may_have_uefi_and_a_tpm() -> None:
    xml = read(replace(DOMAIN, firmware="efi", has_tpm=True))

    assert attributes(xml.find("os")) == {"firmware": "efi"}
    assert attributes(xml.find("devices/tpm/backend")) == {"type": "emulator", "version": "2.0"}
    assert read(DOMAIN).find("devices/tpm") is None


def test_a_guest_that_no_board_has_is_refused() -> None:
    with pytest.raises(SpecError, match="no IDE bus"):
        replace(DOMAIN, disk_bus="ide")
    with pytest.raises(SpecError, match="not a name"):
        replace(DOMAIN, name="a b")


def test_networks_and_pools_are_what_libvirt_takes() -> None:
    network = ElementTree.fromstring(network_xml("guests", Bridge(name="br0", is_openvswitch=True)))
    pool = ElementTree.fromstring(pool_xml("guests", "/data/pool"))

    assert attributes(network.find("bridge")) == {"name": "br0"}
    assert attributes(network.find("virtualport")) == {"type": "openvswitch"}
    assert pool.findtext("target/path") == "/data/pool"
