"""Text for people: sizes, ages, and text from guests and files made fit to show."""

from __future__ import annotations

import re

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # ECMA-48 control sequences: colours, cursor
    r"|\x1b[]PX^_][^\x07\x1b\n]*(\x07|\x1b\\)"  # its strings: titles, links, questions to the terminal (systemd 259)
    r"|\x1b[ -/]*[0-~]|[\r\x00\x07\x0f]"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
"""All but tabulator and end of line. iPXE corrects its output with backspaces."""


def size(size_bytes: int) -> str:
    """``1.5 GiB``, ``3 MiB`` or ``5 KiB``."""
    if size_bytes >= 1 << 30:
        return f"{size_bytes / (1 << 30):.1f} GiB"
    return f"{size_bytes >> 20} MiB" if size_bytes >= 1 << 20 else f"{size_bytes >> 10} KiB"


def ago(age_s: float) -> str:
    """``2 hours ago``, in the largest unit of which there is one; ``just now`` within a minute."""
    for unit, unit_s in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(age_s // unit_s)
        if count > 0:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def plain(text: str) -> str:
    """``text`` without terminal control sequences, carriage returns and bells: a console line as it is matched."""
    return _ESCAPES.sub("", text)


def clean(text: str) -> str:
    """`plain` without any control character but tabulator and end of line, and encodable: fit for any file."""
    return _CONTROLS.sub("", plain(text)).encode("utf-8", "replace").decode()


def escaped(text: str) -> str:
    """``text`` on one line, with everything that is not printable escaped as in a Python string: fit for a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
