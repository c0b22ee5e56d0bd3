"""Errors: their message, and their way between processes."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages

import pytest

import harness
from harness.core import errors
from harness.core.errors import BootproofError, DefinitionError, HostError, UsageError
from harness.core.process import CommandFailed


@pytest.mark.parametrize(
    "error",
    [
        UsageError("no hardware 'x'", remedy="known: sata-bios"),
        HostError("no space left"),
        DefinitionError("image.toml", "boot.paths", "is empty", "name one"),
        CommandFailed(("false", "a b"), 1, "out of luck", "/tmp/log"),
    ],
)
def test_an_error_is_the_same_in_another_process(error: BootproofError) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert (str(copy), copy.problem, copy.remedy) == (str(error), error.problem, error.remedy)


def test_the_message_has_the_problem_and_the_remedy() -> None:
    error = UsageError("no hardware 'x'", remedy="known: sata-bios")

    assert (error.problem, error.remedy) == ("no hardware 'x'", "known: sata-bios")
    assert str(error) == "no hardware 'x'; known: sata-bios"
    assert str(UsageError("no hardware 'x'")) == "no hardware 'x'"


def test_the_drawn_tree_has_each_error_below_its_base_and_in_its_module() -> None:
    for package in harness.__path__:
        for module in walk_packages([package], "harness."):
            if not module.name.startswith(
                ("harness.suite", "harness.fixtures", "harness.__main__", "harness.host.hardware_packed")
            ):
                import_module(module.name)
    drawn = re.findall(r"^    (?:([│├└─ ]*)─ )?(\w+)(?: {2,}.*?(\w+\.\w+)?)?$", errors.__doc__ or "", re.MULTILINE)
    path: list[str] = []
    tree = set()
    for branch, name, module in drawn:
        depth = (len(branch) + 2) // 4 if branch else 0
        path[depth:] = [name]
        tree.add((tuple(path), f"harness.{module or 'core.errors'}"))

    assert tree == set(_existing((), BootproofError))


def _existing(above: tuple[str, ...], error: type[BootproofError]) -> Iterator[tuple[tuple[str, ...], str]]:
    path = (*above, error.__name__)
    yield path, error.__module__
    for below in error.__subclasses__():
        if below.__module__.startswith("harness."):
            yield from _existing(path, below)
