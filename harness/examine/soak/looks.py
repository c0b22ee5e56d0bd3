"""The looks at a host that is soaked, one after the other, and what each thing measured in all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from harness.examine.soak.ground import Ground, is_in_ram
from harness.examine.soak.growth import Point
from harness.examine.soak.samples import Sample, is_journal
from harness.examine.storage import Mount
from harness.guest.serial_shell import SHELL_UNIT


class Phase(StrEnum):
    """What is done with the host."""

    ALONE = "left alone"
    USED = "in use"
    DAYS = "days"


class Kind(StrEnum):
    """What of a thing is measured; all but the last three in bytes."""

    MEMORY = "memory"  # of a unit, without what the kernel can take back
    KERNEL = "kernel"  # a row of /proc/meminfo
    FILE = "file"
    FOLDER = "folder"
    SPACE = "space"  # of a file system
    INODES = "inodes"  # of a file system
    TASKS = "tasks"  # of a unit
    DESCRIPTORS = "descriptors"  # of a process


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A sample in a phase. ``number`` is the round of use, or the day, after which it was taken; ``started`` are the
    timers whose units were started by hand before it."""

    sample: Sample
    phase: Phase = Phase.ALONE
    number: float = 0.0
    started: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What a thing measured in each look; None as long as a unit or a process was not there. ``name`` is that of a
    unit, of a row, or a path as the mounts show it."""

    kind: Kind
    name: str
    values: tuple[float | None, ...]

    @property
    def last(self) -> float:
        return self.values[-1] or 0.0

    def points(self, moments: Sequence[float]) -> list[Point]:
        """With the moment of each look; without the looks in which there was nothing."""
        pairs = zip(moments, self.values, strict=True)
        return [(moment, value) for moment, value in pairs if value is not None]


_KERNEL_ROWS = ("SUnreclaim", "PageTables", "KernelStack", "Percpu", "AnonPages", "Shmem")
"""Linux, Documentation/filesystems/proc.rst: memory that nothing but its owner gives back."""


def all_series(looks: Sequence[Look], ground: Ground) -> Iterator[Series]:
    """One for each thing that has more at the end than it had at first."""
    for kind, rows in _measured(looks, ground):
        names = dict.fromkeys(name for row in rows for name in row)
        for name in names:
            absent = 0.0 if kind in (Kind.FILE, Kind.FOLDER) else None
            series = Series(kind=kind, name=name, values=tuple(_values(rows, name, absent)))
            known = [value for value in series.values if value is not None]
            if series.last > known[0]:
                yield series


def _values(rows: Sequence[Mapping[str, float]], name: str, absent: float | None) -> Iterator[float | None]:
    """``absent`` before it was there, and 0 when it is gone again. All files of the first look are known."""
    for row in rows:
        if name in row:
            absent = 0.0
        yield row.get(name, absent)


def _measured(looks: Sequence[Look], ground: Ground) -> Iterator[tuple[Kind, list[Mapping[str, float]]]]:
    samples = [look.sample for look in looks]
    used = [{unit: one for unit, one in sample.use.items() if unit != SHELL_UNIT} for sample in samples]
    yield Kind.MEMORY, [{unit: one.memory for unit, one in row.items()} for row in used]
    yield Kind.TASKS, [{unit: one.tasks for unit, one in row.items()} for row in used]
    yield Kind.KERNEL, [_kernel(sample, ground) for sample in samples]
    files = _changed_files(samples)
    yield Kind.FILE, files
    yield Kind.FOLDER, [_folders(row) for row in files]
    yield Kind.SPACE, [_space(sample, ground) for sample in samples]
    yield Kind.INODES, [{place: one.used_inodes for place, one in sample.space.items()} for sample in samples]
    yield Kind.DESCRIPTORS, [_descriptors(sample) for sample in samples]


def _changed_files(samples: Sequence[Sample]) -> list[Mapping[str, float]]:
    """The bytes of each file that was changed, but the journal's: those of the first sample until it was."""
    first, *later = (sample.files for sample in samples)
    changed = {path for row in later for path in row if not is_journal(path)}
    at_first = {path: size for path, size in first.items() if path in changed}
    rows, listed = list[Mapping[str, float]]([at_first]), set[str]()
    for row in later:
        listed |= row.keys()
        rows.append(
            {path: size for path, size in at_first.items() if path not in listed}
            | {path: size for path, size in row.items() if path in changed}
        )
    return rows


def _folders(files: Mapping[str, float]) -> dict[str, float]:
    """All folders above the files that were changed, with the bytes of these."""
    found = defaultdict[str, float](float)
    for path, size in files.items():
        for folder in PurePosixPath(path).parents:
            found[str(folder)] += size
    return found


def _kernel(sample: Sample, ground: Ground) -> dict[str, float]:
    """Without the journal in RAM."""
    rows = {row: float(sample.memory.get(row, 0)) for row in _KERNEL_ROWS}
    rows["Shmem"] -= sum(size for mount, size in _journal(sample, ground) if is_in_ram(mount))
    return rows


def _journal(sample: Sample, ground: Ground) -> Iterator[tuple[Mount, int]]:
    """The bytes of each of its files, with their file system."""
    for path, size in sample.files.items():
        if is_journal(path) and (mount := ground.mount_of(path)):
            yield mount, size


def _space(sample: Sample, ground: Ground) -> dict[str, float]:
    """Without the journal, which keeps to a limit of its own."""
    found = {place: float(one.used) for place, one in sample.space.items()}
    for mount, size in _journal(sample, ground):
        found[mount.place] -= size
    return found


def _descriptors(sample: Sample) -> dict[str, float]:
    """By "unit/process"."""
    return {
        f"{sample.processes[pid] or 'no unit'}/{pid}": count
        for pid, count in sample.descriptors.items()
        if pid in sample.processes and sample.processes[pid] != SHELL_UNIT
    }


def fired(before: Look, after: Look) -> list[str]:
    """The timers that started their unit between two looks."""
    earlier = before.sample.timers
    own = [
        name for name, timer in after.sample.timers.items() if name in earlier and timer.last_s > earlier[name].last_s
    ]
    return [*own, *after.started]
