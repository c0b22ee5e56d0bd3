"""The words that a line must have for a regular expression to match it: a quick test before the search."""

from __future__ import annotations

import re

_BLANKED = bytes(
    code if chr(code).isascii() and (chr(code).isalnum() or chr(code) == "_") else 32 for code in range(256)
)
"""For `bytes.translate`: all but letters, digits and underscores of ASCII becomes blank."""
_UNKNOWN = "\0"
_TOKEN = re.compile(
    r"(?P<boundary>\\b|[\^$])|\\(?P<literal>[^\w\s])|(?P<unknown>\\.|\.|\[\^?\]?(?:\\.|[^]\\])*\])"
    r"|(?P<group>\()|(?P<quantifier>[?*+]|\{[\d,]+\})|(?P<bar>\|)|(?P<char>.)",
    re.DOTALL,
)


def words_of(line: str) -> list[bytes]:
    """The words of ``line``: what is between blanks, punctuation and characters other than ASCII. Takes 0.4 µs."""
    return line.encode(errors="replace").translate(_BLANKED).split()


def whole_words(regex: str) -> list[bytes]:
    """The words that every line has that ``regex`` matches; `ValueError` if there are none."""
    text, at = [_UNKNOWN], 0
    while at < len(regex):
        token = _TOKEN.match(regex, at)
        assert token
        at = token.end()
        if token["bar"]:
            raise ValueError(f"{regex!r}: write the alternatives as strings of their own, or in parentheses")
        if token["group"]:
            at = _end_of_group(regex, at)
            text.append("" if token.string.startswith(("(?=", "(?!", "(?<"), token.start()) else _UNKNOWN)
        elif token["quantifier"]:
            text[-1] = _UNKNOWN if token[0] != "+" else text[-1] + _UNKNOWN
        else:
            text.append(" " if token["boundary"] else token["literal"] or token["char"] or _UNKNOWN)
    parts = re.findall(r"[\w\0]+", "".join([*text, _UNKNOWN]), re.ASCII)
    whole = [part.encode() for part in parts if _UNKNOWN not in part]
    if not whole:
        raise ValueError(f"{regex!r}: write a whole word outside of parentheses, for example with \\b at its end")
    return whole


def _end_of_group(regex: str, at: int) -> int:
    """The index behind the group whose content begins at ``at``."""
    depth = 1
    while depth:
        token = _TOKEN.match(regex, at)
        assert token
        at = token.end()
        depth += (token[0] == "(") - (token[0] == ")")
    return at
