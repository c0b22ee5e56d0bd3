"""What happens during a run: one frozen class for each kind of event in ``events.jsonl``.

`Finding` and `BootResult` are events too: they are written when they are known, and the verdict lists them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from harness.model.verdict import BootResult, Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseBegan:
    """Boot number ``boot`` of ``machine`` entered ``phase``: queued, firmware, ipxe, kernel, …, ready."""

    machine: str
    boot: int
    phase: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """Boot ``number`` of ``machine`` was ended on purpose, by a test or to make a template: the boot did not fail."""

    machine: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """A machine in ``state`` became a template.

    Before, it was ``quiet_s`` until no unit was starting or busy. ``waited_for`` has each unit that was meanwhile, and
    the seconds until it was seen so for the last time; ``busy`` those that still were when the wait was given up.
    """

    state: str
    took_s: float
    quiet_s: float = 0.0
    waited_for: dict[str, float] = field(default_factory=dict)
    busy: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloned:
    """``machine`` started as a clone of a template in ``state``; it took ``mib`` of memory, None if not measured."""

    machine: str
    state: str
    took_s: float
    mib: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """``machine``, which was paused for ``paused_s`` because no test used it, continued within ``took_s``, in which its
    clock was set if it was late."""

    machine: str
    paused_s: float
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The controller built everything after ``took_s``.

    CPU seconds of all cores so far: ``worked_s`` used, ``all_s`` used and idle together.
    """

    took_s: float
    worked_s: float
    all_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTest:
    """A ``file`` holds ``test``, which belongs to ``checks``; one worker runs all tests of its ``group``.

    It makes ``boots``, and needs those that lead to its ``templates``: a name for each boot, the same in all tests that
    share it.
    """

    test: str
    file: str
    checks: tuple[str, ...]
    group: str
    boots: int = 0
    templates: tuple[str, ...] = ()

    @property
    def looks(self) -> bool:
        """Whether it only looks at a machine that others share: each other test is a group of its own."""
        return self.group != self.test


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedTest:
    """The ``outcome`` (passed, failed, skipped) of one part of ``test``: ``when`` is setup, call or teardown.

    ``console`` is the log of its machine's console, empty if it has none. ``not_applicable`` is the reason of a test
    that said so, empty otherwise; its outcome is "skipped".
    """

    test: str
    when: str
    outcome: str
    took_s: float
    console: str = ""
    not_applicable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DependentTest:
    """``test`` failed, or did not run, because of ``finding``, which is about a boot or a state and not about the
    test."""

    test: str
    finding: Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerCutsJudged:
    """How many disk states a power cut could leave had each ``fates``: intact, lost, …"""

    took_s: float
    fates: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestGap:
    """For ``longest_s``, a ``guest`` on ``machine`` did not answer ``way`` ("ping", "TCP") from another host, while a
    host was rebooted: ``is_upgraded`` tells whether that was the guest's own.

    The ``queued_s`` in which the test host had no room for that boot do not count. ``limit_s`` is the budget here, None
    without one, and for TCP: a sender that got no answer waits longer and longer before it sends again.
    """

    guest: str
    machine: str
    way: str
    is_upgraded: bool
    longest_s: float
    queued_s: float = 0.0
    limit_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A sentence for the person who follows the run; the verdict does not use it."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchecked:
    """This host or these artifacts did not allow a check; ``what`` is a sentence."""

    what: str


Event = (
    PhaseBegan | Killed | Frozen | Cloned | Resumed | Prepared | PlannedTest | ReportedTest | DependentTest
    | PowerCutsJudged | GuestGap | Note | Unchecked | Finding | BootResult
)  # fmt: skip
KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}
"""The classes by the name that a line of ``events.jsonl`` has under "kind"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One line of ``events.jsonl``: an event, the ``worker`` that wrote it, and when (Unix time)."""

    worker: str
    time_s: float
    event: Event
