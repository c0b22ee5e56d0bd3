"""Crash states as files: the durable writes once, and for each cut a copy with the other writes that it kept."""

from __future__ import annotations

import os
from pathlib import Path

from harness.persistence.power_cuts.crash_states import CrashState
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

    @staticmethod
    def _write_zeros(descriptor: int, at: int, end: int, taken: set[int]) -> None:
        """Zeros only matter in blocks that were written."""
        touched = range(at // _BLOCK_BYTES, -(-end // _BLOCK_BYTES))
        few, many = sorted((taken, touched), key=len)
        for block in few:
            if block in many:
                begin, stop = max(at, block * _BLOCK_BYTES), min(end, (block + 1) * _BLOCK_BYTES)
                os.pwrite(descriptor, bytes(stop - begin), begin)

    def _write(self, descriptor: int, number: int, size_bytes: int | None, taken: set[int]) -> None:
        """Write what falls into this part of that write, or of its first bytes; skip zeros over unwritten blocks."""
        write = self._log.writes[number]
        size_bytes = write.size_bytes if size_bytes is None else size_bytes
        at = max(write.offset_bytes, self._start_bytes)
        end = min(write.offset_bytes + size_bytes, self._start_bytes + self._size_bytes)
        if self._is_blank(number):
            self._write_zeros(descriptor, at - self._start_bytes, end - self._start_bytes, taken)
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
