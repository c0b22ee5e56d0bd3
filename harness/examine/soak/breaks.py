"""What broke while a host was soaked: units, restarts, errors, the kernel; and which timer did it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from harness.examine.journal import Entry, judge_errors
from harness.examine.soak.ground import Ground, is_in_ram
from harness.examine.soak.looks import Look, Phase, fired
from harness.examine.soak.samples import Sample, UnitState, common_name
from harness.examine.storage import Mount
from harness.guest.serial_shell import SHELL_UNITS
from harness.lint.finding import LintFinding, fails
from harness.model.definition import ImageDefinition
from harness.model.unit_names import same_service

_SOFT_LOCKUP = 1 << 14
"""The host starved the machine for a while: Linux, Documentation/admin-guide/tainted-kernels.rst."""
_FULL, _LEAST_TAKEN = 0.95, 0.1
_SHOWN = 3
_TRANSIENT = ("session-", "user@", "user-runtime-dir@", "run-", "bootproof-")
"""Units that come and go with logins, and those of the soak itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """What broke between two looks, the later of which is ``looks[number]``: a ``unit``, or a place."""

    id: str
    about: str
    unit: str
    what: str
    number: int
    lines: tuple[str, ...] = ()


def find_breaks(
    looks: Sequence[Look], ground: Ground, definition: ImageDefinition, stopped: Collection[str] = ()
) -> Iterator[LintFinding]:
    """Each thing once, when it broke first. ``stopped`` are the units that the soak has stopped itself."""
    known, seen = {*definition.may_wait, *SHELL_UNITS, *stopped}, set[tuple[str, str]]()
    for one in _all_breaks(looks, ground, definition):
        if one.unit not in known and (one.id, one.about) not in seen and ("", one.unit or one.about) not in seen:
            seen |= {(one.id, one.about), ("", one.unit or one.about)}
            yield _finding(one, looks)


def _all_breaks(looks: Sequence[Look], ground: Ground, definition: ImageDefinition) -> Iterator[Break]:
    """Of one step, the units come before what they logged. All else is a consequence if a file system is full."""
    for number, (before, after) in enumerate(pairwise(looks), start=1):
        others = [
            *_units(before.sample, after.sample),
            *_demanded(looks[0].sample, before.sample, after.sample, definition),
            *_kernel(before.sample, after.sample),
            *_errors(after.sample.errors, definition),
        ]
        lines = tuple(f"then {one.about}: {one.what}" for one in others[:_SHOWN])
        full = [replace(one, lines=(*one.lines, *lines)) for one in _full(looks[0].sample, after.sample, ground)]
        for one in full or others:
            yield replace(one, number=number)


def _units(before: Sample, after: Sample) -> Iterator[Break]:
    for name, state in after.units.items():
        earlier = before.units.get(name, UnitState())
        about = f"unit:{name}"
        if state.active == "failed" and earlier.active != "failed" and not name.startswith(_TRANSIENT):
            result = after.results.get(name, "")
            yield _break(
                "unit-failed",
                about,
                name,
                "it failed" + (f" (result {result})" if result else ""),
                *_of(name, after.errors),
            )
    for name in after.restarts:
        if not name.startswith(_TRANSIENT):
            what = "it ended, and systemd started it again"
            yield _break("unit-flapping", f"unit:{name}", name, what, *_of(name, after.errors))


def _demanded(first: Sample, before: Sample, after: Sample, definition: ImageDefinition) -> Iterator[Break]:
    """In two looks: it may be restarted at the moment of one."""
    for asked in (*definition.services, *definition.sockets):
        name = next((one for one in same_service(asked) if one in first.units), asked)
        states = [sample.units.get(name, UnitState(active="inactive")).active for sample in (first, before, after)]
        if states[0] == "active" and set(states[1:]) == {"inactive"}:
            what = "the definition demands it, and it is no longer active"
            yield _break("unit-ended", f"unit:{name}", name, what, *_of(name, after.errors))


def full_mounts(first: Sample, after: Sample, ground: Ground) -> Iterator[Mount]:
    """The file systems that were filled since the first sample."""
    for mount in ground.mounts:
        begun, now = first.space.get(mount.place), after.space.get(mount.place)
        if begun is None or now is None or not now.size:
            continue
        if now.used > _FULL * now.size and now.used - begun.used > _LEAST_TAKEN * now.size:
            yield mount


def _full(first: Sample, after: Sample, ground: Ground) -> Iterator[Break]:
    for mount in full_mounts(first, after, ground):
        kind = "fills-memory" if is_in_ram(mount) else "fills-data"
        grown = {
            path: size - first.files.get(path, 0)
            for path, size in after.files.items()
            if ground.mount_of(path) == mount
        }
        largest = sorted(grown, key=grown.__getitem__, reverse=True)[:3]
        now = after.space[mount.place]
        what = f"it is full: {now.used >> 20} of {now.size >> 20} MiB"
        lines = [f"{ground.shown(path)}: {after.files[path] >> 20} MiB" for path in largest]
        yield _break(kind, f"space:{mount.place}", "", what, *lines)


def _kernel(before: Sample, after: Sample) -> Iterator[Break]:
    if new := after.tainted & ~before.tainted & ~_SOFT_LOCKUP:
        yield _break("kernel-tainted", "kernel:taints", "", f"it has new taints: {new:#x}")


def _errors(entries: Sequence[Entry], definition: ImageDefinition) -> Iterator[Break]:
    for finding in judge_errors(entries, definition.expected_errors):
        unit = finding.path.partition(":")[2]
        if not unit.startswith(_TRANSIENT):
            yield _break(finding.id, finding.path, unit, finding.what, *finding.evidence)


def _break(kind: str, about: str, unit: str, what: str, *lines: str) -> Break:
    return Break(id=kind, about=about, unit=unit, what=what, number=0, lines=lines)


def _of(unit: str, errors: Sequence[Entry]) -> list[str]:
    return [entry.message for entry in errors if entry.source == unit][-4:]


def _finding(one: Break, looks: Sequence[Look]) -> LintFinding:
    """In the days, a finding of the timer that did it, if one can be named."""
    look, number = looks[one.number], int(looks[one.number].number)
    when = {Phase.ALONE: "left alone", Phase.USED: f"in use, round {number}", Phase.DAYS: f"day {number}"}[look.phase]
    if look.phase is not Phase.DAYS:
        return fails(one.id, common_name(one.about), f"{when}: {one.what}", *one.lines)
    timers = list(dict.fromkeys(fired(looks[one.number - 1], look)))
    also = f"timers that fired then: {', '.join(timers)}" if timers else ""
    if guilty := suspects(one.unit, looks, one.number):
        return fails("timer-breaks", f"timer:{guilty[0]}", f"{when}: {one.about}: {one.what}", *one.lines, also)
    return fails(one.id, common_name(one.about), f"{when}: {one.what}", *one.lines, also)


def suspects(unit: str, looks: Sequence[Look], number: int) -> list[str]:
    """The timers that broke ``unit`` before that look: those that start it, else those that fired for the first time.
    One that fired before did no harm then, and is no suspect. What a timer starts may end after the next look."""
    steps = [fired(before, after) for before, after in pairwise(looks[: number + 1])]
    now, timers = dict.fromkeys([*steps[-1], *(steps[-2] if steps[1:] else ())]), looks[number].sample.timers
    if own := [timer for timer in now if timer in timers and timers[timer].unit == unit]:
        return own
    earlier = {timer for step in steps[:-2] for timer in step}
    return [timer for timer in now if timer not in earlier]
