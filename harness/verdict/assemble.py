"""From a run's folder to its verdict: everything that counts was written there while it happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from harness.core import serialization
from harness.core.deadline import host_scale
from harness.core.process import cores_s
from harness.model.artifacts import INITRD, Artifacts, load_artifacts
from harness.model.definition import ImageDefinition
from harness.model.finding_catalog import next_step
from harness.model.layout import ATTESTATION, BUNDLE_SUFFIX
from harness.model.machine_spec import Accelerator, BootPath
from harness.model.prepared import PreparedImage
from harness.model.verdict import BootResult, Cost, Finding, Outcome, RuntimeProfile, Verdict
from harness.runs.folder import Run
from harness.verdict.coverage import FLAKE, Result, cover, decide, flakes, rates, without_repeat
from harness.verdict.digests import digests, host_facts

_MIB = 1 << 20
_LONGEST = 3
_CONSOLE_LINES = 6
_SWING = 2.0
"""An emulated boot takes up to twice as long from one hour to the next on the same idle host (seen: base, 43 and 88 s),
which no quick measurement of the host tells."""


def conclude(
    definition: ImageDefinition,
    prepared: PreparedImage | None,
    run: Run,
    suites: Iterable[Path],
    boot_paths: Iterable[BootPath],
    *,
    started: datetime,
    elapsed_s: float,
    is_thorough: bool = False,
) -> Verdict:
    """The verdict on what a run's folder holds; ``prepared`` is None when there is nothing to boot."""
    artifacts = load_artifacts(prepared.under_test) if prepared else None
    boots = run.boots()
    findings = list(run.findings())
    if prepared and artifacts:
        findings += over_budget(definition, artifacts, boots, prepared.accelerator)
    booted = {boot.boot_path for boot in boots if artifacts and boot.ready_s and boot.artifacts == artifacts.digest}
    paths = [path.value for path in boot_paths]
    coverage = cover(definition, paths, _planned(run), _results(run), booted, is_thorough=is_thorough)
    findings += _flakes(run)
    coverage = replace(coverage, unchecked=run.unchecked(), power_cuts=_power_cuts(run))
    return Verdict(
        outcome=decide(findings, coverage),
        image=definition.name,
        version=definition.version,
        digests=digests(definition, artifacts, _tests(run, suites)) if artifacts else {},
        findings=tuple(findings),
        coverage=coverage,
        boots=boots,
        host=host_facts(prepared) if prepared else {},
        started=started.isoformat(timespec="seconds"),
        elapsed_s=round(elapsed_s, 1),
        cost=_cost(run, boots),
        runtime_profile=_runtime_profile(run),
        rates=rates(_planned(run), _results(run)),
    )


def _flakes(run: Run) -> Iterator[Finding]:
    """A finding for each test that both passed and failed on the same bytes, with the end of a console of each."""
    results = [event.data for event in run.events() if event.kind == "result"]
    consoles = {data["test"]: data["console"] for data in results if data.get("console")}
    for test, row in flakes(_results(run)).items():
        passed = [repeat for repeat, result in row.items() if result is Result.PASSED]
        evidence = list[str]()
        for wanted in (Result.PASSED, Result.FAILED):
            repeat = next(repeat for repeat, result in row.items() if result is wanted)
            console = next((consoles[one] for one in consoles if without_repeat(one) == (test, repeat)), "")
            evidence += [f"{wanted} in {repeat}, {console or 'no console'}:", *_last_lines(console)]
        yield Finding(
            id=FLAKE,
            what=f"it passed in {len(passed)} of {len(row)} repeats on the same bytes",
            where=test,
            evidence=tuple(evidence),
            cause="an order of events that is not forced, or a wait that is too short",
        )


def _last_lines(console: str) -> list[str]:
    with suppress(OSError):
        lines = Path(console).read_text("utf-8", "replace").splitlines() if console else []
        return [f"    {line}" for line in lines[-_CONSOLE_LINES:]]
    return []


def _power_cuts(run: Run) -> int:
    fates = [event.data["fates"] for event in run.events() if event.kind == "swept"]
    return sum(number for row in fates for fate, number in row.items() if fate != "lost")


def _runtime_profile(run: Run) -> RuntimeProfile | None:
    with suppress(OSError, ValueError):
        return serialization.read(RuntimeProfile, run.folder / "runtime-profile" / "profile.json")
    return None


def _cost(run: Run, boots: Iterable[BootResult]) -> Cost | None:
    """What is known of it so far; None before there was anything to test."""
    events = list(run.events())
    prepared = next((event.data for event in events if event.kind == "prepared"), None)
    if prepared is None:
        return None
    worked_s, all_s = cores_s()
    clones = [event.data["took_s"] for event in events if event.kind == "clone"]
    booted = [boot.ready_s for boot in boots if boot.ready_s and not boot.run]
    tests = Counter[str]()
    for event in events:
        if event.kind == "result":
            tests[event.data["test"]] += event.data["took_s"]
    return Cost(
        prepared_s=prepared["took_s"],
        boots=len(booted),
        boots_s=round(sum(booted), 1),
        clones=len(clones),
        clones_s=round(sum(clones), 1),
        cores_busy=round((worked_s - prepared["worked_s"]) / max(0.01, all_s - prepared["all_s"]), 3),
        longest_s={test: round(took_s, 1) for test, took_s in tests.most_common(_LONGEST)},
    )


def over_budget(
    definition: ImageDefinition, artifacts: Artifacts, boots: Iterable[BootResult], accelerator: Accelerator
) -> Iterator[Finding]:
    """Sizes over budget always count; boot time by the quickest boot of the definition's own machine, and only under
    TCG on a host that keeps up."""
    budgets = {artifacts.manifest.rootfs: definition.rootfs_mib, INITRD: definition.initrd_mib}
    for name, budget_mib in budgets.items():
        size_mib = artifacts.manifest.files[name].size_bytes / _MIB
        if size_mib > budget_mib:
            yield Finding(
                id="over-budget",
                what=f"{name} has {size_mib:.0f} MiB, the budget is {budget_mib}",
                where=f"image {definition.name}",
                cause="compare the package list with the previous version's",
            )
    times = [boot.ready_s - _before_kernel_s(boot) for boot in boots if boot.ready_s is not None and boot.is_ordinary]
    limit_s = definition.boot_s * host_scale() * _SWING
    if times and accelerator is Accelerator.TCG and min(times) > limit_s:
        yield Finding(
            id="over-budget",
            what=f"the quickest of {len(times)} boots took {min(times):.0f} s, the budget is {limit_s:.0f} s here",
            where=f"image {definition.name}",
            cause="systemd-analyze blame in a machine of `bootproof boot` names the units that take long",
        )


def _before_kernel_s(boot: BootResult) -> float:
    return sum(seconds for phase, seconds in boot.phases.items() if phase in ("shutdown", "firmware", "ipxe", "grub"))


def _planned(run: Run) -> dict[str, list[str]]:
    return {event.data["test"]: event.data["checks"] for event in run.events() if event.kind == "planned"}


def _tests(run: Run, suites: Iterable[Path]) -> list[Path]:
    """The folders of the suites, and each file outside of them that a test came from."""
    folders = list(suites)
    files = {Path(event.data["file"]).resolve() for event in run.events() if event.kind == "planned"}
    return folders + sorted(file for file in files if not any(file.is_relative_to(folder) for folder in folders))


def _results(run: Run) -> dict[str, Result]:
    """A test passed if its call did and nothing around it failed."""
    results: dict[str, Result] = {}
    for event in run.events():
        if event.kind != "result":
            continue
        test, outcome = event.data["test"], event.data["outcome"]
        if outcome == "failed":
            results[test] = Result.FAILED
        elif outcome == "passed" and event.data["when"] == "call":
            results.setdefault(test, Result.PASSED)
    return results


def _describe(cost: Cost) -> Iterator[str]:
    yield (
        f"time: {cost.prepared_s:.0f} s until the first test; {cost.boots} boots took {cost.boots_s:.0f} s, "
        f"{cost.clones} clones {cost.clones_s:.0f} s; the cores were {cost.cores_busy:.0%} busy"
    )
    if cost.longest_s:
        yield "longest: " + ", ".join(
            f"{test.rpartition('::')[2]} {took_s:.0f} s" for test, took_s in cost.longest_s.items()
        )


def describe(verdict: Verdict, folder: Path) -> Iterator[str]:
    """The verdict as lines for a person, the most important first."""
    for finding in verdict.findings:
        yield f"{finding.blame}: {finding.what} [{finding.id}]"
        yield f"    where: {finding.where}"
        for line in finding.evidence[-6:]:
            yield f"    | {line}"
        if finding.cause:
            yield f"    cause: {finding.cause}"
        if step := next_step(finding.id):
            yield f"    next: {step}"
    coverage = verdict.coverage
    if coverage.missing:
        yield f"required, but did not run or not all of it: {', '.join(coverage.missing)}"
    for rate in verdict.rates:
        if rate.passed < rate.repeats:
            yield f"{rate.check} held {rate.passed} of {rate.repeats} times: {rate.low:.0%} to {rate.high:.0%} (95 %)"
    yield from (f"could not be checked: {what}" for what in coverage.unchecked)
    passed, required = len(coverage.passed), len(coverage.passed + coverage.failed + coverage.missing)
    ready = sum(boot.ready_s is not None for boot in verdict.boots)
    yield (
        f"{verdict.image} {verdict.version}: {verdict.outcome.upper()}. {passed} of {required} required checks passed, "
        f"{ready} of {len(verdict.boots)} boots became ready ({', '.join(coverage.boot_paths)}), "
        f"{verdict.elapsed_s:.0f} s"
    )
    if verdict.cost:
        yield from _describe(verdict.cost)
    yield f"verdict: {folder / 'verdict.json'}"
    if (folder / "report.html").exists():
        yield f"report: {folder / 'report.html'}"
    yield from (f"have it again: bootproof replay {file}" for file in sorted(folder.glob(f"*{BUNDLE_SUFFIX}")))
    if (folder / ATTESTATION).exists():
        yield f"attested: {folder / ATTESTATION}"
    if verdict.outcome is Outcome.INCONCLUSIVE:
        yield "inconclusive is neither passed nor failed: mend the host or run all checks, then run it again"
