"""Required checks: which an image has, which of them passed, and the outcome. Pure functions of values."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from itertools import chain
from types import MappingProxyType

from harness.core.errors import Blame
from harness.core.statistics import share_interval
from harness.model.definition import KEEPS_NOTHING, ImageDefinition
from harness.model.events import ReportedTest
from harness.model.verdict import Coverage, Finding, Outcome, Rate


class Result(StrEnum):
    """The result of one test over setup, call and teardown."""

    PASSED = "passed"
    FAILED = "failed"
    MISSING = "missing"  # planned, but skipped, deselected, crashed or never reached
    NOT_APPLICABLE = "not applicable"  # the test ran and gave a reason why it could not look


FLAKE = "flake"
"""The id of the finding for a test that both passed and failed."""

HARDWARE = "hardware"
SOAK = "soak"
THOROUGH = ("power-cuts", "disk-faults", "upgrades", "ordering", SOAK)
NETWORK_FAULTS = "network-faults"
RULES = "rules"
GUESTS = "guests"
GUESTS_MIGRATE = "guests-migrate"
NOVA = "nova"
_OF_LIBVIRT = ("libvirt", GUESTS)
_BY_PATH = {"/etc/libvirt": _OF_LIBVIRT, "/var/lib/libvirt": _OF_LIBVIRT, "/etc/openvswitch": ("openvswitch",)}
ABOUT_DATA = ("links", "power-cuts", "disk-faults")
"""Checks that are not applicable to an image without persistent paths, whatever their tests say."""
_ALWAYS = ("lint", "image", "services", "waiting", "sockets", "links", "ssh", "host", "identity", "survival")

_NO_REASONS: Mapping[str, str] = MappingProxyType({})
_REPEAT = re.compile(r"-(repeat~\d+)(?=[\]-])")
"""No name of an image has a tilde."""


def known_checks() -> frozenset[str]:
    """Every name that a verdict may have in its coverage, except ``boot:PATH``."""
    return frozenset(
        (*_ALWAYS, *THOROUGH, RULES, HARDWARE, NETWORK_FAULTS, NOVA, GUESTS_MIGRATE, *chain(*_BY_PATH.values()))
    )


def results_of(reported: Iterable[ReportedTest]) -> dict[str, Result]:
    """Each test that ran: it passed if its call passed and nothing around it failed.

    A test that said "not applicable" in setup or call, and did not fail, has that result.
    """
    results: dict[str, Result] = {}
    for part in reported:
        if part.outcome == "failed":
            results[part.test] = Result.FAILED
        elif part.outcome == "passed" and part.when == "call":
            results.setdefault(part.test, Result.PASSED)
        elif part.not_applicable:
            results.setdefault(part.test, Result.NOT_APPLICABLE)
    return results


def reasons_of(reported: Iterable[ReportedTest]) -> dict[str, str]:
    """Each test that said "not applicable", with its reason."""
    return {part.test: part.not_applicable for part in reported if part.not_applicable}


def required_checks(definition: ImageDefinition, *, is_thorough: bool = False) -> tuple[str, ...]:
    """The names of the checks that a verdict on this image has, as ``@pytest.mark.check`` gives them."""
    absent = {
        "waiting": not definition.waiting,
        "sockets": not definition.sockets,
        "services": not definition.services,
    }
    names = [name for name in _ALWAYS if not absent.get(name, False)]
    names += [RULES] if definition.checks or definition.goss else []
    names += [f"boot:{path}" for path in definition.boot_paths]
    names += THOROUGH if is_thorough else ()
    names += [NETWORK_FAULTS] if is_thorough and definition.tolerated_network_faults else []
    names += [NOVA] if is_thorough and definition.control_plane else []
    names += [HARDWARE] if is_thorough and definition.hardware else []
    names += [check for path, checks in _BY_PATH.items() if path in definition.persistent_paths for check in checks]
    names += [GUESTS_MIGRATE] if is_thorough and GUESTS in names else []
    return tuple(dict.fromkeys(names))


def cover(
    definition: ImageDefinition,
    boot_paths: Iterable[str],
    planned: Mapping[str, Collection[str]],
    results: Mapping[str, Result],
    booted: Collection[str],
    *,
    reasons: Mapping[str, str] = _NO_REASONS,
    is_thorough: bool = False,
) -> Coverage:
    """Which required checks passed: each needs at least one test, and all of its planned tests must pass.

    ``planned`` maps a test's id to its checks, as collected before anything was deselected; ``results`` maps
    the ids of tests that ran to their results. ``booted`` are the boot paths on which the image under
    test became ready: a ``boot:`` check needs no test, the boot proves it. ``reasons`` maps the tests that were not
    applicable to their reasons.

    The worst result of a check's tests decides: failed, missing, then passed. A check is not applicable if all its
    tests are; one of which a part is not applicable has passed, and ``unchecked`` names that part.
    """
    passed, failed, missing = [], [], []
    not_applicable = dict[str, str]()
    failed_tests, flaky = dict[str, tuple[str, ...]](), flakes(results)
    required = required_checks(definition, is_thorough=is_thorough)
    for check in required:
        outcome_of = {test: results.get(test, Result.MISSING) for test, checks in planned.items() if check in checks}
        outcomes = list(outcome_of.values())
        if check.startswith("boot:"):
            outcomes = [Result.PASSED] if check.removeprefix("boot:") in booted else []
        if Result.FAILED in outcomes:
            failed.append(check)
            failed_tests[check] = tuple(test for test, result in outcome_of.items() if result is Result.FAILED)
        elif not outcomes and check in ABOUT_DATA and not definition.persistent_paths:
            not_applicable[check] = KEEPS_NOTHING
        elif not outcomes or Result.MISSING in outcomes:
            missing.append(check)
        elif Result.PASSED in outcomes:
            passed.append(check)
        else:
            not_applicable[check] = "; ".join(dict.fromkeys(reasons[test] for test in outcome_of))
    failures = [test for test, result in results.items() if result is Result.FAILED]
    return Coverage(
        boot_paths=tuple(boot_paths),
        passed=tuple(passed),
        failed=tuple(failed),
        missing=tuple(missing),
        not_applicable=not_applicable,
        unchecked=tuple(_unchecked(planned, required, reasons, examined=(*passed, *failed))),
        failed_tests=failed_tests,
        flaky_tests=tuple(test for test in failures if without_repeat(test)[0] in flaky),
    )


def of_part(coverage: Coverage, planned: Mapping[str, Collection[str]]) -> Coverage:
    """The coverage of a part of a run, whose tests are ``planned``: checks of other parts are not missing here."""
    own = {check for checks in planned.values() for check in checks}
    return replace(coverage, missing=tuple(check for check in coverage.missing if check in own))


def _unchecked(
    planned: Mapping[str, Collection[str]],
    required: Sequence[str],
    reasons: Mapping[str, str],
    *,
    examined: Collection[str],
) -> Iterator[str]:
    """A sentence for each reason that a test gave, with the ``examined`` ones of its required checks.

    None for a test whose required checks are all missing or not applicable: the verdict lists these.
    """
    tests = dict[tuple[str, str], list[str]]()
    for test, reason in reasons.items():
        checks = [check for check in required if check in planned.get(test, ())]
        parts = [check for check in checks if check in examined]
        if parts or not checks:
            name = without_repeat(test)[0].rpartition("::")[2]
            tests.setdefault((", ".join(parts), reason), []).append(name)
    for (named, reason), names in tests.items():
        yield f"{named or 'a test'}, in part: {reason} ({', '.join(dict.fromkeys(names))})"


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
        for check in checks if repeat and results.get(test) is not Result.NOT_APPLICABLE else ():
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


def decide(findings: Iterable[Finding], coverage: Coverage, *, is_partial: bool = False) -> Outcome:
    """One proven failure of the image outranks everything; an unproven check makes the verdict inconclusive.

    A check that is not applicable changes nothing, but a verdict without any passed check is not passed, except that of
    a part of a run.
    """
    blames = {finding.blame for finding in findings}
    if Blame.IMAGE in blames:
        return Outcome.FAILED
    if blames or coverage.missing or coverage.failed or not (coverage.passed or is_partial):
        return Outcome.INCONCLUSIVE
    return Outcome.PASSED
