"""Findings and verdicts: what was seen, and what it means for one set of artifacts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from harness.core.errors import Blame


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"

    @property
    def exit_status(self) -> int:
        """0, 1, and 75 of sysexits.h (EX_TEMPFAIL) for what says nothing about the image."""
        return {Outcome.PASSED: 0, Outcome.FAILED: 1, Outcome.INCONCLUSIVE: 75}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing observed: ``evidence`` is quoted, ``cause`` suspected, ``where`` a machine, test or file."""

    id: str
    what: str
    where: str
    blame: Blame = Blame.IMAGE
    evidence: tuple[str, ...] = ()
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The required checks by name, each in one of ``passed``, ``failed`` and ``missing`` (did not run).

    ``unchecked`` says, a sentence each, what this host or these artifacts did not let be looked at besides;
    ``power_cuts`` is how many states were judged that a power cut can leave of a disk, and were not bad.
    ``failed_tests`` maps each failed check to its tests that failed, ``flaky_tests`` are those that failed in one
    repeat and passed in another.
    """

    boot_paths: tuple[str, ...]
    passed: tuple[str, ...]
    failed: tuple[str, ...]
    missing: tuple[str, ...]
    unchecked: tuple[str, ...] = ()
    power_cuts: int = 0
    failed_tests: dict[str, tuple[str, ...]] = field(default_factory=dict)
    flaky_tests: tuple[str, ...] = ()


def boot_name(machine: str, number: int, boot_path: str) -> str:
    """How `Finding.where` names a boot."""
    return f"{machine}, boot {number} ({boot_path})"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootResult:
    """One boot as it went: ``phases`` maps firmware, ipxe, kernel, initrd, userspace to seconds.

    ``run`` is the folder of the earlier run that made it, of a machine that was frozen; empty if this one did.
    ``memory_mib`` were in use when it was ready; 0 if it did not say. ``captures`` are files of its lab's packets.
    ``hardware`` names the profile of the machine, if it had one, ``network_faults`` are those of its lab.
    """

    machine: str
    number: int
    boot_path: str
    artifacts: str
    phases: dict[str, float]
    ready_s: float | None
    console: str
    added_arguments: tuple[str, ...]
    downloads: dict[str, int] = field(default_factory=dict)
    run: str = ""
    memory_mib: int = 0
    captures: tuple[str, ...] = ()
    hardware: str = ""
    network_faults: tuple[str, ...] = ()

    @property
    def is_ordinary(self) -> bool:
        """On the definition's own machine and a network that behaves: how long it took says something of the image."""
        return not self.hardware and not self.network_faults

    def is_like(self, other: BootResult) -> bool:
        """The same was booted, the same way, in the same circumstances."""
        mine, its = (
            (boot.artifacts, boot.boot_path, boot.hardware, boot.network_faults, boot.added_arguments)
            for boot in (self, other)
        )
        return mine == its


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit's ``state``, and when it was started and active, in seconds after user space began: less in the initrd."""

    state: str
    begins_s: float
    ready_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeProfile:
    """What an image is like once it runs. ``memory_mib`` is used when the machine is ready and idle; ``sockets``
    listen, each as "tcp 0.0.0.0:22 sshd"; ``users`` and ``groups`` map names to numbers, ``links`` a persistent path
    to where it leads."""

    memory_mib: int
    sockets: tuple[str, ...]
    users: dict[str, int]
    groups: dict[str, int]
    links: dict[str, str]
    units: dict[str, Unit]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often a check passed when it was repeated, on the same bytes; ``low`` to ``high`` is where the true rate lies
    with 95 % confidence."""

    check: str
    passed: int
    repeats: int
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Where a run's time went. ``prepared_s`` passed before the first test; ``boots_s`` and ``clones_s`` are those of
    all ``boots`` and ``clones`` together; ``cores_busy`` is the share of the host's cores' time that was used, by
    whomever, while tests ran; ``longest_s`` are the tests that took longest."""

    prepared_s: float
    boots: int
    boots_s: float
    clones: int
    clones_s: float
    cores_busy: float
    longest_s: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome for one set of artifacts; ``digests`` binds artifacts, definition, suite and harness."""

    outcome: Outcome
    image: str
    version: str
    digests: dict[str, str]
    findings: tuple[Finding, ...]
    coverage: Coverage
    boots: tuple[BootResult, ...]
    host: dict[str, str]
    started: str
    elapsed_s: float
    cost: Cost | None = None
    runtime_profile: RuntimeProfile | None = None
    rates: tuple[Rate, ...] = ()
