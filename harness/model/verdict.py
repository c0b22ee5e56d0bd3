"""Findings, and the verdict that they lead to for one set of artifacts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from harness.core.errors import Blame
from harness.core.serialization import Format
from harness.model import upgrades
from harness.model.guest_contract import GuestContract
from harness.model.host_facts import HostFacts
from harness.model.machine_spec import Accelerator


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"

    @property
    def exit_status(self) -> int:
        """0, 1, and EX_TEMPFAIL of sysexits.h (75) for an outcome that says nothing about the image."""
        return {Outcome.PASSED: 0, Outcome.FAILED: 1, Outcome.INCONCLUSIVE: 75}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One observation: ``evidence`` quotes lines, ``cause`` is suspected, ``where`` names a boot, test or file.

    ``places`` are further boots or files with the same observation. ``tests`` are the ids of further tests that failed,
    or did not run, because of the same cause.
    """

    id: str
    what: str
    where: str
    blame: Blame = Blame.IMAGE
    evidence: tuple[str, ...] = ()
    cause: str = ""
    tests: tuple[str, ...] = ()
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The required checks by name, each in one of ``passed``, ``failed``, ``missing`` (did not run) and
    ``not_applicable``, which maps a check that this image or host does not allow to its reason.

    ``unchecked`` has a sentence for each thing that could not be examined on this host or with these artifacts.
    ``power_cuts`` counts the disk states after a power cut that were examined and found good.
    ``failed_tests`` maps each failed check to its failed tests; ``flaky_tests`` failed in one repeat and passed in
    another.
    """

    boot_paths: tuple[str, ...]
    passed: tuple[str, ...]
    failed: tuple[str, ...]
    missing: tuple[str, ...]
    not_applicable: dict[str, str] = field(default_factory=dict)
    unchecked: tuple[str, ...] = ()
    power_cuts: int = 0
    failed_tests: dict[str, tuple[str, ...]] = field(default_factory=dict)
    flaky_tests: tuple[str, ...] = ()


def boot_name(machine: str, number: int, boot_path: str) -> str:
    """How `Finding.where` names a boot."""
    return f"{machine}, boot {number} ({boot_path})"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitWait:
    """A boot waited for ``unit`` while the guest's CPUs were idle for ``idle_s``; ``lines`` are those of the console
    before and after the longest of these waits."""

    unit: str
    idle_s: float
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BootResult:
    """The measurements of one boot: ``phases`` maps firmware, ipxe, kernel, initrd, userspace to seconds.

    ``ready_s`` is None for a boot that did not become ready. ``run`` is the folder of the run that made this boot, if
    its machine comes from a template of an earlier run; else empty. ``memory_mib`` was in use when the machine was
    ready; 0 if unknown. ``captures`` are the files with the packets of its lab. ``hardware`` names the machine's
    hardware profile, if it has one; ``network_faults`` are those of its lab. ``begins`` is "initrd" for a boot that
    continues from a machine frozen there; empty for a boot from power-on. ``idle_s`` are the seconds from the kernel's
    start until ready in which the guest's CPUs were idle while a job ran, without those in which it waited for a disk;
    None if that says nothing about the image. ``waits`` are the longest of what they were spent on.
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
    begins: str = ""
    idle_s: float | None = None
    waits: tuple[UnitWait, ...] = ()

    @property
    def name(self) -> str:
        """How `Finding.where` names it."""
        return boot_name(self.machine, self.number, self.boot_path)

    @property
    def is_ordinary(self) -> bool:
        """Whether its duration can be compared: from power-on, no hardware profile, no network faults."""
        return not self.hardware and not self.network_faults and not self.begins

    def is_like(self, other: BootResult) -> bool:
        """Whether artifacts, boot path, hardware, network faults, added arguments and beginning are the same."""
        mine, its = (
            (boot.artifacts, boot.boot_path, boot.hardware, boot.network_faults, boot.added_arguments, boot.begins)
            for boot in (self, other)
        )
        return mine == its


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit's ``state``, and the seconds from the start of user space until it was started and active; negative in the
    initrd."""

    state: str
    begins_s: float
    ready_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeProfile:
    """What a running image consists of. ``memory_mib`` is in use when the machine is ready and idle; ``sockets`` are
    those that listen, as "tcp 0.0.0.0:22 sshd"; ``users`` and ``groups`` map names to numbers, ``links`` a persistent
    path to its target. ``host`` is None in profiles from before November 2026, and if the host did not answer."""

    memory_mib: int
    sockets: tuple[str, ...]
    users: dict[str, int]
    groups: dict[str, int]
    links: dict[str, str]
    units: dict[str, Unit]
    host: HostFacts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often a check passed in ``repeats`` on the same artifacts; ``low`` to ``high`` is the 95 % confidence
    interval of the true rate."""

    check: str
    passed: int
    repeats: int
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """How a run's time was spent. ``prepared_s`` passed before the first test; ``boots_s`` and ``clones_s`` are sums
    over all ``boots`` and ``clones``; ``cores_busy`` is the share of the host's CPU time that any process used while
    tests ran; ``longest_s`` maps the longest tests to their seconds, ``checks_s`` each check to those of its tests, in
    which they also waited for others."""

    prepared_s: float
    boots: int
    boots_s: float
    clones: int
    clones_s: float
    cores_busy: float
    longest_s: dict[str, float]
    checks_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Part ``number`` of the ``of`` shards of the plan with that SHA-256, as ``host`` ran it.

    In a verdict on several parts, ``outcome``, ``started``, ``elapsed_s`` and ``facts`` are those of the part's own
    verdict.
    """

    number: int
    of: int
    plan: str
    host: str
    outcome: str = ""
    started: str = ""
    elapsed_s: float = 0.0
    facts: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"part {self.number} of {self.of}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome for one set of artifacts; ``digests`` binds artifacts, definition, suite and harness.

    ``parts`` are those of a run in shards that it is about: empty for a run of one host.
    """

    FORMAT: ClassVar[Format] = Format(kind="a verdict", number=2, upgrades={0: upgrades.verdict_1, 1: dict})

    format: int = 2
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
    parts: tuple[Part, ...] = ()

    @property
    def guests(self) -> GuestContract | None:
        """What its machine offered to guests; None if that was not recorded."""
        host = self.runtime_profile.host if self.runtime_profile else None
        return host.guests if host else None

    @property
    def is_partial(self) -> bool:
        """Whether it is about a part of a run in shards only: it then proves nothing alone."""
        return bool(self.parts) and len(self.parts) < self.parts[0].of

    @property
    def ran_on(self) -> str:
        """What the speed of its boots depends on: "kvm", "tcg of QEMU 10.0", or "tcg" in verdicts that name no QEMU;
        several of them if its parts differ; empty if nothing was booted."""
        hosts = [part.facts for part in self.parts if part.facts] or [self.host]
        return together(map(_ran_on, hosts))


_SEVERAL = " and "


def together(ran_on: Iterable[str]) -> str:
    """`Verdict.ran_on` of several runs or parts."""
    return _SEVERAL.join(sorted({one for some in ran_on for one in some.split(_SEVERAL) if one}))


def _ran_on(host: dict[str, str]) -> str:
    accelerator = host.get("accelerator", "").partition(":")[0]
    qemu = _QEMU.match(host.get("qemu", ""))
    return f"{accelerator} of {qemu[1]}{qemu[2] or ''}" if qemu and accelerator == Accelerator.TCG else accelerator


_QEMU = re.compile(r"(QEMU \d+\.\d+)(?:[^:]*(,thread=multi)\))?")
"""Of `Verdict.host`: a major and a minor version, and how it emulates, if that is not the default."""


def is_like(ran_on: str, other: str) -> bool:
    """Whether boots that `Verdict.ran_on` describes can be compared; not known of a QEMU that is not named.

    A mix cannot: its median depends on how many boots each host made.
    """
    unnamed = Accelerator.TCG.value
    if _SEVERAL in ran_on or _SEVERAL in other:
        return False
    return ran_on == other or (unnamed in (ran_on, other) and ran_on.startswith(unnamed) and other.startswith(unnamed))
