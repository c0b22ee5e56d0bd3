"""Admission: how many machines boot at once on this host, over all workers of all runs.

A booting machine keeps busy as many cores as its accelerator has threads, an idle one nearly none; more of them at
once than the host has cores starve each other. Slots are locked files rather than a daemon's counters, so a dead
worker's slot is free at once.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.deadline import Deadline, poll, usable_cores
from harness.errors import HostError

_PATIENCE_S = 3600.0


@contextmanager
def boot_slot(folder: Path) -> Iterator[None]:
    """Hold one of the host's boot slots, one per core; ``folder`` is shared by all who boot on this host."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [
        os.open(folder / f"boot-{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        for number in range(usable_cores())
    ]
    try:
        deadline = Deadline(_PATIENCE_S)
        if poll(lambda: any(_lock(file) for file in files), deadline, every_s=0.3) is None:
            raise HostError(f"waited {deadline.passed_s:.0f} s for a boot slot in {folder}; see `ps` for who boots")
        yield
    finally:
        for file in files:
            os.close(file)


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
