"""What earlier runs on this host taught about an image: how long its tests take, and how much memory a clone."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from harness import record
from harness.errors import HostError
from harness.run import Run
from harness.store import Store

_RUNS = 3
"""Of so many last runs the shortest counts: in the others a test may have waited for what it shares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """Seconds of each test in the last runs, the last at the end; MiB that a clone took, 0 if nobody knows."""

    clone_mib: int = 0
    tests_s: dict[str, list[float]] = field(default_factory=dict)

    def expected_s(self, test: str) -> float | None:
        return min(self.tests_s[test]) if self.tests_s.get(test) else None


def recall(store: Store, image: str) -> Learned:
    """What is known of the image; nothing, if that cannot be read."""
    try:
        return record.read(Learned, store.root / "learned" / f"{image}.json")
    except (OSError, ValueError):
        return Learned()


def keep(store: Store, image: str, run: Run) -> None:
    """Add what ``run`` taught. A store that cannot be written to learns nothing."""
    known = recall(store, image)
    tests_s, mib, totals, ran = dict(known.tests_s), list[int](), dict[str, float](), set[str]()
    for event in run.events():
        if event.kind == "result":
            if event.data["when"] == "call":
                ran.add(event.data["test"])
            totals[event.data["test"]] = totals.get(event.data["test"], 0.0) + event.data["took_s"]
        if event.kind == "clone" and event.data["mib"]:
            mib.append(event.data["mib"])
    for test in ran:
        took_s = totals[test]
        tests_s[test] = [*tests_s.get(test, []), round(took_s, 1)][-_RUNS:]
    learned = Learned(clone_mib=max(mib, default=known.clone_mib), tests_s=tests_s)
    with suppress(HostError, OSError):
        record.write(store.folder("learned") / f"{image}.json", learned)
