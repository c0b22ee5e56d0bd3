"""The meaning of each finding, its usual causes and the next steps: ``finding_catalog.toml`` and its pages."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.core import serialization
from harness.core.config_file import suggestion
from harness.core.errors import UsageError

_FILE = Path(__file__).with_name("finding_catalog.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A console line, and the program and release that prints it (``of``)."""

    of: str
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """``means`` is a sentence. The likeliest of the ``usual`` causes and the first of the ``next`` steps come first.
    ``seen`` are console lines that show the finding, if there are any."""

    means: str
    usual: tuple[str, ...]
    next: tuple[str, ...]
    seen: tuple[Example, ...] = ()


@cache
def explanations() -> Mapping[str, Explanation]:
    """All explanations by finding, in the order of a boot."""
    with _FILE.open("rb") as file:
        return {name: serialization.load(Explanation, plain) for name, plain in tomllib.load(file).items()}


def next_step(finding_id: str) -> str:
    """The first step after a finding; empty for an unknown finding, such as an exception's name."""
    known = explanations().get(finding_id)
    return known.next[0] if known else ""


def page(finding_id: str) -> Iterator[str]:
    """The page about one finding, as lines; `UsageError` for an unknown finding names the nearest."""
    known = explanations().get(finding_id)
    if known is None:
        hint = suggestion(finding_id, explanations(), "bootproof explain lists them")
        raise UsageError(f"no finding or file {finding_id!r}; {hint}")
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
    """The finding whose console lines are most like one of ``lines``, and that line; empty if none is similar.

    Numbers and paths, which differ between machines, are ignored.
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
    """One line for each finding."""
    width = max(map(len, explanations()))
    yield from (f"{name:{width}}  {known.means}" for name, known in explanations().items())
