"""Waiting until a guest is quiet: no unit is starting, and none uses the CPUs.

Services continue to start up after they have notified systemd: every copy of the machine would repeat that work.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from harness.core.deadline import Deadline, poll
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.guest.serial_shell import SHELL_UNIT

NO_UNIT = "no unit"
"""Stands for the CPU time that no control group accounts for: interrupts and kernel threads."""
_UNKNOWN = "unknown: there was no time for a second look"

_EVERY_S = 2.0
_UNIT_SHARE, _ALL_SHARE = 0.08, 0.20
"""The part of one CPU that a unit may use, and that all may use together, in a quiet guest of the reference machine.
nova-compute without a control plane uses 2 to 4 % there, and all of one CPU while it starts."""
_MOST_SHARE = 0.4
_TICKS_PER_S = 100
"""proc(5): USER_HZ, which is 100 on x86."""
_GROUPS = "/sys/fs/cgroup/"
_WHOLE = "system.slice"

_USE = Probe(
    "cpu use",
    rf"""
read -r up _ </proc/uptime || exit
read -r _ user nice system idle iowait irq softirq _ </proc/stat || exit
echo "$up $((user + nice + system + irq + softirq))"
for file in {_GROUPS}*.scope/cpu.stat {_GROUPS}*.slice/cpu.stat {_GROUPS}{_WHOLE}/*/cpu.stat; do
    {{ read -r _ used <"$file"; }} 2>/dev/null && echo "$file $used"
done
true
""",
)
"""Seconds of the guest's uptime and ticks in which a CPU worked; then the microseconds that each control group used,
with which cpu.stat of cgroup v2 begins (Linux, Documentation/admin-guide/cgroup-v2.rst). A group may be gone before it
is read, and cgroup v1 has none. No program runs: under TCG each would cost milliseconds."""
_JOBS = Probe("jobs", "systemctl list-jobs --plain --full")


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuReading:
    """A guest ``up_s`` seconds after its start: CPU seconds that it and each of its ``units`` used since then, and the
    units whose jobs run."""

    up_s: float
    used_s: float
    units: dict[str, float]
    starting: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """How the wait for a quiet guest ended, after ``took_s``.

    ``waited_for`` has each unit that was starting or busy meanwhile, and the seconds until it was seen so for the last
    time. ``busy`` are the units that still were when the wait was given up; empty if the guest became quiet.
    """

    took_s: float
    waited_for: dict[str, float] = field(default_factory=dict)
    busy: tuple[str, ...] = ()


def read_use(channel: Channel) -> CpuReading:
    """What the guest's units have used of its CPUs; `ImageError` if the guest cannot say."""
    answers = ask(channel, [_USE, _JOBS])
    up_s, used_s, units = read(answers, _USE, _use)
    return CpuReading(up_s=up_s, used_s=used_s, units=units, starting=read(answers, _JOBS, _running))


def _use(text: str) -> tuple[float, float, dict[str, float]]:
    first, *groups = text.splitlines()
    up_s, ticks = first.split()
    rows = (line.rsplit(" ", 1) for line in groups)
    units = {file.removeprefix(_GROUPS).removesuffix("/cpu.stat"): int(used) / 1e6 for file, used in rows}
    return float(up_s), int(ticks) / _TICKS_PER_S, units


def _running(text: str) -> tuple[str, ...]:
    """The units of running jobs; systemctl prints a heading above jobs, or that there are none."""
    heading, *rows = text.splitlines()
    if heading.split()[:2] not in (["JOB", "UNIT"], ["No", "jobs"]):
        raise ValueError("no heading of systemctl list-jobs")
    jobs = (row.split() for row in rows if row[:1].isdigit() or row.startswith(" "))
    return tuple(job[1] for job in jobs if job[3:] == ["running"])


def busy_units(before: CpuReading, after: CpuReading, waiting: Collection[str], scale: float = 1.0) -> dict[str, float]:
    """The units that keep the guest from being quiet between two readings, with the share of one CPU that each used,
    the busiest first: pure.

    A unit with a running job is one of them, unless it may be ``waiting`` for a control plane. On a host that is
    ``scale`` times slower than the reference machine, a unit may use so much more of a CPU.
    """
    window_s = max(0.01, after.up_s - before.up_s)
    shares = _shares(before, after, window_s)
    unit_share, all_share = (min(_MOST_SHARE, share * scale) for share in (_UNIT_SHARE, _ALL_SHARE))
    busy = {unit: share for unit, share in shares.items() if share > unit_share}
    if not busy and sum(shares.values()) > all_share:
        unit = max(shares, key=shares.__getitem__)
        busy = {unit: shares[unit]}
    starting = {unit: shares.get(unit, 0.0) for unit in after.starting if unit not in waiting}
    return dict(sorted({**starting, **busy}.items(), key=lambda item: item[1], reverse=True))


def _shares(before: CpuReading, after: CpuReading, window_s: float) -> dict[str, float]:
    """The share of one CPU that each unit used, without the harness's own shell."""
    used_s = {unit: used_s - before.units.get(unit, 0.0) for unit, used_s in after.units.items()}
    own_s = used_s.pop(f"{_WHOLE}/{SHELL_UNIT}", 0.0)
    total_s = after.used_s - before.used_s - own_s
    whole_s = used_s.pop(_WHOLE, 0.0) - own_s
    accounted_s = whole_s + sum(seconds for unit, seconds in used_s.items() if "/" not in unit)
    shares = {unit.removeprefix(f"{_WHOLE}/"): seconds / window_s for unit, seconds in used_s.items()}
    return {**shares, NO_UNIT: max(0.0, total_s - accounted_s) / window_s}


def wait_until_quiet(
    channel: Channel, waiting: Collection[str], deadline: Deadline, *, scale: float = 1.0, every_s: float = _EVERY_S
) -> Quiet:
    """Wait until no unit was starting or busy for ``every_s`` seconds, or until the deadline.

    Raises `ImageError` if the guest cannot say what its units do.
    """
    seen: list[CpuReading] = []
    waited_for: dict[str, float] = {}
    busy: Mapping[str, float] = {_UNKNOWN: 0.0}

    def is_quiet() -> bool:
        nonlocal busy
        seen.append(read_use(channel))
        if len(seen) < 2:
            return False
        busy = busy_units(seen[-2], seen[-1], waiting, scale)
        waited_for.update(dict.fromkeys(busy, round(deadline.passed_s, 1)))
        return not busy

    poll(is_quiet, deadline, every_s=every_s)
    return Quiet(took_s=round(deadline.passed_s, 1), waited_for=waited_for, busy=tuple(busy))
