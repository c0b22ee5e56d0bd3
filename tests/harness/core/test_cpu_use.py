"""The CPU time that a process got, wanted and was denied."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from harness.core.cpu_use import CpuSample, CpuUse, IdleSpan, idle_spans, metering, use_between
from harness.core.deadline import Deadline, poll

SPIN = ["taskset", "-c", "0", sys.executable, "-c", "while True: pass"]
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@contextmanager
def running(argv: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(argv) as child:
        try:
            yield child
        finally:
            child.kill()


def steady(*, ran: float, waited: float, for_s: int = 100) -> list[CpuSample]:
    return [CpuSample(float(at), ran * at, waited * at) for at in range(for_s + 1)]


def test_the_share_is_of_the_window_alone() -> None:
    quiet_then_starved = [*steady(ran=0.5, waited=0.0), CpuSample(101.0, 50.0, 0.0), CpuSample(121.0, 55.0, 15.0)]

    assert use_between(quiet_then_starved, 0.0, 100.0).starved_share == 0.0
    last = use_between(quiet_then_starved, 101.0, 121.0)
    assert (last.ran_s, last.waited_s) == (5.0, 15.0)
    assert last.is_starved


def test_an_idle_process_that_waited_for_an_instant_is_neither_starved_nor_busy() -> None:
    idle = use_between(steady(ran=0.01, waited=0.02), 0.0, 100.0)

    assert idle.starved_share > 0.6
    assert not idle.is_starved
    assert not idle.is_busy


def test_a_process_that_got_what_it_wanted_is_busy_and_not_starved() -> None:
    busy = use_between(steady(ran=0.9, waited=0.1), 0.0, 100.0)

    assert busy.is_busy
    assert not busy.is_starved


def test_time_in_which_it_was_stopped_or_nothing_was_sampled_is_lost() -> None:
    stopped = [CpuSample(0.0, 0.0, 0.0), *(CpuSample(at, 0.0, 0.0, is_stopped=True) for at in (0.5, 1.0, 1.5))]
    paused = [CpuSample(0.0, 0.0, 0.0), CpuSample(0.5, 0.2, 0.0), CpuSample(30.5, 0.3, 0.0)]

    assert use_between(stopped, 0.0, 9.0).stopped_s == 1.5
    assert use_between(paused, 0.0, 31.0).stopped_s == 30.0
    assert use_between(paused, 0.0, 31.0).is_starved


def test_idle_is_what_a_process_neither_ran_nor_wanted_to() -> None:
    busy, idle = CpuSample(0.5, 0.5, 0.0), CpuSample(1.0, 0.5625, 0.0625)

    assert list(idle_spans([CpuSample(0.0, 0.0, 0.0), busy, idle])) == [IdleSpan(0.5, 1.0, 0.375)]
    assert list(idle_spans(steady(ran=0.25, waited=0.75))) == []
    assert list(idle_spans(steady(ran=0.9, waited=0.9))) == [], "two threads at the same time"


def test_a_process_is_not_known_to_be_idle_while_it_is_stopped_or_nothing_was_sampled_or_a_thread_ended() -> None:
    running, later = CpuSample(0.0, 9.0, 0.0), CpuSample(0.5, 9.0, 0.0)

    assert list(idle_spans([running, CpuSample(0.5, 9.0, 0.0, is_stopped=True), CpuSample(1.0, 9.0, 0.0)])) == []
    assert list(idle_spans([running, CpuSample(30.0, 9.0, 0.0)])) == []
    assert list(idle_spans([running, CpuSample(0.5, 7.0, 0.0)])) == []
    assert list(idle_spans([running, later])) == [IdleSpan(0.0, 0.5, 0.5)]


def test_without_samples_nothing_is_known() -> None:
    assert use_between([], 0.0, 9.0) == use_between(steady(ran=1.0, waited=0.0)[:1], 0.0, 9.0) == CpuUse()
    assert not CpuUse().is_starved
    assert not CpuUse().is_busy


def test_a_process_that_shares_its_cpu_waits_for_it() -> None:
    with running(SPIN) as one, running(SPIN), metering(one.pid, period_s=0.1) as meter:
        assert poll(lambda: meter.use(60.0).starved_share > 0.3, Deadline(20), every_s=0.2)


def test_a_process_that_is_stopped_is_seen_to_be_and_one_that_sleeps_is_not() -> None:
    with running(SLEEP) as child, metering(child.pid, period_s=0.05) as meter:
        time.sleep(0.3)
        assert meter.use(60.0).stopped_s == 0.0
        child.send_signal(signal.SIGSTOP)
        assert poll(lambda: meter.use(60.0).stopped_s > 0.2, Deadline(20), every_s=0.1)


def test_the_samples_of_a_process_that_ended_stay() -> None:
    with running(SLEEP) as child, metering(child.pid, period_s=0.05) as meter:
        assert poll(lambda: len(meter.samples) > 1, Deadline(20), every_s=0.05)
        child.kill()
        child.wait()
    assert meter.use(60.0).window_s > 0
