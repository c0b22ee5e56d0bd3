"""States of a disk as files: what was durable once, and for each cut a private copy with what else was written."""

from __future__ import annotations

import os
from pathlib import Path

from harness.persistence.power_cuts.crash_states import CrashState
from harness.persistence.power_cuts.writelog import WriteLog
from harness.qemu.disk_images import copy_sparse

_BLOCK_BYTES = 4096
_NOTHING = bytes(_BLOCK_BYTES)


class Layout:
    """The part of a disk that begins at ``start_bytes``, of ``size_bytes``, blank before the first write.

    Cuts are laid out in ``folder``, in the order they were made: what is durable only ever grows. What was never
    written, or only with zeros, takes no space.
    """

    def __init__(self, log: WriteLog, folder: Path, start_bytes: int, size_bytes: int) -> None:
        self._log, self._start_bytes, self._size_bytes = log, start_bytes, size_bytes
        self._durable = folder / "durable"
        self._written = 0
        self._taken = set[int]()
        self._blank = dict[int, bool]()
        with self._durable.open("xb") as file:
            file.truncate(size_bytes)

    def lay_out(self, cut: CrashState, path: Path) -> None:
        """Make ``path`` the state that ``cut`` leaves."""
        self._advance(cut.begin)
        copy_sparse(self._durable, path)
        descriptor = os.open(path, os.O_WRONLY)
        try:
            taken = set(self._taken)
            for part in cut.parts:
                self._write(descriptor, part.number, part.size_bytes, taken)
        finally:
            os.close(descriptor)

    def _advance(self, until: int) -> None:
        if until < self._written:
            raise ValueError(f"cut {until} comes after one at {self._written}")
        descriptor = os.open(self._durable, os.O_WRONLY)
        try:
            for number in range(self._written, until):
                self._write(descriptor, number, None, self._taken)
        finally:
            os.close(descriptor)
        self._written = until

    def _is_blank(self, number: int) -> bool:
        """Whether that write is of zeros alone, as file systems write megabytes of when they are new."""
        if number not in self._blank:
            write = self._log.writes[number]
            self._blank[number] = not self._log.data(write, 0, write.size_bytes).strip(b"\0")
        return self._blank[number]

    def _write(self, descriptor: int, number: int, size_bytes: int | None, taken: set[int]) -> None:
        """What of that write, or of its first bytes, falls into this part; zeros over nothing are left out."""
        write = self._log.writes[number]
        size_bytes = write.size_bytes if size_bytes is None else size_bytes
        at = max(write.offset_bytes, self._start_bytes)
        end = min(write.offset_bytes + size_bytes, self._start_bytes + self._size_bytes)
        touched = range((at - self._start_bytes) // _BLOCK_BYTES, (end - self._start_bytes) // _BLOCK_BYTES + 1)
        if self._is_blank(number) and taken.isdisjoint(touched):
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
