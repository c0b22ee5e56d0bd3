"""A verdict as lines on a terminal, the most important first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.model.layout import ATTESTATION, BUNDLE_SUFFIX, PART, bundle_name
from harness.model.verdict import Cost, Finding, Outcome, Verdict
from harness.report import words

_FINDINGS, _BUNDLES = 10, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the terminal has about tests already. ``failed`` are the ids of those that ran and failed; ``listed`` have a
    line with their message, ``quoted`` the whole message."""

    failed: frozenset[str] = frozenset()
    listed: frozenset[str] = frozenset()
    quoted: frozenset[str] = frozenset()

    def has(self, finding: Finding) -> bool:
        """Whether the finding is on the terminal already."""
        return finding.where in self.listed or not self.quoted.isdisjoint(finding.tests)


_NOTHING = Shown()


def format_verdict(verdict: Verdict, folder: Path, shown: Shown = _NOTHING) -> Iterator[str]:
    """The lines: the outcome and its cause first. ``folder`` is the run's, whose report and bundles are named."""
    is_passed = verdict.outcome is Outcome.PASSED
    yield f"{words.headline(verdict)}. {_figures(verdict)}" if is_passed else words.headline(verdict)
    others = [finding for finding in verdict.findings if not shown.has(finding)][_FINDINGS:]
    for number, finding in enumerate(verdict.findings):
        if finding in others:
            continue
        if number and not shown.has(finding):
            yield f"{finding.blame}: {finding.what} [{finding.id}]"
        if not shown.has(finding):
            yield from (f"    {line}" for line in words.details(finding))
            if (bundle := _bundle_of(finding, folder)).exists():
                yield f"    reproduce: bootproof replay {bundle}"
        elif not number:
            yield f"    where: {finding.where}"
        yield from words.dependents(finding, shown.failed)
    if others:
        yield f"{len(others)} more findings: see the report"
    if not is_passed:
        yield _figures(verdict)
    yield from _format_coverage(verdict)
    if verdict.cost:
        yield from _format_cost(verdict.cost)
    yield f"verdict: {folder / 'verdict.json'}"
    if (folder / "report.html").exists():
        yield f"report: {folder / 'report.html'}"
    yield from _format_bundles(verdict, folder, shown)
    if (folder / ATTESTATION).exists():
        yield f"attested: {folder / ATTESTATION}"
    if verdict.is_partial and len(verdict.parts) == 1:
        yield "a part proves nothing alone: bootproof merge makes one verdict of all parts"
    elif verdict.is_partial:
        yield f"{len(verdict.parts)} of {verdict.parts[0].of} parts: merge this folder again with the others"
    elif verdict.outcome is Outcome.INCONCLUSIVE:
        yield "inconclusive: fix the host, or run all required checks, and run again"


def _bundle_of(finding: Finding, folder: Path) -> Path:
    """Where the bundle of the finding's boot or test is, if there is one; in a merged run, in its part's folder."""
    name = _bundle_name(finding.where)
    return next((file for file in bundles(folder) if file.name == name), folder / name)


def bundles(folder: Path) -> list[Path]:
    """The bundles of a run; of a merged one, also those of its parts."""
    return sorted([*folder.glob(f"*{BUNDLE_SUFFIX}"), *folder.glob(f"{PART}*/*{BUNDLE_SUFFIX}")])


def _bundle_name(where: str) -> str:
    machine, is_boot, boot = where.rpartition(", boot ")
    return bundle_name(f"{machine}-boot-{boot.partition(' (')[0]}" if is_boot else where)


def _figures(verdict: Verdict) -> str:
    coverage = verdict.coverage
    return (
        f"{words.checks_passed(coverage)}, "
        f"{words.boots_ready(verdict)} ({', '.join(coverage.boot_paths)}), "
        f"{verdict.elapsed_s:.0f} s"
    )


def _format_coverage(verdict: Verdict) -> Iterator[str]:
    coverage = verdict.coverage
    if coverage.missing and verdict.findings:  # otherwise the first line has them
        yield f"required checks that did not run, or not completely: {', '.join(coverage.missing)}"
    for rate in verdict.rates:
        if rate.passed < rate.repeats:
            share = f"{rate.low:.0%} to {rate.high:.0%} with 95 % confidence"
            yield f"{rate.check} passed in {rate.passed} of {rate.repeats} repeats: {share}"
    yield from (f"not applicable: {check}: {reason}" for check, reason in coverage.not_applicable.items())
    yield from (f"could not be checked: {what}" for what in coverage.unchecked)


def _format_bundles(verdict: Verdict, folder: Path, shown: Shown) -> Iterator[str]:
    """Bundles that are not beside their finding, such as that of several tests; one of each cause."""
    known = [place for finding in verdict.findings for place in finding.places]
    known += [finding.where for finding in verdict.findings if not shown.has(finding)]
    beside = {_bundle_name(place) for place in known}
    others = [file for file in bundles(folder) if file.name not in beside]
    yield from (f"reproduce: bootproof replay {file}" for file in others[:_BUNDLES])
    if others[_BUNDLES:]:
        yield f"{len(others) - _BUNDLES} more bundles: {folder}/*{BUNDLE_SUFFIX}"


def _format_cost(cost: Cost) -> Iterator[str]:
    yield (
        f"time: {cost.prepared_s:.0f} s until the first test; {cost.boots} boots took {cost.boots_s:.0f} s, "
        f"{cost.clones} clones {cost.clones_s:.0f} s; cores {cost.cores_busy:.0%} busy"
    )
    longest = [f"{test.rpartition('::')[2]} {took_s:.0f} s" for test, took_s in cost.longest_s.items()]
    if longest:
        yield f"longest: {', '.join(longest)}"
