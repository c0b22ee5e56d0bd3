"""Values as JSON and back: what was written reads back equal."""

from __future__ import annotations

import json
import os
import tempfile
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from cattrs.preconf.json import JsonConverter

T = TypeVar("T")


@cache
def _converter() -> JsonConverter:
    from cattrs.preconf.json import make_converter  # 0.1 s that `--help` need not pay

    converter = make_converter(forbid_extra_keys=True)
    converter.register_unstructure_hook(Path, str)
    converter.register_unstructure_hook(StrEnum, lambda member: member.value)
    converter.register_structure_hook(Path, lambda text, _: Path(text))
    return converter


def dump(value: Any) -> Any:
    """A frozen value as plain lists, dicts, strings and numbers."""
    return _converter().unstructure(value)


def load(kind: type[T], plain: Any) -> T:
    """The ``kind`` that ``plain`` describes.

    Raises what cattrs raises for anything else; callers that read a user's file turn it into their own error.
    """
    return _converter().structure(plain, kind)


def write(path: Path, value: Any) -> None:
    """``value`` as indented JSON at ``path``: all of it or, if interrupted, what was there before."""
    text = json.dumps(dump(value), indent=2, sort_keys=False) + "\n"
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


def read(kind: type[T], path: Path) -> T:
    """The ``kind`` written at ``path``."""
    return load(kind, json.loads(path.read_text("utf-8")))
