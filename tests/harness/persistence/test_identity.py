"""The identity of machines."""

from __future__ import annotations

from pathlib import Path

from harness.model.definition import load_definition
from harness.persistence.identity import PROBES, duplicates

IMAGES = Path(__file__).parents[3] / "images"


def test_an_image_must_have_the_identity_of_its_parts() -> None:
    def required(image: str) -> set[str]:
        definition = load_definition(IMAGES / image)
        return {probe.name for probe in PROBES if probe.is_required(definition)}

    assert required("base") == {"machine-id", "SSH host keys", "DHCP client id"}
    assert required("nova-kvm") == required("base") | {"Open vSwitch system id", "libvirt host UUID"}


def test_an_answer_that_is_empty_or_the_same_on_two_machines_is_reported() -> None:
    assert list(duplicates({"machine-id": "a", "keys": "k"}, {"machine-id": "b", "keys": "l"})) == []
    assert list(duplicates({"machine-id": "", "keys": "k"}, {"machine-id": "b", "keys": "k"})) == [
        "a machine has no machine-id",
        "keys is the same on both machines: k",
    ]
