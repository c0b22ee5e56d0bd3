"""The days fit into the time, and no timer is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from harness.core.deadline import Deadline
from harness.examine.soak import days
from harness.examine.soak.days import due_by_hand, never_fired, prepare, set_ahead, step_days
from harness.examine.soak.looks import Look, Phase, fired
from harness.examine.soak.samples import Timer, UnitState
from harness.guest.channel import Channel, Completed, GuestCommandFailed

from .hosts import STILL, minutes, with_timers


class Answers(Channel):
    """Ends each command with ``status``, and remembers it."""

    def __init__(self, status: int = 0) -> None:
        self.status, self.commands = status, list[str]()

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        self.commands.append(command)
        return Completed(command=command, status=self.status, stdout=b"", stderr=b"")


@pytest.mark.parametrize(
    ("left", "left_s", "cost_s", "step"),
    [
        (30, 180, 3, 0.5),
        (30, 180, 1, 0.25),
        (30, 180, 6, 1.0),
        (30, 90, 60, 7.0),
        (30, 180, 12, 1.5),
        (0.1, 180, 3, 0.25),
    ],
    ids=["fits", "quick", "just", "slow", "less slow", "end"],
)
def test_a_step_is_a_week_at_most_and_a_quarter_of_a_day_at_least(
    left: float, left_s: float, cost_s: float, step: float
) -> None:
    assert step_days(left, left_s, left_s + 60, cost_s) == pytest.approx(step)


def test_timers_that_count_from_the_boot_are_started_by_hand() -> None:
    timers = {
        "clean.timer": Timer(unit="clean.service", is_monotonic=True),
        "weekly.timer": Timer(unit="weekly.service"),
        "off.timer": Timer(unit="off.service", is_monotonic=True),
        "masked.timer": Timer(unit="masked.service", is_monotonic=True),
    }
    units = {
        **dict.fromkeys(["clean.timer", "weekly.timer", "masked.timer"], UnitState()),
        "off.timer": UnitState(active="inactive"),
        "masked.service": UnitState(active="inactive", load="masked"),
    }

    assert due_by_hand(replace(STILL, units=units, timers=timers)) == [("clean.timer", "clean.service")]


def test_the_clock_is_set_ahead_before_units_are_started() -> None:
    channel = Answers()
    set_ahead(channel, 86400, ["clean.service"])

    (command,) = channel.commands
    assert command.startswith("date -s")
    assert "+ 86400" in command
    assert command.endswith("systemctl start --no-block -- clean.service")


def test_a_host_that_refuses_its_clock_is_an_error() -> None:
    with pytest.raises(GuestCommandFailed):
        set_ahead(Answers(status=1), 86400, [])


def test_services_that_would_set_the_clock_back_are_stopped_if_they_run() -> None:
    channel = Answers()
    units = {"chrony.service": UnitState(), "systemd-timesyncd.service": UnitState(active="inactive")}

    assert prepare(channel, replace(STILL, units=units)) == ["chrony.service"]
    assert channel.commands[1:] == ["systemctl stop -- chrony.service"]
    assert "RandomizedDelaySec=0" in channel.commands[0]


def test_a_timer_that_never_fired_is_told() -> None:
    looks = list(with_timers(minutes(lambda _, __: {}), {"weekly.timer": 7, "yearly.timer": 365}))
    active = {"weekly.timer": UnitState(), "yearly.timer": UnitState()}
    looks[-1] = replace(looks[-1], sample=replace(looks[-1].sample, units=active))

    assert never_fired(looks) == ["yearly.timer"]


def test_a_timer_has_fired_if_it_says_so_or_was_started_by_hand() -> None:
    looks = [look for look in with_timers(minutes(lambda _, __: {}), {"weekly.timer": 7}) if look.phase is Phase.DAYS]

    def days_of(looks: Sequence[Look], timer: str) -> list[int]:
        steps = pairwise(looks)
        return [int(after.number) for before, after in steps if timer in fired(before, after)]

    assert days_of(looks, "weekly.timer") == [7, 14, 21, 28]
    assert fired(looks[0], replace(looks[0], started=("clean.timer",))) == ["clean.timer"]
    assert days.DAYS == 30
