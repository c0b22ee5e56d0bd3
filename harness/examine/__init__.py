"""Examines a host that runs: whether what came up is fit for its work. The check ``host``."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime

from harness.examine import access, clock, journal, network, processes, settings, sockets, storage, units
from harness.examine.finding import HostFaulty
from harness.examine.host import HostReading, read_host, unchecked
from harness.guest.channel import Channel
from harness.lint.finding import LintFinding, Severity, warns
from harness.model.definition import Allowance, ImageDefinition

__all__ = ["HostFaulty", "HostReading", "HostReport", "examine", "judge", "read_host"]

_MOST_OF_ONE_KIND = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """``unchecked`` has a sentence for each thing that could not be examined."""

    findings: tuple[LintFinding, ...]
    unchecked: tuple[str, ...] = ()

    @property
    def failing(self) -> tuple[LintFinding, ...]:
        return tuple(finding for finding in self.findings if finding.does_fail)

    @property
    def warning(self) -> tuple[LintFinding, ...]:
        return tuple(one for one in self.findings if one.severity is Severity.WARNS and not one.allowed)


def examine(
    channel: Channel, definition: ImageDefinition, *, resolves: str = "", today: date | None = None
) -> HostReport:
    """Examine the host behind ``channel``, which is ready and was booted from ``definition``.

    ``resolves`` is a name that the host's network knows. `ImageError` if the host does not answer as expected.
    """
    host = read_host(channel, resolves)
    return report(host, definition, today or datetime.now().astimezone().date())


def report(host: HostReading, definition: ImageDefinition, today: date) -> HostReport:
    """The findings about a host, with those that the definition allows, also as findings of lint: pure."""
    found = [_allowed(one, definition, today) for one in judge(host, definition)]
    counts, shown = Counter[str](), list[LintFinding]()
    for finding in dict.fromkeys(found):
        counts[finding.id] += 1
        if counts[finding.id] <= _MOST_OF_ONE_KIND:
            shown.append(finding)
    more = (
        f"{count - _MOST_OF_ONE_KIND:,} more findings {name} are not shown"
        for name, count in counts.items()
        if count > _MOST_OF_ONE_KIND
    )
    return HostReport(findings=(*shown, *_unused(found, definition)), unchecked=(*more, *unchecked(host)))


def judge(host: HostReading, definition: ImageDefinition) -> Iterator[LintFinding]:
    """All findings about a host, the gravest first, whether they are allowed or not: pure."""
    yield from storage.judge(host.mounts, host.swaps, host.superblocks)
    yield from network.judge(host.network, host.access.arguments)
    yield from sockets.judge(host.sockets, host.processes, host.units, definition.listens)
    messages = host.journal.of_systemd
    yield from units.judge(host.units, host.wanted, definition.may_wait, messages)
    demanded = (*definition.services, *definition.may_wait)
    yield from units.judge_limits(host.units, demanded, host.processes)
    yield from access.judge(host.access, host.mounts, host.units, definition.kernel_arguments)
    yield from settings.judge(host.texts, host.state, {one.mac: one.name for one in host.network.interfaces or ()})
    yield from processes.judge(host.processes, host.units)
    yield from clock.judge(host.clock, host.units)
    yield from journal.judge(host.journal, definition.expected_errors)


def _allowed(finding: LintFinding, definition: ImageDefinition, today: date) -> LintFinding:
    for allowance in (*definition.host_allow, *definition.lint_allow):
        if _is_about(allowance, finding):
            if not allowance.until or today <= allowance.until:
                return replace(finding, allowed=allowance.reason)
            return replace(finding, cause=f"it was allowed until {allowance.until}: {allowance.reason}")
    return finding


def _is_about(allowance: Allowance, finding: LintFinding) -> bool:
    return fnmatch.fnmatchcase(finding.path, allowance.path.replace("[", "[[]"))


def _unused(found: Iterable[LintFinding], definition: ImageDefinition) -> Iterator[LintFinding]:
    for allowance in definition.host_allow:
        if not any(_is_about(allowance, finding) for finding in found):
            what = "the definition allows findings about this, and there are none"
            yield warns("allowance-unused", allowance.path, what)
