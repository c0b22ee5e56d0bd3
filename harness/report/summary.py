"""The verdict in GitHub-flavoured Markdown, for a job summary or a comment on a merge request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from harness.core.text import clean
from harness.model.verdict import Outcome, Verdict
from harness.report import findings, words
from harness.report.findings import Observation
from harness.report.page import PAGE

_SIGNS = {Outcome.PASSED: "✅", Outcome.FAILED: "❌", Outcome.INCONCLUSIVE: "⚠️"}
_FINDINGS = 10
_PLACES = 3
_EVIDENCE_LINES = 6
_LINE_CHARACTERS = 200
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+\-!|~&$^:])")
_CALLS = re.compile(r"([@#!])(?=\w)")
_JOINER = "\N{WORD JOINER}"


def markdown(verdict: Verdict, folder: Path) -> str:
    """A short summary; ``folder`` has the run's page. Nothing in it mentions a person or refers to an issue."""
    return "\n".join(_lines(verdict, folder)) + "\n"


def _lines(verdict: Verdict, folder: Path) -> Iterator[str]:
    yield f"### {_SIGNS[verdict.outcome]} {_text(words.name(verdict))}: {verdict.outcome}"
    yield f"\n{_text(words.why(verdict))}"
    yield f"\n{' · '.join(words.facts(verdict))}"
    groups = findings.by_blame(verdict.findings, {})
    seen = [observation for group in groups.values() for observation in group]
    for observation in seen[:_FINDINGS]:
        yield from _finding(observation)
    if seen[_FINDINGS:]:
        yield f"\n… and {len(seen) - _FINDINGS} more findings."
    yield from _unproven(verdict)
    yield f"\nReport: {_code(str(folder / PAGE))}"


def _finding(observation: Observation) -> Iterator[str]:
    finding = observation.finding
    where = [_code(where) for where, _ in observation.places[:_PLACES]]
    more = len(observation.places) - len(where)
    yield f"\n**{finding.blame}: {_text(finding.what)}** {_code(finding.id)}  "
    yield f"at {', '.join(where)}{f' and {more} more' if more else ''}"
    if finding.evidence:
        yield f"\n{_fenced(finding.evidence[-_EVIDENCE_LINES:])}"
    if finding.cause:
        yield f"\nSuspected cause: {_text(finding.cause)}"
    yield from (f"\n{_text(line)}." for line in words.dependents(finding))


def _unproven(verdict: Verdict) -> Iterator[str]:
    coverage = verdict.coverage
    for heading, checks in (("Failed", coverage.failed), ("Did not run", coverage.missing)):
        if checks:
            yield f"\n{heading}: {', '.join(map(_code, checks))}"
    if coverage.not_applicable:
        yield "\nNot applicable:\n"
        yield from (f"- {_code(check)}: {_text(reason)}" for check, reason in coverage.not_applicable.items())
    if coverage.unchecked:
        yield "\nCould not be checked:\n"
        yield from (f"- {_text(what)}" for what in coverage.unchecked)


def _text(text: str) -> str:
    """One line without Markdown syntax or mentions (GitHub looks for mentions after rendering)."""
    line = " ".join(clean(text).split())
    return _CALLS.sub(rf"\1{_JOINER}", _SPECIAL.sub(r"\\\1", line))


def _code(text: str) -> str:
    line = " ".join(clean(text).split())
    fence = "`" * (_longest_run(line) + 1)
    return f"{fence} {line} {fence}" if "`" in line else f"{fence}{line}{fence}"


def _fenced(lines: tuple[str, ...]) -> str:
    text = "\n".join(line[:_LINE_CHARACTERS] for line in map(clean, lines))
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}text\n{text}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)
