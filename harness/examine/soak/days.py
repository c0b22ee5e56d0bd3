"""Taking a host through days by its clock, in steps after which its timers fire.

A timer with OnCalendar= counts the host's wall clock, which is set ahead: systemd looks at all of them at once, and
each that is due fires once. It then draws a new RandomizedDelaySec=, counted from the boot (systemd 257,
src/core/timer.c), so that a timer with one would not fire: a drop-in for all timers sets it to 0. A timer that only
counts from the boot or from its unit (OnBootSec=, OnUnitActiveSec=) follows CLOCK_MONOTONIC, which cannot be set: its
unit is started by hand, once a day.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from harness.core.deadline import Deadline, poll
from harness.examine.known import known
from harness.examine.soak.looks import Look, Phase, fired
from harness.examine.soak.samples import Sample
from harness.examine.soak.watch import Watch
from harness.guest.channel import Channel
from harness.guest.quiet import running_jobs

DAYS = 30
_DAY_S = 86400
_LEAST_STEP, _USUAL_STEP, _MOST_STEP = 0.25, 1.0, 7.0
"""In days. In steps of a day, few timers fire in one. A weekly timer fires in the longest, too."""
_NOTICED_S = 0.5
"""In which systemd notices that its clock was set, and starts what is due."""
_SETTLES_S = 20.0
_LATE_S = 60.0
"""How much longer than planned the days may take, on the reference machine."""


def live_through(watch: Watch, until: Deadline, may_wait: Collection[str]) -> str:
    """Take the host through `DAYS`, with a look after each step. Returns why some are missing; empty if none is."""
    channel = watch.channel
    day, cost_s, first, late = 0.0, 2 * watch.cost_s + 1.0, watch.looks[-1], Deadline(_LATE_S)
    while day < DAYS and not watch.is_over:
        most_left_s = until.length_s + late.length_s - until.passed_s
        if most_left_s < 0:
            return f"only {day:.0f} of {DAYS} days were gone through within the time: the host is slow"
        step = Deadline(0)
        before, day = day, min(float(DAYS), day + step_days(DAYS - day, until.left_s, most_left_s, cost_s))
        due = due_by_hand(watch.looks[-1].sample) if int(day) > int(before) else []
        set_ahead(channel, round((day - before) * _DAY_S), [unit for _, unit in due])
        poll(lambda: not waits_for(channel, may_wait), Deadline(_SETTLES_S), every_s=0.5)
        look = watch.look(Phase.DAYS, day, [timer for timer, _ in due])
        cost_s = step.passed_s
        _say_first(watch, first, look)
    return ""


def step_days(days_left: float, left_s: float, most_left_s: float, cost_s: float) -> float:
    """How far to go at once: a day at most if all days then fit into ``most_left_s``, less if they fit into ``left_s``
    with shorter steps. Pure."""
    steps, most_steps = (max(1.0, time_s / max(cost_s, 0.1)) for time_s in (left_s, most_left_s))
    usual = min(_USUAL_STEP, max(_LEAST_STEP, days_left / steps))
    return min(_MOST_STEP, max(usual, days_left / most_steps))


def due_by_hand(sample: Sample) -> list[tuple[str, str]]:
    """The active timers that count from the boot, each with its unit: pure."""
    active = {name for name, state in sample.units.items() if state.active == "active"}
    masked = {name for name, state in sample.units.items() if state.load != "loaded"}
    return [
        (name, timer.unit)
        for name, timer in sample.timers.items()
        if timer.is_monotonic and name in active and timer.unit not in masked
    ]


def set_ahead(channel: Channel, ahead_s: int, units: Sequence[str]) -> None:
    """Set the clock ahead, and start ``units``; `GuestCommandFailed` if the host refuses one."""
    start = f"systemctl start --no-block -- {shlex.join(units)}" if units else "true"
    channel.run(f"date -s @$(($(date +%s) + {ahead_s})) && sleep {_NOTICED_S} && {start}").checked()


def waits_for(channel: Channel, may_wait: Collection[str]) -> list[str]:
    return [unit for unit in running_jobs(channel) if unit not in may_wait]


def prepare(channel: Channel, sample: Sample) -> list[str]:
    """Let timers fire when they are due, and stop the services that would set the clock back; returns these."""
    folder, text = "/run/systemd/system/timer.d", "[Timer]\\nRandomizedDelaySec=0\\nAccuracySec=1us\\n"
    write = f"mkdir -p {folder} && printf '{text}' >{folder}/90-bootproof.conf && systemctl daemon-reload"
    channel.run(write).checked()
    units = [unit for unit in known("clock_units") if unit in sample.units and sample.units[unit].active == "active"]
    if units:
        channel.run(f"systemctl stop -- {shlex.join(units)}").checked()
    return units


def never_fired(looks: Sequence[Look]) -> list[str]:
    """The timers that count the wall clock and did not fire in the days: pure."""
    begun = [look for look in looks if look.phase is not Phase.ALONE]
    have = {timer for before, after in pairwise(begun) for timer in fired(before, after)}
    last = looks[-1].sample
    active = {name for name, state in last.units.items() if state.active == "active"}
    return [name for name, timer in last.timers.items() if name in active - have and not timer.is_monotonic]


def _say_first(watch: Watch, first: Look, look: Look) -> None:
    before = watch.looks[-2]
    new = [timer for timer in fired(before, look) if timer not in set(_all_fired(watch.looks[:-1], first))]
    if new:
        watch.say(f"day {look.number:.0f}: fired for the first time: {', '.join(new)}")


def _all_fired(looks: Sequence[Look], first: Look) -> Iterator[str]:
    begun = [look for look in looks if look is first or look.phase is Phase.DAYS]
    for before, after in pairwise(begun):
        yield from fired(before, after)
