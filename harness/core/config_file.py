"""The one reader of TOML files that people write: image definitions, hardware profiles, policies.

Each mistake is a `DefinitionError` that names the file, the key, the problem and the remedy.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from harness.core.errors import DefinitionError, UsageError

_REQUIRED: Any = object()
_MOST = 100_000_000
"""The largest number that a file may hold: every unit in use stays far from an overflow, `timedelta` included."""


class ConfigTable:
    """One TOML table while it is read. ``name`` is its dotted name in ``file``, empty for the whole file.

    A key without a ``default`` is required. After all keys were taken, call `finish`: a key that was not is misspelt.
    """

    def __init__(self, file: Path, name: str, content: Any) -> None:
        self.file, self.name = file, name
        if not isinstance(content, dict):
            raise DefinitionError(str(file), name, "is not a table", f"write [{name}] with its keys below")
        self.content = content
        self._known: list[str] = []

    def error(self, key: str, problem: str, remedy: str) -> DefinitionError:
        return DefinitionError(str(self.file), self._full(key), problem, remedy)

    def _full(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def take(self, key: str, kind: type, example: str, default: Any = _REQUIRED, *, least: int = 1) -> Any:
        """The value of ``key``, which must have exactly the type ``kind``; a number is ``least`` or more."""
        self._known.append(key)
        if key not in self.content:
            if default is _REQUIRED:
                raise self.error(key, "is missing", f"for example {key} = {example}")
            return default
        value = self.content[key]
        if type(value) is not kind or (isinstance(value, int) and kind is int and not least <= value <= _MOST):
            limits = f", a whole number from {least} to {_MOST}" if kind is int else ""
            raise self.error(key, f"{value!r:.80} is not valid", f"for example {key} = {example}{limits}")
        return value

    def matching(self, key: str, pattern: re.Pattern[str], example: str, remedy: str, default: str = _REQUIRED) -> str:
        """A string that ``pattern`` matches as a whole."""
        value = str(self.take(key, str, f'"{example}"', default))
        if key in self.content and not pattern.fullmatch(value):
            raise self.error(key, f"{value!r} is not valid", remedy)
        return value

    def strings(self, key: str, example: str, default: Any = _REQUIRED) -> tuple[str, ...]:
        """A list of strings, none of them empty or listed twice."""
        values = self.take(key, list, example, default)
        for value in values:
            if not isinstance(value, str) or not value:
                raise self.error(key, f"{value!r} is not a name", f"for example {key} = {example}")
            if values.count(value) > 1:
                raise self.error(key, f"{value!r} is listed twice", "list it once")
        return tuple(values)

    def one_of(self, key: str, known: Collection[str], what: str, default: str = _REQUIRED) -> str:
        """One of the ``known`` strings; ``what`` is the word for them, with its article."""
        value = str(self.take(key, str, f'"{next(iter(known))}"', default))
        return self._known_value(key, value, known, what) if key in self.content else value

    def some_of(
        self, key: str, known: Collection[str], what: str, example: str, default: Any = _REQUIRED
    ) -> tuple[str, ...]:
        """A list of ``known`` strings, none of them twice."""
        values = self.strings(key, example, default)
        return tuple(self._known_value(key, value, known, what) for value in values)

    def _known_value(self, key: str, value: str, known: Collection[str], what: str) -> str:
        if value not in known:
            raise self.error(key, f"{value!r} is not {what}", suggestion(value, known))
        return value

    def table(self, key: str) -> ConfigTable:
        """The table ``key`` of this one; an empty one if it is missing."""
        return ConfigTable(self.file, self._full(key), self.take(key, dict, "…, a table", {}))

    def tables(self, key: str, example: str = "") -> list[ConfigTable]:
        """The tables that ``[[key]]`` begins, or those of a list, counted from 0 in errors; none if it is missing."""
        rows = self.take(key, list, example or f"…: write [[{self._full(key)}]], with its keys below", [])
        return [ConfigTable(self.file, f"{self._full(key)}[{number}]", row) for number, row in enumerate(rows)]

    def finish(self) -> None:
        for key in self.content:
            if key not in self._known:
                raise self.error(key, "is not a known key", suggestion(key, self._known))


def suggestion(word: str, known: Collection[str], otherwise: str = "") -> str:
    """For an unknown ``word``: the nearest of the ``known`` ones; if none is near, ``otherwise`` or all of them."""
    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean {near[0]}?" if near else otherwise or f"known: {', '.join(known) or 'none'}"


def read_table(file: Path) -> ConfigTable:
    """The whole of ``file``; `UsageError` where it cannot be read, `DefinitionError` where it is not TOML."""
    try:
        return parse_table(file, file.read_bytes())
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error


def parse_table(file: Path, content: bytes) -> ConfigTable:
    """The whole of ``content``, which was read from ``file``; `DefinitionError` where it is not TOML."""
    try:
        return ConfigTable(file, "", tomllib.loads(content.decode("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DefinitionError(str(file), "syntax", str(error), "see toml.io") from error
