"""The profile of a boot for people: tables on the terminal, and a page with a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core import serialization
from harness.core.errors import UsageError
from harness.core.tables import new_table
from harness.core.text import clean
from harness.model.boot_profile import BootProfile, Slice, slices
from harness.report.page import template
from harness.report.waterfall import PHASES

if TYPE_CHECKING:
    from rich.table import Table

_ROWS, _WIDTH = 15, 100
_NUMBERS = ("wall s", "CPU s", "its ended children")
_LEAST_PERCENT = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle of the picture: ``left`` and ``width`` are percentages, ``depth`` is its row."""

    name: str
    label: str
    kind: str
    left: float
    width: float
    depth: int


def tables(profile: BootProfile) -> Iterator[Table]:
    """Phases; the lines of the console, the units and the programs that most time was used after, or by."""
    phases = _table("phase", "wall s", "CPU s")
    for phase in profile.phases:
        phases.add_row(PHASES.get(phase.name, phase.name), f"{phase.wall_s:.1f}", f"{phase.cpu_s:.1f}")
    phases.add_row("all", f"{profile.wall_s:.1f}", f"{profile.cpu_s:.1f}")
    yield phases
    steps = _table("wall s", "CPU s", "after this line of the console, until the next")
    for step in profile.steps:
        steps.add_row(f"{step.wall_s:.1f}", f"{step.cpu_s:.1f}", clean(step.line)[:_WIDTH])
    yield steps
    units = _table("unit", "CPU s", "in")
    for unit in profile.units[:_ROWS]:
        units.add_row(unit.unit, f"{unit.cpu_s:.1f}", PHASES.get(unit.phase, unit.phase))
    yield units
    programs = _table("program", "CPU s", "its ended children", "in")
    for program in profile.programs[:_ROWS]:
        programs.add_row(program.program, f"{program.own_s:.1f}", f"{program.children_s:.1f}", program.unit)
    yield programs


def _table(*columns: str) -> Table:
    table = new_table(*columns)
    for column in table.columns:
        column.justify = "right" if column.header in _NUMBERS else "left"
    return table


def write_page(profile: BootProfile, path: Path) -> None:
    """Write the page to ``path``; `UsageError` if that is impossible."""
    page = template("boot_profile.html.j2").render(
        profile=profile, boxes=list(boxes(slices(profile))), names=PHASES, rows=_ROWS
    )
    try:
        serialization.write_text(path, page)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def boxes(root: Slice) -> Iterator[Box]:
    """The picture: each slice above its parts, as wide as its CPU time; slices too narrow to see are left out: pure."""
    yield from _boxes(root, 0.0, 0, 100 / root.cpu_s if root.cpu_s else 0.0)


def _boxes(one: Slice, left: float, depth: int, percent_per_s: float) -> Iterator[Box]:
    width = one.cpu_s * percent_per_s
    if width < _LEAST_PERCENT:
        return
    name = PHASES.get(one.name, one.name)
    yield Box(
        name=name,
        label=f"{name}: {one.cpu_s:.1f} s, {width:.1f} %",
        kind=one.kind,
        left=round(left, 3),
        width=round(width, 3),
        depth=depth,
    )
    for part in sorted(one.parts, key=lambda part: -part.cpu_s) if depth else one.parts:
        yield from _boxes(part, left, depth + 1, percent_per_s)
        left += part.cpu_s * percent_per_s
