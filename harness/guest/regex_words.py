"""The words that a line must have for a regular expression to match it: a quick test before the search."""

from __future__ import annotations

import re

SEPARATED = {code: " " for code in range(128) if not (chr(code).isalnum() or chr(code) == "_")}
"""For `str.translate`: all of ASCII that separates words becomes a blank."""
_UNKNOWN = "\0"
_TOKEN = re.compile(
    r"(?P<boundary>\\b|[\^$])|\\(?P<literal>[^\w\s])|(?P<unknown>\\.|\.|\[\^?\]?(?:\\.|[^]\\])*\])"
    r"|(?P<group>\()|(?P<quantifier>[?*+]|\{[\d,]+\})|(?P<bar>\|)|(?P<char>.)",
    re.DOTALL,
)


def whole_words(regex: str) -> list[str]:
    """The words that every line has that ``regex`` matches; `ValueError` if there are none."""
    text, at = [_UNKNOWN], 0
    while at < len(regex):
        token = _TOKEN.match(regex, at)
        assert token
        at = token.end()
        if token["bar"]:
            raise ValueError("write the alternatives as strings of their own, or in parentheses")
        if token["group"]:
            at = _end_of_group(regex, at)
            text.append("" if token.string.startswith(("(?=", "(?!", "(?<"), token.start()) else _UNKNOWN)
        elif token["quantifier"]:
            text[-1] = _UNKNOWN if token[0] != "+" else text[-1] + _UNKNOWN
        else:
            text.append(" " if token["boundary"] else token["literal"] or token["char"] or _UNKNOWN)
    words = "".join([*text, _UNKNOWN]).translate(SEPARATED | {0: _UNKNOWN}).split()
    whole = [word for word in words if _UNKNOWN not in word]
    if not whole:
        raise ValueError("write a whole word outside of parentheses, for example with \\b at its end")
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
