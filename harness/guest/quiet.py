"""Waiting until a guest is quiet: no unit is starting, and none uses the CPUs.

Services continue to start up after they have notified systemd: every copy of the machine would repeat that work.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from harness.core.deadline import Deadline, poll
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read

NO_UNIT = "no unit"
"""Stands for the CPU time that no control group accounts for: interrupts and kernel threads."""
_UNKNOWN = "unknown: there was no time to look"

_WINDOW_S = 2.0
_UNIT_SHARE, _ALL_SHARE, _MOST_SHARE = 0.08, 0.20, 0.4
"""The part of one CPU that a unit may use in a quiet guest of the reference machine, and that all may use together;
more on a slower host, but never more than the last. nova-compute without a control plane uses 2 to 4 %, and all of one
CPU while it starts."""
_BETWEEN_LOOKS_S = 0.5
"""On the reference machine. A question costs the guest 0.2 to 0.4 s of a CPU, which it needs for what it starts."""
_TICKS_PER_S = 100
"""proc(5): USER_HZ, which is 100 on x86."""
_GROUPS = "/sys/fs/cgroup"
_SYSTEM = "/system.slice"

_USE = """
between() {{ sleep {window_s}; }}
look() {{
    read -r up _ </proc/uptime || exit
    read -r _ user nice system idle iowait irq softirq _ </proc/stat || exit
    echo "look $up $((user + nice + system + irq + softirq)) $own"
    for file in "{groups}$own"/cpu.stat {groups}/*.s*/cpu.stat {groups}/system.slice/*/cpu.stat; do
        {{ read -r _ used <"$file"; }} 2>/dev/null && echo "$used $file"
    done
    true
}}
read -r own </proc/self/cgroup || exit
own=${{own##*:}}
look && between && look
"""
"""Two looks, so that what a login over SSH costs lies before the first. A look is the guest's uptime in seconds, the
ticks in which a CPU worked, and the shell's own control group; then the microseconds that each group used, with which
cpu.stat of cgroup v2 begins (Linux, Documentation/admin-guide/cgroup-v2.rst). A group may be gone before it is read,
and cgroup v1 has none. No program but sleep runs: under TCG each would cost milliseconds."""
_JOBS = Probe("jobs", "systemctl list-jobs --plain --full")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentUse:
    """The share of one CPU that each unit used for some seconds, without the shell that asked, and the units whose jobs
    ran after them."""

    shares: dict[str, float]
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


def read_recent_use(channel: Channel, window_s: float = _WINDOW_S) -> RecentUse:
    """What the guest's units use of its CPUs for ``window_s`` seconds; `ImageError` if the guest cannot say."""
    use = Probe("cpu use", _USE.format(groups=_GROUPS, window_s=window_s))
    answers = ask(channel, [use, _JOBS])
    shares = read(answers, use, lambda text: _shares(text, window_s))
    return RecentUse(shares=shares, starting=read(answers, _JOBS, _running))


def _shares(text: str, window_s: float) -> dict[str, float]:
    _, first, second = text.split("look ")
    (before_s, ticks_before, _, used_before), (after_s, ticks, own, used) = _look(first), _look(second)
    if after_s - before_s < window_s / 2:
        raise ValueError(f"its two looks are {after_s - before_s:.2f} s apart")
    shares = {unit: (used[unit] - used_before.get(unit, 0.0)) / (after_s - before_s) for unit in used}
    own_share = shares.pop(own, 0.0)
    if (top := f"/{own.split('/')[1]}") in shares:
        shares[top] -= own_share
    accounted = sum(share for unit, share in shares.items() if unit.count("/") == 1)
    others = (ticks - ticks_before) / _TICKS_PER_S / (after_s - before_s) - own_share - accounted
    shares.pop(_SYSTEM, None)
    named = {unit.removeprefix(_SYSTEM).removeprefix("/"): share for unit, share in shares.items()}
    return {**named, NO_UNIT: max(0.0, others)}


def _look(text: str) -> tuple[float, int, str, dict[str, float]]:
    """Uptime, ticks, the shell's group, and the seconds that each group used when it was read first: the shell works
    while it looks."""
    first, *groups = text.splitlines()
    up_s, ticks, own = first.split()
    used_s: dict[str, float] = {}
    for line in groups:
        used, file = line.split(" ", 1)
        used_s.setdefault(file.removeprefix(_GROUPS).removesuffix("/cpu.stat"), int(used) / 1e6)
    return float(up_s), int(ticks), own, used_s


def running_jobs(channel: Channel) -> tuple[str, ...]:
    """The units of jobs that run; `ImageError` if the guest cannot say."""
    return read(ask(channel, [_JOBS]), _JOBS, _running)


def _running(text: str) -> tuple[str, ...]:
    """The units of running jobs; systemctl prints a heading above jobs, or that there are none."""
    heading, *rows = text.splitlines()
    if heading.split()[:2] not in (["JOB", "UNIT"], ["No", "jobs"]):
        raise ValueError("no heading of systemctl list-jobs")
    jobs = (row.split() for row in rows)
    return tuple(job[1] for job in jobs if job[3:] == ["running"])


def busy_units(use: RecentUse, waiting: Collection[str], scale: float = 1.0) -> dict[str, float]:
    """The units that keep the guest from being quiet, with the share of one CPU that each used; the busiest first.

    Pure. A unit with a running job is one of them, unless it may be ``waiting`` for a control plane. On a host that is
    ``scale`` times slower than the reference machine, a unit may use so much more of a CPU.
    """
    unit_share, all_share = (min(_MOST_SHARE, share * scale) for share in (_UNIT_SHARE, _ALL_SHARE))
    busy = {unit: share for unit, share in use.shares.items() if share > unit_share}
    if not busy and sum(use.shares.values()) > all_share:
        unit = max(use.shares, key=use.shares.__getitem__)
        busy = {unit: use.shares[unit]}
    starting = {unit: use.shares.get(unit, 0.0) for unit in use.starting if unit not in waiting}
    return dict(sorted({**starting, **busy}.items(), key=lambda item: item[1], reverse=True))


def wait_until_quiet(
    channel: Channel, waiting: Collection[str], deadline: Deadline, *, scale: float = 1.0, window_s: float = _WINDOW_S
) -> Quiet:
    """Wait until no unit was starting or busy for ``window_s`` seconds, or until the deadline.

    Raises `ImageError` if the guest cannot say what its units do.
    """
    waited_for: dict[str, float] = {}
    busy: Mapping[str, float] = {_UNKNOWN: 0.0}

    def is_quiet() -> bool:
        nonlocal busy
        busy = busy_units(read_recent_use(channel, window_s), waiting, scale)
        waited_for.update(dict.fromkeys(busy, round(deadline.passed_s, 1)))
        return not busy

    poll(is_quiet, deadline, every_s=_BETWEEN_LOOKS_S * scale)
    return Quiet(took_s=round(deadline.passed_s, 1), waited_for=waited_for, busy=tuple(busy))
