"""The critical path of a boot, from when its units started and what each starts after: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.core.cpu_use import IdleSpan
from harness.guest.serial_shell import SHELL_UNITS
from harness.guest.unit_states import UnitStart
from harness.model.critical_path import PathStep

_OF_LOGINS = ("user@", "user-", "session-", "run-user-")
"""How the units begin that a login starts, as that of a harness over SSH: no part of the boot."""
_BOOT_TARGETS = ("graphical.target", "multi-user.target")
"""systemd.special(7), default.target. The bus starts other units later, which start after next to nothing."""


def critical_path(
    starts: Iterable[UnitStart], idle: Sequence[IdleSpan], user_space_s: float, until_s: float
) -> tuple[PathStep, ...]:
    """The units that led to the target of the boot or, if that is not ready by ``until_s``, to the unit that was ready
    last; empty if none was.

    Each step started after the one before, which was the last to be ready of all that it starts after; where that is
    not known, the last target is taken. All seconds count from the kernel's start. The path begins after
    ``user_space_s``: systemd has forgotten the initrd's units.
    """
    ended = {
        one.unit: (one, one.ends_s)
        for one in starts
        if one.ends_s is not None and user_space_s < one.ends_s <= until_s and not _is_foreign(one.unit)
    }
    targets = [ended[name] for name in _BOOT_TARGETS if name in ended]
    path, start = list[PathStep](), max(targets or ended.values(), key=_when_ready, default=None)
    while start is not None:
        unit, ready_s = ended.pop(start[0].unit)  # no unit comes twice, whatever the guest says
        after = (name for name in ended if name.endswith(".target")) if unit.after is None else unit.after
        before = sorted(
            (ended[name] for name in after if name in ended and ended[name][1] <= unit.begins_s), key=_when_ready
        )
        start = before[-1] if before else None
        others_s = before[-2][1] if before[1:] else user_space_s
        is_known = start is not None and unit.after is not None
        path.append(
            PathStep(
                unit=unit.unit,
                begins_s=round(unit.begins_s - user_space_s, 2),
                ready_s=round(ready_s - user_space_s, 2),
                idle_s=round(_idle_between(idle, unit.begins_s, ready_s), 2),
                earlier_s=round(start[1] - others_s, 2) if start and is_known else 0.0,
                is_pulled_in=start is None or not is_known or start[0].unit in unit.pulls,
            )
        )
    return tuple(reversed(path))


def _when_ready(ended: tuple[UnitStart, float]) -> tuple[float, float]:
    """Of two units that were ready at the same moment, the last is the one that started last."""
    unit, ready_s = ended
    return ready_s, unit.begins_s


def _is_foreign(unit: str) -> bool:
    return unit in SHELL_UNITS or unit.startswith(_OF_LOGINS)


def _idle_between(idle: Iterable[IdleSpan], begins_s: float, ends_s: float) -> float:
    """Of a span that lies in it only partly, the same part."""
    return sum(
        span.idle_s * max(0.0, min(span.ends_s, ends_s) - max(span.begins_s, begins_s)) / (span.ends_s - span.begins_s)
        for span in idle
    )
