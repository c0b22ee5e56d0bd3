"""Defaults of an image that do not reach a host because its persistent state came first."""

from __future__ import annotations

import shlex

from harness.guest.probes import Probe, ask, read
from harness.machine.machine import Machine

_MOST_BYTES = 32 << 20
_DIFFER = """
LC_ALL=C diff -q /dev/null /proc/mounts
[ $? = 1 ] || exit 2
[ -d /usr/share/persist ] || exit 0
cd /usr/share/persist || exit
for path in PATHS; do
    LC_ALL=C diff -rq --no-dereference ".$path" "/data$path"
    [ $? -le 1 ] || exit 2
done
"""
"""The folder in which the role persist stores them; other mechanisms are not covered. diff(1): status 1 is a
difference, 2 is trouble. The first line shows that diff finds a difference."""
_FIRST = "Files /dev/null and /proc/mounts differ"


def missing(machine: Machine) -> frozenset[str]:
    """A sentence for each default of the running image that its persistent path lacks, or has in another version.

    `ImageError` if they cannot be compared.
    """
    paths = machine.definition.persistent_paths
    if not paths:
        return frozenset()
    differing = Probe("differences", _DIFFER.replace("PATHS", shlex.join(paths)))
    return read(ask(machine.channel, [differing], most_bytes=_MOST_BYTES), differing, parse)


def parse(text: str) -> frozenset[str]:
    """The sentences for the lines of diff(1): pure. `ValueError` for a line that diff does not print."""
    first, *lines = text.splitlines()
    if first != _FIRST:
        raise ValueError(f"the first line is not {_FIRST!r}")
    return frozenset(sentence for line in lines if (sentence := _sentence(line)))


def _sentence(line: str) -> str:
    """For a line of diff(1): empty for a file that only the host has, which is the host's own."""
    if line.startswith("Only in /"):
        return ""
    if line.startswith("Only in ."):
        folder, _, name = line.removeprefix("Only in .").partition(": ")
        return f"{folder.rstrip('/')}/{name} is new in the image"
    words = line.split()
    path = next((word.removeprefix("/data") for word in words if word.startswith("/data/")), "")
    if not path:
        raise ValueError(f"not a difference: {line[:80]!r}")
    return f"{path} differs in the image"
