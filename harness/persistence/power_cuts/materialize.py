"""Crash states as files: the durable writes once, and for each cut a copy with the other writes that it kept."""

from __future__ import annotations

import os
from pathlib import Path

from harness.persistence.power_cuts.crash_states import CrashState, PartialWrite
from harness.persistence.power_cuts.writelog import Flag, WriteLog
from harness.qemu.disk_images import copy_sparse

_BLOCK_BYTES = 4096
_NOTHING = bytes(_BLOCK_BYTES)


def new_layout(log: WriteLog, folder: Path, start_bytes: int, size_bytes: int) -> Layout:
    """The layout of a part of a disk, with its durable writes in a new file in ``folder``."""
    durable = folder / "durable"
    with durable.open("xb") as file:
        file.truncate(size_bytes)
    return Layout(log, durable, start_bytes, size_bytes)


class Layout:
    """The part of a disk that begins at ``start_bytes``, of ``size_bytes``, blank before the first write.

    Made by `new_layout`. Crash states are laid out in the order of their cuts, because the durable part only grows.
    Blocks that were never written, or only with zeros, take no space.
    """

    def __init__(self, log: WriteLog, durable: Path, start_bytes: int, size_bytes: int) -> None:
        self._log, self._start_bytes, self._size_bytes = log, start_bytes, size_bytes
        self._durable = durable
        self._written = 0
        self._taken: set[int] = set()
        self._blank: dict[int, bool] = {}

    def lay_out(self, cut: CrashState, path: Path) -> None:
        """Write the state that ``cut`` leaves to ``path``."""
        self._advance(cut.begin)
        copy_sparse(self._durable, path)
        taken = set(self._taken)
        with path.open("r+b") as file:
            for part in cut.parts:
                self._write(file.fileno(), part.number, part.size_bytes, taken)

    def effective(self, cut: CrashState) -> tuple[PartialWrite, ...]:
        """The parts of ``cut`` that change this part of the disk. Cuts that begin at the same write and have the same
        ones leave the same state: many writes are outside, or are zeros over blocks that were never written."""
        self._advance(cut.begin)
        kept, touched = list[PartialWrite](), set[int]()
        for part in cut.parts:
            blocks = self._blocks(part.number, part.size_bytes)
            if not self._is_blank(part.number):
                touched.update(blocks)
            elif not _common(self._taken, blocks) and not _common(touched, blocks):
                continue
            if blocks:
                kept.append(part)
        return tuple(kept)

    def _blocks(self, number: int, size_bytes: int) -> range:
        """The blocks that the first ``size_bytes`` of that write touch."""
        at, end = self._span(number, size_bytes)
        if at >= end:
            return range(0)
        return range((at - self._start_bytes) // _BLOCK_BYTES, -(-(end - self._start_bytes) // _BLOCK_BYTES))

    def _span(self, number: int, size_bytes: int) -> tuple[int, int]:
        """Where the first ``size_bytes`` of that write begin and end on the disk, as far as they are in this part."""
        write = self._log.writes[number]
        end = min(write.offset_bytes + size_bytes, self._start_bytes + self._size_bytes)
        return min(max(write.offset_bytes, self._start_bytes), end), end

    def _advance(self, until: int) -> None:
        if until < self._written:
            raise ValueError(f"cut {until} comes after one at {self._written}")
        with self._durable.open("r+b") as file:
            for number in range(self._written, until):
                self._write(file.fileno(), number, None, self._taken)
        self._written = until

    def _is_blank(self, number: int) -> bool:
        """Whether that write has only zeros, of which mkfs writes megabytes; a discard may be of the whole disk."""
        if number not in self._blank:
            write = self._log.writes[number]
            is_discard = bool(write.flags & Flag.DISCARD)
            self._blank[number] = is_discard or not self._log.data(write, 0, write.size_bytes).strip(b"\0")
        return self._blank[number]

    def _write(self, descriptor: int, number: int, size_bytes: int | None, taken: set[int]) -> None:
        """Write what falls into this part of that write, or of its first bytes; skip zeros over unwritten blocks."""
        write = self._log.writes[number]
        size_bytes = write.size_bytes if size_bytes is None else size_bytes
        at, end = self._span(number, size_bytes)
        if self._is_blank(number):
            for block in _common(taken, self._blocks(number, size_bytes)):
                begin = max(at - self._start_bytes, block * _BLOCK_BYTES)
                stop = min(end - self._start_bytes, (block + 1) * _BLOCK_BYTES)
                os.pwrite(descriptor, bytes(stop - begin), begin)
            return
        while at < end:
            here = at - self._start_bytes
            block = here // _BLOCK_BYTES
            stop = min(end, self._start_bytes + (block + 1) * _BLOCK_BYTES)
            data = self._log.data(write, at - write.offset_bytes, stop - write.offset_bytes)
            if block in taken or data != _NOTHING[: len(data)]:
                taken.add(block)
                os.pwrite(descriptor, data, here)
            at = stop


def _common(taken: set[int], blocks: range) -> list[int]:
    """The ``blocks`` that are ``taken``; either may have millions, so the smaller one decides how long it takes."""
    if len(taken) < len(blocks):
        return [block for block in taken if block in blocks]
    return [block for block in blocks if block in taken]
