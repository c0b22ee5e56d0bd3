"""The jobs of a boot that systemd ran, and which of them a guest waited for while its CPUs were idle."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness.core.cpu_use import IdleSpan
from harness.core.deadline import Deadline
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.guest.unit_states import UnitStart

NO_UNIT = "the kernel"
"""Stands for all that happens before systemd runs its first job."""

_BEGINS = ("7d4958e842da4a758f6c1cdc7b36dcc5", "de5b426a63be47a7b6ac3eaac82e2f6f")
_ENDS = ("39f53479d3a045ac8e11786248231fbf", "be02cf6855d2428ba40df7e9d022f03d", "9d1aaa27d60140bd96365438aad20286")
"""sd-messages.h: SD_MESSAGE_UNIT_STARTING and STOPPING; SD_MESSAGE_UNIT_STARTED, FAILED and STOPPED."""
_JOBS = Probe(
    "jobs",
    "journalctl -b -q -o json --output-fields=MESSAGE_ID,UNIT,MESSAGE,_SOURCE_MONOTONIC_TIMESTAMP "
    + " ".join(f"MESSAGE_ID={name}" for name in (*_BEGINS, *_ENDS))
    + " + _TRANSPORT=kernel SYSLOG_IDENTIFIER=systemd",
)
"""Of the initrd too, which systemd itself has forgotten, and of devices, whose start has no other trace. While no
journald runs, systemd's messages go to the kernel's log, as text with a time of its own."""
_AS_TEXT = re.compile(
    r"(?:(?P<begins>Starting|Mounting|Activating swap|Expecting device|Stopping|Unmounting|Deactivating swap)"
    r"|Started|Finished|Mounted|Activated swap|Found device|Stopped|Unmounted|Deactivated swap"
    r"|Failed to (?:start|mount|activate swap)|Timed out waiting for device) (?P<unit>\S+\.[a-z]+)\b"
)
_DISKS = Probe("time of disks", "cat /proc/diskstats /proc/stat")
"""Without a disk, the first is empty."""
_DISK = re.compile(r"[shv]d[a-z]+|xvd[a-z]+|nvme\d+n\d+|mmcblk\d+")
_READ_S = 120.0
_US = 1_000_000
_TICKS_PER_S = 100
"""proc_stat(5): USER_HZ."""


@dataclass(frozen=True, slots=True)
class Job:
    """systemd started or stopped ``unit`` between two seconds after the kernel began; infinity if it had not ended."""

    unit: str
    begins_s: float
    ends_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BootJobs:
    """The ``jobs`` of a boot, and for how many seconds at most CPUs were idle because of a disk."""

    jobs: tuple[Job, ...] = ()
    disk_s: float = 0.0


def read_jobs(channel: Channel) -> BootJobs:
    """What the guest's journal says of this boot's jobs. `ImageError` if a command fails, or prints something else than
    expected: `ProbeFailed` if the journal has nothing."""
    answers = ask(channel, (_JOBS, _DISKS), Deadline(_READ_S))
    return BootJobs(jobs=read(answers, _JOBS, lambda text: tuple(_jobs(text))), disk_s=read(answers, _DISKS, _disk_s))


def _jobs(text: str) -> Iterator[Job]:
    """Each begins with a message and ends with the next about the same unit. Many start at once: "Starting" is not
    logged for them. Messages about one that began in the kernel's log may be lost, so it must have ended."""
    begun = dict[str, tuple[float, bool]]()
    for at_s, unit, is_begin, is_text in sorted(_messages(text)):
        if unit in begun:
            yield Job(unit, begun.pop(unit)[0], at_s)
        if is_begin:
            begun[unit] = (at_s, is_text)
    for unit, (at_s, is_text) in begun.items():
        if not is_text:
            yield Job(unit, at_s, math.inf)


def _messages(text: str) -> Iterator[tuple[float, str, bool, bool]]:
    """When systemd wrote a message about a unit, whether a job of it began then, and whether it is only a text."""
    for entry in map(json.loads, text.splitlines()):
        at_s = int(entry.get("_SOURCE_MONOTONIC_TIMESTAMP") or entry["__MONOTONIC_TIMESTAMP"]) / _US
        unit, message = entry.get("UNIT"), entry.get("MESSAGE")
        if isinstance(unit, str) and "MESSAGE_ID" in entry:
            yield at_s, unit, entry["MESSAGE_ID"] in _BEGINS, False
        elif isinstance(message, str) and (match := _AS_TEXT.match(message)):
            yield at_s, match["unit"], match["begins"] is not None, True


def _disk_s(text: str) -> float:
    """The time in which the busiest disk had requests under way, or less: that in which CPUs were idle while a program
    waited for a file, which may also have been in a loop device.

    Linux, Documentation/admin-guide/iostats.rst: the third column is the device, the thirteenth are milliseconds.
    proc_stat(5): the sixth column of the line of all CPUs is iowait.
    """
    rows = [line.split() for line in text.splitlines()]
    used_s = (int(row[12]) / 1000 for row in rows if len(row) > 12 and _DISK.fullmatch(row[2]))
    (all_cpus,) = (row for row in rows if row[:1] == ["cpu"])
    return min(max(used_s, default=0.0), int(all_cpus[5]) / _TICKS_PER_S)


def unlisted(jobs: Iterable[Job], starts: Iterable[UnitStart]) -> Iterator[UnitStart]:
    """The units of ``jobs`` that are not among the ``starts``: devices, and units that have ended. Each as it started
    last: pure."""
    known = {one.unit for one in starts}
    last = {one.unit: one for one in jobs if one.unit not in known and one.ends_s < math.inf}
    yield from (
        UnitStart(unit=unit, begins_s=job.begins_s, ends_s=job.ends_s, after=None) for unit, job in last.items()
    )


def jobs_of(starts: Iterable[UnitStart], jobs: Iterable[Job], user_space_s: float) -> tuple[Job, ...]:
    """All jobs: those of the journal, and those that systemd shows of its units itself. Jobs of the initrd end with it,
    ``user_space_s`` seconds after the kernel began: pure."""
    shown = (Job(one.unit, one.begins_s, math.inf if one.ends_s is None else one.ends_s) for one in starts)
    return tuple(
        Job(one.unit, one.begins_s, min(one.ends_s, user_space_s)) if one.begins_s < user_space_s else one
        for one in (*shown, *jobs)
    )


def waited_for(
    idle: Iterable[IdleSpan], jobs: Sequence[Job], path: Collection[str], excused: Collection[str]
) -> dict[str, tuple[IdleSpan, ...]]:
    """The unit that each span of ``idle`` time was spent waiting for, the one with the most time first: pure.

    Of the units whose job ran, that is one of the critical ``path``, else the one that was ready last. Nobody waits for
    those that are ``excused``. While no job ran, nothing was waited for; before the first one, the kernel was.
    """
    mine = [job for job in jobs if job.unit not in excused]
    first_s = min((job.begins_s for job in mine), default=0.0)
    found = defaultdict[str, list[IdleSpan]](list)
    for span in idle:
        at_s = (span.begins_s + span.ends_s) / 2
        running = [job for job in mine if job.begins_s <= at_s < job.ends_s]
        if running:
            unit = max(running, key=lambda job: (job.unit in path, job.ends_s)).unit
            found[unit].append(span)
        elif at_s < first_s:
            found[NO_UNIT].append(span)
    return {unit: tuple(found[unit]) for unit in sorted(found, key=lambda unit: -idle_s(found[unit]))}


def idle_s(spans: Iterable[IdleSpan]) -> float:
    return sum(span.idle_s for span in spans)


def longest_stretch(spans: Sequence[IdleSpan], gap_s: float = 2.0) -> tuple[float, float]:
    """Begin and end of those of the ``spans``, in the order of time, that follow each other for the longest: pure."""
    best = stretch = (spans[0].begins_s, spans[0].ends_s)
    for span in spans[1:]:
        follows = span.begins_s - stretch[1] <= gap_s
        stretch = (stretch[0] if follows else span.begins_s, span.ends_s)
        best = max(best, stretch, key=lambda one: one[1] - one[0])
    return best
