"""What a state after a power cut means, given what was there when nothing was cut. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from harness.persistence.power_cuts.crash_states import CrashState
from harness.persistence.power_cuts.read_back import DiskContents
from harness.persistence.write_load import records


class CrashResult(StrEnum):
    """``open``: whether it is survived is seen when a machine boots from it."""

    KEPT = "kept"
    OPEN = "open"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """``made`` are files, by path, that the guest had when it was first ready, and that were the same to the end;
    ``steady`` those of the disk's by then, when all before write ``ready_at`` was made. ``locations`` are persistent
    paths as they lie on the disk. ``acknowledged`` maps records to how many writes had been made when they were.
    """

    ready_at: int
    steady: dict[str, str]
    made: dict[str, str]
    locations: tuple[str, ...]
    acknowledged: dict[int, int]
    seed: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of ``cut``: ``kind`` is the same for all that went wrong in the same way, ``detail`` is not."""

    cut: CrashState
    fate: CrashResult
    kind: str = ""
    detail: str = ""

    @property
    def said(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


def judge(cut: CrashState, seen: DiskContents, awaited: Expectation) -> Judgement:
    """A machine that had been ready has lost what was on its disk then; else the next boot may still make it."""
    was_ready = cut.begin >= awaited.ready_at
    if seen.problem:  # the numbers of inodes and blocks make no other kind of it
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
    """The kind of each loss, and the path that is lost."""
    for path, digest in awaited.steady.items():
        place = _location(path, awaited) or "outside of the persistent locations"
        if path not in files:
            yield f"{place}: a file is gone", path
        elif files[path] != digest:
            yield f"{place}: a file is not what it was", path


def _unfinished(files: Mapping[str, str], awaited: Expectation) -> Iterator[tuple[str, str]]:
    """What is there in part, by kind and path."""
    begun = {place for place in awaited.locations if any(_is_in(path, place) for path in files)}
    for path, digest in awaited.made.items():
        place = _location(path, awaited)
        if path in files:
            if files[path] != digest:
                yield f"{place or 'outside of the persistent locations'}: a file is not what it was", path
        elif place in begun:
            yield f"{place} is there, but not all of it", f"{path} is missing"


def _location(path: str, awaited: Expectation) -> str | None:
    return next((place for place in awaited.locations if _is_in(path, place)), None)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def steady(ready: Mapping[str, str], end: Mapping[str, str]) -> dict[str, str]:
    """What was there at both times, and the same."""
    return {path: digest for path, digest in ready.items() if end.get(path) == digest and not path.startswith("/lost+")}


def came_back(files: Mapping[str, str], awaited: Expectation, twin: Mapping[str, str]) -> str:
    """What a machine that booted from a cut in its first boot lacks; empty if nothing.

    ``twin`` is what another machine of the image has: what differs there is a machine's own and may be new.
    """
    for path, digest in awaited.made.items():
        if path in twin and path not in files:
            return f"{path} is missing, which a first boot that nothing interrupted makes"
        if twin.get(path) == digest and files.get(path) != digest:
            return f"{path} is not what a first boot that nothing interrupted makes"
    return ""


def sample(judgements: Iterable[Judgement], count: int, ready_at: int) -> list[Judgement]:
    """Those to boot, ``count`` of them: a blank disk, the first and the last of each kind of loss and of doubt as far
    as there is room, losses first; and others evenly, for which at least a third is kept, from ``ready_at`` on."""
    ordered = list(judgements)
    kinds = dict[tuple[CrashResult, str], list[Judgement]]()
    for judgement in ordered:
        if judgement.fate is not CrashResult.KEPT:
            kinds.setdefault((judgement.fate, judgement.kind), []).append(judgement)
    by_gravity = sorted(kinds, key=lambda kind: kind[0] is not CrashResult.LOST)
    ends = [(kinds[kind][0], kinds[kind][-1]) for kind in by_gravity]
    chosen = dict.fromkeys([*ordered[:1], *(first for first, _ in ends), *(last for _, last in ends)])
    room = count - max(1, count // 3)
    picked = list(chosen)[:room]
    later = [one for one in ordered if one.cut.begin >= ready_at and one not in chosen] or ordered
    wanted = count - len(picked)
    others = (later[place * len(later) // wanted] for place in range(wanted))
    return list(dict.fromkeys([*picked, *others]))
