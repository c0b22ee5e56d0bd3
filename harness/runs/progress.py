"""Progress of long work, as lines: build steps with their times, and the phase each machine is in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from harness.runs.folder import Event, Run

Say = Callable[[str], None]
_EVERY_S = 0.5


class BuildProgress:
    """Tells the steps of a build, a line when each is over (or begins, if somebody has to wait)."""

    def __init__(self, say: Say, image: str) -> None:
        self._say, self._image = say, image
        self._detail = ""

    def started(self, step: str, detail: str) -> None:
        self._detail = detail
        if step in ("bootstrap", "configure", "wait"):
            self._say(f"{self._image}: {step} … {detail}".rstrip())

    def ended(self, step: str, took_s: float) -> None:
        self._say(f"{self._image}: {step} {took_s:.0f} s {self._detail}".rstrip())

    def damaged(self, what: str) -> None:
        self._say(f"{self._image}: {what}")


class EventFollower:
    """Follows the events of runs, whichever worker writes them, and tells when a machine is ready or failed."""

    def __init__(self, runs: Iterable[Run], say: Say) -> None:
        self._runs, self._say = list(runs), say
        self._told = dict.fromkeys(range(len(self._runs)), 0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._over.wait(_EVERY_S):
            for place, run in enumerate(self._runs):
                events = list(run.events())
                for event in events[self._told[place] :]:
                    line = tell(event)
                    if line:
                        self._say(line)
                self._told[place] = len(events)


def tell(event: Event) -> str | None:
    """One event as a line for a person; None for what only the verdict needs."""
    data, clock = event.data, time.strftime("%H:%M:%S", time.localtime(event.time_s))
    match event.kind:
        case "phase" if data["phase"] not in ("ready", "queued", "firmware"):
            return f"{clock} {event.worker:>4} {data['machine']} boot {data['boot']}: {data['phase']}"
        case "boot" if data["ready_s"] is not None and not data["run"]:
            phases = ", ".join(f"{name} {seconds:.0f}" for name, seconds in data["phases"].items())
            where = f"{data['machine']} boot {data['number']} ({data['boot_path']})"
            return f"{clock} {event.worker:>4} {where}: ready in {data['ready_s']:.0f} s ({phases})"
        case "note":
            return f"{clock} {event.worker:>4} {data['text']}"
        case "finding":
            return f"{clock} {event.worker:>4} {data['where']}: {data['what'].splitlines()[0]} [{data['id']}]"
    return None
