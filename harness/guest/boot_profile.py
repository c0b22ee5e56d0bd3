"""The CPU time that a ready guest counted for its units and programs."""

from __future__ import annotations

import json
from collections.abc import Iterator

from harness.core.deadline import Deadline
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.model.boot_profile import GuestUse, ProgramUse, UnitUse

_BEGIN = Probe("start of user space", "systemctl show -p UserspaceTimestampMonotonic --value")
_UNITS = Probe("CPU time of units", "systemctl show '*' --type=service,socket,mount,scope,slice -p Id -p CPUUsageNSec")
"""systemd.resource-control(5): CPUUsageNSec is the time of the unit's control group, also after the unit has ended."""
_ENDED = Probe(
    "CPU time of ended units",
    "journalctl -b -o json --output-fields=UNIT,CPU_USAGE_NSEC"
    " MESSAGE_ID=ae8f7b866b0347b9af31fe1c80b127c0 MESSAGE_ID=39f53479d3a045ac8e11786248231fbf",
)
"""sd-messages.h: SD_MESSAGE_UNIT_RESOURCES, which systemd logs for a unit that used a second or more; and
SD_MESSAGE_UNIT_STARTED, so that this answer is never empty."""
_PROGRAMS = Probe(
    "CPU time of programs",
    "for process in /proc/[0-9]*; do\n"
    '    { read -r stat <"$process/stat" && read -r group <"$process/cgroup"; } 2>/dev/null && echo "$group $stat"\n'
    "done\n"
    "echo end",
)
"""A process may end meanwhile."""

PROBES = (_BEGIN, _UNITS, _ENDED, _PROGRAMS)
KERNEL = "kernel threads"
_END = "end"
_READ_S = 120.0
_NS = 1e9
_UNSET = 1 << 63
_TICKS = 100
"""USER_HZ of the kernel's uapi: the unit of /proc/stat and /proc/PID/stat, the same on all architectures but Alpha."""
_KERNEL_THREADS = 2
"""The parent of all threads of the kernel: kthreadd."""


def read_use(channel: Channel) -> GuestUse:
    """What the guest's units and programs used so far, the largest first. `ImageError` if a command fails, or prints
    something else than expected."""
    answers = ask(channel, PROBES, Deadline(_READ_S))
    begin_us = read(answers, _BEGIN, int)
    times_s = read(answers, _UNITS, _times)
    ended = read(answers, _ENDED, lambda text: list(_ended(text, begin_us)))
    alive = [
        UnitUse(unit=unit, phase="userspace", cpu_s=used_s)
        for unit, used_s in times_s.items()
        if not unit.endswith(".slice")
    ]
    programs = read(answers, _PROGRAMS, _programs)
    kernel_s = sum(program.cpu_s for program in programs if program.program == KERNEL)
    return GuestUse(
        busy_s=kernel_s + sum(used_s for unit, used_s in times_s.items() if _is_top(unit)),
        units=tuple(sorted([*alive, *ended], key=lambda unit: -unit.cpu_s)),
        programs=tuple(sorted(programs, key=lambda program: -program.cpu_s)),
    )


def _is_top(unit: str) -> bool:
    """Whether the control group of ``unit`` is directly below the root: together they have all processes but the
    kernel's threads, and all that has ended, in the initrd too. The time of ``-.slice``, the root, counts clock ticks,
    which an emulated guest misses; the others are exact."""
    return unit == "init.scope" or (unit.endswith(".slice") and "-" not in unit)


def _times(text: str) -> dict[str, float]:
    """A unit that never ran has no time, which older versions of systemd print as the largest number."""
    times_s = dict[str, float]()
    for block in text.split("\n\n"):
        row = dict(line.split("=", 1) for line in block.splitlines())
        used = row.get("CPUUsageNSec", "")
        if used.isdigit() and 0 < int(used) < _UNSET:
            times_s[row["Id"]] = int(used) / _NS
    if not any(map(_is_top, times_s)):
        raise ValueError("no time of any slice")
    return times_s


def _ended(text: str, begin_us: int) -> Iterator[UnitUse]:
    """Units of the initrd: the time of the others is in their properties."""
    for line in text.splitlines():
        entry = json.loads(line)
        if "CPU_USAGE_NSEC" in entry and int(entry["__MONOTONIC_TIMESTAMP"]) < begin_us:
            yield UnitUse(unit=entry["UNIT"], phase="initrd", cpu_s=int(entry["CPU_USAGE_NSEC"]) / _NS)


def _programs(text: str) -> list[ProgramUse]:
    """One of each name in each unit."""
    *lines, last = text.splitlines()
    if last != _END:
        raise ValueError(f"no {_END!r} but {last!r}")
    sums = dict[tuple[str, str], tuple[int, int]]()
    for line in lines:
        key, own, children = _program(line)
        known = sums.get(key, (0, 0))
        sums[key] = known[0] + own, known[1] + children
    return [
        ProgramUse(program=name, unit=unit, own_s=own / _TICKS, children_s=children / _TICKS)
        for (name, unit), (own, children) in sums.items()
        if own + children
    ]


def _program(line: str) -> tuple[tuple[str, str], int, int]:
    """cgroups(7): "0::/system.slice/ssh.service"; proc_pid_stat(5): the name is in parentheses, the fields after it
    begin with the state and the parent, and the 12th to 15th are utime, stime, cutime and cstime."""
    front, _, rest = line.rpartition(")")
    head, _, name = front.partition("(")
    fields = rest.split()
    own, children = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    if int(fields[1]) == _KERNEL_THREADS or int(head.split()[-1]) == _KERNEL_THREADS:
        return (KERNEL, ""), own, children
    parts = head.split()[0].rpartition("::")[2].split("/")
    unit = next((part for part in reversed(parts) if part.endswith((".service", ".scope", ".socket"))), "")
    return (name, unit), own, children
