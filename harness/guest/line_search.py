"""The lines of a long text that show a console pattern, or may show a stage of a boot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

from harness.guest.console_marks import MARK_WORDS, may_be_mark
from harness.guest.console_patterns import PATTERNS, ConsolePattern, patterns_in
from harness.guest.console_text import BREAK, SEAM
from harness.guest.regex_words import whole_words, words_of

_BLANKED = bytes(code if chr(code) in "_\n" or (code < 128 and chr(code).isalnum()) else 32 for code in range(256))
"""For `bytes.translate`: what is not of a word, as `words_of` finds them, becomes blank; ends of lines stay."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """The line from ``start`` to ``end`` of a text, which matches a pattern or, if it ``is_mark``, may show a stage."""

    start: int
    end: int
    is_mark: bool


@cache
def _pattern_words() -> frozenset[bytes]:
    """Each line that a pattern matches has one of these words; about half of all lines have none."""
    return frozenset(max(whole_words(regex), key=len) for pattern in PATTERNS for regex in pattern.any_of)


def candidates(text: str) -> list[Candidate]:
    """The lines that match a pattern or may show a stage, in the order of ``text``."""
    found, at, pattern_words = list[Candidate](), 0, _pattern_words()
    blanked_lines = text.encode(errors="replace").translate(_BLANKED).split(b"\n")
    for line, blanked in zip(text.split("\n"), blanked_lines, strict=True):
        start, at = at, at + len(line) + 1
        words = blanked.split()
        if not MARK_WORDS.isdisjoint(words) and may_be_mark(line):
            found.append(Candidate(start, at - 1, is_mark=True))
        elif BREAK in line or SEAM in line:
            whole = line.replace(BREAK, "").replace(SEAM, "")
            words += words_of(whole)
            is_mark = not MARK_WORDS.isdisjoint(words) and may_be_mark(whole)
            if is_mark or (not pattern_words.isdisjoint(words) and _any_part_matches(whole, line)):
                found.append(Candidate(start, at - 1, is_mark))
        elif not pattern_words.isdisjoint(words) and _matches(line):
            found.append(Candidate(start, at - 1, is_mark=False))
    return found


def _any_part_matches(whole: str, line: str) -> bool:
    return any(_matches(part) for part in (whole, *line.replace(SEAM, BREAK).split(BREAK)))


@lru_cache(4096)
def found_in(text: str) -> tuple[ConsolePattern, ...]:
    """`patterns_in`, which is slow for lines that have words of many patterns, and logs repeat lines."""
    return tuple(patterns_in(text))


def _matches(text: str) -> bool:
    """Whether a pattern matches ``text``, or what follows a time in brackets that begins with a letter."""
    if found_in(text):
        return True
    is_dated = text.startswith("[") and text[1:2].isalpha()
    return is_dated and bool(found_in(text.partition("]")[2].lstrip()))
