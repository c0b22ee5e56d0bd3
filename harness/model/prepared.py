"""What the controller prepared for one image, in the form that its workers receive."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from harness.model.machine_spec import Accelerator, Network
from harness.model.qemu import Qemu


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
    qemu: Qemu
    network: Network
    network_reason: str
    durations: TestDurations
    slowness: float = 1.0
    network_faults: tuple[str, ...] = ()
    hardware: str = ""
    control_plane: Path | None = None
    """The artifacts of the definition's control plane; None if no test that this run requires needs them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestDurations:
    """What earlier runs on this host measured: seconds of each test, and MiB of a clone and seconds of a boot (0 if not
    measured)."""

    clone_mib: int = 0
    boot_s: float = 0.0
    tests_s: dict[str, float] = field(default_factory=dict)
