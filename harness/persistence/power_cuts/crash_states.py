"""The crash states that a power cut may leave: every flush boundary, and any part of the writes after it. Pure.

Writes before a flush are on the disk. (QEMU logs a request when it arrives: requests in flight at the flush count as
written too, because no guest relies on them.) Of the writes after it, the disk may have any subset, and of each of
these any beginning, in whole blocks of 4 KiB. Disks with physical blocks of 512 bytes promise less: on them the
superblock of an ext4, which is written in place, can be torn beyond what e2fsck(8) repairs by itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.persistence.power_cuts.writelog import Write

_BLOCK_BYTES = 4096
_TRIES = 24
"""After so many random draws in a row without a new state, a window counts as exhausted."""


@dataclass(frozen=True, slots=True)
class PartialWrite:
    """The first ``size_bytes`` of the ``number``-th write."""

    number: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CrashState:
    """All writes before number ``begin``, which follows a flush or is the first, and ``parts`` of those up to the next
    flush.

    That flush is, or would be, write ``end``: everything that was acknowledged by then must be among the writes before
    ``begin``, because nothing was flushed in between.
    """

    begin: int
    parts: tuple[PartialWrite, ...] = ()
    end: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """The writes from ``begin`` up to the next flush, which is number ``end``."""

    begin: int
    writes: tuple[int, ...]
    end: int


def windows(writes: Sequence[Write]) -> Iterator[Window]:
    """The windows between flushes, in order, without empty ones except for the last."""
    inside: list[int] = []
    begin = 0
    for number, write in enumerate(writes):
        if not write.is_flush:
            inside.append(number)
        elif inside:
            yield Window(begin, tuple(inside), number)
            begin, inside = number + 1, []
        else:
            begin = number + 1
    yield Window(begin, tuple(inside), len(writes))


def plan_crash_states(writes: Sequence[Write], count: int, seed: int) -> list[CrashState]:
    """Every flush boundary, then random states in between up to ``count`` in all, sorted by where they begin.

    The same ``seed`` gives the same states; there are fewer than ``count`` if no more exist.
    """
    spans = list(windows(writes))
    cuts = dict.fromkeys(CrashState(span.begin, (), span.end) for span in spans)
    draws = [(span, random.Random(f"{seed} {span.begin}")) for span in spans if span.writes]
    while draws and len(cuts) < count:
        left = []
        for span, source in draws:
            cut = _new(span, writes, source, cuts)
            if cut is not None and len(cuts) < count:
                cuts[cut] = None
                left.append((span, source))
        draws = left
    return sorted(cuts, key=lambda cut: (cut.begin, [(part.number, part.size_bytes) for part in cut.parts]))


def _new(
    span: Window, writes: Sequence[Write], source: random.Random, known: dict[CrashState, None]
) -> CrashState | None:
    for _ in range(_TRIES):
        cut = CrashState(span.begin, _draw(span, writes, source), span.end)
        if cut.parts and cut not in known and not _is_whole(cut, span, writes):
            return cut
    return None


def _is_whole(cut: CrashState, span: Window, writes: Sequence[Write]) -> bool:
    """Whether the cut has all writes of its window, and so is the next boundary."""
    return tuple(cut.parts) == tuple(PartialWrite(number, writes[number].size_bytes) for number in span.writes)


def _draw(span: Window, writes: Sequence[Write], source: random.Random) -> tuple[PartialWrite, ...]:
    """Many of the writes, few, or those up to a moment; often one of them only in part."""
    if source.random() < 1 / 3:
        kept = list(span.writes[: source.randint(1, len(span.writes))])
    else:
        share = source.choice((0.2, 0.5, 0.8))
        kept = [number for number in span.writes if source.random() < share]
    torn = source.choice(kept) if kept and source.random() < 0.6 else None
    return tuple(PartialWrite(number, _torn(writes[number], source) if number == torn else writes[number].size_bytes)
                 for number in kept)  # fmt: skip


def _torn(write: Write, source: random.Random) -> int:
    """Bytes of a torn write: a block is written as a whole or not at all, and the write may begin or end inside one."""
    first = _BLOCK_BYTES - write.offset_bytes % _BLOCK_BYTES
    blocks = max(0, write.size_bytes - first) // _BLOCK_BYTES
    return min(write.size_bytes, first + source.randint(0, blocks) * _BLOCK_BYTES)
