"""A package of the harness imports only from the layers below its own, never from a neighbour."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness

LAYERS = (
    ("core",),
    ("model",),
    ("qemu", "guest", "store"),
    ("lab", "build", "runs", "diff"),
    ("verdict", "report", "host"),
    ("machine", "promotion"),
    ("persistence", "replay"),
    ("cli", "plugin"),
)
"""From the lowest to the highest. Later imports inside of functions count."""
PARTS = {"fixtures": "plugin", "suite": "plugin", "__main__": "cli"}
"""What belongs to a package but lies elsewhere. ``harness/__init__.py`` re-exports, and is looked at on its own."""
LIBRARIES = {  # the only places that may import them
    "subprocess": ("core/process.py",),
    "qemu.qmp": ("qemu/qmp.py",),
    "testinfra": ("guest/testinfra_host.py",),
    "pytest": ("plugin/", "fixtures/", "suite/"),
}
HARNESS = Path(__file__).parents[2] / "harness"
FILES = sorted([*HARNESS.glob("*.py"), *HARNESS.glob("*/*.py"), *HARNESS.glob("*/*/*.py")])
LAYER_OF = {package: number for number, layer in enumerate(LAYERS) for package in layer}


def _imports(file: Path) -> Iterator[str]:
    """Full names of what is imported, ``from a import b`` as ``a.b``."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _package(file: Path) -> str:
    first = file.relative_to(HARNESS).parts[0].removesuffix(".py")
    return PARTS.get(first, first)


def test_each_package_has_a_layer_and_nothing_lies_beside_them() -> None:
    found = {path.name for path in HARNESS.iterdir() if path.name != "__pycache__"}

    assert found == {*LAYER_OF, "fixtures", "suite", "__init__.py", "__main__.py"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(HARNESS)))
def test_a_package_imports_only_from_the_layers_below(file: Path) -> None:
    package = _package(file)
    used = {name.split(".")[1] for name in _imports(file) if name.startswith("harness.")}
    public = set(harness.__all__) if package == "plugin" else set()  # what tests may import, the suite does
    used = {PARTS.get(name, name) for name in used} - {package} - public

    assert (
        package == "__init__"
        or {name for name in used if LAYER_OF.get(name, len(LAYERS)) >= LAYER_OF[package]} == set()
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(HARNESS)))
def test_each_library_is_imported_in_one_place(file: Path) -> None:
    place = str(file.relative_to(HARNESS))
    for library, places in LIBRARIES.items():
        if not place.startswith(places):
            assert not [name for name in _imports(file) if f"{name}.".startswith(f"{library}.")]
