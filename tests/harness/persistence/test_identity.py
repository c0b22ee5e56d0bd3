"""What tells machines apart."""

from __future__ import annotations

from pathlib import Path

from harness.model.definition import load_definition
from harness.persistence.identity import PROBES, shared

IMAGES = Path(__file__).parents[3] / "images"


def test_an_image_owes_what_its_parts_have() -> None:
    def owed(image: str) -> set[str]:
        definition = load_definition(IMAGES / image)
        return {mark.name for mark in PROBES if mark.is_owed(definition)}

    assert owed("base") == {"machine-id", "SSH host keys", "DHCP client id"}
    assert owed("nova-kvm") == owed("base") | {"Open vSwitch system id", "libvirt host UUID"}


def test_what_is_empty_or_the_same_does_not_tell_two_machines_apart() -> None:
    assert list(shared({"machine-id": "a", "keys": "k"}, {"machine-id": "b", "keys": "l"})) == []
    assert list(shared({"machine-id": "", "keys": "k"}, {"machine-id": "b", "keys": "k"})) == [
        "a machine has no machine-id",
        "keys is the same on both machines: k",
    ]
