"""Waiting with a deadline. Deadlines are given for the reference machine and grow with a slower host."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

T = TypeVar("T")

_REFERENCE_S = 0.060
"""What `measure_host_speed` times, on the reference machine (2 cores of an AMD EPYC without load)."""
_MOST_SCALE = 8.0


def usable_cores() -> int:
    """The cores that this process may run on: fewer than the host's under taskset(1) or in a container's cpuset."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class HostSpeed:
    """How many times slower this host is than the reference machine: at arithmetic under its load, at emulation."""

    arithmetic: float = 1.0
    emulation: float = 1.0

    @property
    def scale(self) -> float:
        """The factor for deadlines: at least 1, at most 8."""
        return min(_MOST_SCALE, max(1.0, self.arithmetic, self.emulation))


def measure_host_speed() -> HostSpeed:
    """Time some arithmetic, which takes 60 ms on the reference machine. Emulation is not measured here.

    Load counts too: boots that share a core each take longer.
    """
    started_s = time.perf_counter()
    digest, block = hashlib.sha256(), bytes(1 << 20)
    for _ in range(64):
        digest.update(block)
    slowness = (time.perf_counter() - started_s) / _REFERENCE_S
    crowding = os.getloadavg()[0] / usable_cores()
    return HostSpeed(arithmetic=max(slowness, crowding))


_host_speed: HostSpeed | None = None
"""Of this process: measured when a deadline first needs it, unless `use_host_speed` was called before."""


def use_host_speed(speed: HostSpeed) -> HostSpeed:
    """Scale the deadlines of this process by ``speed``; returned as it was before.

    Called once, when a run has measured how fast emulation is. A deadline whose length was asked for keeps it.
    """
    global _host_speed  # the one process-wide value: a deadline is made in a hundred places
    before = host_speed()
    _host_speed = speed
    return before


def host_speed() -> HostSpeed:
    """The speed that scales the deadlines of this process; measured on the first call."""
    global _host_speed  # see use_host_speed
    if _host_speed is None:
        _host_speed = measure_host_speed()
    return _host_speed


def host_scale() -> float:
    """How many times slower this host is than the reference machine; at least 1, at most 8."""
    return host_speed().scale


class Deadline:
    """A moment in the future, ``reference_s`` seconds away on the reference machine.

    On a slower host it is further away, unless ``scaled`` is false.
    """

    def __init__(self, reference_s: float, *, scaled: bool = True) -> None:
        self.started_s = time.monotonic()
        self._reference_s, self._is_scaled = reference_s, scaled

    @cached_property
    def length_s(self) -> float:
        """Seconds from the start to the deadline on this host."""
        return self._reference_s * host_scale() if self._is_scaled else self._reference_s

    @property
    def passed_s(self) -> float:
        return time.monotonic() - self.started_s

    @property
    def left_s(self) -> float:
        return max(0.0, self.length_s - self.passed_s)

    @property
    def is_over(self) -> bool:
        return self.left_s == 0.0


def poll(question: Callable[[], T | None], deadline: Deadline, *, every_s: float) -> T | None:
    """Call ``question`` until it returns something true, and return that; None when the deadline is over.

    The only place that sleeps: for conditions that offer no event.
    """
    while True:
        answer = question()
        if answer or deadline.is_over:
            return answer or None
        time.sleep(min(every_s, deadline.left_s))


class Changes:
    """A condition with a deadline: several threads notify it, one waits."""

    def __init__(self) -> None:
        self._condition = threading.Condition()

    def note(self) -> None:
        """Wake the thread that waits, to evaluate its question again."""
        with self._condition:
            self._condition.notify_all()

    def wait_for(self, question: Callable[[], T | None], deadline: Deadline) -> T | None:
        """The first true answer to ``question``; None when the deadline is over."""
        with self._condition:
            while True:
                answer = question()
                if answer or deadline.is_over:
                    return answer or None
                self._condition.wait(min(deadline.left_s, 1.0))
