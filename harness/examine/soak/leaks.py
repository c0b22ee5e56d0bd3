"""What grows without end on a host that was soaked, and when it is full: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from harness.examine.soak.ground import Ground, is_in_ram
from harness.examine.soak.growth import Growth, Point, floor_of, growth, of_rates
from harness.examine.soak.looks import Kind, Look, Phase, Series, all_series, fired
from harness.examine.soak.samples import UnitUse
from harness.examine.storage import Mount

DAY_S = 86400.0
_MOST_DESCRIPTORS, _MOST_TASKS = 1024, 2048
"""LimitNOFILE of systemd by default, and about what TasksMax is by default on a host with 2 GiB: for units without."""
_HORIZON_S, _HORIZON_ROUNDS, _HORIZON_DAYS = 30 * DAY_S, 10_000, 365
"""What is full only later than that is not a finding: a rate that was measured for minutes says nothing about years."""
_PARTS_OF_DAYS = 4
"""A week and more, so that what happens weekly is in each part."""
_FIRST_CAUSES = (
    Kind.FILE, Kind.DESCRIPTORS, Kind.TASKS, Kind.MEMORY, Kind.FOLDER, Kind.SPACE, Kind.INODES, Kind.KERNEL,
)  # fmt: skip
_SAME = 0.5
"""One thing explains another if it grows by half as much or more."""
_LEAST_TAKEN = 1 << 20
"""Bytes that memory must have grown by with time: the kernel and allocators take pages for minutes after a boot."""
_LEAST_SEEN = 0.5
_FAST_TAKEN = 1 / 3
_FAST_POINTS = 4


class Axis(StrEnum):
    """What a rate is counted by."""

    TIME = "time"
    ROUNDS = "rounds"
    DAYS = "days"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """What grows without end, by the second, the round of use or the day; ``room`` is what is left for it."""

    series: Series
    axis: Axis
    growth: Growth
    room: float

    @property
    def full_after(self) -> float:
        """Seconds, rounds or days."""
        return self.growth.fills_after(self.room)


def find_leaks(looks: Sequence[Look], ground: Ground) -> list[Leak]:
    """Each cause once: a file explains its folder and file system, a unit's memory that of the kernel's rows."""
    found = [leak for series in all_series(looks, ground) if (leak := leak_of(series, looks, ground))]
    return list(_causes(found, ground))


def leak_of(series: Series, looks: Sequence[Look], ground: Ground) -> Leak | None:
    """How a series grows: with time; if not, with each round of use, or each day."""
    moments = [look.sample.at_s for look in looks]
    points = series.points(moments)
    if _is_long(points, moments) and (grown := growth(points)) and not _is_settling(series, grown):
        return _before(_HORIZON_S, Axis.TIME, grown, series, looks, ground)
    if grown := _growth_in(series, looks, Phase.USED):
        return _before(_HORIZON_ROUNDS, Axis.ROUNDS, grown, series, looks, ground)
    if grown := _growth_in(series, looks, Phase.DAYS):
        return _before(_HORIZON_DAYS, Axis.DAYS, grown, series, looks, ground)
    return None


def _is_settling(series: Series, grown: Growth) -> bool:
    return series.kind in (Kind.MEMORY, Kind.KERNEL) and grown.total < _LEAST_TAKEN


def _growth_in(series: Series, looks: Sequence[Look], phase: Phase) -> Growth | None:
    """How it grows by round or day, unless it grew without them."""
    points = _during(series, looks, phase)
    numbers = [look.number for look in looks if look.phase is phase]
    if not _is_long(points, numbers) or _grows_alone(series, looks, phase):
        return None
    return growth(points, warm_up=0.0, parts=_PARTS_OF_DAYS) if phase is Phase.DAYS else growth(points)


def _before(
    horizon: float, axis: Axis, grown: Growth, series: Series, looks: Sequence[Look], ground: Ground
) -> Leak | None:
    leak = Leak(series=series, axis=axis, growth=grown, room=room_for(series, looks[-1], ground))
    return leak if leak.full_after <= horizon else None


def _is_long(points: Sequence[Point], moments: Sequence[float]) -> bool:
    """Whether a thing was there for half of the time or more: what has just begun may be over soon."""
    return len(points) > 1 and points[-1][0] - points[0][0] >= _LEAST_SEEN * (moments[-1] - moments[0])


def _during(series: Series, looks: Sequence[Look], phase: Phase) -> list[Point]:
    """The points of a phase by round or day, with the look before it; none if what it took was given back later."""
    first = next((number for number, look in enumerate(looks) if look.phase is phase), 0)
    last = max((number for number, look in enumerate(looks) if look.phase is phase), default=0)
    if last - first < 2 or first == 0:
        return []
    values = series.values[first - 1 :]
    known = [value for value in values if value is not None]
    kept = min(value for value in series.values[last:] if value is not None) if known else 0.0
    taken = (series.values[last] or 0.0) - known[0] if known else 0.0
    if not known or kept < known[0] + taken / 2:
        return []
    numbers = [0.0, *(look.number for look in looks[first : last + 1])]
    pairs = zip(numbers, series.values[first - 1 : last + 1], strict=True)
    return [(number, value) for number, value in pairs if value is not None]


def _grows_alone(series: Series, looks: Sequence[Look], phase: Phase) -> bool:
    """Whether it grew at half the pace when the host was left alone: then neither use nor days are the cause."""
    return _pace(series, looks, Phase.ALONE) >= _SAME * _pace(series, looks, phase)


def _pace(series: Series, looks: Sequence[Look], phase: Phase) -> float:
    """By how much the floor rose in a phase, by the second."""
    points = series.points([look.sample.at_s for look in looks])
    times = [look.sample.at_s for look in looks if look.phase is phase]
    inside = [point for point in floor_of(points) if times and times[0] <= point[0] <= times[-1]]
    if len(inside) < 2:
        return 0.0
    return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])


def room_for(series: Series, look: Look, ground: Ground) -> float:
    """What is left for a thing to grow."""
    sample, available = look.sample, float(look.sample.memory["MemAvailable"])
    use = sample.use.get(series.name, UnitUse())
    match series.kind:
        case Kind.DESCRIPTORS:
            return _MOST_DESCRIPTORS - series.last
        case Kind.TASKS:
            return (use.tasks_limit or _MOST_TASKS) - series.last
        case Kind.MEMORY if use.memory_limit:
            return min(available, use.memory_limit - series.last)
        case Kind.INODES:
            space = sample.space[series.name]
            return float(space.inodes - space.used_inodes)
        case Kind.FILE | Kind.FOLDER | Kind.SPACE:
            mount = ground.mount_of(f"{series.name.rstrip('/')}/")
            if mount is None or mount.place not in sample.space:
                return available
            space = sample.space[mount.place]
            free = float(space.size - space.used) if space.size else available
            return min(free, available) if is_in_ram(mount) else free
        case _:
            return available


def _causes(leaks: Sequence[Leak], ground: Ground) -> Iterator[Leak]:
    """Files, then folders that no file explains, and so on. Of folders in each other the innermost."""
    kept = list[Leak]()
    for kind in _FIRST_CAUSES:
        own = sorted((leak for leak in leaks if leak.series.kind is kind), key=lambda one: -len(one.series.name))
        for leak in own:
            if not any(_explains(cause, leak, ground) for cause in kept):
                kept.append(leak)
    yield from kept


def _explains(cause: Leak, leak: Leak, ground: Ground) -> bool:
    one, other = cause.series, leak.series
    if cause.axis is not leak.axis:
        return False
    if other.kind is Kind.INODES:
        return one.kind in (Kind.FOLDER, Kind.SPACE)
    if one.kind is Kind.TASKS and other.kind is Kind.MEMORY:
        return one.name == other.name and cause.full_after <= leak.full_after
    if cause.growth.rate < _SAME * leak.growth.rate:
        return False
    match other.kind:
        case Kind.FOLDER:
            return one.kind in (Kind.FILE, Kind.FOLDER) and one.name.startswith(f"{other.name.rstrip('/')}/")
        case Kind.SPACE:
            mount = ground.mount_of(one.name) if one.kind in (Kind.FILE, Kind.FOLDER) else None
            return mount is not None and mount.place == other.name
        case Kind.KERNEL if other.name == "Shmem":
            return one.kind in (Kind.FILE, Kind.FOLDER, Kind.SPACE)
        case Kind.KERNEL:
            return one.kind is Kind.MEMORY
        case _:
            return False


def filling(looks: Sequence[Look], ground: Ground, left_s: float) -> Leak | None:
    """What has taken a third of what was free at first, steadily, and takes the rest within ``left_s``: nobody need
    wait for its end."""
    if len(looks) < _FAST_POINTS:
        return None
    for series in all_series(looks, ground):
        if series.kind in (Kind.FILE, Kind.MEMORY, Kind.SPACE):
            points = floor_of(series.points([look.sample.at_s for look in looks]))
            leak = _steady(series, [point for point in points if point[1] > points[0][1]], looks, ground)
            taken = points[-1][1] - points[0][1]
            if leak and taken > _FAST_TAKEN * (leak.room + taken) and leak.full_after < left_s:
                return leak
    return None


def filled(looks: Sequence[Look], ground: Ground, full: Mount) -> Leak | None:
    """The file that has filled a file system, with its rate in the last looks; None if no file is seen."""
    series = [one for one in all_series(looks, ground) if one.kind is Kind.FILE and ground.mount_of(one.name) == full]
    if not series:
        return None
    largest = max(series, key=lambda one: one.last - (one.values[0] or 0.0))
    points = largest.points([look.sample.at_s for look in looks])
    rises = [(after[1] - before[1], after[0] - before[0]) for before, after in pairwise(points) if after[1] > before[1]]
    whole = of_rates([rise / length_s for rise, length_s in rises], sum(rise for rise, _ in rises))
    return Leak(series=largest, axis=Axis.TIME, growth=whole, room=room_for(largest, looks[-1], ground))


def _steady(series: Series, points: Sequence[Point], looks: Sequence[Look], ground: Ground) -> Leak | None:
    """Of the last points, each of which is above the one before."""
    last = points[-_FAST_POINTS:]
    if len(last) < _FAST_POINTS or any(later[1] <= before[1] for before, later in pairwise(last)):
        return None
    rates = [(later[1] - before[1]) / (later[0] - before[0]) for before, later in pairwise(last)]
    whole = of_rates(rates, last[-1][1] - last[0][1])
    return Leak(series=series, axis=Axis.TIME, growth=whole, room=room_for(series, looks[-1], ground))


def timers_behind(leak: Leak, looks: Sequence[Look]) -> list[str]:
    """The timers that fired whenever it grew in the days, if they did so least often; none if it grew without them."""
    if leak.axis is not Axis.DAYS:
        return []
    rises = dict[int, float]()
    for number, (before, after) in enumerate(pairwise(leak.series.values), start=1):
        rises[number] = max(0.0, (after or 0.0) - (before or 0.0)) if looks[number].phase is Phase.DAYS else 0.0
    total, steps = sum(rises.values()), dict[str, list[int]]()
    for number in range(1, len(looks)):
        for timer in fired(looks[number - 1], looks[number]):
            steps.setdefault(timer, []).append(number)
    having = {timer: own for timer, own in steps.items() if total and sum(rises[one] for one in own) >= 0.9 * total}
    rarest = min(map(len, having.values()), default=0)
    return [timer for timer, own in having.items() if len(own) == rarest]
