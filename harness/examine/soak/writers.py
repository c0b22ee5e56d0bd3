"""Who is behind what grows: the unit and the process that have a file open, or whose memory grows with it."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.examine.processes import NAMES, names_of
from harness.examine.soak.ground import Ground, is_in_ram
from harness.examine.soak.leaks import Leak, timers_behind
from harness.examine.soak.looks import Kind, Look, Series
from harness.examine.soak.samples import GONE
from harness.examine.texts import lines_of, some
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.guest.serial_shell import SHELL_UNIT

_OPEN = "who has the files open"
_OF_FILES = (Kind.FILE, Kind.FOLDER, Kind.SPACE, Kind.INODES)
_LEAST_SHARE = 0.5
_DELETED = " (deleted)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """``unit`` is empty if nobody could be named; ``how`` says why it is this unit. ``timers`` start what writes."""

    unit: str = ""
    how: str = ""
    timers: tuple[str, ...] = ()


def find_writers(channel: Channel, leaks: Sequence[Leak], looks: Sequence[Look], ground: Ground) -> list[Writer]:
    """The writer of each of the ``leaks``; asks the host, in one round trip. `ImageError` if it does not answer."""
    answers = ask(channel, [NAMES, _open_files([leak.series for leak in leaks], ground)])
    names = names_of(answers)
    opened = read(answers, Probe(_OPEN, "find"), lambda text: list(_opened(lines_of(text))))
    return [writer_of(leak, looks, ground, names, opened) for leak in leaks]


def _open_files(series: Sequence[Series], ground: Ground) -> Probe:
    """find(1): the pattern of -lname may match slashes."""
    wanted = [f"*{_DELETED}"]
    for one in series:
        if one.kind is Kind.FILE:
            wanted.append(_literal(ground.shown(one.name)))
        elif one.kind is Kind.FOLDER:
            wanted.append(f"{_literal(ground.shown(one.name)).rstrip('/')}/*")
    tests = " -o ".join(f"-lname {shlex.quote(pattern)}" for pattern in wanted)
    return Probe(_OPEN, some(f"find /proc/[0-9]*/fd -type l \\( {tests} \\) -printf '%p %l\\n'"))


def _literal(path: str) -> str:
    return re.sub(r"([\[\]*?\\])", r"\\\1", path)


def _opened(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Process and path of each open file."""
    for line in lines:
        link, _, path = line.partition(" ")
        yield int(link.split("/")[2]), path


def writer_of(
    leak: Leak, looks: Sequence[Look], ground: Ground, names: Mapping[int, str], opened: Sequence[tuple[int, str]]
) -> Writer:
    """Pure. ``names`` are those of processes, ``opened`` the files that they have open."""
    series = leak.series
    timers = tuple(timers_behind(leak, looks))
    if series.kind in (Kind.MEMORY, Kind.TASKS):
        return Writer(unit=series.name if series.name != GONE else "", timers=timers)
    if series.kind is Kind.DESCRIPTORS:
        unit, _, number = series.name.partition("/")
        return Writer(unit=unit, how=f"{names.get(int(number), 'process')}, process {number}", timers=timers)
    if series.kind in _OF_FILES:
        units = looks[-1].sample.processes
        for pid, path in opened:
            if _belongs(path, series, ground) and units.get(pid, "") not in ("", SHELL_UNIT):
                return Writer(
                    unit=units[pid], how=f"{names.get(pid, 'a process')}, process {pid}, has {path} open", timers=timers
                )
        unit = _touching(leak, looks, ground)
        return Writer(unit=unit, how="the pages that it touched first grow with it" if unit else "", timers=timers)
    return Writer(timers=timers)


def _belongs(path: str, series: Series, ground: Ground) -> bool:
    shown, is_deleted = ground.shown(series.name), path.endswith(_DELETED)
    if series.kind is Kind.FILE:
        return path == shown
    if series.kind is Kind.FOLDER:
        return path.startswith(f"{shown.rstrip('/')}/")
    if not is_deleted or path.startswith(("/memfd:", "/dev/", "/SYSV")):
        return False
    mount = ground.mount_of(path.removesuffix(_DELETED))
    return mount is None or mount.place == series.name


def _touching(leak: Leak, looks: Sequence[Look], ground: Ground) -> str:
    """The unit whose pages of files grew by as much, within a factor of two."""
    mount = ground.mount_of(f"{leak.series.name.rstrip('/')}/")
    name = "files" if mount is None or is_in_ram(mount) else "cache"
    first = next((number for number, value in enumerate(leak.series.values) if value is not None), 0)
    before, grown = looks[first].sample.use, dict[str, float]()
    for look in looks[first:]:  # it may have ended meanwhile
        for unit, use in look.sample.use.items():
            taken = getattr(use, name) - (getattr(before[unit], name) if unit in before else 0)
            if unit not in (GONE, SHELL_UNIT):
                grown[unit] = max(grown.get(unit, 0.0), taken)
    total = leak.series.last - (leak.series.values[first] or 0.0)
    shares = {unit: taken / total for unit, taken in grown.items() if taken > 0}
    unit = min(shares, key=lambda one: abs(math.log(shares[one])), default="")
    return unit if unit and _LEAST_SHARE <= shares[unit] <= 1 / _LEAST_SHARE else ""
