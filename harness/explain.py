"""What each finding means, what is usually behind it, and what to do next: ``explanations.toml``, and a page of it."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness import record
from harness.errors import UsageError

_FILE = Path(__file__).with_name("explanations.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """``means`` is a sentence; the likeliest of ``usual`` causes comes first, as does the ``next`` thing to do."""

    means: str
    usual: tuple[str, ...]
    next: tuple[str, ...]


@cache
def explanations() -> Mapping[str, Explanation]:
    """All of them by finding, in the order of a boot."""
    with _FILE.open("rb") as file:
        return {name: record.load(Explanation, plain) for name, plain in tomllib.load(file).items()}


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


def summary() -> Iterator[str]:
    """A line a finding."""
    width = max(map(len, explanations()))
    yield from (f"{name:{width}}  {known.means}" for name, known in explanations().items())
