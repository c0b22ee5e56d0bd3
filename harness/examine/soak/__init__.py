"""Watches a host that is left alone, used, and taken through a month by its clock. The check ``soak``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime

from harness.core.deadline import Deadline, poll
from harness.examine.soak import days, ground, pressure, use
from harness.examine.soak.breaks import find_breaks
from harness.examine.soak.ground import read_ground
from harness.examine.soak.journal_rate import judge_rate
from harness.examine.soak.judge import judge_leaks
from harness.examine.soak.leaks import Leak, filled, find_leaks
from harness.examine.soak.looks import Look, Phase
from harness.examine.soak.pressure import lose_memory
from harness.examine.soak.watch import Say, Watch
from harness.examine.soak.writers import find_writers
from harness.lint.finding import Findings, LintFinding, as_allowed
from harness.machine.machine import Machine
from harness.model.definition import ImageDefinition

__all__ = ["Look", "Phase", "soak"]

_ALONE, _USED = 0.3, 0.35
"""The parts of the time; the days have the rest."""
_EVERY_S, _MOST_REST_S = 5.0, 15.0
_MOST_WATCHING = 0.25
"""A look costs the host some CPU time: so much of the time at most is spent on it when the host is left alone."""


def soak(
    machine: Machine, definition: ImageDefinition, minutes: float, say: Say, *, today: date | None = None
) -> Findings:
    """Soak a ready machine that nobody needs afterwards, for ``minutes`` and some more to judge what was seen.

    ``say`` is told how far it is. `ImageError` if the host does not answer as expected.
    """
    whole = Deadline(60 * minutes, scaled=False)
    host = read_ground(machine.channel)
    watch = Watch(machine.channel, host, whole, say)
    found, unchecked = list[LintFinding](), [*ground.unchecked(host), *use.unchecked(host, definition)]
    _leave_alone(watch, minutes)
    stopped = list[str]()
    if not watch.is_over:
        found += _use(watch, machine, definition, minutes)
    if not watch.is_over:
        stopped += days.prepare(machine.channel, watch.looks[-1].sample)
        unchecked += _days(watch, definition)
    found += _judge(watch, definition, stopped)
    if not watch.is_over:
        found += _press(machine, definition, say, unchecked)
    allowances = (*definition.soak_allow, *definition.host_allow, *definition.lint_allow)
    day = today or datetime.now().astimezone().date()
    seen = as_allowed(list(dict.fromkeys(found)), allowances, definition.soak_allow, day)
    return replace(seen, unchecked=(*seen.unchecked, *unchecked))


def _leave_alone(watch: Watch, minutes: float) -> None:
    watch.say(f"soak: the host is left alone for {60 * _ALONE * minutes:.0f} s")
    deadline = Deadline(60 * _ALONE * minutes, scaled=False)
    while not (deadline.is_over or watch.is_over):
        watch.look()
        _rest(min(max(_EVERY_S, watch.cost_s / _MOST_WATCHING), _MOST_REST_S, deadline.left_s))


def _rest(length_s: float) -> None:
    over = Deadline(length_s, scaled=False)
    poll(lambda: over.is_over, over, every_s=length_s)


def _use(watch: Watch, machine: Machine, definition: ImageDefinition, minutes: float) -> Iterator[LintFinding]:
    """Rounds of all actions, with a look after each; of an action that fails, the first failure."""
    actions = list(use.actions_of(watch.ground, definition))
    watch.say(f"soak: the host is used ({', '.join(action.name for action in actions)})")
    deadline, number, failed = Deadline(60 * _USED * minutes, scaled=False), 0, set[str]()
    while not (deadline.is_over or watch.is_over):
        number, round_ = number + 1, Deadline(_EVERY_S, scaled=False)
        for action in actions:
            finding = use.use_once(action, machine.channel, machine.ssh, number)
            if finding and action.name not in failed:
                failed.add(action.name)
                yield finding
        watch.look(Phase.USED, number)
        _rest(min(round_.left_s, deadline.left_s))
    watch.say(f"soak: it was used {number} times")


def _days(watch: Watch, definition: ImageDefinition) -> Iterator[str]:
    """A sentence for each thing that the days did not show."""
    watch.say(f"soak: the host is taken through {days.DAYS} days")
    if problem := days.live_through(watch, Deadline(watch.deadline.left_s, scaled=False), definition.may_wait):
        yield problem
    elif timers := [] if watch.is_over else days.never_fired(watch.looks):
        yield f"timers that did not fire within {days.DAYS} days: {', '.join(timers)}"


def _judge(watch: Watch, definition: ImageDefinition, stopped: list[str]) -> Iterator[LintFinding]:
    leaks = _leaks(watch)
    writers = find_writers(watch.channel, leaks, watch.looks, watch.ground)
    yield from judge_leaks(leaks, writers, watch.ground)
    yield from judge_rate(watch.channel, watch.looks, watch.ground)
    is_explained = watch.is_over and bool(leaks)  # then what the last look shows is a consequence
    yield from find_breaks(watch.looks[:-1] if is_explained else watch.looks, watch.ground, definition, stopped)


def _leaks(watch: Watch) -> list[Leak]:
    """What ended the watch, or all that grows. What is full after a step of the days is a matter of timers."""
    if watch.filling:
        return [watch.filling]
    if watch.full and watch.looks[-1].phase is not Phase.DAYS:
        return [leak for mount in watch.full if (leak := filled(watch.looks, watch.ground, mount))]
    return find_leaks(watch.looks, watch.ground)


def _press(machine: Machine, definition: ImageDefinition, say: Say, unchecked: list[str]) -> Iterator[LintFinding]:
    say("soak: a process takes all memory")
    machine.running_boot.watch.disregard_console()
    lost = lose_memory(machine.channel, definition)
    unchecked += pressure.unchecked(lost)
    yield from pressure.judge(lost, definition)
