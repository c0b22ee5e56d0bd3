"""What each finding means, what is usually behind it, and what to do next: ``finding_catalog.toml`` and its pages."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.core import serialization
from harness.core.errors import UsageError

_FILE = Path(__file__).with_name("finding_catalog.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A line of a console, and the program and release ``of`` which it is."""

    of: str
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """``means`` is a sentence; the likeliest of ``usual`` causes comes first, as does the ``next`` thing to do.
    ``seen`` is how it shows on a console, if it does."""

    means: str
    usual: tuple[str, ...]
    next: tuple[str, ...]
    seen: tuple[Example, ...] = ()


@cache
def explanations() -> Mapping[str, Explanation]:
    """All of them by finding, in the order of a boot."""
    with _FILE.open("rb") as file:
        return {name: serialization.load(Explanation, plain) for name, plain in tomllib.load(file).items()}


def next_step(finding_id: str) -> str:
    """What to do first about a finding; empty for one that is not known, such as an exception's name."""
    known = explanations().get(finding_id)
    return known.next[0] if known else ""


def page(finding_id: str) -> Iterator[str]:
    """All about one finding, as lines; `UsageError` names the nearest for one that is not known."""
    known = explanations().get(finding_id)
    if known is None:
        near = difflib.get_close_matches(finding_id, explanations(), 1)
        hint = f"did you mean {near[0]}?" if near else "bootproof explain lists them"
        raise UsageError(f"no finding {finding_id!r}; {hint}")
    yield finding_id
    yield f"    {known.means}"
    for title, lines in (("usually", known.usual), ("next", known.next)):
        yield ""
        yield f"{title}:"
        yield from (f"  - {line}" for line in lines)
    if known.seen:
        yield ""
        yield "on a console:"
        width = max(len(one.of) for one in known.seen)
        yield from (f"  {one.of:{width}}  {one.line}" for one in known.seen)


_NEAR = 0.6
_STAMP = re.compile(r"^\s*(\[[ .\d]*\]\s*)+")
_VARIES = re.compile(r"0x[0-9a-f]+|\d+|/\S+")


def nearest(lines: Iterable[str]) -> tuple[str, str]:
    """The finding whose lines on a console are most like one of ``lines``, and that line; empty if none is like it.

    What every machine has in its own way, numbers and paths, counts for nothing.
    """
    known = [(name, _words(one.line)) for name, about in explanations().items() for one in about.seen]
    best, found = _NEAR, ("", "")
    for line in lines:
        words = _words(line)
        for name, awaited in known:
            matcher = difflib.SequenceMatcher(None, words, awaited, autojunk=False)
            if len(words) > 1 and matcher.real_quick_ratio() > best and matcher.ratio() > best:
                best, found = matcher.ratio(), (name, line.strip())
    return found


def _words(line: str) -> list[str]:
    return _VARIES.sub("", _STAMP.sub("", line)).split()


def summary() -> Iterator[str]:
    """A line a finding."""
    width = max(map(len, explanations()))
    yield from (f"{name:{width}}  {known.means}" for name, known in explanations().items())
