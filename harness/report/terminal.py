"""A verdict as lines on a terminal, the most important first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.model.finding_catalog import next_step
from harness.model.layout import ATTESTATION, BUNDLE_SUFFIX
from harness.model.verdict import Cost, Outcome, Verdict
from harness.report.words import checks_passed

_EVIDENCE_LINES = 6


def format_verdict(verdict: Verdict, folder: Path) -> Iterator[str]:
    """The lines; ``folder`` is the run's, whose report and bundles are named."""
    for finding in verdict.findings:
        yield f"{finding.blame}: {finding.what} [{finding.id}]"
        yield f"    where: {finding.where}"
        for line in finding.evidence[-_EVIDENCE_LINES:]:
            yield f"    | {line}"
        if finding.cause:
            yield f"    cause: {finding.cause}"
        if step := next_step(finding.id):
            yield f"    next: {step}"
    coverage = verdict.coverage
    if coverage.missing:
        yield f"required checks that did not run, or not completely: {', '.join(coverage.missing)}"
    for rate in verdict.rates:
        if rate.passed < rate.repeats:
            share = f"{rate.low:.0%} to {rate.high:.0%} with 95 % confidence"
            yield f"{rate.check} passed in {rate.passed} of {rate.repeats} repeats: {share}"
    yield from (f"not applicable: {check}: {reason}" for check, reason in coverage.not_applicable.items())
    yield from (f"could not be checked: {what}" for what in coverage.unchecked)
    ready = sum(boot.ready_s is not None for boot in verdict.boots)
    yield (
        f"{verdict.image} {verdict.version}: {verdict.outcome.upper()}. {checks_passed(coverage)}, "
        f"{ready} of {len(verdict.boots)} boots became ready ({', '.join(coverage.boot_paths)}), "
        f"{verdict.elapsed_s:.0f} s"
    )
    if verdict.cost:
        yield from _format_cost(verdict.cost)
    yield f"verdict: {folder / 'verdict.json'}"
    if (folder / "report.html").exists():
        yield f"report: {folder / 'report.html'}"
    yield from (f"reproduce: bootproof replay {file}" for file in sorted(folder.glob(f"*{BUNDLE_SUFFIX}")))
    if (folder / ATTESTATION).exists():
        yield f"attested: {folder / ATTESTATION}"
    if verdict.outcome is Outcome.INCONCLUSIVE:
        yield "inconclusive: fix the host, or run all required checks, and run again"


def _format_cost(cost: Cost) -> Iterator[str]:
    yield (
        f"time: {cost.prepared_s:.0f} s until the first test; {cost.boots} boots took {cost.boots_s:.0f} s, "
        f"{cost.clones} clones {cost.clones_s:.0f} s; cores {cost.cores_busy:.0%} busy"
    )
    longest = [f"{test.rpartition('::')[2]} {took_s:.0f} s" for test, took_s in cost.longest_s.items()]
    if longest:
        yield f"longest: {', '.join(longest)}"
