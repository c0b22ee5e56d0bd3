"""Says from an image's files, before any boot, what is wrong with it: ``bootproof lint`` and the required check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime

from harness.lint import boot, declared, leftovers, own_programs, secrets, settings, sizes, unit_settings, units
from harness.lint.finding import Findings, LintFailed, LintFinding, Severity, allowance_of, allowed, unused
from harness.lint.image import Image, opened_root, read_image
from harness.lint.tree import Stage
from harness.model.artifacts import Artifacts
from harness.model.definition import Allowance, ImageDefinition

__all__ = ["LintFailed", "LintFinding", "LintReport", "Severity", "check", "lint"]

Check = Callable[[Image], Iterator[LintFinding]]

_CLASSES = (boot, units, unit_settings, settings, leftovers, secrets, declared, sizes)
BY_NAMES: tuple[Check, ...] = tuple(check for module in _CLASSES for check in module.BY_NAMES)
"""They need the names, modes and owners of the root's files only, so they come first."""
BY_TEXTS: tuple[Check, ...] = tuple(check for module in _CLASSES for check in module.BY_TEXTS)
"""They need the texts of settings, units and package databases besides, which are read ahead."""
BY_CONTENTS: tuple[Check, ...] = tuple(check for module in _CLASSES for check in module.BY_CONTENTS)
"""They need all files, or the initrd."""
IN_PASSING: tuple[Check, ...] = (boot.scripts, boot.programs, boot.packages, secrets.keys)
"""Those of them that find a part of it among the files so far."""
_EARLY = {Stage.NAMES: BY_NAMES, Stage.TEXTS: BY_TEXTS, Stage.PASSING: IN_PASSING}
_MOST_OF_ONE_KIND = 50
"""Further findings with one id are counted: a hostile image could have millions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LintReport(Findings):
    """The findings about a build."""

    image: str
    version: str
    artifacts: str


@dataclass
class _Collector:
    """Applies allowances, and drops repetitions and what exceeds the bound of one kind."""

    allow: tuple[Allowance, ...]
    today: date
    show: Callable[[LintFinding], None]
    found: list[LintFinding] = field(default_factory=list)
    seen: set[tuple[str, str, str]] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    more: dict[tuple[str, str], int] = field(default_factory=dict)
    used: set[Allowance] = field(default_factory=set)

    def examine(self, checks: tuple[Check, ...], image: Image) -> None:
        for one in checks:
            more = self.add_all(one(image))
            self.more.update({(one.__name__, name): count for name, count in more.items()})

    def add_all(self, findings: Iterable[LintFinding]) -> Counter[str]:
        """How many of each kind are more than are shown."""
        return Counter(finding.id for finding in findings if not self.add(self._allowed(finding)))

    def add(self, finding: LintFinding) -> bool:
        """False for one more of a kind than are shown."""
        key = (finding.id, finding.path, finding.what)
        if key in self.seen:
            return True
        if self.counts[finding.id] >= _MOST_OF_ONE_KIND:
            return False
        self.counts[finding.id] += 1
        self.seen.add(key)
        self.found.append(finding)
        self.show(finding)
        return True

    def _allowed(self, finding: LintFinding) -> LintFinding:
        allowance = allowance_of(finding, self.allow)
        if allowance:
            self.used.add(allowance)
        return allowed(finding, allowance, self.today)

    def unchecked(self) -> Iterator[str]:
        more = Counter[str]()
        for (_, name), count in self.more.items():
            more[name] += count
        yield from (f"{count:,} more findings {name} are not shown" for name, count in more.items())


def lint(
    artifacts: Artifacts,
    definition: ImageDefinition | None = None,
    *,
    previous: Artifacts | None = None,
    today: date | None = None,
    show: Callable[[LintFinding], None] = lambda _: None,
) -> LintReport:
    """Examine ``artifacts``; ``show`` gets each finding as soon as it is made.

    `UsageError` for a root file system that is not read file by file, `ImageError` for a damaged one.
    """
    collector = _Collector(
        definition.lint_allow if definition else (), today or datetime.now().astimezone().date(), show
    )
    with opened_root(artifacts) as root:
        image = read_image(
            artifacts, root, definition, previous, lambda stage, early: collector.examine(_EARLY[stage], early)
        )
        collector.examine(BY_CONTENTS, image)
        said = own_programs.examine(image, root.read_files, collector.found)
    collector.add_all(said.findings)
    for allowance in collector.allow:
        if allowance not in collector.used:
            collector.add(unused(allowance))
    manifest = artifacts.manifest
    return LintReport(
        image=manifest.image,
        version=manifest.version,
        artifacts=artifacts.digest,
        findings=tuple(collector.found),
        unchecked=(*collector.unchecked(), *said.unchecked, *_unchecked(image)),
    )


def check(image: Image) -> list[LintFinding]:
    """All findings about a value; nothing is read."""
    collector = _Collector((), date.max, lambda _: None)
    collector.examine((*BY_NAMES, *BY_TEXTS, *BY_CONTENTS), image)
    return collector.found


def _unchecked(image: Image) -> Iterator[str]:
    if not image.definition:
        yield "what the definition demands: no definition of this image was found"
    if not image.manifest.is_ours:
        yield (
            "whether os-release has the name and version of the build, and persistent paths are links: "
            "another builder made it"
        )
    if not image.previous:
        yield "growth, and the numbers of users and groups: there is no previous version to compare with"
    if not image.sums:
        yield "files that differ from their packages: no package database with digests was found"
