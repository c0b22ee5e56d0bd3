"""The matchers of goss files: what a value accepts. Pure.

A matcher is a value of YAML: a string, a number, a bool, a list, or a mapping of one matcher's name to its argument.
The meaning is that of goss 0.4, docs/gossfile.md, "Matchers".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Seen = bool | int | float | str | list[Any] | dict[str, Any]
"""What a host shows: text, a number, a list, …"""

_TEXTS: dict[str, Callable[[str, str], bool]] = {
    "have-prefix": str.startswith,
    "have-suffix": str.endswith,
    "contain-substring": str.__contains__,
    "match-regexp": lambda text, pattern: _compiled(pattern).search(text) is not None,
}
_NUMBERS: dict[str, Callable[[float, float], bool]] = {
    "gt": float.__gt__,
    "ge": float.__ge__,
    "lt": float.__lt__,
    "le": float.__le__,
}
_LISTS = ("and", "or", "contain-elements", "consist-of")
_ONE = ("not", "contain-element", "have-key")
_OTHERS = ("equal", "have-len", "have-patterns")
KNOWN = (*_TEXTS, *_NUMBERS, *_LISTS, *_ONE, *_OTHERS)
_MOST_DEEP = 20
_REGEX = re.compile(r"!?/(?P<text>.*)/(?P<flags>[ims]*)", re.DOTALL)
"""A pattern that is a regular expression; any other is a part of a line."""


class NotComparable(ValueError):
    """A value is not of the kind that a matcher needs: goss fails then, whatever stands around the matcher."""


def problem_of(wanted: Any, deep: int = 0) -> str:
    """What is wrong with a matcher, and what would be right; empty if nothing is."""
    if deep > _MOST_DEEP:
        return "is nested too deeply"
    if isinstance(wanted, bool | int | float | str):
        return ""
    if isinstance(wanted, list):
        return next(filter(None, (problem_of(one, deep + 1) for one in wanted)), "")
    if not isinstance(wanted, dict):
        return f"{wanted!r} is not a string, a number, a list or a matcher; write it in quotes"
    if len(wanted) != 1:
        names = ", ".join(map(str, wanted))
        return f"has {len(wanted)} matchers ({names}); write one, or and: [ … ] with a list of them"
    ((name, value),) = wanted.items()
    return _problem_of_argument(name, value, deep)


def _problem_of_argument(name: str, value: Any, deep: int) -> str:
    if name not in KNOWN:
        return f"{name!r} is not a matcher that Bootproof has; it has {', '.join(KNOWN)}"
    if name in _TEXTS and not isinstance(value, str):
        return f"{name} needs a string, not {value!r}; write it in quotes"
    if name == "match-regexp":
        return _problem_of_regex(value)
    if name in _NUMBERS or name == "have-len":
        return "" if type(value) in (int, float) else f"{name} needs a number, not {value!r}"
    if name == "have-patterns":
        return problem_of_patterns(value)
    if name in _LISTS and not isinstance(value, list):
        return f"{name} needs a list, as {name}: [ … ]"
    return "" if name in (*_TEXTS, "equal") else problem_of(value, deep + 1)


def problem_of_patterns(patterns: Any) -> str:
    """What is wrong with the patterns for lines of a text; empty if nothing is."""
    if not isinstance(patterns, list):
        return "needs a list of patterns"
    for pattern in patterns:
        if not isinstance(pattern, str):
            return f"{pattern!r} is not a pattern; write it in quotes"
        if (found := _REGEX.fullmatch(pattern)) and (problem := _problem_of_regex(found["text"])):
            return problem
    return ""


def _problem_of_regex(text: str) -> str:
    if "[[:" in text:
        return f"{text!r} has a class such as [:alpha:], which is not read; write [A-Za-z]"
    try:
        _compiled(text)
    except re.error as error:
        return f"{text!r} is not a regular expression: {error}"
    return ""


def _compiled(text: str, flags: str = "") -> re.Pattern[str]:
    r"""Go's classes as \d are of ASCII."""
    return re.compile(text, re.ASCII | sum(getattr(re, flag.upper()) for flag in set(flags)))


def matches(wanted: Any, seen: Seen) -> bool:
    """Whether ``wanted`` accepts ``seen``; `NotComparable` if a part of it cannot be compared."""
    if isinstance(wanted, bool):
        return seen is wanted
    if isinstance(wanted, int | float):
        return _number(seen) == wanted
    if isinstance(wanted, str):
        return _text(seen) == wanted
    if isinstance(wanted, list):
        return _covers(wanted, _list(seen))
    ((name, value),) = wanted.items()
    return _accepts(name, value, seen)


def _accepts(name: str, value: Any, seen: Seen) -> bool:
    if name in _TEXTS:
        return _TEXTS[name](_text(seen), value)
    if name in _NUMBERS:
        return _NUMBERS[name](float(_number(seen)), float(value))
    match name:
        case "equal":
            return bool(seen == value) and isinstance(seen, bool) == isinstance(value, bool)
        case "have-len":
            if not isinstance(seen, str | list | dict):
                raise NotComparable(f"{shown(seen)} has no length")
            return len(seen) == int(value)
        case "have-patterns":
            return not unmet(value, _text(seen))
        case "have-key":
            return isinstance(seen, dict) and _any(value, seen)
        case "contain-element":
            return _any(value, _list(seen))
        case "contain-elements":
            return _covers(value, _list(seen))
        case "consist-of":
            return len(value) == len(elements := _list(seen)) and _covers(value, elements)
        case "not":
            return not matches(value, seen)
        case "and":
            return all(matches(one, seen) for one in value)
        case _:
            return any(matches(one, seen) for one in value)


def _any(wanted: Any, elements: Iterable[Any]) -> bool:
    """Whether one of ``elements`` is accepted; what cannot be compared counts only if none is."""
    problem: NotComparable | None = None
    for element in elements:
        try:
            if matches(wanted, element):
                return True
        except NotComparable as error:
            problem = error
    if problem:
        raise problem
    return False


def _covers(wanted: Sequence[Any], elements: Sequence[Any]) -> bool:
    """Whether each of ``wanted`` accepts an element of its own: augmenting paths in the graph of both."""
    taken = dict[int, int]()

    def place(number: int, tried: set[int]) -> bool:
        for at, element in enumerate(elements):
            if at not in tried and _does_accept(wanted[number], element):
                tried.add(at)
                if at not in taken or place(taken[at], tried):
                    taken[at] = number
                    return True
        return False

    return all(place(number, set()) for number in range(len(wanted)))


def _does_accept(wanted: Any, element: Any) -> bool:
    try:
        return matches(wanted, element)
    except NotComparable:
        return False


def _number(seen: Seen) -> float:
    if isinstance(seen, int | float) and not isinstance(seen, bool):
        return seen
    try:
        return float(_text(seen).strip() if isinstance(seen, str | list) else "")
    except ValueError:
        raise NotComparable(f"{shown(seen)} is not a number") from None


def _text(seen: Seen) -> str:
    if isinstance(seen, list):
        return "\n".join(map(_text, seen))
    return str(seen).lower() if isinstance(seen, bool) else str(seen)


def _list(seen: Seen) -> list[Any]:
    if isinstance(seen, str):
        return seen.split("\n")
    if isinstance(seen, list):
        return seen
    raise NotComparable(f"{shown(seen)} is not a list")


def unmet(patterns: Iterable[str], text: str) -> list[str]:
    """The ``patterns`` that the lines of ``text`` do not meet: "part of a line", "/regular expression/", and both with
    a first "!" for what no line may have."""
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
    return [pattern for pattern in patterns if pattern and _is_in(pattern, lines) == pattern.startswith("!")]


def _is_in(pattern: str, lines: Iterable[str]) -> bool:
    if found := _REGEX.fullmatch(pattern):
        regex = _compiled(found["text"], found["flags"])
        return any(regex.search(line) for line in lines)
    part = pattern.lstrip("\\/!")
    return any(part in line for line in lines)


def shown(value: Any) -> str:
    """A value or a matcher as in a goss file, on one line."""
    return json.dumps(value, ensure_ascii=False, default=str)
