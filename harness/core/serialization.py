"""Values as JSON and back: what was written reads back equal."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

if TYPE_CHECKING:
    from cattrs.preconf.json import JsonConverter

T = TypeVar("T")


@cache
def _converter() -> JsonConverter:
    from cattrs.preconf.json import make_converter  # 0.1 s that `--help` need not pay

    converter = make_converter(forbid_extra_keys=True)
    converter.register_unstructure_hook(Path, str)
    converter.register_unstructure_hook(UUID, str)
    converter.register_unstructure_hook(StrEnum, lambda member: member.value)
    converter.register_structure_hook(Path, lambda text, _: Path(text))
    converter.register_structure_hook(UUID, lambda text, _: UUID(text))
    return converter


def dump(value: Any) -> Any:
    """A frozen value as plain lists, dicts, strings and numbers."""
    return _converter().unstructure(value)


def load(kind: type[T], plain: Any) -> T:
    """The ``kind`` that ``plain`` describes; `ValueError` says where anything else differs."""
    from cattrs import transform_error

    try:
        return _converter().structure(plain, kind)
    except Exception as error:  # the many of cattrs
        raise ValueError("; ".join(transform_error(error)[:3])) from error


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
    """The ``kind`` written at ``path``."""
    return load(kind, json.loads(path.read_text("utf-8")))
