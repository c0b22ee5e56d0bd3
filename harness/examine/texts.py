"""How the answers of a guest's programs are taken apart: lines of grep -H and ls, and values that may be absent."""

from __future__ import annotations

import re
from collections.abc import Iterator

_HEADING = "look"
_LISTED = re.compile(r"(\S+) -> (.*)$")


def some(command: str) -> str:
    """A probe's command that may print nothing: a heading comes first. ``command`` reads files of which some may be
    gone or unreadable, which grep(1), ls(1) and stat(1) say by the statuses 1 and 2."""
    return f"echo {_HEADING}\n{{ {command}; }} 2>/dev/null || [ $? -le 2 ]"


def lines_of(answer: str) -> list[str]:
    """The lines that a command of `some` printed; `ValueError` without its heading."""
    heading, *lines = answer.splitlines() or [""]
    if heading != _HEADING:
        raise ValueError(f"no heading but {heading!r}")
    return lines


def by_file(lines: list[str]) -> dict[str, list[str]]:
    """What ``grep -H ''`` printed, by file. `ValueError` for a line without the name of a file."""
    found = dict[str, list[str]]()
    for line in lines:
        path, colon, text = line.partition(":")
        if not colon or not path.startswith("/"):
            raise ValueError(f"no file in {line!r}")
        found.setdefault(path, []).append(text)
    return found


def links(lines: list[str]) -> Iterator[tuple[str, str, str]]:
    """What ``ls -l`` printed of links: folder (empty for links that were named), name and target of each."""
    folder = ""
    for line in lines:
        if line.startswith("/") and line.endswith(":"):
            folder = line[:-1]
        elif found := _LISTED.search(line):
            yield folder, found[1], found[2]
