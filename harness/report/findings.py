"""Findings by blame; a finding at many places is one observation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from harness.core.errors import Blame
from harness.model.verdict import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """``finding`` is the first of its kind; ``places`` are pairs of where it was made and a link into a log, or ""."""

    finding: Finding
    places: tuple[tuple[str, str], ...]


def by_blame(findings: Iterable[Finding], links: Mapping[Finding, str]) -> dict[Blame, tuple[Observation, ...]]:
    """The image's findings first, because they outrank the others."""
    same: dict[Finding, list[Finding]] = {}
    for finding in findings:
        same.setdefault(replace(finding, where="", evidence=()), []).append(finding)
    seen = [
        Observation(finding=alike[0], places=tuple((finding.where, links.get(finding, "")) for finding in alike))
        for alike in same.values()
    ]
    groups = {blame: tuple(one for one in seen if one.finding.blame is blame) for blame in Blame}
    return {blame: group for blame, group in groups.items() if group}
