"""A difference as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from harness.diff.value import Change, Diff, DiffEntry, Named, Section, Weight

SHOWN = 12
_SIGNS = {Change.ADDED: "+", Change.REMOVED: "-", Change.CHANGED: "~"}
_WIDEST = 48


def as_text(diff: Diff, *, limit: int | None = SHOWN) -> Iterator[str]:
    """Lines: the differences, up to ``limit`` entries a section; then the equal sections, and the unknown ones."""
    yield f"OLD  {_name(diff.old)}"
    yield f"NEW  {_name(diff.new)}"
    for section in diff.sections:
        if section.entries:
            yield ""
            yield from _section(section, limit)
    yield ""
    same = [section.name for section in diff.sections if not section.entries and not section.unknown]
    if same:
        yield f"nothing differs in: {', '.join(same)}"
    for names, why in unknown_sections(diff):
        yield f"not known: {names}: {why}"


def _name(named: Named) -> str:
    return f"{named.image} {named.version}  {named.digest[:12]}"


def _section(section: Section, limit: int | None) -> Iterator[str]:
    yield f"{section.name}: {section.counts}"
    shown = section.entries[:limit]
    width = min(_WIDEST, max(len(_what(entry)) for entry in shown))
    for entry in shown:
        alarm = "!" if entry.weight is Weight.ALARM else " "
        values = " → ".join(filter(None, [entry.old, entry.new]))
        yield f" {alarm}{_SIGNS[entry.change]} {_what(entry):{width}}  {values}".rstrip()
        yield from (f"       {file} refers to it" for file in entry.referring)
    if len(section.entries) > len(shown):
        yield f"    and {len(section.entries) - len(shown):,} more; --all shows them"
    yield from (f"    ({note})" for note in section.notes)


def _what(entry: DiffEntry) -> str:
    return f"{entry.what} ({entry.package})" if entry.package not in ("", entry.what) else entry.what


def unknown_sections(diff: Diff) -> list[tuple[str, str]]:
    """The names of sections without facts, and why."""
    reasons = dict[str, list[str]]()
    for section in diff.sections:
        if section.unknown:
            reasons.setdefault(section.unknown, []).append(section.name)
    return [(", ".join(names), why) for why, names in reasons.items()]
