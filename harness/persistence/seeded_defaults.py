"""Defaults of an image that do not reach a host because its persistent state came first."""

from __future__ import annotations

from harness.machine.machine import Machine

_FOLDER = "/usr/share/persist"
"""Where the role persist stores them; other mechanisms are not covered."""


def missing(machine: Machine) -> frozenset[str]:
    """A sentence for each default of the running image that its persistent path lacks, or has in another version."""
    paths = machine.definition.persistent_paths
    if not paths:
        return frozenset()
    differences = machine.run(
        f"cd {_FOLDER} 2>/dev/null || exit 0; for path in {' '.join(paths)}; do "
        'diff -rq --no-dereference ".$path" "/data$path"; done'
    )
    return frozenset(sentence for line in differences.text.splitlines() if (sentence := _sentence(line)))


def _sentence(line: str) -> str:
    """For a line of diff(1): empty for a file that only the host has, which is the host's own."""
    if line.startswith("Only in /"):
        return ""
    if line.startswith("Only in ."):
        folder, _, name = line.removeprefix("Only in .").partition(": ")
        return f"{folder.rstrip('/')}/{name} is new in the image"
    words = line.split()
    path = next((word.removeprefix("/data") for word in words if word.startswith("/data/")), "")
    return f"{path} differs in the image" if path else ""
