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
    ("qemu", "guest", "store", "packages"),
    ("lab", "build", "runs", "diff"),
    ("verdict", "report", "host", "lint", "fleet"),
    ("machine", "promotion"),
    ("persistence", "replay", "pool", "examine", "guests"),
    ("cli", "plugin"),
)
"""From the lowest to the highest. Later imports inside of functions count."""
PARTS = {"fixtures": "plugin", "suite": "plugin", "__main__": "cli"}
"""What belongs to a package but lies elsewhere. ``harness/__init__.py`` re-exports, and is looked at on its own."""
LIBRARIES = {  # the only places that may import them
    "subprocess": ("core/process.py", "persistence/validate_in_guest.py"),  # the latter runs in the guest
    "qemu.qmp": ("qemu/qmp.py",),
    "testinfra": ("guest/testinfra_host.py",),
    "pytest": ("plugin/", "fixtures/", "suite/"),
}
HARNESS = Path(__file__).parents[2] / "harness"
FILES = sorted([*HARNESS.glob("*.py"), *HARNESS.glob("*/*.py"), *HARNESS.glob("*/*/*.py")])
LAYER_OF = {package: number for number, layer in enumerate(LAYERS) for package in layer}


def _imports(file: Path, text: str = "") -> Iterator[str]:
    """Full names of what ``file``, or ``text`` in its place, imports: ``from a import b`` as ``a.b``."""
    place = file.relative_to(HARNESS.parent).parts[:-1]
    for node in ast.walk(ast.parse(text or file.read_text("utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                above = place[: len(place) - level + 1] if level else ()
                yield from (".".join(filter(None, (*above, module, alias.name))) for alias in names)
            case ast.Attribute(value=ast.Name(id="harness"), attr=name):
                yield f"harness.{name}"
            case ast.Call(
                func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name


def _package(file: Path) -> str:
    first = file.relative_to(HARNESS).parts[0].removesuffix(".py")
    return PARTS.get(first, first)


def test_each_package_has_a_layer_and_nothing_lies_beside_them() -> None:
    found = {path.name for path in HARNESS.iterdir() if path.name != "__pycache__"}

    assert found == {*LAYER_OF, "fixtures", "suite", "__init__.py", "__main__.py"}


def test_the_tests_have_the_same_folders() -> None:
    folders = {path.name for path in Path(__file__).parent.iterdir() if path.is_dir() and path.name != "__pycache__"}

    assert folders == set(LAYER_OF)


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


def test_no_way_to_import_is_overlooked() -> None:
    ways = {
        "import harness.lab.bridge": "harness.lab.bridge",
        "def late():\n    from harness.lab import bridge": "harness.lab.bridge",
        "from harness import lab": "harness.lab",
        "from ..lab import bridge": "harness.lab.bridge",
        "from .. import lab": "harness.lab",
        "from . import grub": "harness.qemu.grub",
        "import harness\nharness.Machine": "harness.Machine",
        "import_module('harness.lab')": "harness.lab",
        "importlib.import_module('harness.lab')": "harness.lab",
    }

    assert {way: list(_imports(HARNESS / "qemu" / "x.py", way))[-1] for way in ways} == ways


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(HARNESS)))
def test_each_library_is_imported_in_one_place(file: Path) -> None:
    place = str(file.relative_to(HARNESS))
    for library, places in LIBRARIES.items():
        if not place.startswith(places):
            assert not [name for name in _imports(file) if f"{name}.".startswith(f"{library}.")]
