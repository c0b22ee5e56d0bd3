"""Chooses the QEMU that emulates with the least CPU time, where several are installed, by measuring each.

Versions do not tell: QEMU 10.0 boots `base` with two thirds of the CPU time of 7.2, and 11.1 is as slow as 7.2.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path

from harness.core import digest, serialization
from harness.core.deadline import Deadline
from harness.core.errors import BootproofError, HostError
from harness.core.host_id import host_identity
from harness.core.locks import locked
from harness.host.kernel_boot import PANIC, boot_kernel, kernel_command
from harness.model.machine_spec import Accelerator
from harness.model.qemu import Qemu
from harness.qemu import program

PLACES = ("/usr/local/bin", "/usr/bin", "/opt/*/bin")
WORK = 'rdinit=/bin/bash -- -c "for i in {1..100}; do /bin/ls /usr/bin; done >/dev/null"'
"""As much of a boot as shows what an emulator costs: the kernel, the unpacking of the initrd, and programs that start.
CPU seconds with QEMU 7.2 and 10.0 side by side: 10.2 and 6.7 (again: 10.1 and 6.6), while boots of base took 61 and 48,
in another hour 92 to 99 and 64 to 69. A kernel alone shows no difference (2.6 and 2.8). An initrd without bash ends in
a panic after it was unpacked, which shows less (6.3 and 5.7)."""
_LIMIT_S = 60.0
_CLEARLY = 0.93
"""A program is preferred to the first on PATH if it takes at most this part of its CPU time: on a busy host, the same
program differed by 2 % from one time to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorTime:
    """The CPU seconds that ``qemu`` took for the measured work; None if it did not complete it."""

    qemu: Qemu
    cpu_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorTimes:
    """What was measured once on this host, the first QEMU on PATH first."""

    times: tuple[EmulatorTime, ...]


def choose(found: Sequence[Qemu], kernel: Path, initrd: Path, memory: Path) -> Qemu:
    """The QEMU that emulates with the least CPU time of those `installed`.

    Where there are several, each boots ``kernel`` and ``initrd`` and starts programs in it, which takes about 10 s for
    each of them, once per host (its boot, CPU and kernel), kernel and program; the folder ``memory`` keeps the answers.
    `HostError` if there is none.
    """
    if len(found) < 2:
        return found[0] if found else program.of_path()
    file = memory_file(found, kernel, memory)
    known = recall(file)
    if known is None:
        try:
            memory.mkdir(parents=True, exist_ok=True)
            with locked(memory / "lock"):  # two measurements at once would slow each other down
                known = recall(file) or measure(found, kernel, initrd)
                serialization.write(file, known)
        except OSError as error:
            problem = f"{memory} cannot be written: {error.strerror}"
            raise HostError(f"{problem}; BOOTPROOF_STORE names another place") from error
    return best(known.times)


def installed(places: Sequence[str] = PLACES) -> list[Qemu]:
    """Each QEMU of PATH and of ``places`` that starts and is new enough, those of PATH first, each file once."""
    folders = [*os.environ.get("PATH", "").split(os.pathsep), *(match for place in places for match in glob(place))]
    found = dict[Path, Qemu]()
    for folder in filter(None, folders):
        path = Path(folder) / program.NAME
        if not os.access(path, os.X_OK) or path.resolve() in found:
            continue
        try:
            version = program.version_of(str(path))
        except BootproofError:
            continue
        if program.is_new_enough(version):
            found[path.resolve()] = Qemu(program=str(path), version=version, reason="the only one that is installed")
    return list(found.values())


def memory_file(found: Iterable[Qemu], kernel: Path, memory: Path) -> Path:
    """Where the answer about ``found`` is kept."""
    files = [(Path(qemu.program), Path(qemu.program).stat()) for qemu in found]
    identities = [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in files]
    return memory / f"{digest.of_value(['emulators', host_identity(), identities, digest.of_file(kernel)])}.json"


def recall(file: Path) -> EmulatorTimes | None:
    try:
        return serialization.read(EmulatorTimes, file)
    except (FileNotFoundError, ValueError):
        return None


def measure(found: Iterable[Qemu], kernel: Path, initrd: Path) -> EmulatorTimes:
    """The CPU time of each of ``found``, one after the other."""
    return EmulatorTimes(times=tuple(EmulatorTime(qemu=qemu, cpu_s=_cpu_s(qemu, kernel, initrd)) for qemu in found))


def best(times: Sequence[EmulatorTime]) -> Qemu:
    """The one that took clearly the least CPU time, else the first: pure."""
    complete = [time for time in times if time.cpu_s is not None]
    if not complete:
        return replace(times[0].qemu, reason="the first on PATH; none of those installed completed the measured work")
    first, quickest = complete[0], min(complete, key=lambda time: time.cpu_s or 0.0)
    chosen = quickest if (quickest.cpu_s or 0.0) <= _CLEARLY * (first.cpu_s or 0.0) else first
    others = [f"{time.cpu_s:.1f} for {time.qemu}" for time in complete if time is not chosen]
    others += [f"no end for {time.qemu}" for time in times if time.cpu_s is None]
    return replace(chosen.qemu, reason=f"the same work took it {chosen.cpu_s:.1f} CPU seconds, {', '.join(others)}")


def _cpu_s(qemu: Qemu, kernel: Path, initrd: Path) -> float | None:
    argv = kernel_command(kernel, qemu, Accelerator.TCG, initrd=initrd, arguments=WORK)
    booted = boot_kernel(argv, PANIC, Deadline(_LIMIT_S))
    return (
        round(booted.cpu_s, 2) if PANIC in booted.printed and booted.cpu_s else None
    )  # 0: it ended before it was asked
