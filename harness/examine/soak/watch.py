"""Watching a host: looks at it one after the other, until something has filled it or is certain to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from harness.core.deadline import Deadline
from harness.examine.soak.breaks import full_mounts
from harness.examine.soak.ground import Ground
from harness.examine.soak.leaks import Leak, filling
from harness.examine.soak.looks import Look, Phase
from harness.examine.soak.samples import read_sample
from harness.examine.storage import Mount
from harness.guest.channel import Channel

Say = Callable[[str], None]
_RECENT = 12


class Watch:
    """The looks at the host behind ``channel`` until ``deadline``; ``say`` is told what becomes known.

    ``filling`` is what fills the host before the deadline, once that is certain. Then, and once a file system is full,
    the watch is over: what breaks from there on is a consequence.
    """

    def __init__(self, channel: Channel, ground: Ground, deadline: Deadline, say: Say) -> None:
        self.channel, self.ground, self.deadline, self.say = channel, ground, deadline, say
        self.filling: Leak | None = None
        self.cost_s = 0.0
        """How long the last look took."""
        self._looks: list[Look] = []

    @property
    def full(self) -> list[Mount]:
        """The file systems that were filled since the first look."""
        samples = [look.sample for look in self._looks]
        return list(full_mounts(samples[0], samples[-1], self.ground)) if samples else []

    @property
    def is_over(self) -> bool:
        return self.filling is not None or bool(self.full)

    @property
    def looks(self) -> Sequence[Look]:
        return self._looks

    def look(self, phase: Phase = Phase.ALONE, number: float = 0.0, started: Sequence[str] = ()) -> Look:
        """Look at the host once; `ImageError` if it does not answer as expected."""
        begin_s = time.monotonic()
        before = self._looks[-1].sample if self._looks else None
        sample = read_sample(self.channel, self.ground, before)
        self.cost_s = time.monotonic() - begin_s
        self._looks.append(Look(sample=sample, phase=phase, number=number, started=tuple(started)))
        recent = self._looks if len(self._looks) < _RECENT else [self._looks[0], *self._looks[-_RECENT:]]
        self.filling = filling(recent, self.ground, self.deadline.left_s)
        return self._looks[-1]
