"""Admission: how many machines boot and live at once on this host, over all workers of all runs.

A booting machine keeps busy as many cores as its accelerator has threads, an idle one nearly none; more of them at
once than the host has cores starve each other. So who boots holds a slot, one a core. Who wants a machine at all waits
until there is memory for it. Slots and shares of memory are locked files rather than a daemon's counters, so what a
dead worker held is free at once.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.core.deadline import Deadline, poll, usable_cores
from harness.core.errors import HostError
from harness.core.locks import lock, try_lock

_PATIENCE_S = 3600.0
_SHARE_TOUCHED = 0.75
"""Of a guest's memory, what a boot really touches: QEMU's resident size for base over iPXE was 1.5 GiB of 2."""
_YOUNG_S = 60.0
"""Until then a machine may not have touched the memory it was admitted for, and the host still shows it as free."""
_MIB = 1 << 20
_CGROUPS = Path("/sys/fs/cgroup")


@contextmanager
def boot_slot(folder: Path) -> Iterator[None]:
    """Hold one of the host's boot slots, one per core; `HostError` when none comes.

    ``folder`` is shared by all who boot on this host.
    """
    with _writable(folder):
        files = [_open(folder / f"boot-{number}") for number in range(usable_cores())]
    try:
        deadline = Deadline(_PATIENCE_S)
        if poll(lambda: any(try_lock(file) for file in files), deadline, every_s=0.1) is None:
            raise HostError(f"waited {deadline.passed_s:.0f} s for a boot slot in {folder}; see `ps` for who boots")
        yield
    finally:
        for file in files:
            os.close(file)


def of_a_boot(memory_mib: int) -> int:
    """MiB of the host's that a boot of a guest of ``memory_mib`` takes."""
    return int(memory_mib * _SHARE_TOUCHED)


class Share:
    """Memory for one machine; others are kept from it until the machine has had the time to touch it."""

    def __init__(self, folder: Path, needed_mib: int) -> None:
        self._needed_mib = needed_mib
        self.file = tempfile.NamedTemporaryFile(dir=folder, prefix="share-", delete=False)  # noqa: SIM115 - open as long as the share
        lock(self.file)
        self._write(math.inf)

    def end(self) -> None:
        """Others may have it. Removed before the lock goes, or somebody would take it for a dead one's."""
        Path(self.file.name).unlink(missing_ok=True)
        self.file.close()

    def begin(self) -> None:
        """The machine starts now."""
        self._write(time.monotonic() + _YOUNG_S)

    def _write(self, until_s: float) -> None:
        os.pwrite(self.file.fileno(), f"{self._needed_mib} {until_s:20.1f}".encode(), 0)


@contextmanager
def memory_share(folder: Path, needed_mib: int) -> Iterator[Share]:
    """Wait until ``needed_mib`` of memory are there for one machine more, and hold them while the block lasts.

    Whoever wants a boot slot too asks for memory first: who has a slot then never waits for memory that who waits for
    a slot holds. Raises `HostError` when it does not come.
    """
    deadline = Deadline(_PATIENCE_S)
    with _writable(folder):
        share = poll(lambda: _admitted(folder, needed_mib), deadline, every_s=0.2)
    if share is None:
        total_mib, available_mib = memory()
        raise HostError(
            f"waited {deadline.passed_s:.0f} s for {needed_mib} MiB of memory for one machine more, {available_mib} of "
            f"{total_mib} MiB are available; take fewer workers (-n), or a host with more memory"
        )
    try:
        yield share
    finally:
        share.end()


def _admitted(folder: Path, needed_mib: int) -> Share | None:
    """A share, if there is memory for it beside what the young ones were promised."""
    ledger = _open(folder / "ledger")
    try:
        lock(ledger)
        if memory()[1] - sum(_promised(folder)) < needed_mib:
            return None
        return Share(folder, needed_mib)
    finally:
        os.close(ledger)


def _promised(folder: Path) -> Iterator[int]:
    """MiB of each share that is still young; those of the dead are removed."""
    for path in folder.glob("share-*"):
        with suppress(FileNotFoundError, ValueError), path.open("rb") as file:
            if try_lock(file):
                path.unlink()
                continue
            needed_mib, until_s = file.read().split()
            if float(until_s) > time.monotonic():
                yield int(needed_mib)


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise HostError(
            f"{error.filename}: {error.strerror}; boots of this host need to be counted there: BOOTPROOF_STORE names "
            "another folder"
        ) from error


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


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
