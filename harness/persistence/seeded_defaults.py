"""Defaults of an image that do not reach a host because its persistent state came first."""

from __future__ import annotations

import shlex

from harness.machine.machine import Machine

_DIFFER = """
[ -d /usr/share/persist ] || exit 0
cd /usr/share/persist || exit
for path in PATHS; do
    LC_ALL=C diff -rq --no-dereference ".$path" "/data$path"
    [ $? -le 1 ] || exit 2
done
"""
"""The folder in which the role persist stores them; other mechanisms are not covered. diff(1): status 1 is a
difference, 2 is trouble."""


def missing(machine: Machine) -> frozenset[str]:
    """A sentence for each default of the running image that its persistent path lacks, or has in another version.

    `ImageError` if they cannot be compared.
    """
    differences = machine.check(_DIFFER.replace("PATHS", shlex.join(machine.definition.persistent_paths)))
    return frozenset(sentence for line in differences.splitlines() if (sentence := _sentence(line)))


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
