"""Which units are late, and how they are made so."""

from __future__ import annotations

from pathlib import Path

from harness.model.definition import load_definition
from harness.persistence.unit_delays import delays, orders

IMAGES = Path(__file__).parents[3] / "images"


def test_each_unit_is_late_alone_and_some_together_as_the_seed_has_it() -> None:
    nova = load_definition(IMAGES / "nova-kvm")
    units = {*nova.services, *nova.waiting}

    made = orders(nova, seed=1)

    alone, together = [one for one in made if "+" not in one], [one for one in made if "+" in one]
    assert set(alone) == units
    assert together
    assert all(set(one.split("+")) <= units and one.count("+") == 2 for one in together)
    assert orders(nova, seed=1) == made
    assert orders(nova, seed=2) != made


def test_a_delay_is_a_drop_in_for_each_unit() -> None:
    made = delays("a.service+b.service")

    assert set(made) == {"systemd.unit-dropin.a.service~late", "systemd.unit-dropin.b.service~late"}
    assert all("/bin/sleep 10" in text for text in made.values())
