"""What a boot waited for while the guest's CPUs were idle, measured from outside and named by the guest.

QEMU's threads neither run nor want to while all CPUs of its guest are halted, under KVM and under emulation. A guest
that the host keeps from a CPU waits in the host's run queue, which is not idle. The guest's systemd and its journal
know which jobs ran meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.core.cpu_use import PERIOD_S, IdleSpan, idle_spans
from harness.guest.channel import Channel
from harness.guest.console import read_log
from harness.guest.critical_path import critical_path
from harness.guest.health import GuestHealth
from harness.guest.initrd_stop import STOP_UNIT
from harness.guest.probes import ProbeFailed
from harness.guest.serial_shell import SHELL_UNITS
from harness.guest.unit_jobs import BootJobs, idle_s, jobs_of, longest_stretch, read_jobs, unlisted, waited_for
from harness.machine.watch import BootWatch
from harness.model.critical_path import PathStep
from harness.model.verdict import UnitWait

_MOST, _LEAST_S = 5, 1.0
"""So many waits are named, unless they are shorter."""
_MOST_STOPPED = 0.05
"""The share of samples that may show a stopped machine: between two that do not, it may have been stopped, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootWaits:
    """As `BootResult.idle_s` and `BootResult.waits`, and the boot's critical path."""

    idle_s: float | None = None
    waits: tuple[UnitWait, ...] = ()
    path: tuple[PathStep, ...] = ()


NOT_MEASURED = BootWaits()


def measure(watch: BootWatch, channel: Channel, health: GuestHealth, asked_s: float) -> BootWaits:
    """The waits of a boot that is ready, of which the guest was asked for its ``health`` at ``asked_s`` (monotonic).

    Raises what `Channel.run` raises.
    """
    kernel_s = asked_s - health.uptime_s
    idle, seen = tuple(_idle(watch, kernel_s, asked_s)), _ask(channel)
    starts = (*health.starts, *unlisted(seen.jobs, health.starts))
    path = critical_path(starts, idle, health.user_space_s, health.uptime_s)
    if _shows_something_else(watch, asked_s):
        return BootWaits(path=path)
    excused = (*watch.plan.definition.may_wait, *SHELL_UNITS, STOP_UNIT)
    jobs = jobs_of(starts, seen.jobs, health.user_space_s)
    found = waited_for(idle, jobs, {step.unit for step in path}, excused)
    total_s = max(0.0, sum(map(idle_s, found.values())) - seen.disk_s)
    waits = tuple(name_waits(found, _printed(watch, kernel_s), total_s))
    return BootWaits(idle_s=round(total_s, 1), waits=waits, path=path)


def _idle(watch: BootWatch, kernel_s: float, until_s: float) -> Iterator[IdleSpan]:
    """The idle time since the kernel began at ``kernel_s``, in seconds of the guest, except during downloads: their
    speed is the network's."""
    downloads = [(one.started_s, one.started_s + one.elapsed_s) for one in watch.downloads.records]
    for span in idle_spans(list(watch.meter.samples)):
        is_of_boot = kernel_s <= span.begins_s and span.ends_s <= until_s
        if is_of_boot and not any(begin < span.ends_s and span.begins_s < end for begin, end in downloads):
            yield IdleSpan(span.begins_s - kernel_s, span.ends_s - kernel_s, span.idle_s)


def _shows_something_else(watch: BootWatch, until_s: float) -> bool:
    """Whether idle time would say nothing about the image: the boot did not begin with its kernel or stopped for a
    person, its network or its disks have faults, or the host stopped the machine again and again. A machine that has
    to share the host's CPUs wants them, and is not idle."""
    plan, spec = watch.plan, watch.plan.spec
    is_slowed = any(disk.late_s or disk.reads_per_s for disk in spec.disks)
    if plan.begins_in_initrd or plan.stop or is_slowed or watch.context.lab.network_faults:
        return True
    stopped = [one.is_stopped for one in list(watch.meter.samples) if watch.started_s <= one.at_s <= until_s]
    return sum(stopped) > _MOST_STOPPED * len(stopped) or bool(watch.doubt())


def _ask(channel: Channel) -> BootJobs:
    """What the guest's journal says; nothing if the image keeps none, so that systemd's own answer has to do."""
    try:
        return read_jobs(channel)
    except ProbeFailed:
        return BootJobs()


def _printed(watch: BootWatch, kernel_s: float) -> list[tuple[float, str]]:
    """The lines of the console, in seconds since the kernel began."""
    since_s = watch.console.started_s - kernel_s
    return [(at_s + since_s, line) for at_s, line in read_log(watch.console.log.read_text("utf-8", "replace"))]


def name_waits(
    found: Mapping[str, Sequence[IdleSpan]], printed: Sequence[tuple[float, str]], total_s: float = math.inf
) -> Iterator[UnitWait]:
    """The longest waits in ``found``, with what the console ``printed`` before and after each: pure.

    None is longer than ``total_s``, the idle time of the boot without that of disks.
    """
    for unit, spans in list(found.items())[:_MOST]:
        if (waited_s := min(total_s, idle_s(spans))) >= _LEAST_S:
            lines = _lines_around(*longest_stretch(spans), printed)
            yield UnitWait(unit=unit, idle_s=round(waited_s, 1), lines=lines)


def _lines_around(begins_s: float, ends_s: float, printed: Sequence[tuple[float, str]]) -> tuple[str, ...]:
    """A sample may be as late as the time between two."""
    before = [line for at_s, line in printed if at_s <= begins_s + PERIOD_S]
    after = [line for at_s, line in printed if at_s >= max(ends_s, begins_s + 2 * PERIOD_S) - PERIOD_S]
    return (*before[-1:], *after[:1])
