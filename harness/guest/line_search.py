"""The lines of a long text that may show a console pattern or a stage of a boot.

`str.find` for each literal that these need passes over a megabyte four times as fast as one regular expression of all.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

from harness.guest.console_marks import MARKS
from harness.guest.console_patterns import PATTERNS, ConsolePattern
from harness.guest.console_text import BREAK, SEAM


def required_literals(regex: str) -> tuple[str, ...]:
    """Each text that matches ``regex`` contains one of these; empty if there are no such literals.

    Of the parts that every match has, the one whose shortest alternative is longest is taken.
    """
    parser: Any = import_module("re._parser")  # Python's own; re has no public way to look into an expression
    tree = parser.parse(regex)
    return () if tree.state.flags & re.IGNORECASE else tuple(_literals(tree))


def _literals(tree: Iterable[tuple[Any, Any]]) -> list[str]:
    parts, run = list[list[str]](), ""
    for operation, argument in [*tree, (None, None)]:
        name = str(operation)
        if name == "LITERAL":
            run += chr(argument)
            continue
        parts, run = [*parts, [run]], ""
        if name == "SUBPATTERN":
            parts.append([] if argument[1] & re.IGNORECASE else _literals(argument[3]))
        elif name == "BRANCH":
            branches = [_literals(branch) for branch in argument[1]]
            parts.append([literal for branch in branches for literal in branch] if all(branches) else [])
        elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT") and argument[0] > 0:
            parts.append(_literals(argument[2]))
        elif name == "ATOMIC_GROUP":
            parts.append(_literals(argument))
    best = max(parts, key=lambda part: min(map(len, part), default=0))
    return best if min(map(len, best), default=0) else []


@dataclass(frozen=True, slots=True)
class Candidate:
    """The line from ``start`` to ``end`` of a text, which may match one of ``patterns``, or be one of the `MARKS`."""

    start: int
    end: int
    patterns: tuple[ConsolePattern, ...]
    is_mark: bool


@cache
def _index() -> dict[str, tuple[tuple[int, ...], bool]]:
    """What a literal may show: patterns, by their place in `PATTERNS`, and whether a mark."""
    found = {literal: (tuple[int, ...](), True) for regex in MARKS for literal in required_literals(regex)}
    for number, pattern in enumerate(PATTERNS):
        for literal in required_literals(pattern.regex):
            numbers, is_mark = found.get(literal, ((), False))
            found[literal] = ((*numbers, number), is_mark)
    for literal in sorted(found, key=len, reverse=True):  # one that contains another is found with it
        if part := next((other for other in found if other != literal and other in literal), None):
            numbers, is_mark = found.pop(literal)
            found[part] = ((*found[part][0], *numbers), found[part][1] or is_mark)
    return found


@cache
def _without_literals() -> tuple[int, ...]:
    return tuple(number for number, pattern in enumerate(PATTERNS) if not required_literals(pattern.regex))


def candidates(text: str) -> list[Candidate]:
    """The lines that may show a pattern or a mark, in the order of ``text``."""
    found = defaultdict[tuple[int, int], set[str | int]](set)
    for literal in _index():
        at = text.find(literal)
        while at >= 0:
            line = _line_around(text, at)
            found[line].add(literal)
            at = text.find(literal, line[1])
    for number in _without_literals():
        for match in re.finditer(PATTERNS[number].regex, text, re.MULTILINE):
            found[_line_around(text, match.start())].add(number)
    for stop in (BREAK, SEAM):
        at = text.find(stop)
        while at >= 0:
            start, end = _line_around(text, at)
            whole = text[start:end].replace(BREAK, "").replace(SEAM, "")
            if literals := {literal for literal in _index() if literal in whole}:
                found[start, end] |= literals
            at = text.find(stop, end)
    return [Candidate(start, end, *_shown_by(frozenset(shown))) for (start, end), shown in sorted(found.items())]


@lru_cache(4096)
def _shown_by(shown: frozenset[str | int]) -> tuple[tuple[ConsolePattern, ...], bool]:
    """What the literals, and the numbers of patterns without one, in ``shown`` may show."""
    numbers = {one for one in shown if isinstance(one, int)}
    parts = [_index()[literal] for literal in shown if isinstance(literal, str)]
    numbers |= {number for part, _ in parts for number in part}
    return tuple(PATTERNS[number] for number in sorted(numbers)), any(is_mark for _, is_mark in parts)


def _line_around(text: str, at: int) -> tuple[int, int]:
    end = text.find("\n", at)
    return text.rfind("\n", 0, at) + 1, len(text) if end < 0 else end
