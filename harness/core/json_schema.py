"""JSON Schema (draft 2020-12) of a frozen class, as `serialization` writes and reads it."""

from __future__ import annotations

import types
from dataclasses import MISSING, fields, is_dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from harness.core.serialization import Format, Plain

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SIMPLE: dict[Any, Plain] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
    Path: {"type": "string"},
    UUID: {"type": "string", "format": "uuid"},
    date: {"type": "string", "format": "date"},
    Any: {},
}


def schema(kind: type, title: str) -> Plain:
    """The schema of ``kind``, a dataclass: each class and enumeration that it uses once, under ``$defs``.

    A field without a default value is required, and so is ``format``. `TypeError` for a type that JSON has no form of.
    """
    definitions: dict[str, Plain] = {}
    reference = _of(kind, definitions)
    return {"$schema": _DIALECT, "title": title, **reference, "$defs": dict(sorted(definitions.items()))}


def _of(kind: Any, definitions: dict[str, Plain]) -> Plain:
    if kind in _SIMPLE:
        return dict(_SIMPLE[kind])
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of(one, definitions) for one in arguments]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(arguments[1], definitions)}
    if origin is list or (origin is tuple and arguments[1:] == (...,)):
        return {"type": "array", "items": _of(arguments[0], definitions)}
    if not isinstance(kind, type) or not (is_dataclass(kind) or issubclass(kind, Enum)):
        raise TypeError(f"no JSON schema for {kind!r}")
    if issubclass(kind, Enum):
        definitions[kind.__name__] = {"enum": [member.value for member in kind]}
    elif kind.__name__ not in definitions:
        definitions[kind.__name__] = {}  # a class may refer to itself
        definitions[kind.__name__] |= _of_dataclass(kind, definitions)
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _of_dataclass(kind: type, definitions: dict[str, Plain]) -> Plain:
    hints, number = get_type_hints(kind), getattr(kind, "FORMAT", None)
    properties, required = {}, []
    for field in fields(kind):
        properties[field.name] = _of(hints[field.name], definitions)
        if field.default is MISSING and field.default_factory is MISSING:
            required.append(field.name)
    if isinstance(number, Format):
        properties["format"] = {"const": number.number}
        required.insert(0, "format")
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
