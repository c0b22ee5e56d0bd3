"""How many of the boots of a run are done, and about how long the others take: from the run's events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from statistics import median

from harness.model.events import Event, Killed, PhaseBegan, PlannedTest, ReportedTest
from harness.model.layout import TEMPLATE
from harness.model.verdict import BootResult

_ROUNDED_TO_S = 10
_MINUTES_FROM_S = 100

_Boot = tuple[int, str, int]
"""The number of the run, the machine, and the number of its boot."""


@dataclass(slots=True, kw_only=True)
class BootCount:
    """``lanes`` boots run at the same time, and one takes ``typical_s`` until this run has had one of its own.

    Boots of tests that were not ``selected`` do not count; until that is known, there is no count.
    """

    lanes: int
    typical_s: float
    selected: frozenset[str] | None = None
    _boots: dict[str, int] = field(default_factory=dict)
    _needed_by: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _over: set[str] = field(default_factory=set)
    _seen: set[_Boot] = field(default_factory=set)
    _ready_s: list[float] = field(default_factory=list)
    _running: dict[_Boot, float] = field(default_factory=dict)

    def select(self, tests: Collection[str]) -> None:
        """``tests`` will run, and no others."""
        self.selected = frozenset(tests)

    def note(self, event: Event, time_s: float, run: int = 0) -> None:
        """``event`` happened at ``time_s``, Unix time, in the ``run``-th of several."""
        match event:
            case PlannedTest():
                self._boots[event.test] = event.boots
                for template in event.templates:
                    self._needed_by[template].add(event.test)
            case ReportedTest(when="teardown"):
                self._over.add(event.test)
            case PhaseBegan(phase=phase) if phase not in ("queued", "firmware", "ready"):  # a clone has the second too
                self._running.setdefault((run, event.machine, event.boot), time_s)
            case Killed():
                self._running.pop((run, event.machine, event.number), None)
            case BootResult():
                self._running.pop((run, event.machine, event.number), None)
                self._seen.add((run, event.machine, event.number))
                if event.ready_s is not None and not event.run:
                    self._ready_s.append(event.ready_s)

    def line(self, now_s: float) -> str:
        """As in "boots 14/61, about 22 min left"; empty before the tests are known and after the last boot."""
        done, total = self.counted()
        if done >= total:
            return ""
        return f"boots {done}/{total}, about {_duration(self._left_s(total - done, now_s))} left"

    def counted(self) -> tuple[int, int]:
        """Boots that are done or no longer needed, and all boots. A boot that is repeated counts once.

        The boots of a test that is over are done, also if it recorded them elsewhere or never made them.
        """
        if self.selected is None:
            return 0, 0
        boots = {test: count for test, count in self._boots.items() if test in self.selected}
        needed = [asking & self.selected for asking in self._needed_by.values() if asking & self.selected]
        of_templates = sum(machine.startswith(TEMPLATE) for _, machine, _ in self._seen)
        of_tests = max(len(self._seen) - of_templates, sum(boots[test] for test in boots.keys() & self._over))
        of_templates = max(of_templates, sum(asking <= self._over for asking in needed))
        all_of_tests = sum(boots.values())
        return min(of_tests, all_of_tests) + min(of_templates, len(needed)), all_of_tests + len(needed)

    def _left_s(self, left: int, now_s: float) -> float:
        boot_s = median(self._ready_s) if self._ready_s else self.typical_s
        # A boot that takes longer than the others is about to end.
        begun_s = sum(min(now_s - began_s, boot_s) for began_s in self._running.values())
        return max(0.0, left * boot_s - begun_s) / max(1, min(self.lanes, left))


def _duration(seconds: float) -> str:
    if seconds >= _MINUTES_FROM_S:
        return f"{round(seconds / 60)} min"
    return f"{max(1, round(seconds / _ROUNDED_TO_S)) * _ROUNDED_TO_S} s"
