"""What a run's folder holds, read once: everything that its verdict, history and bundles are made from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from harness.core import serialization
from harness.model.events import (
    Cloned,
    DependentTest,
    PlannedTest,
    PowerCutsJudged,
    Prepared,
    Recorded,
    ReportedTest,
    Unchecked,
)
from harness.model.verdict import BootResult, Finding, RuntimeProfile
from harness.runs.folder import E, Run

PROFILE = "runtime-profile/profile.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run's events by kind, in the order they were written, and the runtime profile if there is one."""

    findings: tuple[Finding, ...] = ()
    boots: tuple[BootResult, ...] = ()
    planned: tuple[PlannedTest, ...] = ()
    reported: tuple[ReportedTest, ...] = ()
    dependents: tuple[DependentTest, ...] = ()
    unchecked: tuple[str, ...] = ()
    clones: tuple[Cloned, ...] = ()
    power_cuts: tuple[PowerCutsJudged, ...] = ()
    prepared: Prepared | None = None
    runtime_profile: RuntimeProfile | None = None

    @property
    def took_s(self) -> Mapping[str, float]:
        """Seconds of each test with its fixtures."""
        took_s = defaultdict[str, float](float)
        for part in self.reported:
            took_s[part.test] += part.took_s
        return took_s

    @property
    def clone_mib(self) -> int:
        """The most memory that a clone took; 0 if no clone was measured."""
        return max((clone.mib or 0 for clone in self.clones), default=0)


def record_of(events: Iterable[Recorded], runtime_profile: RuntimeProfile | None = None) -> RunRecord:
    """The same finding, and the same sentence about what was not checked, count once."""
    happened = [recorded.event for recorded in events]

    def of_kind(kind: type[E]) -> tuple[E, ...]:
        return tuple(event for event in happened if isinstance(event, kind))

    return RunRecord(
        findings=tuple(dict.fromkeys(of_kind(Finding))),
        boots=of_kind(BootResult),
        planned=of_kind(PlannedTest),
        reported=of_kind(ReportedTest),
        dependents=of_kind(DependentTest),
        unchecked=tuple(dict.fromkeys(event.what for event in of_kind(Unchecked))),
        clones=of_kind(Cloned),
        power_cuts=of_kind(PowerCutsJudged),
        prepared=next(iter(of_kind(Prepared)), None),
        runtime_profile=runtime_profile,
    )


def read_record(run: Run) -> RunRecord:
    """Everything that is in the run's folder now."""
    profile = None
    with suppress(OSError, ValueError):
        profile = serialization.read(RuntimeProfile, run.folder / PROFILE)
    return record_of(run.events(), profile)
