"""Moves the events of a part's run into the folder of a merged run: names of machines and paths of logs.

A part may come from a host that is not trusted: no path in it leads out of its folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePath

from harness.model.events import (
    Cloned,
    DependentTest,
    Event,
    Killed,
    PhaseBegan,
    PlannedTest,
    Prepared,
    Recorded,
    ReportedTest,
    Resumed,
)
from harness.model.verdict import BootResult, Finding

_BOOT = re.compile(r"^(?=[^\n]+, boot \d+ \()")
"""How `boot_name` begins: with the machine."""


def relocated(recorded: Recorded, name: str, folder: Path) -> Iterator[Recorded]:
    """The event of the part that lies in ``folder``, the subfolder ``name`` of a merged run.

    Nothing for what the merged run has of its own: the plan, and the time of preparation. `ValueError` for a machine
    whose name would lead out of the folder.
    """
    event = recorded.event
    if isinstance(event, PlannedTest | Prepared):
        return
    yield replace(recorded, worker=f"{name} {recorded.worker}", event=_event(event, name, folder))


def _event(event: Event, name: str, folder: Path) -> Event:
    match event:
        case PhaseBegan() | Killed() | Cloned() | Resumed():
            return replace(event, machine=_machine(event.machine, name))
        case BootResult():
            captures = (_path(capture, folder) for capture in event.captures)
            return replace(
                event,
                machine=_machine(event.machine, name),
                console=_path(event.console, folder),
                captures=tuple(filter(None, captures)),
            )
        case Finding():
            return _finding(event, name)
        case DependentTest():
            return replace(event, finding=_finding(event.finding, name))
        case ReportedTest():
            return replace(event, console=_path(event.console, folder))
    return event


def _machine(machine: str, name: str) -> str:
    if ".." in PurePath(machine).parts or PurePath(machine).is_absolute():
        raise ValueError(f"{machine!r} is not a valid name of a machine")
    return f"{name}/{machine}"


def _finding(finding: Finding, name: str) -> Finding:
    return replace(
        finding, where=_place(finding.where, name), places=tuple(_place(one, name) for one in finding.places)
    )


def _place(where: str, name: str) -> str:
    return _BOOT.sub(f"{name}/", where)


def _path(path: str, folder: Path) -> str:
    """A file of the part where it lies now: the longest end of its old path that ``folder`` has; else nothing."""
    parts = PurePath(path).parts
    for begin in range(1, len(parts) if ".." not in parts else 0):
        if (here := folder.joinpath(*parts[begin:])).is_file():
            return str(here)
    return ""
