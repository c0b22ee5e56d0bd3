"""The runtime profile of a ready machine: memory, sockets, users, units. For diffs, budgets and the report."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from harness.core.deadline import Deadline
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.guest.unit_states import BEGIN, OTHER_UNITS, SERVICES, read_started
from harness.model.verdict import RuntimeProfile

MEMORY = Probe("memory in use", "cat /proc/meminfo")
_SOCKETS = Probe("listening sockets", "ss -l -n -t -u -p")
"""With its heading, which shows that ss could look."""

_USERS = Probe("users", "cat /etc/passwd")
_GROUPS = Probe("groups", "cat /etc/group")
_LINKS = """
for path in PATHS; do
    echo "path=$path"
    if [ -L "$path" ]; then
        readlink -- "$path" || exit
    else
        findmnt -n -o SOURCE -T "$path" || exit
    fi
done
"""
_PROGRAM = re.compile(r'\(\("([^"]+)')
_READ_S = 60.0


def probes(paths: Sequence[str]) -> tuple[Probe, ...]:
    """The commands that `read_profile` runs; ``paths`` are the persistent paths."""
    links = [_links_probe(paths)] if paths else []
    return (MEMORY, BEGIN, SERVICES, OTHER_UNITS, _SOCKETS, _USERS, _GROUPS, *links)


def _links_probe(paths: Sequence[str]) -> Probe:
    return Probe("persistent paths", _LINKS.replace("PATHS", shlex.join(paths)))


def read_profile(channel: Channel, paths: Sequence[str]) -> RuntimeProfile:
    """The profile of a ready machine; ``paths`` are its persistent paths. `ImageError` if a command fails or prints
    something else than expected."""
    return parse(ask(channel, probes(paths), Deadline(_READ_S)), paths)


def parse(answers: Mapping[str, str], paths: Sequence[str]) -> RuntimeProfile:
    """The profile in the answers to `probes`: pure. `ImageError` for an answer that is not as expected."""
    return RuntimeProfile(
        memory_mib=read(answers, MEMORY, used_mib),
        sockets=read(answers, _SOCKETS, _sockets),
        users=read(answers, _USERS, _numbers),
        groups=read(answers, _GROUPS, _numbers),
        links=read(answers, _links_probe(paths), lambda text: _links(text, paths)) if paths else {},
        units=read_started(answers),
    )


def used_mib(text: str) -> int:
    """Of /proc/meminfo."""
    kib = {words[0]: int(words[1]) for words in map(str.split, text.splitlines())}
    return (kib["MemTotal:"] - kib["MemAvailable:"]) >> 10


def _sockets(text: str) -> tuple[str, ...]:
    """Protocol, address and program of each; "-" if no program has it."""
    heading, *lines = text.splitlines()
    if not heading.startswith("Netid"):
        raise ValueError(f"no heading of ss(8) but {heading!r}")
    found = {(words := line.split())[0] + f" {words[4]} {_program(line)}" for line in lines}
    return tuple(sorted(found))


def _program(line: str) -> str:
    found = _PROGRAM.search(line)
    return found[1] if found else "-"


def _numbers(text: str) -> dict[str, int]:
    """passwd(5) and group(5): the first and the third field."""
    return {row[0]: int(row[2]) for row in (line.split(":") for line in text.splitlines())}


def _links(text: str, paths: Sequence[str]) -> dict[str, str]:
    """After each path its target; of several file systems that are mounted on a path, the last is the uppermost."""
    targets, path = dict[str, str](), ""
    for line in text.splitlines():
        if line.startswith("path="):
            path = line.removeprefix("path=")
        else:
            targets[path] = line
    if missing := [path for path in paths if not targets.get(path)]:
        raise ValueError(f"nothing about {', '.join(missing)}")
    return targets
