"""Examines a host that runs: whether what came up is fit for its work. The check ``host``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime

from harness.examine import (
    access,
    clock,
    journal,
    limits,
    network,
    network_files,
    processes,
    settings,
    sockets,
    storage,
    udev,
    units,
)
from harness.examine.finding import HostFaulty
from harness.examine.host import HostReading, read_host, unchecked
from harness.guest.channel import Channel
from harness.lint.finding import Findings, LintFinding, as_allowed
from harness.model.definition import ImageDefinition

__all__ = ["HostFaulty", "HostReading", "examine", "judge", "read_host"]


def examine(
    channel: Channel, definition: ImageDefinition, *, resolves: str = "", today: date | None = None
) -> Findings:
    """Examine the host behind ``channel``, which is ready and was booted from ``definition``.

    ``resolves`` is a name that the host's network knows. `ImageError` if the host does not answer as expected.
    """
    host = read_host(channel, resolves)
    return report(host, definition, today or datetime.now().astimezone().date())


def report(host: HostReading, definition: ImageDefinition, today: date) -> Findings:
    """The findings about a host, with those that the definition allows, also as findings of lint: pure."""
    found = list(dict.fromkeys(judge(host, definition)))
    allowances = (*definition.host_allow, *definition.lint_allow)
    seen = as_allowed(found, allowances, definition.host_allow, today)
    return replace(seen, unchecked=(*seen.unchecked, *unchecked(host)))


def judge(host: HostReading, definition: ImageDefinition) -> Iterator[LintFinding]:
    """All findings about a host, the gravest first, whether they are allowed or not: pure."""
    yield from storage.judge(host.mounts, host.swaps, host.superblocks)
    programs = {process.name for process in host.processes.values()}
    yield from network.judge(host.network, host.access.arguments, programs)
    yield from network_files.judge(host.network_files, host.network.interfaces)
    yield from sockets.judge(host.sockets, host.processes, host.units, definition.listens)
    messages = host.journal.of_systemd
    yield from units.judge(host.units, host.wanted, definition.may_wait, messages)
    demanded = (*definition.services, *definition.may_wait)
    yield from units.judge_limits(host.units, demanded, host.processes)
    yield from limits.judge(host.limits)
    yield from access.judge(host.access, host.mounts, host.units, definition.kernel_arguments)
    yield from settings.judge(host.texts, host.state)
    yield from udev.judge(host.texts, host.udev, {one.mac: one.name for one in host.network.interfaces or ()})
    yield from processes.judge(host.processes, host.units)
    yield from clock.judge(host.clock, host.units)
    yield from journal.judge(host.journal, definition.expected_errors, definition.persistent_paths)
