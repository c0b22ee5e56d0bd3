"""A difference for people: as lines of text, and as HTML for the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

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
    for names, why in _unknown(diff):
        yield f"not known: {names}: {why}"


def _name(named: Named) -> str:
    return f"{named.image} {named.version}  {named.digest[:12]}"


def _section(section: Section, limit: int | None) -> Iterator[str]:
    yield f"{section.name}: {section.counts}"
    shown = section.entries[:limit]
    width = min(_WIDEST, max(len(_what(entry)) for entry in shown))
    for entry in shown:
        alarm = "!" if entry.weight is Weight.ALARM else " "
        yield f" {alarm}{_SIGNS[entry.change]} {_what(entry):{width}}  {_values(entry)}".rstrip()
    if len(section.entries) > len(shown):
        yield f"    and {len(section.entries) - len(shown):,} more; --all shows them"
    yield from (f"    ({note})" for note in section.notes)


def _what(entry: DiffEntry) -> str:
    return f"{entry.what} ({entry.package})" if entry.package not in ("", entry.what) else entry.what


def _values(entry: DiffEntry) -> str:
    return " → ".join(filter(None, [entry.old, entry.new]))


def _unknown(diff: Diff) -> list[tuple[str, str]]:
    """The names of sections without facts, and why."""
    reasons = dict[str, list[str]]()
    for section in diff.sections:
        if section.unknown:
            reasons.setdefault(section.unknown, []).append(section.name)
    return [(", ".join(names), why) for why, names in reasons.items()]


def as_html(diff: Diff, *, level: int = 2, limit: int | None = SHOWN) -> str:
    """A fragment: headings from ``level`` on, tables; entries beyond ``limit`` are folded. No styles, all escaped."""
    return "\n".join(_html(diff, level, limit))


def _html(diff: Diff, level: int, limit: int | None) -> Iterator[str]:
    yield '<section class="diff">'
    yield f"<h{level}>What differs from {escape(f'{diff.old.image} {diff.old.version}')}</h{level}>"
    yield f"<p>Old: {escape(_name(diff.old))}<br>New: {escape(_name(diff.new))}</p>"
    for section in diff.sections:
        if section.entries:
            yield f"<h{level + 1}>{escape(section.name.capitalize())}: {section.counts}</h{level + 1}>"
            yield from _table(section.entries[:limit])
            rest = section.entries[limit:] if limit is not None else ()
            if rest:
                yield f"<details><summary>{len(rest):,} more</summary>"
                yield from _table(rest)
                yield "</details>"
            yield from (f"<p>{escape(note.capitalize())}.</p>" for note in section.notes)
    same = [section.name for section in diff.sections if not section.entries and not section.unknown]
    if same:
        yield f"<p>Nothing differs in: {escape(', '.join(same))}.</p>"
    for names, why in _unknown(diff):
        yield f"<p>Not known: {escape(names)}: {escape(why)}.</p>"
    yield "</section>"


def _table(entries: Sequence[DiffEntry]) -> Iterator[str]:
    has_packages = any(entry.package not in ("", entry.what) for entry in entries)
    package = '<th scope="col">package</th>' if has_packages else ""
    yield '<table><thead><tr><th scope="col">what</th><th scope="col">change</th><th scope="col">old</th>'
    yield f'<th scope="col">new</th>{package}</tr></thead><tbody>'
    for entry in entries:
        mark = ' class="alarm"' if entry.weight is Weight.ALARM else ""
        owner = f"<td>{escape(entry.package)}</td>" if has_packages else ""
        cells = "".join(f"<td>{escape(text)}</td>" for text in (entry.change, entry.old, entry.new))
        yield f'<tr{mark}><th scope="row">{escape(entry.what)}</th>{cells}{owner}</tr>'
    yield "</tbody></table>"
