"""DESIGN, "Who may import whom": a file imports only what stands before it here, in a row above or to its left."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROWS = """
errors deadline digest record table explain
spec toml weather hardware definition artifacts verdict signs
process eventloop qmp migration console channel guest
ordering store build disks diskfaults qemu grub kexec accelerator lab downloads wire link admission run learned progress
rootfs prebuilt running
checks traits plan secret
bundle boards provision power launch machine once states template shared features defaults identity
locations belongings databases load cuts session gate attest policy streams promote remote conclude inventory history
diff report access terminal keeping interactive trial narrowing prune doctor facts
release insight attach replay bisect
plugin fixtures suite __main__ __init__
"""
DOORS = {  # who alone may import what
    "subprocess": ("process",),
    "qemu.qmp": ("qmp",),
    "testinfra": ("guest",),
    "pytest": ("plugin", "fixtures", "suite"),
}
ORDER = ROWS.split()
HARNESS = Path(__file__).parents[2] / "harness"
FILES = sorted([*HARNESS.glob("*.py"), *HARNESS.glob("*/*.py")])


def _imports(file: Path) -> Iterator[str]:
    """Full names of what is imported, ``from a import b`` as ``a.b``."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _place(file: Path) -> str:
    return file.relative_to(HARNESS).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(HARNESS)))
def test_a_file_imports_only_what_stands_before_it(file: Path) -> None:
    allowed = ORDER[: ORDER.index(_place(file)) + 1]
    used = {name.split(".")[1] for name in _imports(file) if name.startswith("harness.")}

    assert used <= set(allowed)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(HARNESS)))
def test_each_library_has_its_one_door(file: Path) -> None:
    for library, places in DOORS.items():
        if _place(file) not in places:
            assert not [name for name in _imports(file) if f"{name}.".startswith(f"{library}.")]
