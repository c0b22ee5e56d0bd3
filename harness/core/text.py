"""Text for people."""

from __future__ import annotations

import re

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # ECMA-48 control sequences: colours, cursor
    r"|\x1b\][^\x07\x1b]*(\x07|\x1b\\)"  # operating system commands: titles, links
    r"|\x1b[ -/]*[0-~]|[\r\x00\x07\x0f]"
)


def size(size_bytes: int) -> str:
    if size_bytes >= 1 << 30:
        return f"{size_bytes / (1 << 30):.1f} GiB"
    return f"{size_bytes >> 20} MiB" if size_bytes >= 1 << 20 else f"{size_bytes >> 10} KiB"


def ago(age_s: float) -> str:
    for unit, unit_s in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(age_s // unit_s)
        if count > 0:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def plain(text: str) -> str:
    """``text`` without what only a terminal understands."""
    return _ESCAPES.sub("", text)
