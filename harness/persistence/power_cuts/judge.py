"""Judge a crash state: compare it with the disk of a machine whose power was not cut. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from harness.persistence.power_cuts.crash_states import CrashState
from harness.persistence.power_cuts.read_back import DiskContents
from harness.persistence.write_load import records


class CrashResult(StrEnum):
    """``open`` means that only a boot from the state shows whether the image survives it."""

    KEPT = "kept"
    OPEN = "open"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """``made`` are the files, by path, that the guest had when it was first ready and that did not change until the
    end; ``steady`` are those of them that were on the disk by then, with the writes before ``ready_at``. ``locations``
    are the persistent paths as they lie on the disk. ``acknowledged`` maps each acknowledged record to the number of
    writes made by then.
    """

    ready_at: int
    steady: dict[str, str]
    made: dict[str, str]
    locations: tuple[str, ...]
    acknowledged: dict[int, int]
    seed: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """The ``result`` of ``cut``: ``kind`` groups crash states that fail in the same way, ``detail`` is particular."""

    cut: CrashState
    result: CrashResult
    kind: str = ""
    detail: str = ""

    @property
    def sentence(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


def judge(cut: CrashState, seen: DiskContents, awaited: Expectation) -> Judgement:
    """After the machine was ready, a missing file is lost; before, the next boot may still create it."""
    was_ready = cut.begin >= awaited.ready_at
    if seen.problem:  # without the numbers of inodes and blocks, which would make kinds of their own
        return Judgement(
            cut, CrashResult.LOST if was_ready else CrashResult.OPEN, re.sub(r"\b\d+\b", "N", seen.problem)
        )
    for kind, path in _lost(seen.files, awaited) if was_ready else ():
        return Judgement(cut, CrashResult.LOST, kind, path)
    due = {record for record, at in awaited.acknowledged.items() if at <= max(cut.begin, cut.end)}
    lost = sorted(due - records(seen.load, awaited.seed))
    if lost:
        detail = f"{len(lost)} of {len(due)}, the first is number {lost[0]}"
        return Judgement(cut, CrashResult.LOST, "acknowledged records are lost", detail)
    for kind, path in _unfinished(seen.files, awaited):
        return Judgement(cut, CrashResult.OPEN, kind, path)
    return Judgement(cut, CrashResult.KEPT)


def _lost(files: Mapping[str, str], awaited: Expectation) -> Iterator[tuple[str, str]]:
    """Kind and path of each loss."""
    for path, digest in awaited.steady.items():
        place = _location(path, awaited) or "outside of the persistent paths"
        if path not in files:
            yield f"{place}: a file is missing", path
        elif files[path] != digest:
            yield f"{place}: a file has changed", path


def _unfinished(files: Mapping[str, str], awaited: Expectation) -> Iterator[tuple[str, str]]:
    """Kind and path of each thing that is only partly on the disk."""
    begun = {place for place in awaited.locations if any(_is_in(path, place) for path in files)}
    for path, digest in awaited.made.items():
        place = _location(path, awaited)
        if path in files:
            if files[path] != digest:
                yield f"{place or 'outside of the persistent paths'}: a file has changed", path
        elif place in begun:
            yield f"{place} is incomplete", f"{path} is missing"


def _location(path: str, awaited: Expectation) -> str | None:
    return next((place for place in awaited.locations if _is_in(path, place)), None)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def steady(ready: Mapping[str, str], end: Mapping[str, str]) -> dict[str, str]:
    """The files that are the same at both times."""
    return {path: digest for path, digest in ready.items() if end.get(path) == digest and not path.startswith("/lost+")}


def unrestored(files: Mapping[str, str], awaited: Expectation, twin: Mapping[str, str]) -> str:
    """What a machine lacks that booted from a cut in its first boot; empty if nothing.

    ``twin`` are the files of another machine of the image: what differs there is particular to a machine, and may be
    new.
    """
    for path, digest in awaited.made.items():
        if path in twin and path not in files:
            return f"{path} is missing, which an uninterrupted first boot creates"
        if twin.get(path) == digest and files.get(path) != digest:
            return f"{path} differs from the one that an uninterrupted first boot creates"
    return ""


def sample(judgements: Iterable[Judgement], count: int, ready_at: int) -> list[Judgement]:
    """``count`` crash states to boot: a blank disk, the first and last of each kind of loss and open result as far as
    there is room, losses first; and others, at least a third of all, evenly spread from ``ready_at`` on."""
    ordered = list(judgements)
    kinds: dict[tuple[CrashResult, str], list[Judgement]] = {}
    for judgement in ordered:
        if judgement.result is not CrashResult.KEPT:
            kinds.setdefault((judgement.result, judgement.kind), []).append(judgement)
    by_gravity = sorted(kinds, key=lambda kind: kind[0] is not CrashResult.LOST)
    ends = [(kinds[kind][0], kinds[kind][-1]) for kind in by_gravity]
    chosen = dict.fromkeys([*ordered[:1], *(first for first, _ in ends), *(last for _, last in ends)])
    room = count - max(1, count // 3)
    picked = list(chosen)[:room]
    later = [one for one in ordered if one.cut.begin >= ready_at and one not in chosen] or ordered
    wanted = count - len(picked)
    others = (later[place * len(later) // wanted] for place in range(wanted))
    return list(dict.fromkeys([*picked, *others]))


_FULL_BOOTS = 5
_LEAST_FULL_BOOTS = 2


def boots_from_power_on(number: int, count: int) -> bool:
    """Whether the ``number``-th of ``count`` sampled states is booted from power-on and not from the initrd: each
    fifth, and at least two."""
    if count < _FULL_BOOTS * (_LEAST_FULL_BOOTS - 1) + 1:
        return number < _LEAST_FULL_BOOTS
    return number % _FULL_BOOTS == 0
