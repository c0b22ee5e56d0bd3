"""What a person sees of a run on many hosts: a table while it runs, or a line for each change."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("host", "shard", "try", "state", "since", "progress")


class AttemptState(StrEnum):
    """``done``: the part has a verdict. ``inconclusive``: it has one that says nothing about the image.

    ``failed``: there is no part.
    """

    CONNECTS = "connects"
    BRINGS = "brings files"
    RUNS = "runs"
    FETCHES = "fetches"
    DONE = "done"
    INCONCLUSIVE = "inconclusive"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        return self in (AttemptState.DONE, AttemptState.INCONCLUSIVE, AttemptState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One shard on one host. ``detail`` is its last line of progress, or why it failed; times are Unix time."""

    shard: int
    number: int
    host: str
    state: AttemptState
    detail: str
    began_s: float
    changed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The state of a whole run: its ``hosts``, those that were ``left_out`` with why, and all attempts so far."""

    hosts: tuple[str, ...]
    left_out: dict[str, str]
    shards: int
    attempts: tuple[Attempt, ...]


def rows(watched: Watched, now_s: float) -> list[tuple[str, ...]]:
    """A row for each host, with what it did last."""
    made = list[tuple[str, ...]]()
    for host in watched.hosts:
        own = [one for one in watched.attempts if one.host == host]
        if own:
            last = max(own, key=lambda one: one.began_s)
            passed = _duration(now_s - last.began_s if not last.state.is_over else last.changed_s - last.began_s)
            made.append((host, f"{last.shard}/{watched.shards}", str(last.number), last.state, passed, last.detail))
        else:
            made.append((host, "", "", "idle", "", ""))
    return [*made, *((host, "", "", "left out", "", why) for host, why in watched.left_out.items())]


def summary(watched: Watched) -> str:
    """As in "shards: 2 of 3 done, 1 running, 0 waiting, 1 try failed"."""
    last = last_of_each(watched.attempts)
    done = sum(one.state is AttemptState.DONE for one in last)
    running = sum(not one.state.is_over for one in last)
    failed = sum(one.state in (AttemptState.FAILED, AttemptState.INCONCLUSIVE) for one in watched.attempts)
    text = f"shards: {done} of {watched.shards} done, {running} running, {watched.shards - done - running} waiting"
    return text + (f"; {failed} {'try' if failed == 1 else 'tries'} without a conclusion" if failed else "")


def last_of_each(attempts: Iterable[Attempt]) -> list[Attempt]:
    """The last attempt of each shard that has one."""
    last = dict[int, Attempt]()
    for one in sorted(attempts, key=lambda one: (one.shard, one.number)):
        last[one.shard] = one
    return list(last.values())


def changes(before: Sequence[Attempt], after: Sequence[Attempt], shards: int) -> list[str]:
    """A line for each attempt that is new or in another state."""
    known = {(one.shard, one.number): one.state for one in before}
    return [
        f"{time.strftime('%H:%M:%S', time.localtime(one.changed_s))} {one.host}: shard {one.shard}/{shards}, "
        f"try {one.number}: {one.state}" + (f": {one.detail}" if one.detail else "")
        for one in sorted(after, key=lambda one: one.changed_s)
        if known.get((one.shard, one.number)) is not one.state
    ]


def as_table(watched: Watched, now_s: float) -> Table:
    from rich.text import Text

    from harness.core.tables import new_table

    colours = {AttemptState.DONE: "green", AttemptState.FAILED: "red", AttemptState.INCONCLUSIVE: "yellow"}
    table = new_table(*COLUMNS)
    for row in rows(watched, now_s):
        style = {str(state): colour for state, colour in colours.items()}.get(row[3], "")
        table.add_row(*(Text(cell, style if number == 3 else "") for number, cell in enumerate(row)))
    table.caption, table.caption_justify = summary(watched), "left"
    return table


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{max(0.0, seconds):.0f} s"
