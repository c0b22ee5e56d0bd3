"""Sentences that the page, the summary and the annotations share."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from harness.core.errors import Blame
from harness.model.finding_catalog import next_step
from harness.model.guest_contract import KVM
from harness.model.verdict import Coverage, Finding, Outcome, Verdict

_EVIDENCE_LINES = 6
_PLACES = 3


def name(verdict: Verdict) -> str:
    """What the verdict is about: the image, its version and, if it is about a part of a run only, which one."""
    part = f", {verdict.parts[0]}" if verdict.is_partial and len(verdict.parts) == 1 else ""
    return f"{verdict.image} {verdict.version}{part}"


def parts(verdict: Verdict) -> dict[str, str]:
    """Which host ran each part, and how it ended; empty for a run of one host."""
    return {
        str(part): f"{part.host}: {part.outcome}, {part.elapsed_s:,.0f} s" for part in verdict.parts if part.outcome
    }


def headline(verdict: Verdict) -> str:
    """The outcome and its cause: what the first finding says, or what did not run."""
    outcome = f"{name(verdict)}: {verdict.outcome.upper()}"
    if verdict.outcome is Outcome.PASSED:
        return outcome
    if verdict.findings:
        first, others = verdict.findings[0], len(verdict.findings) - 1
        more = f" (+ {others} more finding{'s' if others > 1 else ''})" if others else ""
        return f"{outcome}: {first.what} [{first.id}]{more}"
    coverage = verdict.coverage
    problems = [f"failed: {', '.join(coverage.failed)}"] if coverage.failed else []
    problems += [f"did not run, or not completely: {', '.join(coverage.missing)}"] if coverage.missing else []
    return f"{outcome}: required checks {'; '.join(problems)}" if problems else outcome


def details(finding: Finding) -> Iterator[str]:
    """Where a finding was made, the last lines of its evidence, its suspected cause and the next step, a line each."""
    places = (finding.where, *finding.places)
    more = f"; and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
    yield f"where: {'; '.join(places[:_PLACES])}{more}"
    yield from (f"| {line}" for line in finding.evidence[-_EVIDENCE_LINES:])
    if finding.cause:
        yield f"cause: {finding.cause}"
    if step := next_step(finding.id):
        yield f"next: {step}"


def dependents(finding: Finding, ran: Collection[str] = ()) -> Iterator[str]:
    """How many tests did not run, and how many of those that ``ran`` failed, because of the finding's cause."""
    failed = sum(test in ran for test in finding.tests)
    waiting = len(finding.tests) - failed
    if waiting:
        needs = "tests need" if waiting > 1 else "test needs"
        yield f"{waiting} {needs} {_needed(finding)} and did not run"
    if failed:
        yield f"{failed} test{'s' if failed > 1 else ''} failed because of it"


def _needed(finding: Finding) -> str:
    if ", boot " in finding.where:
        return "a booted machine"
    return finding.where.replace("state ", "the state ", 1) if finding.where.startswith("state ") else "this"


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


def boots_ready(verdict: Verdict) -> str:
    """How many boots became ready, and how many did not begin at power-on."""
    ready = sum(boot.ready_s is not None for boot in verdict.boots)
    begun = sum(bool(boot.begins) for boot in verdict.boots)
    aside = f" ({begun} begun in the initrd)" if begun else ""
    return f"{ready} of {len(verdict.boots)} boots became ready{aside}"


def facts(verdict: Verdict) -> tuple[str, ...]:
    """The figures of a run, one phrase each."""
    coverage = verdict.coverage
    return (
        checks_passed(coverage),
        boots_ready(verdict),
        *((f"{coverage.power_cuts:,} power-cut states checked",) if coverage.power_cuts else ()),
        f"{verdict.elapsed_s:,.0f} s",
    )


_FOR_GUESTS = {
    "machine_types": "machine types",
    "cpu_models": "CPU models",
    "firmware": "files of firmware",
    "devices": "devices",
    "capabilities": "domain capabilities",
    "kvm": "KVM",
}


def guests(verdict: Verdict) -> dict[str, str]:
    """What the image offers to guests, in short, and what could not be looked at; empty for an image without QEMU."""
    offered = verdict.guests
    if offered is None or not offered.programs:
        return {}
    counts = {
        title: f"{len(getattr(offered, kind)):,}"
        for kind, title in _FOR_GUESTS.items()
        if kind != KVM and kind not in offered.unknown
    }
    aliases = {name: said for name, said in offered.machine_types.items() if said.startswith("alias of ")}
    unknown = {_FOR_GUESTS[kind]: f"not known: {why}" for kind, why in offered.unknown.items()}
    return {**offered.programs, **counts, **aliases, **unknown}
