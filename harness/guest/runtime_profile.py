"""The runtime profile of a ready machine: memory, sockets, users, units. For diffs, budgets and the report."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.guest.channel import Channel
from harness.model.verdict import RuntimeProfile, Unit

_UNITS = r"""
systemctl show -p UserspaceTimestampMonotonic --value
systemctl list-units --plain --no-legend --type=service,socket,timer,mount,target --state=active,failed,activating |
    awk '{print $1}' |
    xargs systemctl show -p Id -p ActiveState -p InactiveExitTimestampMonotonic -p ActiveEnterTimestampMonotonic
"""
_MEMORY = r"""
awk '/^MemTotal/ {all = $2} /^MemAvailable/ {free = $2} END {printf "%d\n", (all - free) / 1024}' /proc/meminfo
"""
_REST = r"""
echo --
ss -H -l -n -t -u -p | awk '{program = "-"; if (match($0, /\(\("[^"]+/)) program = substr($0, RSTART + 3, RLENGTH - 3)
    print $1, $5, program}' | sort -u
echo --
cut -d: -f1,3 /etc/passwd
echo --
cut -d: -f1,3 /etc/group
echo --
for path in PATHS; do printf '%s\t%s\n' "$path" "$(readlink -- "$path" || findmnt -n -o SOURCE -T "$path")"; done
echo --
"""
_SEPARATOR = re.compile("^--$", re.MULTILINE)
_US = 1_000_000
_READ_S = 60.0


def read_profile(channel: Channel, paths: Sequence[str]) -> RuntimeProfile:
    """The profile of a ready machine; ``paths`` are its persistent paths. `ImageError` if a command fails."""
    done = channel.run(_MEMORY + _REST.replace("PATHS", shlex.join(paths)) + _UNITS, Deadline(_READ_S))
    try:
        return parse(done.text)
    except (ValueError, KeyError) as error:
        errors = done.stderr.decode("utf-8", "replace").strip()
        raise ImageError(f"the runtime profile cannot be read: {error}; standard error: {errors}") from error


def read_boot(channel: Channel) -> tuple[int, dict[str, Unit]]:
    """The MiB of memory in use and the units started, of a ready machine; `ImageError` if a command fails."""
    memory, _, units = channel.run(_MEMORY + _UNITS, Deadline(_READ_S)).text.strip("\n").partition("\n")
    try:
        return int(memory), _units(units)
    except (ValueError, KeyError) as error:
        raise ImageError(f"the start times of units cannot be read: {error}") from error


def parse(text: str) -> RuntimeProfile:
    """The profile in the commands' output: pure; `ValueError` or `KeyError` if the output is not complete."""
    memory, sockets, users, groups, links, units = (part.strip("\n") for part in _SEPARATOR.split(text))
    return RuntimeProfile(
        memory_mib=int(memory),
        sockets=tuple(sockets.splitlines()),
        users=_numbers(users),
        groups=_numbers(groups),
        links=dict(line.split("\t", 1) for line in links.splitlines()),
        units=_units(units),
    )


def _numbers(text: str) -> dict[str, int]:
    return {name: int(number) for name, number in (line.split(":", 1) for line in text.splitlines())}


def _units(text: str) -> dict[str, Unit]:
    begin, _, blocks = text.strip("\n").partition("\n")
    rows = [dict(line.split("=", 1) for line in block.splitlines() if line) for block in blocks.split("\n\n")]
    return {row["Id"]: _unit(row, int(begin)) for row in rows if row}


def _unit(row: dict[str, str], begin_us: int) -> Unit:
    """systemd's timestamps count from the kernel's start; 0 is never."""
    begins, ready = (int(row[f"{name}TimestampMonotonic"]) for name in ("InactiveExit", "ActiveEnter"))
    return Unit(
        state=row["ActiveState"],
        begins_s=round((begins - begin_us) / _US, 2),
        ready_s=round((max(begins, ready) - begin_us) / _US, 2),
    )
