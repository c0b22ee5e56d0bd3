"""Cuts the tests of a run into shards: longest first, tests that need the same machines together. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from harness.core.errors import UsageError
from harness.model.shard import Collected, Shard

_POWER_CUTS = "power-cuts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Tests that stay on one host because they share a machine or a study; ``templates`` are the boots that they need,
    and share with other units of their host."""

    name: str
    tests: tuple[str, ...]
    took_s: float
    templates: frozenset[str]


@dataclass(slots=True)
class _Load:
    """A host's share while it is filled."""

    units: list[Unit] = field(default_factory=list)
    templates: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The shards, how long a single host would need, and what keeps more hosts from being faster."""

    shards: tuple[Shard, ...]
    alone_s: float
    bound: str

    @property
    def slowest_s(self) -> float:
        return max(shard.expected_s for shard in self.shards)

    @property
    def speed_up(self) -> float:
        """How much faster than one host all are together."""
        return self.alone_s / self.slowest_s


def units_of(collected: Collected) -> list[Unit]:
    """The units in the order in which they are handed out: the longest first, then by name."""
    groups = defaultdict[str, list[tuple[str, float, frozenset[str]]]](list)
    for image in collected.images:
        for test in image.tests:
            # One study of power cuts serves all tests that boot its states.
            group = f"{image.name} {_POWER_CUTS}" if _POWER_CUTS in test.checks else test.group
            took_s = image.expected_s.get(test.test, collected.boot_s * test.boots)
            groups[group].append((test.test, took_s, frozenset(test.templates)))
    units = [
        Unit(
            name=name,
            tests=tuple(test for test, _, _ in tests),
            took_s=sum(took_s for _, took_s, _ in tests),
            templates=frozenset[str]().union(*(needed for _, _, needed in tests)),
        )
        for name, tests in groups.items()
    ]
    return sorted(units, key=lambda unit: (-unit.took_s, unit.name))


def cut(collected: Collected, count: int) -> Cut:
    """Cut into ``count`` shards; `UsageError` if there are fewer units than shards.

    Each unit goes where the share is shortest with it, so that units which need the same templates gather on one host.
    """
    units = units_of(collected)
    if count < 1:
        raise UsageError(f"--shards {count}: expected at least 1")
    if count > len(units):
        raise UsageError(
            f"--shards {count}: the run has {len(units)} tests or groups of tests that can be apart; ask for at most "
            f"{len(units)}"
        )
    loads = [_Load() for _ in range(count)]
    for unit in units:
        best = min(range(count), key=lambda number: (_with(loads[number], unit, collected), number))
        loads[best].units.append(unit)
        loads[best].templates |= unit.templates
    shards = tuple(
        Shard(
            tests=tuple(test for unit in load.units for test in unit.tests),
            expected_s=round(_seconds(load.units, load.templates, collected), 1),
        )
        for load in loads
    )
    alone_s = _seconds(units, frozenset[str]().union(*(unit.templates for unit in units)), collected)
    return Cut(shards=shards, alone_s=alone_s, bound=_bound(loads, collected))


def cut_within(collected: Collected, within_s: float) -> Cut:
    """The fewest shards of which none takes longer than ``within_s``; `UsageError` says what makes that impossible."""
    best: Cut | None = None
    for count in range(1, len(units_of(collected)) + 1):
        made = cut(collected, count)
        if made.slowest_s <= within_s:
            return made
        best = made if best is None or made.slowest_s < best.slowest_s else best
    if best is None:
        raise UsageError("the run has no tests")
    raise UsageError(
        f"--within {within_s / 60:g}min: the slowest shard takes at least {best.slowest_s / 60:.1f} min "
        f"({best.bound}); allow more time"
    )


def _with(load: _Load, unit: Unit, collected: Collected) -> float:
    return _seconds([*load.units, unit], load.templates | unit.templates, collected)


def _seconds(units: Sequence[Unit], templates: Iterable[str], collected: Collected) -> float:
    """About how long a host takes: all its lanes are busy; the longest unit begins when its templates are booted."""
    boot_s = collected.boot_s
    busy_s = (sum(unit.took_s for unit in units) + boot_s * len(set(templates))) / collected.lanes
    longest_s = max((unit.took_s + boot_s * bool(unit.templates) for unit in units), default=0.0)
    return max(busy_s, longest_s)


def _bound(loads: Sequence[_Load], collected: Collected) -> str:
    slowest = max(loads, key=lambda load: _seconds(load.units, load.templates, collected))
    longest = max(slowest.units, key=lambda unit: unit.took_s)
    parts = []
    if slowest.templates:
        parts.append(f"{len(slowest.templates)} boots of templates, once a host")
    what = longest.tests[0] if len(longest.tests) == 1 else f"{longest.name}, {len(longest.tests)} tests"
    parts.append(f"the longest test: {what}, {longest.took_s:.0f} s")
    return "; ".join(parts)
