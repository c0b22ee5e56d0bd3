"""How a log was written: times before its lines, senders in them, and the width of the terminal that wrapped them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from harness.guest.console_marks import OUTER, SENDER, STAMPS
from harness.guest.console_text import SEAM

_NEW_MESSAGE = re.compile(r"  |\[[ \dTC.]+\]|\[[ A-Z!*]{4,10}\]|\[[A-Z][a-z]{2} |See '|-- ")
_SAMPLE, _SAMPLE_LINES, _FEW = 1 << 17, 500, 20
_USUAL_WIDTH, _LEAST_WIDTH, _MOST_WIDTH = 80, 60, 250


@dataclass(frozen=True, slots=True)
class Style:
    """How a log looks: each line has a time of ``prefix`` characters, terminals wrapped it at one of ``widths``, and
    ``is_journal`` if each line also names a host and a program."""

    prefix: int
    widths: tuple[int, ...]
    is_journal: bool

    @classmethod
    def of(cls, text: str) -> Style:
        lines = [line for line in text[:_SAMPLE].split("\n")[:_SAMPLE_LINES] if line.strip()]
        found = [OUTER.match(line) for line in lines]
        lengths = Counter(match.end() for match in found if match)
        prefix, count = lengths.most_common(1)[0] if lengths else (0, 0)
        prefix = prefix if count >= 0.9 * len(lines) else 0
        widths = Counter(len(line) - prefix for line in lines)
        widest = max(widths, default=0)
        is_wrapped = _LEAST_WIDTH <= widest <= _MOST_WIDTH and widths[widest] >= max(3, 0.02 * len(lines))
        return cls(prefix, tuple({_USUAL_WIDTH, widest if is_wrapped else _USUAL_WIDTH}), _is_journal(lines))


def _is_journal(lines: list[str]) -> bool:
    """Whether most lines have a sender. Of few lines, or lines with the kernel's times, only a sure sign counts."""
    stamped = [line[match.end() :] for line in lines if (match := STAMPS.match(line))]
    senders = [match for line in stamped if (match := SENDER.match(line))]
    sure = [match for match in senders if match["pid"] or match["program"] == "kernel"]
    return bool(sure) and len(senders) >= 0.7 * len(stamped) and (len(lines) >= _FEW or len(sure) == len(lines))


def joined(text: str, style: Style) -> str:
    """``text`` with a seam at each end of a line that a terminal wrapped."""
    if not style.widths:
        return text
    lengths = "|".join(f"[^\n]{{{width + style.prefix}}}" for width in style.widths)
    pieces, at = list[str](), 0
    for match in re.finditer(rf"\n(?=({lengths})\n[^\n])", "\n" + text):
        end = match.end() - 1 + len(match[1])
        is_new = _NEW_MESSAGE.match(text, end + 1 + style.prefix) or (not style.prefix and STAMPS.match(text, end + 1))
        if not is_new:
            pieces.append(text[at:end])
            at = end + 1 + style.prefix
    return SEAM.join([*pieces, text[at:]])


def line_ends(text: str, start: int, end: int) -> int:
    return text.count("\n", start, end) + text.count(SEAM, start, end)
