"""What lint found: a value for each observation, and the makers that the checks use."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

from harness.core.errors import ImageError
from harness.core.text import escaped
from harness.model.definition import Allowance
from harness.model.finding_catalog import explanations, next_step
from harness.model.verdict import Finding

_MOST_OF_ONE_KIND = 50
_MOST_EVIDENCE = 6
_MOST_CHARACTERS = 200


class LintFailed(ImageError):
    """Lint found something that fails: ``finding`` is the first."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding)
        self.finding = finding

    def __str__(self) -> str:
        return f"{self.finding.what} [{self.finding.id}]"


class Severity(StrEnum):
    FAILS = "fails"
    WARNS = "warns"


@dataclass(frozen=True, slots=True, kw_only=True)
class LintFinding:
    """One observation about a ``path`` of the root file system; those of the initrd begin with "initrd:".

    ``allowed`` is the reason that the definition gives for it; empty if it gives none. All texts are printable.
    """

    id: str
    path: str
    what: str
    severity: Severity
    evidence: tuple[str, ...] = ()
    cause: str = ""
    next: str = ""
    allowed: str = ""

    @property
    def does_fail(self) -> bool:
        return self.severity is Severity.FAILS and not self.allowed

    def as_verdict_finding(self, where: str = "the image's files") -> Finding:
        what = f"{self.path}: {self.what}"
        return Finding(id=self.id, what=what, where=where, evidence=self.evidence, cause=self.cause)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What an examination found; ``unchecked`` has a sentence for each thing that could not be examined."""

    findings: tuple[LintFinding, ...]
    unchecked: tuple[str, ...] = ()

    @property
    def failing(self) -> tuple[LintFinding, ...]:
        return tuple(finding for finding in self.findings if finding.does_fail)

    @property
    def warning(self) -> tuple[LintFinding, ...]:
        return tuple(one for one in self.findings if one.severity is Severity.WARNS and not one.allowed)


def allowance_of(finding: LintFinding, allowances: Iterable[Allowance]) -> Allowance | None:
    """The first of the ``allowances`` that is about the path of ``finding``; in its path, * stands for any text."""
    for allowance in allowances:
        if re.fullmatch(".*".join(map(re.escape, allowance.path.split("*"))), finding.path, re.DOTALL):
            return allowance
    return None


def allowed(finding: LintFinding, allowance: Allowance | None, today: date) -> LintFinding:
    """``finding`` as the ``allowance`` leaves it: one that has expired only says so."""
    if allowance is None:
        return finding
    if not allowance.until or today <= allowance.until:
        return replace(finding, allowed=allowance.reason)
    return replace(finding, cause=f"it was allowed until {allowance.until}: {allowance.reason}")


def as_allowed(
    found: Sequence[LintFinding], allowances: Sequence[Allowance], own: Sequence[Allowance], today: date
) -> Findings:
    """All that was ``found``, as the ``allowances`` leave it, but not too many of one kind; and a warning for each of
    the ``own`` allowances that nothing needs."""
    allowance_for = {finding: allowance_of(finding, allowances) for finding in found}
    counts, shown = Counter[str](), list[LintFinding]()
    for finding in found:
        counts[finding.id] += 1
        if counts[finding.id] <= _MOST_OF_ONE_KIND:
            shown.append(allowed(finding, allowance_for[finding], today))
    more = (
        f"{count - _MOST_OF_ONE_KIND:,} more findings {name} are not shown"
        for name, count in counts.items()
        if count > _MOST_OF_ONE_KIND
    )
    needless = [unused(one) for one in own if one not in allowance_for.values()]
    return Findings(findings=(*shown, *needless), unchecked=tuple(more))


def unused(allowance: Allowance) -> LintFinding:
    """The warning about an allowance that no finding needs."""
    return warns("allowance-unused", allowance.path, "the definition allows findings about this, and there are none")


def fails(name: str, path: str, what: str, *evidence: str, cause: str = "") -> LintFinding:
    """A finding that hosts notice. ``path`` has no first slash, as in a tree."""
    return _finding(Severity.FAILS, name, path, what, evidence, cause)


def warns(name: str, path: str, what: str, *evidence: str, cause: str = "") -> LintFinding:
    """A finding that is a risk, or a matter of taste."""
    return _finding(Severity.WARNS, name, path, what, evidence, cause)


def _finding(severity: Severity, name: str, path: str, what: str, evidence: tuple[str, ...], cause: str) -> LintFinding:
    known = explanations().get(name)
    return LintFinding(
        id=name,
        path=escaped(path if ":" in path.partition("/")[0] else f"/{path.lstrip('/')}"),
        what=escaped(what[: 2 * _MOST_CHARACTERS]),
        severity=severity,
        evidence=tuple(escaped(line[:_MOST_CHARACTERS]) for line in evidence[:_MOST_EVIDENCE] if line),
        cause=escaped(cause) or (known.usual[0] if known else ""),
        next=next_step(name),
    )
