"""Cuts the tests of a run into shards: longest first, tests that need the same machines together. Pure."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
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

    collected: Collected
    units: list[Unit] = field(default_factory=list)

    @property
    def templates(self) -> frozenset[str]:
        return frozenset[str]().union(*(unit.templates for unit in self.units))

    @property
    def busy_s(self) -> float:
        """All lanes of the host are busy."""
        booted_s = self.collected.boot_s * len(self.templates)
        return (sum(unit.took_s for unit in self.units) + booted_s) / self.collected.lanes

    @property
    def seconds(self) -> float:
        """About how long the host takes. What needs templates begins when they are booted, one after the other."""
        boot_s, lanes = self.collected.boot_s, self.collected.lanes
        chain_s = boot_s * max((len(unit.templates) for unit in self.units), default=0)
        waiting = [unit.took_s for unit in self.units if unit.templates]
        everything = [*(unit.took_s for unit in self.units), *([boot_s] * len(self.templates))]
        return max(_longest_lane(everything, lanes), chain_s + _longest_lane(waiting, lanes))

    def with_(self, *units: Unit) -> _Load:
        return _Load(self.collected, [*self.units, *units])

    def without(self, unit: Unit) -> _Load:
        return _Load(self.collected, [one for one in self.units if one is not unit])


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


def _longest_lane(times_s: list[float], lanes: int) -> float:
    """When the last of these ends, if the longest begin first and each takes the lane that is free first."""
    free_s = [0.0] * lanes
    for took_s in sorted(times_s, reverse=True):
        heapq.heapreplace(free_s, free_s[0] + took_s)
    return max(free_s)


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
    """Cut into ``count`` shards; `UsageError` if there are fewer units than shards."""
    units = units_of(collected)
    if count < 1:
        raise UsageError(f"--shards {count}: expected at least 1")
    if count > len(units):
        raise UsageError(
            f"--shards {count}: the run has {len(units)} tests or groups of tests that can be apart; ask for at most "
            f"{len(units)}"
        )
    loads = _filled(_evened(_dealt(units, collected, count)))
    shards = tuple(
        Shard(tests=tuple(test for unit in load.units for test in unit.tests), expected_s=round(load.seconds, 1))
        for load in loads
    )
    return Cut(shards=shards, alone_s=_Load(collected, units).seconds, bound=_bound(loads))


def _dealt(units: Sequence[Unit], collected: Collected, count: int) -> list[_Load]:
    """Units that need the same templates together, the longest first, each where the share is shortest with it."""
    clusters = defaultdict[frozenset[str], list[Unit]](list)
    for unit in units:
        clusters[unit.templates or frozenset([unit.name])].append(unit)
    loads = [_Load(collected) for _ in range(count)]
    for cluster in sorted(clusters.values(), key=lambda cluster: (-_Load(collected, cluster).seconds, cluster[0].name)):
        placed = [load.with_(*cluster) for load in loads]
        best = min(range(count), key=lambda number: (placed[number].seconds, placed[number].busy_s, number))
        loads[best] = placed[best]
    return loads


def _evened(loads: list[_Load]) -> list[_Load]:
    """Move units away from the slowest share as long as that makes it quicker, or leaves it less to do, and no other
    share becomes as slow."""
    while True:
        slow = max(range(len(loads)), key=lambda number: (loads[number].seconds, loads[number].busy_s, -number))
        before = (loads[slow].seconds, loads[slow].busy_s)
        moves = [
            (max(less.seconds, more.seconds), less.busy_s, to, unit.name)
            for unit in loads[slow].units
            if ((less := loads[slow].without(unit)).seconds, less.busy_s) < before
            for to in range(len(loads))
            if to != slow and (more := loads[to].with_(unit)).seconds < before[0]
        ]
        if not moves:
            return loads
        _, _, to, name = min(moves)
        unit = next(unit for unit in loads[slow].units if unit.name == name)
        loads[slow], loads[to] = loads[slow].without(unit), loads[to].with_(unit)


def _filled(loads: list[_Load]) -> list[_Load]:
    """No host has nothing to do."""
    while empty := [number for number, load in enumerate(loads) if not load.units]:
        most = max(range(len(loads)), key=lambda number: (len(loads[number].units), -number))
        unit = loads[most].units[-1]
        loads[most], loads[empty[0]] = loads[most].without(unit), loads[empty[0]].with_(unit)
    return loads


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


def _bound(loads: Sequence[_Load]) -> str:
    slowest = max(loads, key=lambda load: load.seconds)
    longest = max(slowest.units, key=lambda unit: unit.took_s)
    parts = []
    if slowest.templates:
        parts.append(f"{len(slowest.templates)} boots of templates, once a host")
    what = longest.tests[0] if len(longest.tests) == 1 else f"{longest.name}, {len(longest.tests)} tests"
    parts.append(f"the longest test: {what}, {longest.took_s:.0f} s")
    return "; ".join(parts)
