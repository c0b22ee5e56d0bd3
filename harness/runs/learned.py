"""What earlier runs on this host taught about an image: how long its tests take, and how much memory a clone."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from harness.core import serialization
from harness.core.errors import HostError
from harness.model.prepared import _RUNS, TestDurations
from harness.runs.folder import Run
from harness.store.store import Store


def recall(store: Store, image: str) -> TestDurations:
    """What is known of the image; nothing, if that cannot be read."""
    try:
        return serialization.read(TestDurations, store.root / "learned" / f"{image}.json")
    except (OSError, ValueError):
        return TestDurations()


def keep(store: Store, image: str, run: Run) -> None:
    """Add what ``run`` taught. A store that cannot be written to learns nothing."""
    took_s, clone_mib = _lessons(run)
    with suppress(HostError, OSError), store.locked(f"learned-{image}"):
        known = recall(store, image)
        tests_s = known.tests_s | {test: [*known.tests_s.get(test, []), s][-_RUNS:] for test, s in took_s.items()}
        learned = TestDurations(clone_mib=clone_mib or known.clone_mib, tests_s=tests_s)
        serialization.write(store.folder("learned") / f"{image}.json", learned)


def _lessons(run: Run) -> tuple[dict[str, float], int]:
    """Seconds of each test that was called, with those of its fixtures; the most MiB that a clone took, or 0."""
    totals_s, called, clones_mib = Counter[str](), set[str](), [0]
    for event in run.events():
        if event.kind == "result":
            totals_s[event.data["test"]] += event.data["took_s"]
            if event.data["when"] == "call":
                called.add(event.data["test"])
        if event.kind == "clone":
            clones_mib.append(event.data["mib"] or 0)
    return {test: round(totals_s[test], 1) for test in called}, max(clones_mib)
