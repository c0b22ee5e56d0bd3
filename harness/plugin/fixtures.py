"""Registers Bootproof's fixtures: for all tests by names that no other plugin has, and for the suite by all names."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

import pytest

MODULES = (
    "artifacts",
    "control_plane",
    "disk",
    "entries",
    "guest",
    "lab",
    "machine",
    "migration",
    "power_cuts",
    "rules",
)


def register(plugins: pytest.PytestPluginManager) -> None:
    """Make the fixtures known to pytest. If another plugin has a fixture of the same name, tests get that one, except
    for ``host``, which replaces testinfra's."""
    taken = {fixture for name, plugin in plugins.list_name_plugin() for fixture in _fixtures_of(name, plugin)}
    for module in MODULES:
        plugins.register(importlib.import_module(f"harness.fixtures.{module}"), f"bootproof-{module}")
    chosen = ModuleType("bootproof-fixtures")
    for name, alias in vars(aliases()).items():
        if name == "host" or name not in taken:
            setattr(chosen, name, alias)
    plugins.register(chosen, chosen.__name__)


def aliases() -> ModuleType:
    """The fixtures by the names that tests use."""
    from harness.fixtures.naming import ALIASES

    return ALIASES


def _fixtures_of(name: str, plugin: object) -> Iterator[str]:
    """The fixtures that a plugin has from its start; those of a conftest.py replace ours without help."""
    if not isinstance(plugin, ModuleType) or name.endswith("conftest.py"):
        return
    for attribute, value in vars(plugin).items():
        its = getattr(value, "__dict__", {})
        marker = its.get("_fixture_function_marker") or its.get(
            "_pytestfixturefunction"
        )  # the latter before pytest 8.4
        if marker is not None:
            yield marker.name or attribute
