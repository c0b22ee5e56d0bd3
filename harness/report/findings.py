"""Findings by blame; a finding at many places is one observation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from harness.core.errors import Blame
from harness.model.verdict import Finding

Place = tuple[Finding, str]
"""A finding, and one of the places where it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """``finding`` is the first of its kind, with the tests of all; ``places`` are pairs of where it was made and a link
    into a log, or ""."""

    finding: Finding
    places: tuple[tuple[str, str], ...]


def by_blame(findings: Iterable[Finding], links: Mapping[Place, str]) -> dict[Blame, tuple[Observation, ...]]:
    """The image's findings first, because they outrank the others."""
    same: dict[Finding, list[Finding]] = {}
    for finding in findings:
        same.setdefault(replace(finding, where="", evidence=(), tests=(), places=()), []).append(finding)
    seen = [
        Observation(
            finding=replace(alike[0], tests=tuple(dict.fromkeys(test for finding in alike for test in finding.tests))),
            places=tuple((place, links.get((finding, place), "")) for finding in alike for place in _places(finding)),
        )
        for alike in same.values()
    ]
    groups = {blame: tuple(one for one in seen if one.finding.blame is blame) for blame in Blame}
    return {blame: group for blame, group in groups.items() if group}


def _places(finding: Finding) -> tuple[str, ...]:
    return finding.where, *finding.places
