"""The gate: what has to be proven of an image, and what the results mean. Pure functions of values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum

from harness.definition import ImageDefinition
from harness.errors import Subject
from harness.verdict import Coverage, Finding, Outcome


class Result(StrEnum):
    """What became of one test."""

    PASSED = "passed"
    FAILED = "failed"
    MISSING = "missing"  # planned, but skipped, deselected, crashed or never reached


_BY_PATH = {"/etc/libvirt": "libvirt", "/var/lib/libvirt": "libvirt", "/etc/openvswitch": "openvswitch"}


_THOROUGH = ("power-cuts", "disk-faults", "upgrades", "ordering")


def required_checks(definition: ImageDefinition, *, is_thorough: bool = False) -> tuple[str, ...]:
    """The names of the checks that this image must pass, as ``@pytest.mark.check`` gives them."""
    names = ["image", "services", "waiting", "sockets", "links", "ssh", "identity", "survival"]
    absent = {
        "waiting": not definition.waiting,
        "sockets": not definition.sockets,
        "services": not definition.services,
        "links": not definition.persistent_paths,
    }
    names = [name for name in names if not absent.get(name, False)]
    names += [f"boot:{path}" for path in definition.boot_paths]
    names += _THOROUGH if is_thorough and definition.persistent_paths else ()
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
    """Which required checks hold: each needs at least one test, and all of its planned tests to have passed.

    ``planned`` maps a test's id to its checks, as collected before anything was deselected; ``results`` maps
    the ids of those that ran to what became of them. ``booted`` are the boot paths on which the image under
    test became ready: a ``boot:`` check needs no test, it is proven by the boot.
    """
    passed, failed, missing = [], [], []
    for check in required_checks(definition, is_thorough=is_thorough):
        outcomes = [results.get(test, Result.MISSING) for test, checks in planned.items() if check in checks]
        if check.startswith("boot:"):
            outcomes = [Result.PASSED] if check.removeprefix("boot:") in booted else []
        if Result.FAILED in outcomes:
            failed.append(check)
        elif not outcomes or Result.MISSING in outcomes:
            missing.append(check)
        else:
            passed.append(check)
    return Coverage(boot_paths=tuple(boot_paths), passed=tuple(passed), failed=tuple(failed), missing=tuple(missing))


def decide(findings: Iterable[Finding], coverage: Coverage) -> Outcome:
    """One proven failure of the image outranks everything; what was not proven is inconclusive."""
    subjects = {finding.subject for finding in findings}
    if Subject.IMAGE in subjects:
        return Outcome.FAILED
    if subjects or coverage.missing or coverage.failed:
        return Outcome.INCONCLUSIVE
    return Outcome.PASSED
