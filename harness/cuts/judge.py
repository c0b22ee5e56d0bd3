"""What a state after a power cut means, given what was there when nothing was cut. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from harness.cuts.look import Seen
from harness.cuts.plan import Cut
from harness.load import records


class Fate(StrEnum):
    """``open``: whether it is survived is seen when a machine boots from it."""

    KEPT = "kept"
    OPEN = "open"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """``steady`` are files, by path, that were the same from the moment the machine was first ready, when all before
    write ``ready_at`` was made, to the end. ``locations`` are persistent paths as they lie on the disk.
    ``acknowledged`` maps records to how many writes had been made when they were.
    """

    ready_at: int
    steady: dict[str, str]
    locations: tuple[str, ...]
    acknowledged: dict[int, int]
    seed: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of ``cut``: ``kind`` is the same for all that went wrong in the same way, ``detail`` is not."""

    cut: Cut
    fate: Fate
    kind: str = ""
    detail: str = ""

    @property
    def said(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


def judge(cut: Cut, seen: Seen, awaited: Expectation) -> Judgement:
    """A machine that had been ready has lost what is not there; in an earlier one, the next boot may still make it."""
    was_ready = cut.begin >= awaited.ready_at
    worse = Fate.LOST if was_ready else Fate.OPEN
    if seen.problem:
        return Judgement(cut, worse, seen.problem)
    for kind, path in _missing(seen.files, awaited, was_ready=was_ready):
        return Judgement(cut, worse, kind, path)
    due = {record for record, at in awaited.acknowledged.items() if at <= cut.begin}
    lost = sorted(due - records(seen.load, awaited.seed))
    if lost:
        detail = f"{len(lost)} of {len(due)}, the first is number {lost[0]}"
        return Judgement(cut, Fate.LOST, "acknowledged records are lost", detail)
    return Judgement(cut, Fate.KEPT)


def _missing(files: Mapping[str, str], awaited: Expectation, *, was_ready: bool) -> Iterator[tuple[str, str]]:
    """The kind of each loss, and the path that is lost."""
    for path, digest in awaited.steady.items():
        location = next((place for place in awaited.locations if _is_in(path, place)), None)
        place = location or "outside of the persistent locations"
        if path in files:
            if files[path] != digest:
                yield f"{place}: a file is not what it was", path
        elif was_ready:
            yield f"{place}: a file is gone", path
        elif location and any(_is_in(other, location) for other in files):
            yield f"{place} is there, but not all of it", f"{path} is missing"


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def steady(ready: Mapping[str, str], end: Mapping[str, str]) -> dict[str, str]:
    """What was there at both times, and the same."""
    return {path: digest for path, digest in ready.items() if end.get(path) == digest and not path.startswith("/lost+")}


def came_back(files: Mapping[str, str], awaited: Expectation, twin: Mapping[str, str]) -> str:
    """What a machine that booted from a cut in its first boot lacks; empty if nothing.

    ``twin`` is what another machine of the image has: what differs there is a machine's own and may be new.
    """
    for path, digest in awaited.steady.items():
        if path not in files:
            return f"{path} is missing, which a first boot that nothing interrupted makes"
        if files[path] != digest and twin.get(path) == digest:
            return f"{path} is not what a first boot that nothing interrupted makes"
    return ""


def sample(judgements: Iterable[Judgement], count: int) -> list[Judgement]:
    """Those to boot: of each kind of loss and of doubt the first and the last, then others, evenly, up to ``count``.

    The first of all, a blank disk, is among them. Kinds are more than ``count`` only where that many things are wrong.
    """
    ordered = list(judgements)
    kinds = dict[tuple[Fate, str], list[Judgement]]()
    for judgement in ordered:
        if judgement.fate is not Fate.KEPT:
            kinds.setdefault((judgement.fate, judgement.kind), []).append(judgement)
    by_gravity = sorted(kinds, key=lambda kind: kind[0] is not Fate.LOST)
    chosen = dict.fromkeys([*ordered[:1], *(one for kind in by_gravity for one in (kinds[kind][0], kinds[kind][-1]))])
    kept = [one for one in ordered if one.fate is Fate.KEPT]
    wanted = max(0, count - len(chosen))
    chosen |= dict.fromkeys(kept[place * len(kept) // wanted] for place in range(wanted)) if kept and wanted else {}
    return list(chosen)[:count]
