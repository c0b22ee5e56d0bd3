"""How much CPU time a process got, wanted, and was denied: sampled while it runs."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

PERIOD_S = 0.5
_GAP_S = 2.0
"""A longer time between two samples: this process was not run either. The sampler does next to nothing."""
_SAMPLES = 4096
_STARVED_SHARE, _STARVED_S = 0.4, 5.0
"""A boot that was wrongly called failed had waited 45 % of the time it wanted a CPU: one of five machines that booted
on two cores. An idle process wants so little that a share alone means nothing."""
_BUSY_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class CpuSample:
    """At the monotonic second ``at_s``: the seconds that all threads of a process ``ran_s`` and were ready but
    ``waited_s`` for a CPU since they began, and whether the process is stopped (SIGSTOP)."""

    at_s: float
    ran_s: float
    waited_s: float
    is_stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuUse:
    """In ``window_s`` seconds a process ran for ``ran_s`` and waited for a CPU for ``waited_s``, all threads together;
    for ``stopped_s`` nothing of it could run at all."""

    window_s: float = 0.0
    ran_s: float = 0.0
    waited_s: float = 0.0
    stopped_s: float = 0.0

    @property
    def starved_share(self) -> float:
        """The share of the time in which it wanted a CPU, or would have, that it had none: 0 to 1."""
        lost_s = self.waited_s + self.stopped_s
        return lost_s / (lost_s + self.ran_s) if lost_s else 0.0

    @property
    def is_starved(self) -> bool:
        """Whether the host kept so much CPU time from it that time limits may have expired for that alone."""
        return self.starved_share >= _STARVED_SHARE and self.waited_s + self.stopped_s >= _STARVED_S

    @property
    def is_busy(self) -> bool:
        """Whether it wanted a CPU most of the time: a thread each for several CPUs counts as one."""
        could_run_s = self.window_s - self.stopped_s
        return could_run_s > 0 and (self.ran_s + self.waited_s) / could_run_s >= _BUSY_SHARE


@dataclass(frozen=True, slots=True)
class IdleSpan:
    """Of the time between the monotonic seconds ``begins_s`` and ``ends_s``, that in which no thread of a process ran
    or wanted to: at least ``idle_s``, because threads that ran at the same time count twice."""

    begins_s: float
    ends_s: float
    idle_s: float


def idle_spans(samples: Sequence[CpuSample]) -> Iterator[IdleSpan]:
    """The spans between ``samples``, the oldest first, in which the process was idle for a while: pure.

    A process that was stopped, or that nobody sampled, is not known to be idle; nor is one of which a thread has ended,
    with the times that it had counted.
    """
    for before, after in pairwise(samples):
        elapsed_s = after.at_s - before.at_s
        ran_s, waited_s = after.ran_s - before.ran_s, after.waited_s - before.waited_s
        idle_s = elapsed_s - ran_s - waited_s
        is_known = ran_s >= 0 and waited_s >= 0 and elapsed_s <= _GAP_S
        if is_known and idle_s > 0 and not before.is_stopped and not after.is_stopped:
            yield IdleSpan(before.at_s, after.at_s, idle_s)


def use_between(samples: Sequence[CpuSample], since_s: float, until_s: float) -> CpuUse:
    """What ``samples``, the oldest first, show of the time between two monotonic seconds: pure."""
    inside = [sample for sample in samples if since_s <= sample.at_s <= until_s + PERIOD_S]
    if len(inside) < 2:
        return CpuUse()
    first, last = inside[0], inside[-1]
    stopped_s = 0.0
    for before, after in pairwise(inside):
        elapsed_s = after.at_s - before.at_s
        if after.is_stopped or elapsed_s > _GAP_S:
            stopped_s += elapsed_s
    return CpuUse(
        window_s=last.at_s - first.at_s,
        ran_s=max(0.0, last.ran_s - first.ran_s),  # the time of threads that ended is not known any more
        waited_s=max(0.0, last.waited_s - first.waited_s),
        stopped_s=stopped_s,
    )


def sample(pid: int) -> CpuSample | None:
    """The process ``pid`` at this moment; None if it has ended.

    Linux, Documentation/scheduler/sched-stats.rst: each /proc/<pid>/task/<tid>/schedstat begins with the nanoseconds
    spent on a CPU and those spent waiting on a run queue; a CPU quota counts as waiting. proc_pid_stat(5): the state
    follows the program's name in parentheses.
    """
    ran_ns = waited_ns = 0
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return None
    for thread in threads:
        with suppress(OSError, ValueError):  # that thread is gone
            on_cpu, on_queue, _ = (int(word) for word in (thread / "schedstat").read_text("ascii").split())
            ran_ns, waited_ns = ran_ns + on_cpu, waited_ns + on_queue
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(") ")[2][:1]
    except OSError:
        return None
    return CpuSample(time.monotonic(), ran_ns / 1e9, waited_ns / 1e9, is_stopped=state == "T")


class CpuMeter:
    """The samples of a process, the newest last; only `metering` makes one."""

    def __init__(self) -> None:
        self.samples: deque[CpuSample] = deque(maxlen=_SAMPLES)

    def use(self, window_s: float, until_s: float | None = None) -> CpuUse:
        """What it used in the last ``window_s`` seconds before ``until_s``, which is now unless given."""
        until_s = time.monotonic() if until_s is None else until_s
        return use_between(list(self.samples), until_s - window_s, until_s)


@contextmanager
def metering(pid: int, *, period_s: float = PERIOD_S) -> Iterator[CpuMeter]:
    """Sample the process ``pid`` while the block lasts and the process runs."""
    meter, is_over = CpuMeter(), threading.Event()

    def follow() -> None:
        while (taken := sample(pid)) is not None:
            meter.samples.append(taken)
            if is_over.wait(period_s):
                return

    thread = threading.Thread(target=follow, name=f"CPU use of process {pid}", daemon=True)
    thread.start()
    try:
        yield meter
    finally:
        is_over.set()
        thread.join()
