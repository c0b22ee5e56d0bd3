"""Forwards, backwards, past a version, to the same one and interrupted: what was kept stays, and works."""

from __future__ import annotations

import pytest

from harness.belongings import Belongings
from harness.defaults import unreached
from harness.definition import ImageDefinition
from harness.features import features_of
from harness.identity import identity
from harness.machine import Machine
from harness.states import Versions

ROUTES = {
    "to-the-same": ("old",),
    "to-the-next-and-back": ("new", "old"),
    "to-the-next-and-on": ("new", "newest"),
    "past-a-version": ("newest",),
    "interrupted-early": ("new after 12 s", "new"),
    "interrupted-twice": ("new after 20 s", "old after 26 s", "new"),
}
"""From the old version. ``after`` is when the plug is pulled, so many seconds into the boot."""


@pytest.mark.thorough
@pytest.mark.check("upgrades")
@pytest.mark.state("previous")
@pytest.mark.boots(2)
@pytest.mark.parametrize("route", ROUTES)
def test_an_upgrade_keeps_what_an_operator_made(
    machine: Machine, versions: Versions, definition: ImageDefinition, route: str
) -> None:
    """A version overwrites, loses or cannot read what the one before it kept, or an interrupted boot does."""
    features = list(features_of(definition))
    before = identity(machine)
    belongings = Belongings(definition.persistent_paths)
    belongings.make(machine)
    for feature in features:
        machine.check(feature.make)
    unreached_before = unreached(machine)
    machine.power_off()

    losses = list[str]()
    for stage in ROUTES[route]:
        version, _, after = stage.partition(" after ")
        artifacts = getattr(versions, version)
        if after:
            machine.power_on_and_kill(float(after.split()[0]), artifacts)
            continue
        machine.power_on(artifacts)
        belongings.look(machine, stage)
        losses += [
            f"{stage}: {name} is another" for name, said in identity(machine).items() if said != before.get(name, said)
        ]
        losses += [f"{stage}: {one.name} is gone" for one in features if machine.run(one.seen).status]
        news = sorted(unreached(machine) - unreached_before)
        losses += [f"{stage}: a default did not reach the host: {one}" for one in news]
        machine.power_off()
    losses += belongings.losses
    assert not losses, "\n".join(losses)
