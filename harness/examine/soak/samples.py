"""One sample of a host that is watched: everything that could grow or break, at one moment, in one round trip."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from harness.core.deadline import Deadline
from harness.examine.journal import Entry, entry_of
from harness.examine.processes import GROUPS, groups_of, unit_of
from harness.examine.soak.ground import END_OF_JOURNAL, Ground, cursor_of
from harness.examine.texts import lines_of, some
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.guest.runtime_profile import MEMORY

_UPTIME = Probe("uptime", "cat /proc/uptime")
_TAINTED = Probe("taints", "cat /proc/sys/kernel/tainted")
_MEMORY_OF_GROUPS = Probe(
    "memory of control groups",
    some(
        "grep -raHE --include=memory.stat --include=memory.max --include=pids.current --include=pids.max "
        "'^(anon|file|kernel|shmem|slab_reclaimable) |^[0-9]+$' /sys/fs/cgroup"
    ),
)
"""Linux, Documentation/admin-guide/cgroup-v2.rst. A group may be gone before it is read."""
_DESCRIPTORS = Probe(
    "open files",
    'echo look\nfor folder in /proc/[0-9]*/fd; do set -- "$folder"/*; [ $# -lt 2 ] || echo "$# $folder"; done',
)
"""No program runs: under emulation each would cost milliseconds."""
_UNITS = Probe(
    "states of units",
    "systemctl list-units --all --plain --no-legend --full --type=service,socket,timer,mount,path",
)
"""One question to systemd; ``systemctl show`` asks about each unit, which takes a second under emulation."""
_TIMERS = Probe(
    "timers",
    "echo look\nTZ=UTC LC_ALL=C systemctl show -p Id -p Unit -p LastTriggerUSec -p TimersMonotonic -p TimersCalendar "
    "'*.timer'",
)
"""systemctl(1): a pattern stands for the units that are loaded; there may be none."""
_SPACE, _FILES, _MESSAGES = "space", "files", "messages of the journal"
_MOST_MESSAGES = 300
_RESTARTED, _ENDED = "5eb03494b6584870a536b337290809b3", "d9b373ed55a64feb8242e02dbe79a49c"
"""SD_MESSAGE_UNIT_RESTART_SCHEDULED and SD_MESSAGE_UNIT_FAILURE_RESULT: systemd, src/systemd/sd-messages.h."""
_ERRORS = range(4)
"""The priorities of err and worse."""
_MOST_BYTES = 8 << 20
_LIMIT_S = 60.0
_FIRST_FILE = "/proc/uptime"
"""It shows that find(1) could look: there may be no other file."""
_BLOCK = 512
_JOURNAL = re.compile(r"/log/journal/[0-9a-f]+/")
_RUN_NUMBER = re.compile(r"(?<=-)([a-z]?\d+(-i\d+)?)(?=\.)")
_TIMESTAMP = "%a %Y-%m-%d %H:%M:%S UTC"

GONE = "units that are gone"
"""Stands for what a slice has beyond its units: what ended units have left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitUse:
    """What a unit takes, in bytes: ``memory`` that only it can give back, ``files`` in RAM and ``cache`` of files on
    disks, which it was the first to touch; and how many ``tasks`` it has. The limits are 0 if it has none."""

    memory: int = 0
    files: int = 0
    cache: int = 0
    tasks: int = 0
    memory_limit: int = 0
    tasks_limit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitState:
    """A loaded unit, as ``systemctl list-units`` has it."""

    active: str = "active"
    sub: str = "running"
    load: str = "loaded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """The ``unit`` that a timer starts, when it did so last (in Unix time, 0 for never), and whether all of its times
    count from the boot."""

    unit: str
    last_s: float = 0.0
    is_monotonic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A file system, in bytes, and its inodes; one without a number of inodes has 0."""

    size: int
    used: int
    inodes: int = 0
    used_inodes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A host ``at_s`` seconds after its boot, by a clock that nobody sets.

    ``memory`` is /proc/meminfo in bytes; ``files`` has the bytes of each file that was changed since the soak began, in
    the first sample of all files, and of the journal's in each; ``processes`` is the unit of each process;
    ``descriptors`` how many files each has open.
    ``cursor`` is that of the journal's last entry. Since the sample before, ``errors`` are those of priority err and
    worse, ``restarts`` counts how often each unit was started again, and ``results`` says how units ended that failed.
    """

    at_s: float
    memory: Mapping[str, int] = field(default_factory=dict)
    tainted: int = 0
    units: Mapping[str, UnitState] = field(default_factory=dict)
    timers: Mapping[str, Timer] = field(default_factory=dict)
    use: Mapping[str, UnitUse] = field(default_factory=dict)
    space: Mapping[str, Space] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    processes: Mapping[int, str] = field(default_factory=dict)
    descriptors: Mapping[int, int] = field(default_factory=dict)
    cursor: str = ""
    errors: tuple[Entry, ...] = ()
    restarts: Mapping[str, int] = field(default_factory=dict)
    results: Mapping[str, str] = field(default_factory=dict)

    @property
    def entries(self) -> int:
        """How many entries the journal ever had: systemd, Journal Export Formats, "__CURSOR"."""
        found = re.search(r"\bi=([0-9a-f]+)", self.cursor)
        return int(found[1], 16) if found else 0


def read_sample(channel: Channel, ground: Ground, before: Sample | None = None) -> Sample:
    """Ask a host, of which ``before`` is the sample before; `ImageError` if it does not answer as expected."""
    return parse(ask(channel, probes(ground, before), Deadline(_LIMIT_S), most_bytes=_MOST_BYTES), ground)


def probes(ground: Ground, before: Sample | None) -> list[Probe]:
    return [
        _UPTIME, MEMORY, _TAINTED, *([_MEMORY_OF_GROUPS] if ground.has_groups else []), GROUPS, _DESCRIPTORS,
        *_of_mounts(ground, ground.began_s if before else 0), _UNITS, _TIMERS,
        END_OF_JOURNAL, _messages_since(before.cursor if before else ground.cursor),
    ]  # fmt: skip


def _of_mounts(ground: Ground, since_s: int) -> list[Probe]:
    """The hidden files of an overlay would have to be searched in the whole image."""
    places = [mount.place for mount in ground.mounts]
    searched = [mount.place for mount in ground.mounts if mount.kind != "overlay"]
    find = f"find {_FIRST_FILE} {shlex.join(searched)} -xdev -ignore_readdir_race -type f"
    which = f"\\( -newerct @{since_s} -o -path '*/log/journal/*' -o -path {_FIRST_FILE} \\)"
    return [
        Probe(_SPACE, f"stat -f -c '%S %b %f %c %d %n' {shlex.join(places)}"),
        Probe(_FILES, some(f"{find} {which} -printf '%b %p\\n'") if searched else "echo look"),
    ]


def _messages_since(cursor: str) -> Probe:
    fields = "SYSLOG_IDENTIFIER,_SYSTEMD_UNIT,UNIT,MESSAGE,MESSAGE_ID,PRIORITY,UNIT_RESULT"
    wanted = " ".join(f"PRIORITY={priority}" for priority in _ERRORS)
    return Probe(
        _MESSAGES,
        f"echo look\njournalctl -q --no-pager --after-cursor={shlex.quote(cursor)} -n {_MOST_MESSAGES} -o json "
        f"--output-fields={fields} {wanted} + MESSAGE_ID={_RESTARTED} + MESSAGE_ID={_ENDED}",
    )


def parse(answers: Mapping[str, str], ground: Ground) -> Sample:
    """Pure; `ImageError` for an answer that is not as expected."""
    messages = read(answers, Probe(_MESSAGES, "journalctl"), lambda text: list(map(json.loads, lines_of(text))))
    has_files = [mount for mount in ground.mounts if mount.kind != "overlay"]
    return Sample(
        at_s=read(answers, _UPTIME, lambda text: float(text.split()[0])),
        memory=read(answers, MEMORY, _meminfo),
        tainted=read(answers, _TAINTED, int),
        units=read(answers, _UNITS, lambda text: dict(map(_unit, text.splitlines()))),
        timers=read(answers, _TIMERS, lambda text: dict(_timers(lines_of(text)))),
        use=read(answers, _MEMORY_OF_GROUPS, lambda text: _use(lines_of(text))) if ground.has_groups else {},
        space=read(answers, Probe(_SPACE, "stat -f"), lambda text: dict(_space(text))),
        files=read(answers, Probe(_FILES, "find"), lambda text: dict(_files(lines_of(text)))) if has_files else {},
        processes={pid: unit_of(group) for pid, group in groups_of(answers).items()},
        descriptors=read(answers, _DESCRIPTORS, lambda text: dict(_descriptors(lines_of(text)))),
        cursor=read(answers, END_OF_JOURNAL, cursor_of),
        errors=tuple(entry_of(one) for one in messages if int(one.get("PRIORITY", 6)) in _ERRORS),
        restarts=Counter(str(one["UNIT"]) for one in messages if one.get("MESSAGE_ID") == _RESTARTED and "UNIT" in one),
        results={str(one["UNIT"]): str(one.get("UNIT_RESULT", "")) for one in messages if _is_end(one)},
    )


def _meminfo(text: str) -> dict[str, int]:
    rows = {words[0].rstrip(":"): int(words[1]) << 10 for words in map(str.split, text.splitlines())}
    return {**rows, "MemAvailable": rows["MemAvailable"], "MemTotal": rows["MemTotal"]}


def _is_end(message: Mapping[str, object]) -> bool:
    return message.get("MESSAGE_ID") == _ENDED and "UNIT" in message


def _unit(line: str) -> tuple[str, UnitState]:
    name, load, active, sub = line.split()[:4]
    return name, UnitState(active=active, sub=sub, load=load)


def _timers(lines: Sequence[str]) -> Iterator[tuple[str, Timer]]:
    for block in filter(None, "\n".join(lines).split("\n\n")):
        row = dict(line.split("=", 1) for line in block.splitlines())
        yield (
            row["Id"],
            Timer(
                unit=row["Unit"],
                last_s=_unix(row.get("LastTriggerUSec", "")),
                is_monotonic="TimersMonotonic" in row and "TimersCalendar" not in row,
            ),
        )


def _unix(stamp: str) -> float:
    """systemd.time(7); "n/a" or nothing for never."""
    if stamp in ("", "n/a"):
        return 0.0
    return datetime.strptime(stamp, _TIMESTAMP).replace(tzinfo=UTC).timestamp()


def _use(lines: list[str]) -> dict[str, UnitUse]:
    """By unit: of the topmost group of each, whose numbers include those below it."""
    rows = dict[str, dict[str, int]]()
    for line in lines:
        path, _, text = line.partition(":")
        group, _, file = path.removeprefix("/sys/fs/cgroup").rpartition("/")
        key, _, value = text.rpartition(" ")
        rows.setdefault(group, {})[key or file] = int(value)
    if not rows:
        raise ValueError("no control group")
    used = dict[str, UnitUse]()
    for group, row in rows.items():
        if group and group.rpartition("/")[2] == unit_of(group):
            used[common_name(unit_of(group))] = _add(used.get(common_name(unit_of(group)), UnitUse()), _one(row))
    known = [_one(row) for group, row in rows.items() if group and group.rpartition("/")[2] == unit_of(group)]
    tops = [_one(row) for group, row in rows.items() if group.count("/") == 1]
    left = {name: sum(getattr(one, name) for one in tops) - sum(getattr(one, name) for one in known)
            for name in ("memory", "files", "cache")}  # fmt: skip
    return {**used, GONE: UnitUse(**{name: max(0, value) for name, value in left.items()})}


def _one(row: Mapping[str, int]) -> UnitUse:
    return UnitUse(
        memory=max(0, row.get("anon", 0) + row.get("kernel", 0) - row.get("slab_reclaimable", 0)),
        files=row.get("shmem", 0),
        cache=max(0, row.get("file", 0) - row.get("shmem", 0)),
        tasks=row.get("pids.current", 0),
        memory_limit=row.get("memory.max", 0),
        tasks_limit=row.get("pids.max", 0),
    )


def _add(one: UnitUse, two: UnitUse) -> UnitUse:
    return UnitUse(**{name: getattr(one, name) + getattr(two, name) for name in UnitUse.__slots__})


def common_name(unit: str) -> str:
    """One name for all units of a kind that come and go by number: ``session-*.scope``, ``run-*.service``."""
    return _RUN_NUMBER.sub("*", unit) if unit.startswith(("session-", "run-", "machine-")) else unit


def _space(text: str) -> Iterator[tuple[str, Space]]:
    """A line of ``stat -f``: block size, blocks and free ones, inodes and free ones, path."""
    for line in text.splitlines():
        block, blocks, free, inodes, free_inodes, place = line.split(" ", 5)
        yield (
            place,
            Space(
                size=int(blocks) * int(block),
                used=(int(blocks) - int(free)) * int(block),
                inodes=int(inodes),
                used_inodes=int(inodes) - int(free_inodes),
            ),
        )


def _files(lines: list[str]) -> Iterator[tuple[str, int]]:
    """A line that does not begin as the others goes on with the name of a file, and is left out."""
    if not lines or not lines[0].endswith(_FIRST_FILE):
        raise ValueError(f"nothing about {_FIRST_FILE}")
    for line in lines[1:]:
        blocks, _, path = line.partition(" ")
        if blocks.isdecimal() and path.startswith("/"):
            yield path, int(blocks) * _BLOCK


def _descriptors(lines: list[str]) -> Iterator[tuple[int, int]]:
    found = {int(folder.split("/")[2]): int(count) for count, folder in map(str.split, lines)}
    if 1 not in found:
        raise ValueError("no open files of process 1")
    yield from found.items()


def is_journal(path: str) -> bool:
    """Whether a file is one of the journal's, which keeps to a limit of its own."""
    return _JOURNAL.search(path) is not None
