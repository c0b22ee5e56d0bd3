"""Progress of long work, as lines: build steps with their times, the phase each machine is in, and what is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable

from harness.model.events import Event, Frozen, Note, PhaseBegan, Recorded
from harness.model.verdict import BootResult, Finding
from harness.runs.boot_count import BootCount
from harness.runs.folder import EventReader, Run

Say = Callable[[str], None]
_EVERY_S = 0.5
_COUNT_EVERY_S, _SAME_EVERY_S = 60.0, 300.0
_UNITS = 3
"""How many of the units that a template waited for are named."""


class BuildProgress:
    """Prints a line when a build step ends, and when a long step begins."""

    def __init__(self, say: Say, image: str) -> None:
        self._say, self._image = say, image
        self._detail = ""

    def started(self, step: str, detail: str) -> None:
        self._detail = detail
        if step in ("bootstrap", "configure", "bring", "wait"):
            self._say(f"{self._image}: {step} … {detail}".rstrip())

    def ended(self, step: str, took_s: float) -> None:
        self._say(f"{self._image}: {step} {took_s:.0f} s {self._detail}".rstrip())

    def damaged(self, what: str) -> None:
        self._say(f"{self._image}: {what}")


class EventFollower:
    """Follows the events of runs, of all workers, and prints a line when a machine is ready or failed.

    A finding that is made again at another boot has one line; pytest itself reports failed tests. ``with_phases``: also
    a line when a phase begins. A line says how many boots of the ``count`` are done: once a minute if another one is,
    else every five minutes.
    """

    def __init__(
        self, runs: Iterable[Run], say: Say, *, with_phases: bool = True, count: BootCount | None = None
    ) -> None:
        self._readers, self._say, self._with_phases = (
            [EventReader(run.folder / run.events_file) for run in runs],
            say,
            with_phases,
        )
        self._count, self._counted_s, self._done = count, time.monotonic(), 0
        self._seen = set[tuple[str, str]]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def select(self, tests: Collection[str]) -> None:
        """``tests`` will run, and no others."""
        if self._count:
            self._count.select(tests)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._over.wait(_EVERY_S):
            for run, recorded in ((run, one) for run, reader in enumerate(self._readers) for one in reader.read()):
                if self._count:
                    self._count.note(recorded.event, recorded.time_s, run)
                if self._is_news(recorded.event) and (line := progress_line(recorded)):
                    self._say(line)
            self._say_count()

    def _say_count(self) -> None:
        if self._count is None:
            return
        done, _ = self._count.counted()
        is_due = is_count_due(time.monotonic() - self._counted_s, is_more=done > self._done)
        if is_due and (line := self._count.line(time.time())):
            self._counted_s, self._done = time.monotonic(), done
            self._say(f"{time.strftime('%H:%M:%S')} {line}")

    def _is_news(self, event: Event) -> bool:
        if isinstance(event, PhaseBegan):
            return self._with_phases
        if isinstance(event, Finding):
            is_new = (event.id, event.what) not in self._seen
            self._seen.add((event.id, event.what))
            return is_new and "::" not in event.where
        return True


def is_count_due(passed_s: float, *, is_more: bool) -> bool:
    """Whether the count is said again ``passed_s`` after the last time: pure. ``is_more``: another boot is done.

    A run whose first boot fails says why before it counts anything.
    """
    return passed_s >= (_COUNT_EVERY_S if is_more else _SAME_EVERY_S)


def progress_line(recorded: Recorded) -> str | None:
    """One event as a line for a person; None for an event that only the verdict needs."""
    match recorded.event:
        case PhaseBegan(machine=machine, boot=boot, phase=phase) if phase not in ("ready", "queued", "firmware"):
            text = f"{machine} boot {boot}: {phase}"
        case BootResult(ready_s=float(ready_s), run="") as boot:
            phases = ", ".join(f"{name} {seconds:.0f}" for name, seconds in boot.phases.items())
            text = f"{boot.machine} boot {boot.number} ({boot.boot_path}): ready in {ready_s:.0f} s ({phases})"
        case Frozen(waited_for=dict(units), busy=()) as frozen if units:
            longest = sorted(units.items(), key=lambda unit: unit[1], reverse=True)[:_UNITS]
            names = ", ".join(f"{unit} {seconds:.0f} s" for unit, seconds in longest)
            text = f"state {frozen.state}: frozen once it was quiet, after {frozen.quiet_s:.0f} s ({names})"
        case Note(text=text):
            pass
        case Finding() as finding:
            text = f"{finding.where}: {finding.what.splitlines()[0]} [{finding.id}]"
        case _:
            return None
    return f"{time.strftime('%H:%M:%S', time.localtime(recorded.time_s))} {recorded.worker:>4} {text}"
