"""Limits of the whole kernel: open files, tasks and process numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.guest.probes import Probe, read
from harness.lint.finding import LintFinding, fails

_LIMITS = Probe(
    "limits of the kernel",
    "cat /proc/sys/fs/file-nr && cat /proc/sys/kernel/threads-max /proc/sys/kernel/pid_max && cat /proc/loadavg",
)
PROBES = (_LIMITS,)

_MOST_SHARE = 0.7
_LEAST_FILES, _LEAST_THREADS, _LEAST_NUMBERS = 8192, 2048, 16384
"""Far below what Linux chooses by itself on a machine with 512 MiB (kernel/fork.c, fs/file_table.c, kernel/pid.c)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLimits:
    """Open files of the host, its tasks, and the greatest process number: proc(5)."""

    files: int = 1000
    most_files: int = 1 << 20
    threads: int = 100
    most_threads: int = 1 << 14
    most_numbers: int = 1 << 15


def parse(answers: Mapping[str, str]) -> KernelLimits:
    return read(answers, _LIMITS, _parse)


def _parse(text: str) -> KernelLimits:
    files, threads, numbers, load = text.splitlines()
    return KernelLimits(
        files=int(files.split()[0]),
        most_files=int(files.split()[2]),
        threads=int(load.split()[3].split("/")[1]),
        most_threads=int(threads),
        most_numbers=int(numbers),
    )


def judge(limits: KernelLimits) -> Iterator[LintFinding]:
    for setting, words, in_use, most, least in (
        ("fs.file-max", "open files", limits.files, limits.most_files, _LEAST_FILES),
        ("kernel.threads-max", "tasks", limits.threads, limits.most_threads, _LEAST_THREADS),
        ("kernel.pid_max", "tasks", limits.threads, limits.most_numbers, _LEAST_NUMBERS),
    ):
        if most < least or in_use > most * _MOST_SHARE:
            what = f"the whole host may have {most:,} {words}, and has {in_use:,} when idle"
            yield fails("limit-too-low", f"sysctl:{setting}", what, f"{setting} = {most}")
