"""Forwards, backwards, past a version, to the same one and interrupted: what was kept stays, and works."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.belongings import Belongings
from harness.console import Console
from harness.defaults import unreached
from harness.definition import ImageDefinition
from harness.features import features_of
from harness.identity import identity
from harness.machine import Machine
from harness.run import Run
from harness.states import Versions

ROUTES = {
    "to-the-same": ("old",),
    "to-the-next-and-back": ("new", "old"),
    "to-the-next-and-on": ("new", "newest"),
    "past-a-version": ("newest",),
    "interrupted-early": ("new until /data", "new"),
    "interrupted-twice": ("new until userspace", "old until 8 s of userspace", "new"),
}
"""From the old version; the plug is pulled at the moment behind ``until``."""

MOMENTS: dict[str, tuple[Callable[[Console], bool], float]] = {
    "/data": (lambda console: "userspace" in console.phases or any("is on /data" in one for one in console.lines), 0),
    "userspace": (lambda console: "userspace" in console.phases, 0),
    "8 s of userspace": (lambda console: "userspace" in console.phases, 8),
}
"""What is to be seen on the console, and seconds from then on. Images say "is on /data" whose role is persist."""


@pytest.mark.thorough
@pytest.mark.check("upgrades")
@pytest.mark.state("previous")
@pytest.mark.boots(2)
@pytest.mark.parametrize("route", ROUTES)
def test_an_upgrade_keeps_what_an_operator_made(
    machine: Machine, versions: Versions, definition: ImageDefinition, route: str, run: Run
) -> None:
    """A version overwrites, loses or cannot read what the one before it kept, or an interrupted boot does."""
    if "newest" in ROUTES[route] and versions.newest == versions.new:
        run.add_unchecked("an upgrade past a version: there are just two, with --previous and --artifacts")
    features = list(features_of(definition))
    before = identity(machine)
    belongings = Belongings(definition.persistent_paths)
    belongings.make(machine)
    with machine.at_work():
        for feature in features:
            machine.check(feature.make)
    unreached_before = unreached(machine)
    machine.power_off()

    losses = list[str]()
    for stage in ROUTES[route]:
        version, _, moment = stage.partition(" until ")
        artifacts = getattr(versions, version)
        if moment:
            machine.power_on_and_kill(*MOMENTS[moment], artifacts)
            continue
        machine.power_on(artifacts)
        belongings.look(machine, stage)
        now = identity(machine)
        losses += [f"{stage}: {name} is another" for name, said in before.items() if now.get(name) != said]
        with machine.at_work():
            losses += [f"{stage}: {one.name} is gone" for one in features if machine.run(one.seen).status]
        news = sorted(unreached(machine) - unreached_before)
        losses += [f"{stage}: a default did not reach the host: {one}" for one in news]
        machine.power_off()
    losses += belongings.losses
    assert not losses, "\n".join(losses)
