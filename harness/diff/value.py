"""The difference between two images: sections of weighted entries."""

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
    """How important an entry is to an operator; the smallest number comes first."""

    ALARM = 0
    NOTABLE = 1
    USUAL = 2
    MINOR = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffEntry:
    """One difference. ``old`` is empty if it was added, ``new`` if it was removed; ``package`` owns it.

    ``referring`` are files in persistent paths that refer to what is gone: they outweigh everything else. All texts are
    printable: files of an image may have any name.
    """

    what: str
    change: Change
    old: str = ""
    new: str = ""
    package: str = ""
    weight: Weight = Weight.USUAL
    referring: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Differences of one kind, the most important first. ``unknown`` says why they are not known, ``notes`` what was
    left out."""

    name: str
    entries: tuple[DiffEntry, ...] = ()
    unknown: str = ""
    notes: tuple[str, ...] = ()

    @property
    def is_alarming(self) -> bool:
        return any(entry.weight is Weight.ALARM for entry in self.entries)

    @property
    def is_referred_to(self) -> bool:
        return any(entry.referring for entry in self.entries)

    @property
    def counts(self) -> str:
        """For example "2 changed, 1 added"."""
        counted = Counter(entry.change for entry in self.entries)
        return ", ".join(f"{counted[change]:,} {change}" for change in Change if counted[change])


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Names the artifacts of one side."""

    image: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """All sections, the most important first, including those without entries or facts."""

    old: Named
    new: Named
    sections: tuple[Section, ...]


def entry(
    what: str,
    old: str | None,
    new: str | None,
    *,
    weight: Weight = Weight.USUAL,
    package: str = "",
    referring: Iterable[str] = (),
) -> DiffEntry:
    """A `DiffEntry` from any texts; None means missing. One to which files are ``referring`` is alarming."""
    files = tuple(map(escaped, referring))
    change = Change.ADDED if old is None else Change.REMOVED if new is None else Change.CHANGED
    return DiffEntry(
        what=escaped(what),
        change=change,
        old=escaped(old or ""),
        new=escaped(new or ""),
        package=escaped(package),
        weight=Weight.ALARM if files else weight,
        referring=files,
    )


def section(name: str, entries: Iterable[DiffEntry], notes: Iterable[str] = ()) -> Section:
    """The entries in order: those that files refer to, then by weight, by change and by name."""
    order = list(Change)
    ranked = sorted(
        entries, key=lambda entry: (not entry.referring, entry.weight, order.index(entry.change), entry.what)
    )
    return Section(name=name, entries=tuple(ranked), notes=tuple(notes))
