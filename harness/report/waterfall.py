"""Boots as bars on one scale, beside those of the promoted version: their phases, and user space by unit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core import serialization
from harness.model.critical_path import PathStep
from harness.model.layout import CRITICAL_PATH, UNITS
from harness.model.verdict import BootResult, Unit, Verdict
from harness.report.evidence import read_beside

PHASES = {
    "shutdown": "shutdown", "firmware": "firmware", "ipxe": "iPXE", "grub": "GRUB", "kernel": "kernel",
    "initrd": "initrd", "userspace": "user space",
}  # fmt: skip
_KINDS = (".service", ".socket", ".mount")
_SHORT_S = 0.05
_UNITS = 12
_STEPS = (1, 2, 5)
_TICKS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A span of time; ``left`` and ``width`` are percentages of its scale."""

    name: str
    left: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Seconds from 0 to ``ends_s``, with a line at each of ``ticks``."""

    ends_s: float
    ticks: tuple[float, ...]

    @property
    def step(self) -> float:
        """Percent between two lines."""
        return self.percent(self.ticks[1])

    def percent(self, seconds: float) -> float:
        return round(100 * seconds / self.ends_s, 2)

    def bar(self, name: str, begins_s: float, ends_s: float) -> Bar:
        left = self.percent(max(0.0, begins_s))
        return Bar(name=name, left=left, width=max(0.0, round(self.percent(ends_s) - left, 2)))


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRow:
    """A unit of user space; ``ghost`` is the bar of the promoted version."""

    name: str
    state: str
    took_s: float
    bar: Bar
    ghost: Bar | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """The ``longest`` units and the ``others``, each in the order in which they started."""

    scale: Scale
    longest: tuple[UnitRow, ...]
    others: tuple[UnitRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BootRow:
    """One boot; ``label`` is the text alternative of its bars. ``slower_s`` compares with the promoted version.
    ``path`` is its critical path, empty if it was not recorded."""

    boot: BootResult
    anchor: str
    is_under_test: bool
    label: str
    bars: tuple[Bar, ...]
    ghosts: tuple[Bar, ...]
    slower_s: float | None
    units: Units | None
    path: tuple[PathStep, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The boots on one boot path: failed ones first, then the slowest; ``slower_s`` is their median."""

    boot_path: str
    rows: tuple[BootRow, ...]
    slower_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waterfall:
    """All boots, on one ``scale``."""

    scale: Scale
    lanes: tuple[Lane, ...]


def lay_out(verdict: Verdict, promoted: Verdict | None, anchors: Mapping[int, str], folder: Path) -> Waterfall:
    ghosts = {path: typical(promoted, path) for path in {boot.boot_path for boot in verdict.boots}}
    scale = scale_to(max(map(_length_s, [*verdict.boots, *filter(None, ghosts.values())]), default=1.0))
    ghost_units = promoted.runtime_profile.units if promoted and promoted.runtime_profile else {}
    rows: dict[str, list[BootRow]] = {}
    placed = enumerate(verdict.boots)
    for place, boot in sorted(placed, key=lambda at: (at[1].ready_s is not None, -_length_s(at[1]))):
        is_under_test = boot.artifacts == verdict.digests.get("artifacts", boot.artifacts)
        ghost = ghosts[boot.boot_path] if is_under_test and not boot.begins else None
        units = units_of(_units(boot, folder), ghost_units)
        row = _row(boot, anchors[place], scale, ghost, units, is_under_test=is_under_test)
        rows.setdefault(boot.boot_path, []).append(replace(row, path=_path(boot, folder)))
    lanes = (Lane(boot_path=path, rows=tuple(rows[path]), slower_s=_middle(rows[path])) for path in sorted(rows))
    return Waterfall(scale=scale, lanes=tuple(lanes))


def typical(verdict: Verdict | None, path: str) -> BootResult | None:
    """The median boot, by time, of the verdict's artifacts on ``path``."""
    if verdict is None:
        return None
    own = verdict.digests.get("artifacts")
    times = [
        (boot.ready_s, place)
        for place, boot in enumerate(verdict.boots)
        if boot.ready_s is not None and boot.boot_path == path and own in (None, boot.artifacts) and not boot.begins
    ]
    return verdict.boots[sorted(times)[len(times) // 2][1]] if times else None


def scale_to(seconds: float) -> Scale:
    """A scale that ends at ``seconds``, with at most six lines at round numbers."""
    ends_s = max(seconds, 0.1)
    steps = (step * 10.0**power for power in range(-2, 300) for step in _STEPS)
    step = next(step for step in steps if ends_s / step <= _TICKS)
    count = max(2, int(ends_s / step) + 1)
    return Scale(ends_s=ends_s, ticks=tuple(round(step * number, 2) for number in range(count)))


def _row(
    boot: BootResult, anchor: str, scale: Scale, ghost: BootResult | None, units: Units | None, *, is_under_test: bool
) -> BootRow:
    return BootRow(
        boot=boot,
        anchor=anchor,
        is_under_test=is_under_test,
        label=f"{boot.name}: {_format(boot)}{f'; promoted: {_format(ghost)}' if ghost else ''}",
        bars=_bars(boot, scale),
        ghosts=_bars(ghost, scale) if ghost else (),
        slower_s=boot.ready_s - ghost.ready_s if ghost and ghost.ready_s and boot.ready_s else None,
        units=units,
    )


def _middle(rows: Iterable[BootRow]) -> float | None:
    differences = sorted(row.slower_s for row in rows if row.slower_s is not None)
    return differences[len(differences) // 2] if differences else None


def _length_s(boot: BootResult) -> float:
    return sum(boot.phases.values())


def _format(boot: BootResult) -> str:
    phases = ", ".join(f"{PHASES.get(phase, phase)} {seconds:.1f} s" for phase, seconds in boot.phases.items())
    begun = f" from the {boot.begins} on" if boot.begins else ""
    ready = "not ready" if boot.ready_s is None else f"ready in {boot.ready_s:.1f} s"
    return f"{ready}{begun}{phases and f' ({phases})'}"


def _bars(boot: BootResult, scale: Scale) -> tuple[Bar, ...]:
    bars, began_s = [], 0.0
    for phase, seconds in boot.phases.items():
        bars.append(scale.bar(phase, began_s, began_s + seconds))
        began_s += seconds
    return tuple(bars)


def _units(boot: BootResult, folder: Path) -> dict[str, Unit]:
    """The units' times; empty if they were not recorded or the file no longer exists."""
    try:
        return serialization.load(dict[str, Unit], json.loads(read_beside(boot, UNITS, folder)))
    except ValueError:
        return {}


def _path(boot: BootResult, folder: Path) -> tuple[PathStep, ...]:
    """The boot's critical path; empty as above."""
    try:
        return serialization.load(tuple[PathStep, ...], json.loads(read_beside(boot, CRITICAL_PATH, folder)))
    except ValueError:
        return ()


def units_of(units: Mapping[str, Unit], ghosts: Mapping[str, Unit]) -> Units | None:
    """Units that took long enough to be visible, without those that were active before user space began."""
    shown = {
        name: unit
        for name, unit in units.items()
        if name.endswith(_KINDS) and unit.ready_s > 0 and unit.ready_s - unit.begins_s > _SHORT_S
    }
    if not shown:
        return None
    scale = scale_to(max(unit.ready_s for unit in shown.values()))
    names = sorted(shown, key=lambda name: shown[name].begins_s - shown[name].ready_s)
    rows = [_unit_row(name, shown[name], ghosts.get(name), scale) for name in names]
    return Units(
        scale=scale,
        longest=tuple(sorted(rows[:_UNITS], key=_beginning)),
        others=tuple(sorted(rows[_UNITS:], key=_beginning)),
    )


def _beginning(row: UnitRow) -> tuple[float, float]:
    return row.bar.left, -row.took_s


def _unit_row(name: str, unit: Unit, ghost: Unit | None, scale: Scale) -> UnitRow:
    is_seen = ghost is not None and ghost.ready_s > 0 and ghost.begins_s < scale.ends_s
    return UnitRow(
        name=name,
        state=unit.state,
        took_s=unit.ready_s - unit.begins_s,
        bar=scale.bar(name, unit.begins_s, unit.ready_s),
        ghost=scale.bar(name, ghost.begins_s, min(ghost.ready_s, scale.ends_s)) if ghost and is_seen else None,
    )
