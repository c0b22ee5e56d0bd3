"""Which patterns match a device's modalias: thousands of patterns, by the text before their first wildcard."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from harness.fleet.modprobe import underscored_pattern

_WILDCARD = re.compile(r"[*?\[]")
_BY_CLASS = re.compile(r"pci:v\*d\*|usb:v\*p\*")
"""Patterns that leave vendor and device open, so they match by class alone."""
_MOST_REMEMBERED = 100_000


class AliasIndex:
    """Patterns with the modules they load. What was asked once is remembered: fleets have few kinds of devices."""

    def __init__(self, aliases: Iterable[str]) -> None:
        """``aliases`` are "pattern module"."""
        self._patterns = dict[str, list[tuple[str, str]]]()
        for line in aliases:
            pattern, _, module = line.rpartition(" ")
            wildcard = _WILDCARD.search(pattern)
            begin = pattern[: wildcard.start()] if wildcard else pattern
            self._patterns.setdefault(begin, []).append((pattern, module))
        self._lengths = sorted({len(begin) for begin in self._patterns})
        self._known = dict[str, tuple[tuple[str, bool], ...]]()

    def match(self, modalias: str) -> tuple[tuple[str, bool], ...]:
        """The modules whose patterns match, the nearest pattern first; each with whether it matches by class alone."""
        found = self._known.get(modalias)
        if found is None:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            found = self._known[modalias] = self._search(underscored_pattern(modalias))
        return found

    def _search(self, modalias: str) -> tuple[tuple[str, bool], ...]:
        modules = dict[str, bool]()
        for length in reversed(self._lengths):
            if length <= len(modalias):
                for pattern, module in self._patterns.get(modalias[:length], ()):
                    if fnmatchcase(modalias, pattern):
                        modules.setdefault(module, _BY_CLASS.match(pattern) is not None)
        return tuple(modules.items())
