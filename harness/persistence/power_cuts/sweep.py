"""Judge every crash state of a recording, on the host."""

from __future__ import annotations

import math
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.core.deadline import usable_cores
from harness.core.errors import ImageError
from harness.persistence.power_cuts.crash_states import CrashState, PartialWrite, plan_crash_states, windows
from harness.persistence.power_cuts.judge import Expectation, Judgement, judge, steady
from harness.persistence.power_cuts.materialize import Layout, new_layout
from harness.persistence.power_cuts.read_back import DiskContents, KnownContents, read_disk
from harness.persistence.power_cuts.writelog import Write, WriteLog, open_log
from harness.qemu.disk_images import Partition

_PROGRESS_EVERY = 2000
_ROOM_BYTES = 2 << 30
_PREFIX = "bootproof-cuts-"
_SHARES = 4
"""Shares of the cuts for each core, so that all cores end at about the same time. A share is judged on one growing
layout, which begins with everything durable by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """All writes to a disk of ``disk_bytes``, blank at first, in ``log``; the file system lies in ``partition``.

    ``ready_at`` is the number of writes when the machine was first ready; ``acknowledged`` and ``seed`` are those of
    the `WriteLoad`. Paths are those of the file system: ``load`` is the file of the load, ``locations`` are the
    persistent paths, ``made`` maps the files that the guest had in them when it was first ready to their digests.
    """

    log: Path
    disk_bytes: int
    partition: Partition
    ready_at: int
    acknowledged: dict[int, int]
    seed: str
    load: str
    locations: tuple[str, ...]
    made: dict[str, str]


def expectation(recording: Recording, folder: Path) -> Expectation:
    """What must be on the disk, from its states when the machine was ready and at the end; `ImageError` if its file
    system is damaged even then. Temporary files go to ``folder``."""
    with open_log(recording.log) as log:
        begins = [span.begin for span in windows(log.writes)]
        ready = CrashState(max(begin for begin in begins if begin <= recording.ready_at))
        layout = _layout(recording, log, folder)
        seen = [_look_at(layout, cut, folder, recording.load) for cut in (ready, _whole(log.writes))]
    for one in seen:
        if one.problem:
            raise ImageError(f"{recording.log.parent}: the file system is damaged without a power cut: {one.problem}")
    kept = steady(seen[0].files, seen[1].files)
    return Expectation(
        ready_at=ready.begin,
        steady=kept,
        made=kept | steady(recording.made, seen[1].files),
        locations=recording.locations,
        acknowledged=recording.acknowledged,
        seed=recording.seed,
    )


def sweep(
    recording: Recording,
    awaited: Expectation,
    folder: Path,
    *,
    count: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> list[Judgement]:
    """Judge ``count`` crash states, every flush boundary among them, on all cores; results in their order.

    ``progress`` is called from time to time with the numbers of states done and in all.
    """
    with open_log(recording.log) as log, ThreadPoolExecutor(usable_cores()) as pool:
        cuts = plan_crash_states(log.writes, count, seed)
        done = _Count(len(cuts), progress)

        def work(share: Sequence[CrashState]) -> list[Judgement]:
            with TemporaryDirectory(dir=scratch, prefix=f"{_PREFIX}{os.getpid()}-") as place:
                reader = _Reader(_layout(recording, log, Path(place)), Path(place), recording.load)
                return [done.note(judge(cut, reader.look_at(cut), awaited)) for cut in share]

        scratch = _scratch(folder)
        size = math.ceil(len(cuts) / (usable_cores() * _SHARES))
        shares = [cuts[at : at + size] for at in range(0, len(cuts), size)]
        return [one for share in pool.map(work, shares) for one in share]


def _scratch(folder: Path) -> Path:
    """A folder in memory, if there is room: on a disk, e2fsck would wait for its writes."""
    memory = Path("/dev/shm")
    for left in memory.glob(f"{_PREFIX}*"):  # of a process that was killed
        if not Path("/proc", left.name.split("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    is_roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _ROOM_BYTES
    return memory if is_roomy else folder


def lay_out(recording: Recording, cut: CrashState, path: Path) -> None:
    """Write the whole disk as ``cut`` leaves it to ``path``."""
    with open_log(recording.log) as log, TemporaryDirectory(dir=path.parent) as place:
        new_layout(log, Path(place), 0, recording.disk_bytes).lay_out(cut, path)


@contextmanager
def end_state(recording: Recording, folder: Path) -> Iterator[Path]:
    """The file system at the end of the recording, as a file in ``folder`` while the block lasts."""
    with open_log(recording.log) as log, TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "state"
        _layout(recording, log, Path(place)).lay_out(_whole(log.writes), path)
        yield path


def _layout(recording: Recording, log: WriteLog, folder: Path) -> Layout:
    return new_layout(log, folder, recording.partition.start_bytes, recording.partition.size_bytes)


def _look_at(
    layout: Layout, cut: CrashState, folder: Path, load: str, known: KnownContents | None = None
) -> DiskContents:
    state = folder / "state"
    layout.lay_out(cut, state)
    try:
        return read_disk(state, folder / "files", load, known)
    finally:
        state.unlink()


class _Reader:
    """Reads crash states in the order of their cuts; of equal ones, only the first."""

    def __init__(self, layout: Layout, folder: Path, load: str) -> None:
        self._layout, self._folder, self._load, self._known = layout, folder, load, KnownContents()
        self._begin = -1
        self._seen: dict[tuple[PartialWrite, ...], DiskContents] = {}
        """Of the states that begin at that write."""

    def look_at(self, cut: CrashState) -> DiskContents:
        if cut.begin != self._begin:
            self._begin, self._seen = cut.begin, {}
        parts = self._layout.effective(cut)
        if parts not in self._seen:
            self._seen[parts] = _look_at(self._layout, cut, self._folder, self._load, self._known)
        return self._seen[parts]


def _whole(writes: Sequence[Write]) -> CrashState:
    """The state with all writes of the recording."""
    *_, last = windows(writes)
    return CrashState(
        last.begin, tuple(PartialWrite(number, writes[number].size_bytes) for number in last.writes), last.end
    )


class _Count:
    """The number of states done, over all threads."""

    def __init__(self, total: int, progress: Callable[[int, int], None]) -> None:
        self._total, self._progress, self._done, self._lock = total, progress, 0, threading.Lock()

    def note(self, judgement: Judgement) -> Judgement:
        with self._lock:
            self._done += 1
            if self._done % _PROGRESS_EVERY == 0 or self._done == self._total:
                self._progress(self._done, self._total)
        return judgement
