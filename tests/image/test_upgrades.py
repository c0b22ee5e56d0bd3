"""Forwards, backwards, past a version, to the same one and interrupted: what was kept stays, and works."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from harness.guest.console import Console
from harness.machine.errors import BootFailed
from harness.machine.machine import Machine
from harness.machine.states import PREVIOUS, Versions, state
from harness.model.definition import ImageDefinition
from harness.model.verdict import Finding
from harness.persistence.databases import formats, moved
from harness.persistence.file_survey import FileSurvey
from harness.persistence.identity import identity
from harness.persistence.seeded_defaults import unreached
from harness.persistence.workloads import Workload, features_of
from harness.runs.folder import Run

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


@state("lived-in", on=PREVIOUS)
def _(machine: Machine, _: Versions) -> None:
    """An operator has been at work with the old version."""
    FileSurvey(machine.definition.persistent_paths).make(machine)
    with machine.at_work():
        for feature in features_of(machine.definition):
            machine.check(feature.make)


@dataclass(slots=True)
class Kept:
    """What ``machine`` keeps, as it was before an upgrade, and what became of it since."""

    machine: Machine
    features: Sequence[Workload]
    belongings: FileSurvey
    identity: dict[str, str] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)
    unreached: frozenset[str] = frozenset()
    moved: tuple[str, ...] = ()
    losses: list[str] = field(default_factory=list)

    def note(self) -> None:
        self.identity = identity(self.machine)
        self.belongings.note(self.machine)
        self.unreached = unreached(self.machine)
        self.formats = formats(self.machine)

    def look(self, stage: str) -> None:
        """What is no longer as it was; a format that moved on is none of it, if what is kept is still there."""
        self.belongings.look(self.machine, stage)
        now = identity(self.machine)
        losses = [f"{name} is another" for name, said in self.identity.items() if now.get(name) != said]
        with self.machine.at_work():
            losses += [f"{one.name} is gone" for one in self.features if self.machine.run(one.seen).status]
        news = sorted(unreached(self.machine) - self.unreached)
        losses += [f"a default did not reach the host: {one}" for one in news]
        self.losses += [f"{stage}: {loss}" for loss in losses]
        self.moved = moved(self.formats, formats(self.machine))


@pytest.mark.thorough
@pytest.mark.check("upgrades")
@pytest.mark.state("lived-in")
@pytest.mark.boots(2)
@pytest.mark.parametrize("route", ROUTES)
def test_an_upgrade_keeps_what_an_operator_made(
    machine: Machine, versions: Versions, definition: ImageDefinition, route: str, run: Run
) -> None:
    """A version overwrites, loses or cannot read what the one before it kept, or an interrupted boot does."""
    if "newest" in ROUTES[route] and versions.newest == versions.new:
        run.add_unchecked("an upgrade past a version: there are just two, with --previous and --artifacts")
    kept = Kept(machine, list(features_of(definition)), FileSurvey(definition.persistent_paths))
    kept.note()
    machine.power_off()

    for stage in ROUTES[route]:
        version, _, moment = stage.partition(" until ")
        artifacts = getattr(versions, version)
        if moment:
            machine.power_on_and_kill(*MOMENTS[moment], artifacts)
            continue
        moved_on = kept.moved if version == "old" else ()
        try:
            machine.power_on(artifacts)
        except BootFailed as error:
            if moved_on:
                finding = no_way_back(machine, moved_on, error.finding.what)
                run.add_finding(finding)
                raise BootFailed(error.machine, finding, error.folder, error.by_hand) from error
            raise
        kept.look(stage)
        losses = kept.losses + kept.belongings.losses
        if moved_on and losses:
            raise machine.power.watch.report_failure(no_way_back(machine, moved_on, "; ".join(losses)))
        if moved_on:
            run.add_note(f"rolled back, and all is there; formats had moved on: {'; '.join(moved_on)}")
        assert not losses, "\n".join(losses)
        machine.power_off()


def no_way_back(machine: Machine, moved_on: Sequence[str], said: str) -> Finding:
    return Finding(
        id="rollback-not-safe",
        what=f"after a rollback: {said}",
        where=machine.name,
        evidence=tuple(moved_on),
        cause="the next version keeps a database in another format, which this one does not take",
    )
