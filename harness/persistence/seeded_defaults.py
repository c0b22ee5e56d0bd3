"""Defaults of an image that a host's own state keeps from it."""

from __future__ import annotations

from harness.machine.machine import Machine

_FOLDER = "/usr/share/persist"
"""Where the role persist keeps them; what another mechanism does cannot be told."""


def unreached(machine: Machine) -> frozenset[str]:
    """A sentence for each default of the running image that is not in its location, or is another there."""
    paths = machine.definition.persistent_paths
    said = machine.run(
        f"cd {_FOLDER} 2>/dev/null || exit 0; for path in {' '.join(paths)}; do "
        'diff -rq --no-dereference ".$path" "/data$path"; done'
    )
    return frozenset(sentence for line in said.text.splitlines() if (sentence := _sentence(line)))


def _sentence(line: str) -> str:
    """Of what diff(1) says: what only the host has is its own."""
    if line.startswith("Only in /"):
        return ""
    if line.startswith("Only in ."):
        folder, _, name = line.removeprefix("Only in .").partition(": ")
        return f"{folder.rstrip('/')}/{name} is new in the image"
    words = line.split()
    path = next((word.removeprefix("/data") for word in words if word.startswith("/data/")), "")
    return f"{path} is another in the image" if path else ""
