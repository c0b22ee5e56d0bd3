"""What several runs of the same bytes prove together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

from harness.core.errors import Blame
from harness.model.verdict import Coverage, Outcome, RuntimeProfile, Verdict


def unite(runs: Sequence[Verdict]) -> Verdict:
    """The verdict of ``runs``, at least one: each must be about the same bytes, and each boot counts.

    A check that failed in one run has failed; one that passed in a run, and failed in none, has passed. Every finding
    stays.
    """
    first = runs[0]
    if len(runs) == 1:
        return first
    coverage = _coverage([run.coverage for run in runs])
    findings = tuple(finding for run in runs for finding in run.findings)
    if any(run.outcome is Outcome.FAILED for run in runs):
        outcome = Outcome.FAILED
    elif coverage.missing or any(finding.blame is not Blame.IMAGE for finding in findings):
        outcome = Outcome.INCONCLUSIVE
    else:
        outcome = Outcome.PASSED
    boots = (
        replace(boot, machine=f"run-{number}/{boot.machine}")  # the runs' machines have the same names
        for number, run in enumerate(runs, 1)
        for boot in run.boots
    )
    profiles = [run.runtime_profile for run in runs if run.runtime_profile]
    return replace(
        first,
        outcome=outcome,
        findings=findings,
        coverage=coverage,
        boots=tuple(boots),
        runtime_profile=_profile(profiles) if profiles else None,
    )


def _coverage(of: Sequence[Coverage]) -> Coverage:
    failed = _once(one.failed for one in of)
    passed = [check for check in _once(one.passed for one in of) if check not in failed]
    reasons = {check: reason for one in of for check, reason in one.not_applicable.items()}
    not_applicable = {check: reason for check, reason in reasons.items() if check not in (*failed, *passed)}
    known = {*failed, *passed, *not_applicable}
    return Coverage(
        boot_paths=tuple(_once(one.boot_paths for one in of)),
        passed=tuple(passed),
        failed=tuple(failed),
        missing=tuple(check for check in _once(one.missing for one in of) if check not in known),
        not_applicable=not_applicable,
        unchecked=tuple(_once(one.unchecked for one in of)),
        power_cuts=sum(one.power_cuts for one in of),
        failed_tests={check: tuple(_once(one.failed_tests.get(check, ()) for one in of)) for check in failed},
        flaky_tests=tuple(_once(one.flaky_tests for one in of)),
    )


def _profile(of: Sequence[RuntimeProfile]) -> RuntimeProfile:
    """Every socket and unit that a run has seen, and what the first that knows says of the host and its guests."""
    units = {name: unit for one in reversed(of) for name, unit in one.units.items()}
    hosts = [one.host for one in of if one.host]
    host = next((one for one in hosts if one.guests), hosts[0] if hosts else None)
    return replace(of[0], sockets=tuple(_once(one.sockets for one in of)), units=units, host=host)


def _once(of: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(chain.from_iterable(of)))
