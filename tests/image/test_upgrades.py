"""Upgrades and rollbacks, past a version, to the same one and interrupted: data stays and works."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from harness import BootFailed, ImageDefinition, Machine, Versions, not_applicable, state
from harness.examine.defences import defences, weakened
from harness.guest.console import Console
from harness.machine.states import BOOTED, PREVIOUS
from harness.model.verdict import Finding
from harness.persistence import databases, file_systems, network_cards, owners
from harness.persistence.databases import changed_formats
from harness.persistence.file_survey import FileSurvey
from harness.persistence.identity import changes, identity
from harness.persistence.seeded_defaults import missing
from harness.persistence.workloads import failures, make_workloads, workloads_of
from harness.runs.folder import Run

ROUTES = {
    "to-the-same": ("old",),
    "to-the-next-and-back": ("new", "old"),
    "to-the-next-and-on": ("new", "newest"),
    "past-a-version": ("newest",),
    "interrupted-early": ("new until /data", "new"),
    "interrupted-twice": ("new until userspace", "old until 8 s of userspace", "new"),
    "back-from-the-first": ("old", "new"),
}
"""The versions booted after the old one, on its disk; the power is cut at the moment after ``until``. The last route
begins with the new version, on a disk that it has made."""

_LIVED_IN, _LIVED_IN_NEW = "lived-in", "lived-in-new"

MOMENTS: dict[str, tuple[Callable[[Console], bool], float]] = {
    "/data": (lambda console: "userspace" in console.phases or any("is on /data" in one for one in console.lines), 0),
    "userspace": (lambda console: "userspace" in console.phases, 0),
    "8 s of userspace": (lambda console: "userspace" in console.phases, 8),
}
"""A condition on the console, and seconds after it. Images with the role persist print "is on /data"."""


@state(_LIVED_IN, on=PREVIOUS)
@state(_LIVED_IN_NEW, on=BOOTED)
def _(machine: Machine, _: Versions) -> None:
    """The old version, or the one under test, with files and workloads of an operator."""
    FileSurvey(machine.definition.persistent_paths).make(machine)
    make_workloads(machine, workloads_of(machine.definition))


@dataclass(slots=True)
class OperatorData:
    """The data of an operator on ``machine``, recorded before an upgrade; ``losses`` are sentences about what is lost
    since, ``changed_formats`` about databases and file systems that now have another format."""

    machine: Machine
    survey: FileSurvey
    identity: dict[str, str] = field(default_factory=dict)
    owners: owners.Owners = field(default_factory=dict)
    cards: dict[str, str] = field(default_factory=dict)
    defences: dict[str, str] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    changed_formats: tuple[str, ...] = ()
    losses: list[str] = field(default_factory=list)

    def record(self) -> None:
        self.identity = identity(self.machine)
        self.survey.record(self.machine)
        self.owners = owners.sample(self.machine, self.machine.definition.persistent_paths)
        self.cards = network_cards.names(self.machine)
        self.defences = defences(self.machine.channel)
        self.missing = missing(self.machine)
        self.formats = self._formats()

    def compare(self, stage: str) -> None:
        """Add to ``losses`` what is no longer as recorded. A changed format alone is not a loss."""
        self.survey.compare(self.machine, stage)
        losses = list(changes(self.machine.definition, self.identity, identity(self.machine)))
        losses += owners.strangers(self.owners, owners.owners(self.machine, tuple(self.owners)))
        losses += network_cards.renamed(self.cards, network_cards.names(self.machine))
        losses += weakened(self.defences, defences(self.machine.channel))
        losses += failures(self.machine, workloads_of(self.machine.definition))
        losses += [f"a default did not reach the host: {one}" for one in sorted(missing(self.machine) - self.missing)]
        self.losses += [f"{stage}: {loss}" for loss in losses]
        self.changed_formats = changed_formats(self.formats, self._formats())

    def _formats(self) -> dict[str, str]:
        paths = self.machine.definition.persistent_paths
        return databases.formats(self.machine, paths) | file_systems.formats(self.machine, paths)


@pytest.mark.cause(
    "a version overwrites, loses or cannot read data of the version before, or an interrupted boot damages it"
)
@pytest.mark.thorough
@pytest.mark.check("upgrades")
@pytest.mark.boots(2)
@pytest.mark.parametrize(
    "route",
    [
        pytest.param(route, marks=pytest.mark.state(_LIVED_IN_NEW if route.startswith("back-from") else _LIVED_IN))
        for route in ROUTES
    ],
)
def test_an_upgrade_keeps_what_an_operator_made(
    machine: Machine, versions: Versions, definition: ImageDefinition, route: str, run: Run
) -> None:
    if "newest" in ROUTES[route] and versions.newest == versions.new:
        not_applicable("the run has no third version: with --previous or --artifacts there are at most two")
    if route.startswith("to-the-next") and versions.new == versions.old:
        not_applicable("the run has no second version: --previous names the artifacts that --artifacts replace")
    if route.startswith("back-from") and versions.under_test != versions.new:
        not_applicable("without --previous, both versions are built of one definition, and make the same disk")
    data = OperatorData(machine, FileSurvey(definition.persistent_paths))
    data.record()
    machine.power_off()

    for stage in ROUTES[route]:
        version, _, moment = stage.partition(" until ")
        artifacts = getattr(versions, version)
        if moment:
            machine.power_on_and_kill(*MOMENTS[moment], artifacts)
            continue
        changed = data.changed_formats if version == "old" else ()
        try:
            machine.power_on(artifacts)
        except BootFailed as error:
            if changed:
                finding = rollback_finding(machine, changed, error.finding.what)
                run.add_finding(finding)
                raise BootFailed(error.machine, finding, error.folder, error.by_hand) from error
            raise
        data.compare(stage)
        losses = data.losses + data.survey.losses
        if changed and losses:
            raise machine.running_boot.watch.report_failure(rollback_finding(machine, changed, "; ".join(losses)))
        if changed:
            run.add_note(f"rolled back without a loss, although formats had changed: {'; '.join(changed)}")
        assert not losses, "\n".join(losses)
        machine.power_off()


def rollback_finding(machine: Machine, changed: Sequence[str], loss: str) -> Finding:
    return Finding(
        id="rollback-not-safe",
        what=f"after a rollback: {loss}",
        where=machine.name,
        evidence=tuple(changed),
        cause="the next version stores this in another format, which this one cannot read",
    )
