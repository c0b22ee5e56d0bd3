"""The runtime profile of a ready machine: memory, sockets, users, units. For diffs, budgets and the report."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from harness.core.deadline import Deadline
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.model.verdict import RuntimeProfile, Unit

_MEMORY = Probe("memory in use", "cat /proc/meminfo")
_BEGIN = Probe("start of user space", "systemctl show -p UserspaceTimestampMonotonic --value")
_UNITS = Probe(
    "units",
    "systemctl show '*' --type=service,socket,timer,mount,target --state=active,failed,activating "
    "-p Id -p ActiveState -p InactiveExitTimestampMonotonic -p ActiveEnterTimestampMonotonic",
)
"""systemctl(1): a pattern stands for loaded units, so that no unit's name, as ``-.mount``, is taken for an option."""

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
_US = 1_000_000
_READ_S = 60.0


def probes(paths: Sequence[str]) -> tuple[Probe, ...]:
    """The commands that `read_profile` runs; ``paths`` are the persistent paths."""
    links = [_links_probe(paths)] if paths else []
    return (_MEMORY, _BEGIN, _UNITS, _SOCKETS, _USERS, _GROUPS, *links)


def _links_probe(paths: Sequence[str]) -> Probe:
    return Probe("persistent paths", _LINKS.replace("PATHS", shlex.join(paths)))


def read_profile(channel: Channel, paths: Sequence[str]) -> RuntimeProfile:
    """The profile of a ready machine; ``paths`` are its persistent paths. `ImageError` if a command fails or prints
    something else than expected."""
    return parse(ask(channel, probes(paths), Deadline(_READ_S)), paths)


def read_boot(channel: Channel) -> tuple[int, dict[str, Unit]]:
    """The MiB of memory in use and the units started, of a ready machine; errors as in `read_profile`."""
    answers = ask(channel, (_MEMORY, _BEGIN, _UNITS), Deadline(_READ_S))
    return read(answers, _MEMORY, _memory), _read_units(answers)


def parse(answers: Mapping[str, str], paths: Sequence[str]) -> RuntimeProfile:
    """The profile in the answers to `probes`: pure. `ImageError` for an answer that is not as expected."""
    return RuntimeProfile(
        memory_mib=read(answers, _MEMORY, _memory),
        sockets=read(answers, _SOCKETS, _sockets),
        users=read(answers, _USERS, _numbers),
        groups=read(answers, _GROUPS, _numbers),
        links=read(answers, _links_probe(paths), lambda text: _links(text, paths)) if paths else {},
        units=_read_units(answers),
    )


def _memory(text: str) -> int:
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


def _read_units(answers: Mapping[str, str]) -> dict[str, Unit]:
    begin_us = read(answers, _BEGIN, int)
    return read(answers, _UNITS, lambda text: _units(text, begin_us))


def _units(text: str, begin_us: int) -> dict[str, Unit]:
    rows = [dict(line.split("=", 1) for line in block.splitlines()) for block in text.split("\n\n")]
    return {row["Id"]: _unit(row, begin_us) for row in rows}


def _unit(row: Mapping[str, str], begin_us: int) -> Unit:
    """systemd's timestamps count from the kernel's start; 0 is never."""
    begins, ready = (int(row[f"{name}TimestampMonotonic"]) for name in ("InactiveExit", "ActiveEnter"))
    return Unit(
        state=row["ActiveState"],
        begins_s=round((begins - begin_us) / _US, 2),
        ready_s=round((max(begins, ready) - begin_us) / _US, 2),
    )
