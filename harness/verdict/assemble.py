"""From a run's folder to its verdict: `conclude` reads the folder and the host, `assemble` decides.

Everything that counts was written to the folder when it happened.
"""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from harness.core import digest
from harness.core.process import cores_s
from harness.model.artifacts import INITRD, Artifacts, load_artifacts
from harness.model.definition import ImageDefinition, sources_digest
from harness.model.events import PlannedTest
from harness.model.machine_spec import Accelerator, BootPath
from harness.model.prepared import PreparedImage
from harness.model.verdict import BootResult, Cost, Finding, Part, Verdict
from harness.runs.folder import Run
from harness.runs.record import RunRecord, read_record
from harness.verdict.boot_waits import BOOT_WAITS, over_idle_budget
from harness.verdict.causes import one_per_cause
from harness.verdict.coverage import (
    FLAKE,
    Result,
    cover,
    decide,
    flakes,
    of_part,
    rates,
    reasons_of,
    results_of,
    without_repeat,
)
from harness.verdict.time_budget import allowed_s

_MIB = 1 << 20
_LONGEST = 3
_CONSOLE_LINES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a run was to prove of one image, and its time: ``suites`` are folders of tests.

    ``parts`` are those of a run in shards that it is about, ``tests`` those of its one part; None for all tests.
    """

    definition: ImageDefinition
    boot_paths: tuple[BootPath, ...]
    suites: tuple[Path, ...]
    is_thorough: bool
    started: datetime
    elapsed_s: float
    parts: tuple[Part, ...] = ()
    tests: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The artifacts that the verdict is about, what it is bound to, and the host: an image that was prepared."""

    artifacts: Artifacts
    accelerator: Accelerator
    digests: dict[str, str]
    host: dict[str, str]


def conclude(scope: Scope, prepared: PreparedImage | None, run: Run) -> Verdict:
    """The verdict on what a run's folder holds now; ``prepared`` is None when there is nothing to boot."""
    record, subject = read_record(run), None
    if prepared:
        artifacts = load_artifacts(prepared.under_test)
        subject = Subject(
            artifacts=artifacts,
            accelerator=prepared.accelerator,
            digests=digests_of(scope.definition, artifacts, tests_of(record.planned, scope.suites)),
            host=_host_facts(prepared),
        )
    return assemble(scope, subject, record, cores_s())


def assemble(scope: Scope, subject: Subject | None, record: RunRecord, cores_now_s: tuple[float, float]) -> Verdict:
    """The verdict on ``record``; ``cores_now_s`` are the CPU seconds of the host used so far, and used or idle."""
    definition, results = scope.definition, results_of(record.reported)
    planned = {test.test: test.checks for test in record.planned if scope.tests is None or test.test in scope.tests}
    findings, booted = list(record.findings), set[str]()
    if subject:
        judged = subject.artifacts.digest
        booted = {
            boot.boot_path for boot in record.boots if boot.ready_s and boot.artifacts == judged and not boot.begins
        }
        findings += over_budget(definition, subject.artifacts, record.boots, subject.accelerator)
        findings = [*_without_waits(findings), *_waits(definition, judged, record.boots)]
    found = one_per_cause([*findings, *_flakes(record, results)], record.dependents)
    paths = [path.value for path in scope.boot_paths]
    reasons = reasons_of(record.reported)
    covered = cover(definition, paths, planned, results, booted, reasons=reasons, is_thorough=scope.is_thorough)
    if scope.tests is not None:
        covered = of_part(covered, planned)
    coverage = replace(
        covered,
        unchecked=(*record.unchecked, *covered.unchecked),
        power_cuts=sum(n for swept in record.power_cuts for fate, n in swept.fates.items() if fate != "lost"),
    )
    return Verdict(
        outcome=decide(found, coverage, is_partial=scope.tests is not None),
        image=definition.name,
        version=definition.version,
        digests=subject.digests if subject else {},
        findings=found,
        coverage=coverage,
        boots=record.boots,
        host=subject.host if subject else {},
        started=scope.started.isoformat(timespec="seconds"),
        elapsed_s=round(scope.elapsed_s, 1),
        cost=_cost(record, cores_now_s),
        runtime_profile=record.runtime_profile,
        rates=rates(planned, results),
        parts=scope.parts,
    )


def digests_of(definition: ImageDefinition, artifacts: Artifacts, tests: Iterable[Path]) -> dict[str, str]:
    """The SHA-256 of each input that a verdict is bound to; ``tests`` are folders and files."""
    return {
        "artifacts": artifacts.digest,
        **{name: file.sha256 for name, file in artifacts.manifest.files.items()},
        "definition": sources_digest(definition),
        "suite": digest.of_value([digest.of_folder(path) if path.is_dir() else digest.of_file(path) for path in tests]),
        "harness": digest.of_package(Path(__file__).parents[1], without="suite"),
    }


def _host_facts(prepared: PreparedImage) -> dict[str, str]:
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "accelerator": f"{prepared.accelerator}: {prepared.accelerator_reason}",
        "qemu": f"{prepared.qemu}: {prepared.qemu.reason}",
        **({"slowness": f"{prepared.slowness:g} times the reference machine's"} if prepared.slowness > 1 else {}),
        "network": f"{prepared.network}: {prepared.network_reason}",
        **({"network faults": ", ".join(prepared.network_faults)} if prepared.network_faults else {}),
        **({"hardware": prepared.hardware} if prepared.hardware else {}),
    }


def tests_of(planned: Iterable[PlannedTest], suites: Sequence[Path]) -> list[Path]:
    """The folders of the suites, and each file outside of them that a test came from."""
    files = {Path(test.file).resolve() for test in planned}
    return [*suites, *sorted(file for file in files if not any(file.is_relative_to(folder) for folder in suites))]


def _flakes(record: RunRecord, results: Mapping[str, Result]) -> Iterator[Finding]:
    """A finding for each test that both passed and failed on the same bytes, with the end of a console of each."""
    consoles = {part.test: part.console for part in record.reported if part.console}
    for test, row in flakes(results).items():
        evidence = list[str]()
        for wanted in (Result.PASSED, Result.FAILED):
            repeat = next(repeat for repeat, result in row.items() if result is wanted)
            console = next((consoles[one] for one in consoles if without_repeat(one) == (test, repeat)), "")
            evidence += [f"{wanted} in {repeat}, {console or 'no console'}:", *_last_lines(console)]
        yield Finding(
            id=FLAKE,
            what=f"it passed in {list(row.values()).count(Result.PASSED)} of {len(row)} repeats on the same bytes",
            where=test,
            evidence=tuple(evidence),
            cause="a race between units or processes, or a wait that is too short",
        )


def _last_lines(console: str) -> list[str]:
    with suppress(OSError):
        lines = Path(console).read_text("utf-8", "replace").splitlines() if console else []
        return [f"    {line}" for line in lines[-_CONSOLE_LINES:]]
    return []


def _cost(record: RunRecord, cores_now_s: tuple[float, float]) -> Cost | None:
    """The time so far; None before the first test could begin."""
    if (prepared := record.prepared) is None:
        return None
    worked_s, all_s = cores_now_s
    booted_s = [boot.ready_s for boot in record.boots if boot.ready_s and not boot.run]
    longest = sorted(record.took_s.items(), key=lambda item: item[1], reverse=True)[:_LONGEST]
    return Cost(
        prepared_s=prepared.took_s,
        boots=len(booted_s),
        boots_s=round(sum(booted_s), 1),
        clones=len(record.clones),
        clones_s=round(sum(clone.took_s for clone in record.clones), 1),
        cores_busy=round((worked_s - prepared.worked_s) / max(0.01, all_s - prepared.all_s), 3),
        longest_s={test: round(took_s, 1) for test, took_s in longest},
        checks_s={check: round(took_s, 1) for check, took_s in _by_check(record).items()},
    )


def _by_check(record: RunRecord) -> dict[str, float]:
    """Seconds of the tests of each check that ran; a test of several checks counts for each."""
    by_check, took_s = defaultdict[str, float](float), record.took_s
    for test in record.planned:
        for check in test.checks if test.test in took_s else ():
            by_check[check] += took_s[test.test]
    return by_check


def over_budget(
    definition: ImageDefinition, artifacts: Artifacts, boots: Iterable[BootResult], accelerator: Accelerator
) -> Iterator[Finding]:
    """Findings for what exceeds the definition's budgets.

    Sizes always count. The boot time is that of the quickest boot of the definition's own machine, under TCG only; the
    budget is scaled to the host.
    """
    budgets = {artifacts.manifest.rootfs: definition.rootfs_mib, INITRD: definition.initrd_mib}
    for name, budget_mib in budgets.items():
        size_mib = artifacts.manifest.files[name].size_bytes / _MIB
        if size_mib > budget_mib:
            yield Finding(
                id="over-budget",
                what=f"{name} is {size_mib:.0f} MiB, the budget is {budget_mib} MiB",
                where=f"image {definition.name}",
                cause="compare the package list with the previous version's",
            )
    times = [boot.ready_s - _before_kernel_s(boot) for boot in boots if boot.ready_s is not None and boot.is_ordinary]
    limit_s = allowed_s(definition.boot_s)
    if times and accelerator is Accelerator.TCG and min(times) > limit_s:
        yield Finding(
            id="over-budget",
            what=f"the quickest of {len(times)} boots took {min(times):.0f} s, the budget is {limit_s:.0f} s here",
            where=f"image {definition.name}",
            cause="a slow unit: run systemd-analyze blame in a machine of `bootproof boot`",
        )


def _without_waits(findings: Iterable[Finding]) -> list[Finding]:
    """Those about waits are made anew: boots of other versions do not count, those of an earlier run's templates do."""
    return [finding for finding in findings if finding.id != BOOT_WAITS]


def _waits(definition: ImageDefinition, judged: str, boots: Iterable[BootResult]) -> Iterator[Finding]:
    for boot in boots:
        if boot.artifacts == judged:
            yield from over_idle_budget(definition, boot)


def _before_kernel_s(boot: BootResult) -> float:
    return sum(seconds for phase, seconds in boot.phases.items() if phase in ("shutdown", "firmware", "ipxe", "grub"))
