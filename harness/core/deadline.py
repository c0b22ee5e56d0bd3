"""Waiting, with an end."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import TypeVar

T = TypeVar("T")

_REFERENCE_S = 0.060
"""What ``_work`` takes on the reference machine (2 cores of an AMD EPYC under load 0)."""


def _work() -> None:
    digest = hashlib.sha256()
    block = bytes(1 << 20)
    for _ in range(64):
        digest.update(block)


def usable_cores() -> int:
    """The cores that this process may run on: fewer than the host's under taskset(1) or in a container's cpuset."""
    return len(os.sched_getaffinity(0))


_slowness = [1.0]
"""What a better judge of this host than `_work` says."""


def expect_slowness(times: float) -> None:
    """This host is that many times slower than the reference machine at what machines do on it."""
    _slowness[0] = times


def host_scale() -> float:
    """How many times slower this host is than the reference machine; at least 1, at most 8."""
    return min(8.0, max(_scale_of_work(), _slowness[0]))


@cache
def _scale_of_work() -> float:
    """Measured once per process. Load counts too: boots that share a core each take longer."""
    started_s = time.perf_counter()
    _work()
    slowness = (time.perf_counter() - started_s) / _REFERENCE_S
    crowding = os.getloadavg()[0] / usable_cores()
    return max(1.0, slowness, crowding)


class Deadline:
    """A moment in the future, ``reference_s`` seconds away on the reference machine."""

    def __init__(self, reference_s: float, *, scaled: bool = True) -> None:
        self.started_s = time.monotonic()
        self.length_s = reference_s * (host_scale() if scaled else 1.0)

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
    """Ask until the answer is truthy; None when the deadline is over. For what offers no event."""
    while True:
        answer = question()
        if answer or deadline.is_over:
            return answer or None
        time.sleep(min(every_s, deadline.left_s))


class Changes:
    """Something that several threads report to and one waits on: a condition with a deadline."""

    def __init__(self) -> None:
        self._condition = threading.Condition()

    def note(self) -> None:
        """Something changed: whoever waits asks again."""
        with self._condition:
            self._condition.notify_all()

    def wait_for(self, question: Callable[[], T | None], deadline: Deadline) -> T | None:
        """The first truthy answer, or None when the deadline is over."""
        with self._condition:
            while True:
                answer = question()
                if answer or deadline.is_over:
                    return answer or None
                self._condition.wait(min(deadline.left_s, 1.0))
