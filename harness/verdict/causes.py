"""One cause, one finding (DESIGN decision 15): which observations have the same cause. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from harness.core.errors import Blame
from harness.model.events import DependentTest
from harness.model.verdict import Finding

STATE_FAILED = "state-failed"
"""The id of the finding for tests whose state another test could not reach either."""

_DURATION = re.compile(r"\b\d+(\.\d+)? s\b")

Cause = tuple[str, Blame, str, str]


def cause_of(finding: Finding) -> Cause:
    """Equal for findings with the same cause: the same observation at two boots, whatever time each took.

    Tests make claims of their own, so findings at two tests are never equal.
    """
    return (
        finding.id,
        finding.blame,
        _DURATION.sub("N s", finding.what),
        finding.where if is_about_test(finding) else "",
    )


def is_about_test(finding: Finding) -> bool:
    """Whether the finding was made by a test; else a boot, a file or the image has it."""
    return "::" in finding.where


def one_per_cause(findings: Iterable[Finding], dependents: Iterable[DependentTest]) -> tuple[Finding, ...]:
    """Each cause once, with all its places and ``dependents``: the image's first, and boots before tests."""
    causes, tests = dict[Cause, Finding](), dict[Cause, dict[str, None]]()
    dependents = tuple(dependents)
    for finding in (*findings, *(dependent.finding for dependent in dependents)):
        known = causes.setdefault(cause_of(finding), finding)
        if finding.where not in (known.where, *known.places):
            causes[cause_of(finding)] = replace(known, places=(*known.places, finding.where))
    for dependent in dependents:
        cause = _origin(dependent.finding, causes)
        tests.setdefault(cause, {})[dependent.test] = None
        if cause != cause_of(dependent.finding):
            causes.pop(cause_of(dependent.finding), None)
    found = [replace(one, tests=tuple(dict.fromkeys([*one.tests, *tests.get(key, ())]))) for key, one in causes.items()]
    return tuple(sorted(found, key=lambda one: (list(Blame).index(one.blame), is_about_test(one))))


def _origin(finding: Finding, causes: dict[Cause, Finding]) -> Cause:
    """The cause of ``finding``: of a state that was not reached, what the first test reported that needed it."""
    if finding.id == STATE_FAILED:
        for cause, other in causes.items():
            if other.id != STATE_FAILED and finding.what in (other.what, *other.evidence):
                return cause
    return cause_of(finding)
