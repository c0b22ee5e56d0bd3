"""Values with a number of their format, as JSON: which numbers are read, and what is refused how."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar
from uuid import UUID

import pytest

from harness.core import serialization
from harness.core.json_schema import schema
from harness.core.serialization import Format, NewerFormat


@dataclass(frozen=True, kw_only=True)
class Cup:
    FORMAT: ClassVar[Format] = Format(kind="a cup", number=2, upgrades={1: lambda old: old | {"size_ml": old["size"]}})

    format: int = 2
    size_ml: int


@pytest.mark.parametrize("given", ["new", True, 1.5, float("inf"), None, -1, 0])
def test_a_number_that_never_was_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="format"):
        serialization.load(Cup, {"format": given, "size_ml": 5})


def test_an_unknown_field_of_the_current_format_is_refused_as_before() -> None:
    with pytest.raises(ValueError, match="colour"):
        serialization.load(Cup, {"format": 2, "size_ml": 5, "colour": "red"})


def test_a_newer_value_inside_another_is_named_with_its_file() -> None:
    with pytest.raises(NewerFormat, match=r"^shelf\.json has format 3 of a cup; this Bootproof reads up to 2: upgrade"):
        serialization.load(dict[str, list[Cup]], {"first": [{"format": 3}]}, "shelf.json")


def test_an_older_value_becomes_a_current_one() -> None:
    assert Cup.FORMAT.upgrade({"format": 1, "size": 5}) == {"format": 2, "size": 5, "size_ml": 5}


def test_a_value_that_is_no_object_is_refused() -> None:
    with pytest.raises(ValueError, match="a cup is an object, not a list"):
        serialization.load(Cup, [])


def test_the_error_survives_the_way_between_processes() -> None:
    error = NewerFormat("a cup", 3, 2, "shelf.json")

    assert str(pickle.loads(pickle.dumps(error))) == str(error)


class Colour(StrEnum):
    RED = "red"


def test_json_that_is_nested_too_deeply_is_a_value_error(tmp_path: Path) -> None:
    (tmp_path / "cup.json").write_text("[" * 100_000)

    with pytest.raises(ValueError, match="nested too deeply"):
        serialization.read(Cup, tmp_path / "cup.json")


@dataclass(frozen=True, kw_only=True)
class Shelf:
    cups: tuple[Cup, ...]
    colours: dict[str, Colour]
    place: Path | None = None
    id: UUID
    inner: Shelf | None = None


def test_a_schema_has_each_class_once_and_requires_what_has_no_default() -> None:
    found = schema(Shelf, "a shelf")

    assert found["$ref"] == "#/$defs/Shelf"
    assert list(found["$defs"]) == ["Colour", "Cup", "Shelf"]
    assert found["$defs"]["Colour"] == {"enum": ["red"]}
    assert found["$defs"]["Cup"]["properties"]["format"] == {"const": 2}
    assert found["$defs"]["Cup"]["required"] == ["format", "size_ml"]
    shelf = found["$defs"]["Shelf"]
    assert shelf["required"] == ["cups", "colours", "id"]
    assert shelf["properties"]["cups"] == {"type": "array", "items": {"$ref": "#/$defs/Cup"}}
    assert shelf["properties"]["place"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}


def test_a_type_without_a_form_in_json_has_no_schema() -> None:
    @dataclass(frozen=True)
    class Odd:
        call: Callable[[], None]

    with pytest.raises(TypeError, match="no JSON schema for"):
        schema(Odd, "odd")
