"""Which workers run the tests that only look at a machine. Pure.

Each worker that looks makes a clone of its own, and the first seconds of a clone take CPU time from boots. So as few
workers look as end before the other tests do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from harness.model.events import PlannedTest


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Tests that one worker runs, expected to take ``expected_s`` together.

    ``machine`` names what they look at: tests with the same name can share a clone. It is empty for a test that does
    not look.
    """

    name: str
    machine: str = ""
    expected_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """How many other workers there are, how many have tests left that look, and how many have others left, most of
    which boot."""

    count: int
    looking: int
    booting: int


def groups_of(tests: Iterable[tuple[PlannedTest, float]]) -> dict[str, Group]:
    """The groups of ``tests``, by name, from each test and the seconds that it is expected to take."""
    groups: dict[str, Group] = {}
    for test, expected_s in tests:
        empty = Group(name=test.group, machine=" ".join(test.templates) if test.looks else "", expected_s=0.0)
        group = groups.get(test.group, empty)
        groups[test.group] = replace(group, expected_s=group.expected_s + expected_s)
    return groups


def needed_lookers(groups: Iterable[Group], workers: int, cores: int) -> int:
    """The fewest workers that end looking before the longest other test ends; at most one a core."""
    groups = list(groups)
    looking_s = sum(group.expected_s for group in groups if group.machine)
    longest_s = max((group.expected_s for group in groups if not group.machine), default=0.0)
    most = min(workers, cores)
    return next((count for count in range(1, most) if looking_s / count <= longest_s), most)


def next_group(queued: Sequence[Group], looks_at: str, others: Others, *, lookers: int, cores: int) -> Group | None:
    """The group of ``queued``, which is in order, that a worker gets next; None if nothing is left but to look, and it
    must not do that now.

    ``looks_at`` is the machine of the tests that the worker has left, empty if these do not look: it goes on looking.
    Another begins to look while fewer than ``lookers`` do: at once if enough workers for all cores remain for the other
    tests, else when these are given out. Then also if a core is free because fewer workers than cores boot.
    """
    looking = [group for group in queued if group.machine]
    rest = [group for group in queued if not group.machine]
    if looking and looks_at:
        return next((group for group in looking if group.machine == looks_at), looking[0])
    if rest:
        is_spared = others.count - others.looking >= cores
        return looking[0] if looking and is_spared and others.looking < lookers else rest[0]
    may_look = others.looking < max(1, lookers, cores - others.booting)
    return looking[0] if looking and may_look else None
