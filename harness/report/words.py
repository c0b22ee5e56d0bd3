"""Sentences that the page, the summary and the annotations share."""

from __future__ import annotations

from collections.abc import Iterator

from harness.core.errors import Blame
from harness.model.verdict import BootResult, Coverage, Outcome, Verdict, boot_name


def why(verdict: Verdict) -> str:
    """The reason for the outcome, in one or two sentences."""
    if verdict.outcome is Outcome.PASSED:
        ran = "Every required check that is applicable" if verdict.coverage.not_applicable else "Every required check"
        return f"{ran} ran and passed, and no boot had a finding."
    if verdict.outcome is Outcome.FAILED:
        return f"The image is at fault: {_first(verdict, Blame.IMAGE)}."
    return " ".join(_doubts(verdict)) or "Not every required check was proven."


def _doubts(verdict: Verdict) -> Iterator[str]:
    for blame in (Blame.HOST, Blame.HARNESS):
        if first := _first(verdict, blame):
            yield f"The {blame} is at fault: {first}."
    coverage = verdict.coverage
    if coverage.missing:
        yield f"Did not run, or not completely: {', '.join(coverage.missing)}."
    if coverage.failed:
        yield f"Failed: {', '.join(coverage.failed)}."


def _first(verdict: Verdict, blame: Blame) -> str:
    seen = list(dict.fromkeys(finding.what for finding in verdict.findings if finding.blame is blame))
    return f"{seen[0].rstrip('.')}{f', and {len(seen) - 1} more' if seen[1:] else ''}" if seen else ""


def checks_passed(coverage: Coverage) -> str:
    """How many of the required checks that are applicable passed."""
    required = len(coverage.passed + coverage.failed + coverage.missing)
    aside = f" ({len(coverage.not_applicable)} not applicable)" if coverage.not_applicable else ""
    return f"{len(coverage.passed)} of {required} required checks passed{aside}"


def facts(verdict: Verdict) -> tuple[str, ...]:
    """The figures of a run, one phrase each."""
    coverage = verdict.coverage
    ready = sum(boot.ready_s is not None for boot in verdict.boots)
    return (
        checks_passed(coverage),
        f"{ready} of {len(verdict.boots)} boots became ready",
        *((f"{coverage.power_cuts:,} power-cut states checked",) if coverage.power_cuts else ()),
        f"{verdict.elapsed_s:,.0f} s",
    )


def name_of(boot: BootResult) -> str:
    """The name of a boot in a finding's ``where``."""
    return boot_name(boot.machine, boot.number, boot.boot_path)
