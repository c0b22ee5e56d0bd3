"""Admission: how many machines boot at once on this host, over all workers of all runs.

A booting machine keeps all of its CPUs busy, an idle one nearly none. More of them at once than the host has cores
take longer in all, and starve each other (QEMU 7.2, TCG: three at once 109-130 s, one alone 34-44 s). Slots are
locked files rather than a daemon's counters, so a dead worker's slot is free at once.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.deadline import Deadline, poll
from harness.errors import HostError

_PATIENCE_S = 3600.0


@contextmanager
def boot_slot(folder: Path, cpus: int) -> Iterator[None]:
    """Hold one of the host's boot slots for a machine of ``cpus``; ``folder`` is shared by all who boot here."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [
        os.open(folder / f"boot-{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        for number in range(max(1, (os.cpu_count() or 1) // cpus))
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
