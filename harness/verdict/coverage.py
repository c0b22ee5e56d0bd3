"""Required checks: which an image has, which of them passed, and the outcome. Pure functions of values."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum

from harness.core.errors import Blame
from harness.core.statistics import share_interval
from harness.model.definition import ImageDefinition
from harness.model.events import ReportedTest
from harness.model.verdict import Coverage, Finding, Outcome, Rate


class Result(StrEnum):
    """The result of one test over setup, call and teardown."""

    PASSED = "passed"
    FAILED = "failed"
    MISSING = "missing"  # planned, but skipped, deselected, crashed or never reached


FLAKE = "flake"
"""The id of the finding for a test that both passed and failed."""

HARDWARE = "hardware"
THOROUGH = ("power-cuts", "disk-faults", "upgrades", "ordering")
NETWORK_FAULTS = "network-faults"
_BY_PATH = {"/etc/libvirt": "libvirt", "/var/lib/libvirt": "libvirt", "/etc/openvswitch": "openvswitch"}
_ALWAYS = ("image", "services", "waiting", "sockets", "links", "ssh", "identity", "survival")

_REPEAT = re.compile(r"-(repeat~\d+)(?=[\]-])")
"""No name of an image has a tilde."""


def known_checks() -> frozenset[str]:
    """Every name that a verdict may have in its coverage, except ``boot:PATH``."""
    return frozenset((*_ALWAYS, *THOROUGH, HARDWARE, NETWORK_FAULTS, *_BY_PATH.values()))


def results_of(reported: Iterable[ReportedTest]) -> dict[str, Result]:
    """Each test that ran: it passed if its call passed and nothing around it failed."""
    results: dict[str, Result] = {}
    for part in reported:
        if part.outcome == "failed":
            results[part.test] = Result.FAILED
        elif part.outcome == "passed" and part.when == "call":
            results.setdefault(part.test, Result.PASSED)
    return results


def required_checks(definition: ImageDefinition, *, is_thorough: bool = False) -> tuple[str, ...]:
    """The names of the checks that this image must pass, as ``@pytest.mark.check`` gives them."""
    absent = {
        "waiting": not definition.waiting,
        "sockets": not definition.sockets,
        "services": not definition.services,
        "links": not definition.persistent_paths,
    }
    names = [name for name in _ALWAYS if not absent.get(name, False)]
    names += [f"boot:{path}" for path in definition.boot_paths]
    names += THOROUGH if is_thorough and definition.persistent_paths else ()
    names += [NETWORK_FAULTS] if is_thorough and definition.tolerated_network_faults else []
    names += [HARDWARE] if is_thorough and definition.hardware else []
    names += [check for path, check in _BY_PATH.items() if path in definition.persistent_paths]
    return tuple(dict.fromkeys(names))


def cover(
    definition: ImageDefinition,
    boot_paths: Iterable[str],
    planned: Mapping[str, Collection[str]],
    results: Mapping[str, Result],
    booted: Collection[str],
    *,
    is_thorough: bool = False,
) -> Coverage:
    """Which required checks passed: each needs at least one test, and all of its planned tests must pass.

    ``planned`` maps a test's id to its checks, as collected before anything was deselected; ``results`` maps
    the ids of tests that ran to their results. ``booted`` are the boot paths on which the image under
    test became ready: a ``boot:`` check needs no test, the boot proves it.
    """
    passed, failed, missing = [], [], []
    failed_tests, flaky = dict[str, tuple[str, ...]](), flakes(results)
    for check in required_checks(definition, is_thorough=is_thorough):
        outcome_of = {test: results.get(test, Result.MISSING) for test, checks in planned.items() if check in checks}
        outcomes = list(outcome_of.values())
        if check.startswith("boot:"):
            outcomes = [Result.PASSED] if check.removeprefix("boot:") in booted else []
        if Result.FAILED in outcomes:
            failed.append(check)
            failed_tests[check] = tuple(test for test, result in outcome_of.items() if result is Result.FAILED)
        elif not outcomes or Result.MISSING in outcomes:
            missing.append(check)
        else:
            passed.append(check)
    failures = [test for test, result in results.items() if result is Result.FAILED]
    return Coverage(
        boot_paths=tuple(boot_paths),
        passed=tuple(passed),
        failed=tuple(failed),
        missing=tuple(missing),
        failed_tests=failed_tests,
        flaky_tests=tuple(test for test in failures if without_repeat(test)[0] in flaky),
    )


def without_repeat(test: str) -> tuple[str, str]:
    """A test's id without its repeat, and the name of its repeat: "repeat~2"; empty if there is none."""
    name, bracket, arguments = test.partition("[")
    found = _REPEAT.search(arguments)
    return (name + bracket + _REPEAT.sub("", arguments, count=1), found[1]) if found else (test, "")


def rates(planned: Mapping[str, Collection[str]], results: Mapping[str, Result]) -> tuple[Rate, ...]:
    """How often each check passed, of the repeats of all its tests."""
    held: dict[str, dict[str, bool]] = {}
    for test, checks in planned.items():
        repeat = without_repeat(test)[1]
        for check in checks if repeat else ():
            repeats = held.setdefault(check, {})
            repeats[repeat] = repeats.get(repeat, True) and results.get(test) is Result.PASSED
    found = []
    for check, repeats in held.items():
        passed, count = sum(repeats.values()), len(repeats)
        low, high = share_interval(passed, count)
        found.append(Rate(check=check, passed=passed, repeats=count, low=low, high=high))
    return tuple(found)


def flakes(results: Mapping[str, Result]) -> dict[str, dict[str, Result]]:
    """The results by repeat of each test that both passed and failed."""
    found: dict[str, dict[str, Result]] = {}
    for test, result in results.items():
        base, repeat = without_repeat(test)
        if repeat:
            found.setdefault(base, {})[repeat] = result
    return {base: row for base, row in found.items() if {Result.PASSED, Result.FAILED} <= set(row.values())}


def decide(findings: Iterable[Finding], coverage: Coverage) -> Outcome:
    """One proven failure of the image outranks everything; an unproven check makes the verdict inconclusive."""
    blames = {finding.blame for finding in findings}
    if Blame.IMAGE in blames:
        return Outcome.FAILED
    if blames or coverage.missing or coverage.failed:
        return Outcome.INCONCLUSIVE
    return Outcome.PASSED
