"""Admission: limits how many machines boot and run at once on this host, over all workers of all runs.

A booting machine uses as many cores as its accelerator has threads, an idle one nearly none; more booting machines
than cores slow each other down. There is a slot for each core. A boot therefore holds as many as it uses: one if it is
emulated in one thread, one for each of its CPUs under KVM. A machine holds a share of memory for its whole life. Slots
and shares are locked files instead of a daemon's counters, so that those of a dead worker are free at once.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from harness.core.deadline import Deadline, poll, usable_cores
from harness.core.errors import HostError
from harness.core.locks import lock, try_lock
from harness.model.machine_spec import MachineSpec
from harness.model.qemu import Qemu, Thread

PATIENCE_S = 3600.0
_SHARE_TOUCHED = 0.75
"""The part of a guest's memory that a boot touches: QEMU's resident size for base over iPXE was 1.5 GiB of 2."""
_YOUNG_S = 60.0
"""A younger machine may not have touched its memory yet, so that the host still shows it as free."""
_MIB = 1 << 20
_CGROUPS = Path("/sys/fs/cgroup")


@contextmanager
def boot_slot(folder: Path, cores: int = 1, *, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold ``cores`` of the host's boot slots, one per core; `HostError` if they are not free within ``patience_s``.

    A boot that uses more cores than this process has holds all of them. ``folder`` is shared by all boots on this host.
    """
    deadline, needed = Deadline(patience_s), min(cores, usable_cores())
    with _writable(folder):
        held = poll(lambda: _slots(folder, needed), deadline, every_s=0.1)
    if held is None:
        what = f"{needed} boot slots" if needed > 1 else "boot slot"
        raise HostError(f"no {what} in {folder} within {deadline.passed_s:.0f} s; `ps` shows the machines that boot")
    try:
        yield
    finally:
        for file in held:
            os.close(file)


def _slots(folder: Path, needed: int) -> list[int] | None:
    """The open files of ``needed`` slots that this process holds now; None, and none of them, if fewer are free."""
    held = list[int]()
    for number in range(usable_cores()):
        file = _open(folder / f"boot-{number}")
        if try_lock(file):
            held.append(file)
        else:
            os.close(file)
        if len(held) == needed:
            return held
    for file in held:
        os.close(file)
    return None


def cores_of_a_boot(spec: MachineSpec, qemu: Qemu) -> int:
    """How many cores a boot of ``spec`` keeps busy: pure."""
    return 1 if spec.is_emulated and qemu.thread is Thread.SINGLE else spec.cpus


def of_a_boot(memory_mib: int) -> int:
    """The host memory in MiB that a boot of a guest with ``memory_mib`` takes."""
    return int(memory_mib * _SHARE_TOUCHED)


@dataclass(frozen=True, slots=True)
class Share:
    """Memory reserved for one machine until it has had the time to touch it; ``file`` is open and locked."""

    file: IO[bytes]
    needed_mib: int

    def begin(self) -> None:
        """The machine starts now: reserve the memory for `_YOUNG_S` from now on."""
        self.reserve_until(time.monotonic() + _YOUNG_S)

    def reserve_until(self, until_s: float) -> None:
        os.pwrite(self.file.fileno(), f"{self.needed_mib} {until_s:20.1f}".encode(), 0)


@contextmanager
def memory_share(folder: Path, needed_mib: int, *, patience_s: float = PATIENCE_S) -> Iterator[Share]:
    """Wait until ``needed_mib`` of memory are free for one more machine, and reserve them while the block lasts.

    Ask for memory before a boot slot: otherwise the holder of a slot could wait for memory that a process waiting for
    a slot holds. Raises `HostError` if the memory is not free within ``patience_s``.
    """
    deadline = Deadline(patience_s)
    with _writable(folder):
        share = poll(lambda: _admitted(folder, needed_mib), deadline, every_s=0.2)
    if share is None:
        total_mib, available_mib = memory()
        raise HostError(
            f"no {needed_mib} MiB of memory for one more machine within {deadline.passed_s:.0f} s: {available_mib} of "
            f"{total_mib} MiB are available; use fewer workers (-n), or a host with more memory"
        )
    try:
        yield share
    finally:  # removed before it is unlocked: an unlocked file counts as a dead process's
        Path(share.file.name).unlink(missing_ok=True)
        share.file.close()


def _admitted(folder: Path, needed_mib: int) -> Share | None:
    """A share, if enough memory is free besides the shares of young machines; else None."""
    ledger = _open(folder / "ledger")
    try:
        lock(ledger)
        if memory()[1] - sum(_promised(folder)) < needed_mib:
            return None
        file = tempfile.NamedTemporaryFile(dir=folder, prefix="share-", delete=False)  # noqa: SIM115 - open until the share ends
        lock(file)
        share = Share(cast(IO[bytes], file), needed_mib)
        share.reserve_until(math.inf)
        return share
    finally:
        os.close(ledger)


def _promised(folder: Path) -> Iterator[int]:
    """MiB of each share of a young machine; shares of dead processes are removed."""
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
            f"{error.filename}: {error.strerror}; the boots of this host are counted there: set BOOTPROOF_STORE to "
            "another folder"
        ) from error


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def memory() -> tuple[int, int]:
    """Total and available memory in MiB for this process: the host's, or the limit of its control groups."""
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

    Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst: the page cache counts as used, but its
    inactive part is reclaimed when memory is needed.
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
