"""TOML files that people write, read so that what is wrong is named with its place and with what would be right."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any

from harness.core.errors import DefinitionError, UsageError


class ConfigTable:
    """One TOML table being read; what nobody took is a misspelt key."""

    def __init__(self, file: Path, name: str, content: Any) -> None:
        self.file, self.name, self.known = file, name, list[str]()
        if not isinstance(content, dict):
            raise DefinitionError(str(file), name, "is not a table", f"write [{name}] with its keys below")
        self.content = dict(content)
        self.found = dict(content)

    def error(self, key: str, problem: str, remedy: str) -> DefinitionError:
        full_key = f"{self.name}.{key}" if self.name else key
        return DefinitionError(str(self.file), full_key, problem, remedy)

    def take(self, key: str, kind: type, example: str, default: Any = None) -> Any:
        self.known.append(key)
        if key not in self.content:
            if default is None:
                raise self.error(key, "is missing", f"for example {key} = {example}")
            return default
        value = self.content.pop(key)
        is_number = kind is int and (isinstance(value, bool) or not isinstance(value, int) or value <= 0)
        if not isinstance(value, kind) or is_number:
            raise self.error(key, f"{value!r} will not do", f"for example {key} = {example}")
        return value

    def strings(self, key: str, example: str, default: Any = None) -> tuple[str, ...]:
        values = self.take(key, list, example, default)
        for value in values:
            if not isinstance(value, str) or not value:
                raise self.error(key, f"{value!r} is not a name", f"for example {key} = {example}")
            if values.count(value) > 1:
                raise self.error(key, f"{value!r} is listed twice", "list it once")
        return tuple(values)

    def matching(self, key: str, pattern: re.Pattern[str], example: str, remedy: str) -> str:
        value = str(self.take(key, str, f'"{example}"'))
        if not pattern.fullmatch(value):
            raise self.error(key, f"{value!r} will not do", remedy)
        return value

    def finish(self) -> None:
        for key in self.content:
            near = difflib.get_close_matches(key, self.known, 1)
            known = ", ".join(self.known)
            raise self.error(key, "is not a known key", f"did you mean {near[0]}?" if near else f"known: {known}")


def read_table(file: Path) -> ConfigTable:
    """All of ``file``; `UsageError` where it cannot be read, `DefinitionError` where it is not TOML."""
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DefinitionError(str(file), "syntax", str(error), "see toml.io") from error
    return ConfigTable(file, "", content)
