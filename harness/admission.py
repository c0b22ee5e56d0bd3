"""Admission: how many machines boot at once on this host, over all workers of all runs.

A booting machine keeps busy as many cores as its accelerator has threads, an idle one nearly none; more of them at
once than the host has cores starve each other. Slots are locked files rather than a daemon's counters, so a dead
worker's slot is free at once. Whoever has a slot waits, besides, until there is memory for one machine more.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.deadline import Deadline, poll, usable_cores
from harness.errors import HostError

_PATIENCE_S = 3600.0
_MEMORY_PATIENCE_S = 900.0
_SHARE_TOUCHED = 0.75
"""Of a guest's memory, what a boot really touches: QEMU's resident size for base over iPXE was 1.5 GiB of 2."""
_MIB_PER_SLOT = 4096
"""Machines that start together all see the same free memory, so few may where memory is short."""
_MIB = 1 << 20
_CGROUPS = Path("/sys/fs/cgroup")


@contextmanager
def boot_slot(folder: Path, memory_mib: int) -> Iterator[None]:
    """Hold one of the host's boot slots, one per core, once there is memory for a guest of ``memory_mib``.

    ``folder`` is shared by all who boot on this host. Raises `HostError` when either does not come.
    """
    total_mib, _ = memory()
    files = _open(folder, max(1, min(usable_cores(), total_mib // _MIB_PER_SLOT)))
    try:
        deadline = Deadline(_PATIENCE_S)
        if poll(lambda: any(_lock(file) for file in files), deadline, every_s=0.3) is None:
            raise HostError(f"waited {deadline.passed_s:.0f} s for a boot slot in {folder}; see `ps` for who boots")
        _await_memory(int(memory_mib * _SHARE_TOUCHED))
        yield
    finally:
        for file in files:
            os.close(file)


def _open(folder: Path, count: int) -> list[int]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        return [os.open(folder / f"boot-{number}", flags, 0o666) for number in range(count)]
    except OSError as error:
        raise HostError(
            f"{error.filename}: {error.strerror}; boots of this host need to be counted there: BOOTPROOF_STORE names "
            "another folder"
        ) from error


def _await_memory(needed_mib: int) -> None:
    deadline = Deadline(_MEMORY_PATIENCE_S)
    if poll(lambda: memory()[1] >= needed_mib, deadline, every_s=1.0) is None:
        total_mib, available_mib = memory()
        raise HostError(
            f"waited {deadline.passed_s:.0f} s for {needed_mib} MiB of memory for one machine more, {available_mib} of "
            f"{total_mib} MiB are available; take fewer workers (-n), or a host with more memory"
        )


def memory() -> tuple[int, int]:
    """Memory in MiB that this process may use, in all and still: the host's, or what its control groups leave."""
    rows = (line.split() for line in Path("/proc/meminfo").read_text("ascii").splitlines())
    host = {row[0]: int(row[1]) >> 10 for row in rows}  # proc(5): in KiB
    limits = [(host["MemTotal:"], host["MemAvailable:"])]
    for row in Path("/proc/self/cgroup").read_text("utf-8").splitlines():
        _, controllers, path = row.split(":", 2)
        if controllers in ("", "memory"):
            limits += group_limits(_CGROUPS / controllers, path)
    return min(total for total, _ in limits), min(available for _, available in limits)


def group_limits(root: Path, path: str) -> Iterator[tuple[int, int]]:
    """(limit, still available) in MiB of the control group ``path`` and those above it, where they have a limit.

    Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst: the page cache counts as used, but what
    is inactive of it is given up when memory is needed.
    """
    folder = root / path.strip("/")
    for group in (folder, *folder.parents):
        for limit_file, usage_file in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            with suppress(OSError, ValueError):  # another version, no such group here, or "max"
                limit, usage = (int((group / name).read_text("ascii")) for name in (limit_file, usage_file))
                yield limit // _MIB, max(0, limit - usage + _inactive(group)) // _MIB
        if group == root:
            return


def _inactive(group: Path) -> int:
    rows = (line.split() for line in (group / "memory.stat").read_text("ascii").splitlines())
    values = {row[0]: int(row[1]) for row in rows}
    return values.get("total_inactive_file", values.get("inactive_file", 0))


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
