"""When a guest answered what was sent to it, and for how long it did not: pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from harness.model.events import PhaseBegan, Recorded

_ANSWER = re.compile(r"^\[(\d+\.\d+)\] (?:\d+ bytes from .*icmp_seq=\d+|echo \d+$)", re.MULTILINE)
"""Of ``ping -D`` of iputils, and of a stream: Unix time, with microseconds. ping's other lines are about no answer."""
_ENDS = re.compile(r"^(begin|end) (\d+\.\d+)$", re.MULTILINE)
_LOST = re.compile(r"(?:^\S+: line \d+: (.*)\n)?^\[\d+\.\d+\] lost (.*)$", re.MULTILINE)
"""Of a stream: what bash(1) said, and where it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLog:
    """When sending began and ended, and when each answer came: in order, all on the clock of the sender. ``lost`` is
    why a stream ended before, empty if it did not."""

    begin_s: float
    end_s: float
    answers_s: tuple[float, ...]
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without an answer, on the clock of the sender."""

    began_s: float
    ended_s: float

    @property
    def length_s(self) -> float:
        return self.ended_s - self.began_s


def read_log(text: str) -> AnswerLog:
    """``text`` is what the sender wrote between the lines "begin TIME" and "end TIME". `KeyError` without these."""
    ends = {word: float(time_s) for word, time_s in _ENDS.findall(text)}
    lost = _LOST.search(text)
    return AnswerLog(
        begin_s=ends["begin"],
        end_s=ends["end"],
        answers_s=tuple(sorted(map(float, _ANSWER.findall(text)))),
        lost=f"{lost[2]}: {lost[1] or 'no answer'}" if lost else "",
    )


def longest_gap(log: AnswerLog) -> Gap:
    """The longest time without an answer; that before the first answer and after the last one count, too."""
    moments = (log.begin_s, *log.answers_s, max(log.end_s, *log.answers_s, log.begin_s))
    return max((Gap(before, after) for before, after in pairwise(moments)), key=lambda gap: gap.length_s)


def queued_s(events: Iterable[Recorded], machine: str) -> float:
    """How long the last boot of ``machine`` waited for a boot slot and for memory of the test host before it began."""
    times = [(event.time_s, event.event) for event in events]
    phases = [(time_s, one) for time_s, one in times if isinstance(one, PhaseBegan) and one.machine == machine]
    begun = [number for number, (_, one) in enumerate(phases) if one.phase == "queued"]
    if not begun or begun[-1] + 1 == len(phases):
        return 0.0
    return phases[begun[-1] + 1][0] - phases[begun[-1]][0]
