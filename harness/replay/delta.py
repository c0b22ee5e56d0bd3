"""Delta debugging: the change that turns good into bad, found with few tries. Pure: callables make the tries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import TypeVar

_Part = TypeVar("_Part")


class TryOutcome(StrEnum):
    """GOOD: no finding. BAD: the finding that is searched for. UNRESOLVED: another finding, or no such machine."""

    GOOD = "good"
    BAD = "bad"
    UNRESOLVED = "unresolved"


def ddmin(parts: Sequence[_Part], oracle: Callable[[tuple[_Part, ...]], TryOutcome]) -> tuple[_Part, ...]:
    """A subset of ``parts`` that is bad and 1-minimal: without any one part of it, it is not bad.

    The ``oracle`` tries the good case with some parts of the bad one.

    The algorithm *ddmin* of Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input, IEEE
    Transactions on Software Engineering 28(2), 2002. It asks the oracle once for each subset, at most n² + 3n times
    for n parts, and about 2 log n times if one part is the cause. That all parts are bad and none are good is known.
    """
    outcomes: dict[frozenset[_Part], TryOutcome] = {frozenset(parts): TryOutcome.BAD, frozenset(): TryOutcome.GOOD}

    def is_bad(subset: Sequence[_Part]) -> bool:
        key = frozenset(subset)
        if key not in outcomes:
            outcomes[key] = oracle(tuple(subset))
        return outcomes[key] is TryOutcome.BAD

    current, count = tuple(parts), 2
    while len(current) > 1:
        edges = [number * len(current) // count for number in range(count + 1)]
        chunks = [current[first:last] for first, last in pairwise(edges)]
        complements = [tuple(part for part in current if part not in chunk) for chunk in chunks]
        if chunk := next(filter(is_bad, chunks), None):
            current, count = chunk, 2
        elif complement := next(filter(is_bad, complements), None):
            current, count = complement, max(count - 1, 2)
        elif count < len(current):
            count = min(2 * count, len(current))
        else:
            break
    return current


def neighbours(count: int, try_version: Callable[[int], TryOutcome]) -> tuple[int, int]:
    """The last good and the first bad of ``count`` versions, of which the first is good and the last bad.

    Unresolved versions are skipped, as `git bisect skip` does.
    """
    good, bad, untried = 0, count - 1, set(range(1, count - 1))
    while between := sorted(version for version in untried if good < version < bad):
        middle = between[len(between) // 2]
        untried.remove(middle)
        outcome = try_version(middle)
        if outcome is TryOutcome.GOOD:
            good = middle
        elif outcome is TryOutcome.BAD:
            bad = middle
    return good, bad
