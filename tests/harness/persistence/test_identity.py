"""The identity of machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.model.definition import Identity, load_definition
from harness.persistence.identity import PROBES, changes, duplicates

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


def test_an_identity_that_changed_is_reported_unless_the_definition_says_that_it_is_new_each_boot() -> None:
    base, stateless = (load_definition(IMAGES / name) for name in ("base", "base-stateless"))
    before, after = {"machine-id": "a", "keys": "k"}, {"machine-id": "b", "keys": "k"}

    assert list(changes(base, before, before)) == []
    assert list(changes(base, before, after)) == ["machine-id was 'a', is 'b'"]
    assert list(changes(stateless, before, after)) == []
    (sentence,) = changes(replace(stateless, identity=Identity.KEPT), before, after)
    assert sentence.endswith('if that is intended, write identity = "new-each-boot" below [expect] in image.toml')
