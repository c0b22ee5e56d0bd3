"""The findings about a host that was soaked, from the looks at it: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.examine.soak.ground import Ground, is_in_ram
from harness.examine.soak.leaks import DAY_S, Axis, Leak
from harness.examine.soak.looks import Kind
from harness.examine.soak.samples import GONE
from harness.examine.soak.writers import Writer
from harness.lint.finding import LintFinding, fails

_COUNTED = {Kind.TASKS: "tasks", Kind.DESCRIPTORS: "open files", Kind.INODES: "files"}
_PER = {Axis.ROUNDS: "round of use", Axis.DAYS: "day"}
_UNITS_OF_TIME = (("second", 1.0), ("minute", 60.0), ("hour", 3600.0), ("day", DAY_S))


def judge_leaks(leaks: Sequence[Leak], writers: Sequence[Writer], ground: Ground) -> Iterator[LintFinding]:
    """A finding for each leak, whose writer is at the same place; the soonest full first."""
    for leak, writer in sorted(zip(leaks, writers, strict=True), key=lambda pair: _days(pair[0])):
        yield _finding(leak, writer, ground)


def _days(leak: Leak) -> float:
    return leak.full_after / DAY_S if leak.axis is Axis.TIME else 31 + leak.full_after


def _finding(leak: Leak, writer: Writer, ground: Ground) -> LintFinding:
    what = f"{rate_text(leak)}: {_end_text(leak, ground)}"
    by = [f"unit: {writer.unit}" + (f" ({writer.how})" if writer.how else "")] if writer.unit else []
    by += [f"it grew when these timers fired: {', '.join(writer.timers)}"] if writer.timers else []
    by = by or ["no unit could be named"]
    per, scale = _per(leak)
    low, high = (amount(leak, scale * max(0.0, bound)) for bound in (leak.growth.low, leak.growth.high))
    surely = f"{per} by {low} to {high}, with 95 % confidence" if leak.growth.low < leak.growth.high else ""
    evidence = (*by, f"it grew by {amount(leak, leak.growth.total)} while it was watched", surely)
    what += f"; by {writer.unit}" if writer.unit else ""
    return fails(_id(leak, ground), _path(leak, ground), what, *evidence)


def _id(leak: Leak, ground: Ground) -> str:
    match leak.series.kind:
        case Kind.DESCRIPTORS:
            return "leaks-descriptors"
        case Kind.TASKS:
            return "leaks-tasks"
        case Kind.FILE | Kind.FOLDER | Kind.SPACE | Kind.INODES:
            mount = ground.mount_of(f"{leak.series.name.rstrip('/')}/")
            return "fills-data" if mount is not None and not is_in_ram(mount) else "fills-memory"
        case _:
            return "fills-memory"


def _path(leak: Leak, ground: Ground) -> str:
    name = leak.series.name
    match leak.series.kind:
        case Kind.MEMORY | Kind.TASKS:
            return f"unit:{name}" if name != GONE else f"memory:{GONE}"
        case Kind.DESCRIPTORS:
            return f"unit:{name.partition('/')[0]}"
        case Kind.FILE | Kind.FOLDER:
            return ground.shown(name)
        case Kind.SPACE | Kind.INODES:
            return f"space:{name}"
        case _:
            return f"memory:{name}"


def rate_text(leak: Leak) -> str:
    """As "it grows by 1.0 MiB a minute"."""
    per, scale = _per(leak)
    return f"it grows by {amount(leak, leak.growth.rate * scale)} {per}"


def _per(leak: Leak) -> tuple[str, float]:
    """What a rate is told by, as "a minute", and by what to multiply it: the shortest time that gives a number that can
    be read."""
    if leak.axis is not Axis.TIME:
        return f"a {_PER[leak.axis]}", 1.0
    least = 1.0 if leak.series.kind in _COUNTED else float(100 << 10)
    enough = (one for one in _UNITS_OF_TIME if leak.growth.rate * one[1] >= least)
    name, length_s = next(enough, _UNITS_OF_TIME[-1])
    return f"{'an' if name == 'hour' else 'a'} {name}", length_s


def amount(leak: Leak, value: float) -> str:
    """Bytes in MiB or KiB, or a number of things."""
    if leak.series.kind in _COUNTED:
        return f"{value:.3g} {_COUNTED[leak.series.kind]}"
    return f"{value / (1 << 20):.1f} MiB" if value >= 1000 << 10 else f"{value / 1024:.3g} KiB"


def _end_text(leak: Leak, ground: Ground) -> str:
    match leak.series.kind:
        case Kind.TASKS | Kind.DESCRIPTORS:
            return f"its limit is reached {after_text(leak)}"
        case Kind.FILE | Kind.FOLDER | Kind.SPACE | Kind.INODES:
            mount = ground.mount_of(f"{leak.series.name.rstrip('/')}/")
            return f"{mount.place if mount else 'memory'} is full {after_text(leak)}"
        case _:
            return f"memory is full {after_text(leak)}"


def after_text(leak: Leak) -> str:
    """As "in 26 hours" or "after 300 rounds of use"."""
    if leak.full_after < 1:
        return "now"
    if leak.axis is Axis.ROUNDS:
        return f"after {leak.full_after:,.0f} rounds of use"
    left_s = leak.full_after * (DAY_S if leak.axis is Axis.DAYS else 1.0)
    name, length_s = next((one for one in reversed(_UNITS_OF_TIME) if left_s >= 2 * one[1]), _UNITS_OF_TIME[0])
    return f"in {left_s / length_s:.0f} {name}s"
