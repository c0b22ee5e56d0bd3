"""Values as JSON and back: what was written reads back equal, also by a later Bootproof."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from harness.core.errors import UsageError

if TYPE_CHECKING:
    from cattrs.preconf.json import JsonConverter

T = TypeVar("T")
Plain = dict[str, Any]


class NewerFormat(UsageError):
    """A file was written by a newer Bootproof: its format has a ``number`` above the ``newest`` that this one reads."""

    def __init__(self, kind: str, number: int, newest: int, file: str = "the file") -> None:
        super().__init__(kind, number, newest, file)
        self.kind, self.number, self.newest, self.file = kind, number, newest, file

    def __str__(self) -> str:
        reads = f"this Bootproof reads up to {self.newest}"
        return f"{self.file} has format {self.number} of {self.kind}; {reads}: upgrade Bootproof"


class _BadFormat(ValueError):
    """The sentence says what is wrong; of any other error cattrs says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """The ``number`` of a ``kind`` of file that others read ("a verdict"), and how an older file becomes a current one.

    A class has its format as the class variable ``FORMAT`` and the number as its field ``format``; a file without a
    number is 0. ``upgrades`` maps an older number to the function that returns the same fields as the next number has
    them. Change the number with each change of the fields.
    """

    kind: str
    number: int
    upgrades: Mapping[int, Callable[[Plain], Plain]] = field(default_factory=dict)

    def upgrade(self, plain: Any, file: str = "the file") -> Plain:
        """``plain``, which was read from ``file``, in the current format.

        `NewerFormat` for a newer one, `ValueError` for a number that no Bootproof wrote and for what is not an object.
        """
        if not isinstance(plain, dict):
            raise _BadFormat(f"{self.kind} is an object, not a {type(plain).__name__}")
        number = plain.get("format", 0)
        if isinstance(number, float) and number.is_integer():  # protobuf has no whole numbers
            number = int(number)
        if not isinstance(number, int) or isinstance(number, bool):
            raise _BadFormat(f"format {number!r} is not a whole number")
        if number > self.number:
            raise NewerFormat(self.kind, number, self.number, file)
        for older in range(number, self.number):
            if older not in self.upgrades:
                raise _BadFormat(f"format {older} of {self.kind} does not exist")
            plain = self.upgrades[older](plain)
        return {**plain, "format": self.number}


def renamed(plain: Plain, **names: str) -> Plain:
    """``plain`` with its fields old=new renamed; those that it does not have are left alone."""
    return {names.get(name, name): value for name, value in plain.items()}


@cache
def _converter() -> JsonConverter:
    from cattrs.preconf.json import make_converter  # 0.1 s that `--help` need not pay

    converter = make_converter(forbid_extra_keys=True)
    converter.register_unstructure_hook(Path, str)
    converter.register_unstructure_hook(UUID, str)
    converter.register_unstructure_hook(date, date.isoformat)
    converter.register_unstructure_hook(StrEnum, lambda member: member.value)
    converter.register_structure_hook(Path, lambda text, _: Path(text))
    converter.register_structure_hook(UUID, lambda text, _: UUID(text))
    converter.register_structure_hook(date, lambda text, _: date.fromisoformat(text))

    def upgrading(kind: Any) -> Callable[[Any, Any], Any]:
        structure, format_ = converter.gen_structure_attrs_fromdict(kind), kind.FORMAT

        return lambda plain, _: structure(format_.upgrade(plain), kind)

    converter.register_structure_hook_factory(lambda kind: isinstance(getattr(kind, "FORMAT", None), Format), upgrading)
    return converter


def dump(value: Any) -> Any:
    """A frozen value as plain lists, dicts, strings and numbers."""
    return _converter().unstructure(value)


def load(kind: type[T], plain: Any, file: str = "the file") -> T:
    """The ``kind`` that ``plain`` describes, which was read from ``file``.

    An older format is upgraded; `NewerFormat` for a newer one, `ValueError` says where anything else differs.
    """
    from cattrs import transform_error
    from cattrs.v import format_exception

    def explain(error: BaseException, wanted: type | None) -> str:
        return str(error) if isinstance(error, _BadFormat) else format_exception(error, wanted)

    try:
        return _converter().structure(plain, kind)
    except Exception as error:  # cattrs raises many kinds
        if newer := _newer_format(error):
            raise NewerFormat(newer.kind, newer.number, newer.newest, file) from error
        raise ValueError("; ".join(transform_error(error, format_exception=explain)[:3])) from error


def _newer_format(error: Exception) -> NewerFormat | None:
    """The first in the tree of errors that cattrs raises."""
    inner = error.exceptions if isinstance(error, ExceptionGroup) else ()
    return error if isinstance(error, NewerFormat) else next(filter(None, map(_newer_format, inner)), None)


def write(path: Path, value: Any) -> None:
    """``value`` as indented JSON at ``path``, as `write_text` does."""
    write_text(path, json.dumps(dump(value), indent=2, sort_keys=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """``text`` at ``path``: all of it or, if interrupted, what was there before.

    For one writer at a time. What a killed one left half written is overwritten by the next.
    """
    half_made = path.with_name(f".{path.name}.new")
    with half_made.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    half_made.replace(path)


def read(kind: type[T], path: Path) -> T:
    """The ``kind`` written at ``path``; errors are those of `load`, `OSError` and `ValueError` for what is not JSON."""
    return load(kind, parse(path.read_text("utf-8")), str(path))


def parse(text: str) -> Any:
    """The JSON in ``text``; `ValueError` for what is not JSON, and for what is nested deeper than Python can read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("lists or objects are nested too deeply") from None
