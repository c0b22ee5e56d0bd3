"""The identity of machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import ImageError
from harness.model.definition import Identity, load_definition
from harness.persistence.identity import PROBES, changes, duplicates, parts

IMAGES = Path(__file__).parents[3] / "images"


def test_an_image_must_have_the_identity_of_its_parts() -> None:
    def required(image: str) -> set[str]:
        definition = load_definition(IMAGES / image)
        return {probe.name for probe in PROBES if probe.is_required(definition)}

    assert required("base") == {"machine-id", "SSH host keys", "DHCP client id"}
    assert required("nova-kvm") == required("base") | {"Open vSwitch system id", "libvirt host UUID"}


def test_an_answer_that_is_the_same_on_two_machines_is_reported() -> None:
    assert list(duplicates({"machine-id": "a", "keys": "k"}, {"machine-id": "b", "keys": "l"})) == []
    assert list(duplicates({"machine-id": "a", "keys": "k"}, {"machine-id": "b", "keys": "k"})) == [
        "keys is the same on both machines: k"
    ]


NETWORKCTL = """\
● 1: lo
             Link File: n/a
● 2: enp0s1
     Hardware Address: 52:54:00:77:00:00
      DHCPv4 Client ID: IAID:0xb7e7dcda/DUID
"""
ANSWERS = {
    "machine-id": "0123456789abcdef0123456789abcdef",
    "SSH host keys": "256 SHA256:b no comment (ED25519)\n256 SHA256:a no comment (ECDSA)",
    "host name": "node-7",
    "DHCP client id": NETWORKCTL,
    "Open vSwitch system id": '{hostname="a", rundir="/run/openvswitch", system-id="c-d-e"}',
    "libvirt host UUID": "<capabilities>\n  <host>\n    <uuid>f-g</uuid>\n    <cpu/>\n  </host>\n",
    "nova compute id": "absent",
    "iSCSI initiator name": "## a comment\nInitiatorName=iqn.1993-08.org.debian:01:1",
}


def test_each_part_is_found_in_what_its_command_prints() -> None:
    assert dict(parts(ANSWERS, load_definition(IMAGES / "nova-kvm"))) == {
        "machine-id": "0123456789abcdef0123456789abcdef",
        "SSH host keys": "256 SHA256:a no comment (ECDSA)\n256 SHA256:b no comment (ED25519)",
        "host name": "node-7",
        "DHCP client id": "IAID:0xb7e7dcda/DUID",
        "Open vSwitch system id": "c-d-e",
        "libvirt host UUID": "f-g",
        "iSCSI initiator name": "iqn.1993-08.org.debian:01:1",
    }


@pytest.mark.parametrize("name", ["DHCP client id", "Open vSwitch system id", "libvirt host UUID"])
def test_a_required_part_that_the_answer_lacks_is_an_error(name: str) -> None:
    with pytest.raises(ImageError, match=f"the machine has no {name}: .* printed:\nother"):
        dict(parts({**ANSWERS, name: "other"}, load_definition(IMAGES / "nova-kvm")))


@pytest.mark.parametrize("name", ["localhost", "localhost.localdomain", "(none)"])
def test_two_hosts_without_a_name_do_not_have_one_name(name: str) -> None:
    assert "host name" not in dict(parts({**ANSWERS, "host name": name}, load_definition(IMAGES / "nova-kvm")))


def test_a_part_that_the_image_may_lack_is_asked_for_only_where_it_exists() -> None:
    base = load_definition(IMAGES / "base")
    commands = {probe.name: probe.probe(base).command for probe in PROBES}

    assert commands["machine-id"] == "cat /etc/machine-id"
    assert commands["libvirt host UUID"].startswith("[ -S /run/libvirt/libvirt-sock ] || { echo absent; exit; }")


def test_an_identity_that_changed_is_reported_unless_the_definition_says_that_it_is_new_each_boot() -> None:
    base, stateless = (load_definition(IMAGES / name) for name in ("base", "base-stateless"))
    before, after = {"machine-id": "a", "keys": "k"}, {"machine-id": "b", "keys": "k"}

    assert list(changes(base, before, before)) == []
    assert list(changes(base, before, after)) == ["machine-id was 'a', is 'b'"]
    assert list(changes(base, {"host name": "node-7"}, {})) == ["host name was 'node-7', is None"]
    assert list(changes(base, {}, {"host name": "node-7"})) == []
    assert list(changes(stateless, before, after)) == []
    (sentence,) = changes(replace(stateless, identity=Identity.KEPT), before, after)
    assert sentence.endswith('if that is intended, write identity = "new-each-boot" below [expect] in image.toml')
