"""A difference between two images as a value: sections of entries, each with how much it matters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from harness.core.text import escaped


class Change(StrEnum):
    CHANGED = "changed"
    REMOVED = "removed"
    ADDED = "added"


class Weight(IntEnum):
    """How much an operator should care; the least number comes first."""

    ALARM = 0
    NOTABLE = 1
    USUAL = 2
    MINOR = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffEntry:
    """One thing that differs. ``old`` is empty for what was added, ``new`` for what was removed; ``package`` owns it.

    All texts are printable: what comes out of an image may have any name.
    """

    what: str
    change: Change
    old: str = ""
    new: str = ""
    package: str = ""
    weight: Weight = Weight.USUAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What differs of one kind, by weight. ``unknown`` says why that cannot be told; ``notes`` what was left out."""

    name: str
    entries: tuple[DiffEntry, ...] = ()
    unknown: str = ""
    notes: tuple[str, ...] = ()

    @property
    def is_alarming(self) -> bool:
        return any(entry.weight is Weight.ALARM for entry in self.entries)

    @property
    def counts(self) -> str:
        """For example "2 changed, 1 added"."""
        counted = Counter(entry.change for entry in self.entries)
        return ", ".join(f"{counted[change]:,} {change}" for change in Change if counted[change])


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Which artifacts one side is."""

    image: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """All sections, the most interesting first; those without entries or of which nothing is known too."""

    old: Named
    new: Named
    sections: tuple[Section, ...]


def entry(
    what: str, old: str | None, new: str | None, *, weight: Weight = Weight.USUAL, package: str = ""
) -> DiffEntry:
    """An `DiffEntry` of texts from anywhere; None stands for what is not there."""
    change = Change.ADDED if old is None else Change.REMOVED if new is None else Change.CHANGED
    return DiffEntry(
        what=escaped(what),
        change=change,
        old=escaped(old or ""),
        new=escaped(new or ""),
        package=escaped(package),
        weight=weight,
    )


def section(name: str, entries: Iterable[DiffEntry], notes: Iterable[str] = ()) -> Section:
    """The entries in order: by weight, then by change, then by name."""
    order = list(Change)
    ranked = sorted(entries, key=lambda entry: (entry.weight, order.index(entry.change), entry.what))
    return Section(name=name, entries=tuple(ranked), notes=tuple(notes))
