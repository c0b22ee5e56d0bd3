"""What was observed of a boot so far, as a frozen value: `diagnose` decides from it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from harness.core.errors import HostError
from harness.guest.console_patterns import ConsolePattern
from harness.guest.console_view import ConsoleView
from harness.guest.pattern_watcher import PatternMatch
from harness.lab import TraceEvent
from harness.model.machine_spec import MachineSpec
from harness.model.verdict import Finding

QmpEvent = tuple[str, Mapping[str, Any]]
"""A QMP event: its name and data."""


class BootState(StrEnum):
    """How far a boot has got. A machine that was held may have been changed by the person who looked at it; in a
    spoiled one, a test makes trouble on purpose."""

    BOOTING = "booting"
    THAWING = "thawing"
    READY = "ready"
    FAILED = "failed"
    HELD = "held"
    SPOILED = "spoiled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A boot, which findings call ``where``, of the machine ``spec``, ``after_s`` seconds after power-on.

    ``phases`` maps each phase that began to the second it did. ``lines`` are the last ones of the console, which has
    printed nothing for ``silent_s`` seconds; ``matches`` are the console patterns seen, the oldest first. ``events``
    are QMP's. ``exit_status`` is QEMU's, None while it runs; ``qemu_log`` the end of what it printed. ``steps`` are the
    machine's requests to the lab's servers, ``download_failure`` says which download cannot succeed,
    ``log_problem`` why the console's log cannot be written. ``view`` says which messages the console hides.
    """

    where: str
    spec: MachineSpec
    state: BootState = BootState.BOOTING
    is_kexec: bool = False
    has_only_transient_faults: bool = False
    phases: dict[str, float] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    after_s: float = 0.0
    silent_s: float = 0.0
    matches: tuple[PatternMatch, ...] = ()
    events: tuple[QmpEvent, ...] = ()
    exit_status: int | None = None
    qemu_log: tuple[str, ...] = ()
    steps: tuple[TraceEvent, ...] = ()
    download_failure: Finding | None = None
    log_problem: HostError | None = None
    view: ConsoleView = field(default_factory=ConsoleView)

    @property
    def phase(self) -> str:
        """The phase that began last."""
        return next(reversed(self.phases), "firmware")

    @property
    def is_early(self) -> bool:
        """Whether the machine is neither ready nor in user space, where its requests may explain what went wrong."""
        return self.state not in (BootState.READY, BootState.HELD, BootState.SPOILED) and "userspace" not in self.phases

    @property
    def emulator_fault(self) -> ConsolePattern | None:
        """The console pattern that shows a fault of the emulator, if one was seen."""
        return next((match.pattern for match in self.matches if match.pattern.overrides), None)

    @property
    def final_match(self) -> PatternMatch | None:
        """The first match after which the boot cannot succeed."""
        return next((match for match in self.matches if self.is_final(match)), None)

    def is_final(self, match: PatternMatch) -> bool:
        """Whether no retry can succeed after ``match``; one may while all network faults are transient."""
        return match.pattern.is_final and not (match.pattern.is_retried and self.has_only_transient_faults)

    @property
    def is_disk_full(self) -> bool:
        """Whether QEMU could not write to a disk of the machine because the host's is full; QEMU stops the machine
        then, which looks like a hang."""
        return any(name == "BLOCK_IO_ERROR" and data.get("nospace") for name, data in self.events)

    @property
    def has_panicked(self) -> bool:
        """Whether the guest's kernel reported to QEMU that it panicked (pvpanic)."""
        return has_event(self.events, "GUEST_PANICKED")

    @property
    def was_reset_by_watchdog(self) -> bool:
        return has_event(self.events, "WATCHDOG")

    @property
    def end_reason(self) -> str:
        """Why QEMU ended."""
        return end_reason(self.events)


def has_event(events: Sequence[QmpEvent], wanted: str) -> bool:
    """Whether QMP sent the event ``wanted``."""
    return any(name == wanted for name, _ in events)


def end_reason(events: Sequence[QmpEvent]) -> str:
    """Why QEMU ended, in QMP's words (ShutdownCause); empty if it did not say."""
    return next((str(data.get("reason", "")) for name, data in events if name == "SHUTDOWN"), "")
