"""What the controller prepared of one image, as its workers get it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from harness.model.machine_spec import Accelerator, Network


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedImage:
    """One image, ready to be booted. ``old`` upgrades to ``new``; one of the two is ``under_test``."""

    image: str
    run_folder: Path
    under_test: Path
    old: Path
    new: Path
    newest: Path
    accelerator: Accelerator
    accelerator_reason: str
    network: Network
    network_reason: str
    learned: TestDurations
    slowness: float = 1.0
    network_faults: tuple[str, ...] = ()
    hardware: str = ""


_RUNS = 3
"""Of so many last runs the shortest counts: in the others a test may have waited for what it shares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestDurations:
    """Seconds of each test in the last runs, the last at the end; MiB that a clone took, 0 if nobody knows."""

    clone_mib: int = 0
    tests_s: dict[str, list[float]] = field(default_factory=dict)

    def expected_s(self, test: str) -> float | None:
        return min(self.tests_s[test]) if self.tests_s.get(test) else None
