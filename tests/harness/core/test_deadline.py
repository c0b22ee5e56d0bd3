"""Deadlines: how they grow with the host, and waiting until one is over."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from harness.core.deadline import Changes, Deadline, HostSpeed, host_scale, host_speed, poll, use_host_speed


@pytest.mark.parametrize(
    ("speed", "scale"),
    [
        (HostSpeed(arithmetic=0.5), 1.0),
        (HostSpeed(arithmetic=1.5, emulation=3.0), 3.0),
        (HostSpeed(arithmetic=4.0, emulation=3.0), 4.0),
        (HostSpeed(emulation=50.0), 8.0),
    ],
)
def test_deadlines_grow_with_the_slower_of_two_speeds_up_to_eight_times(speed: HostSpeed, scale: float) -> None:
    assert speed.scale == scale


def test_deadlines_follow_the_speed_of_the_process() -> None:
    before = use_host_speed(replace(host_speed(), emulation=7.5))
    try:
        assert Deadline(10).length_s >= 75
        assert Deadline(10, scaled=False).length_s == 10
    finally:
        use_host_speed(before)
    assert Deadline(10).length_s == 10 * host_scale()


def test_a_deadline_keeps_its_length_once_it_was_asked_for() -> None:
    deadline = Deadline(10)
    length_s = deadline.length_s

    before = use_host_speed(HostSpeed(emulation=7.5))
    use_host_speed(before)

    assert deadline.length_s == length_s


def test_a_poll_returns_the_first_true_answer() -> None:
    answers = iter([0, None, 7, 8])

    assert poll(lambda: next(answers), Deadline(5), every_s=0.001) == 7


def test_a_poll_asks_at_least_once_and_ends_with_the_deadline() -> None:
    asked = list[int]()

    assert poll(lambda: asked.append(1), Deadline(0, scaled=False), every_s=0.01) is None
    assert asked == [1]


def test_a_change_wakes_the_thread_that_waits() -> None:
    changes, seen = Changes(), list[int]()

    def work() -> None:
        seen.append(1)
        changes.note()

    thread = threading.Thread(target=work)
    thread.start()
    assert changes.wait_for(lambda: len(seen), Deadline(5)) == 1
    thread.join()


def test_waiting_for_a_change_ends_with_the_deadline() -> None:
    assert Changes().wait_for(lambda: None, Deadline(0.01, scaled=False)) is None
