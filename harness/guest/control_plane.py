"""Units that may wait for a control plane: one runs, and says that it cannot reach its peer.

systemd shows such a unit as being started, for ever. Between two attempts it shows the same of a unit whose program is
missing, has an error or finds one in its configuration. These are failures, with a control plane and without.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from harness.core.deadline import Deadline, host_scale, poll
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.guest.unit_findings import is_own, not_waiting
from harness.guest.unit_survey import survey_units
from harness.model.verdict import Finding

SAYS_S = 420.0
"""For a unit to say that it waits, on the reference machine: as long as a boot. nova-compute uses 20 s of an emulated
CPU until then, and other units start meanwhile."""
_EVERY_S = 2.0
_LINES = 200
_PROPERTIES = ("LoadState", "Type", "ActiveState", "SubState", "MainPID", "NRestarts", "InvocationID", "Job")
_SHOW = """\
shown=$(systemctl show -p {properties} -- {unit}) || exit
printf '%s\\n' "$shown"
id=${{shown##*InvocationID=}} id=${{id%%[!0-9a-f]*}}
echo "journal of $id"
journalctl --sync || exit
[ -z "$id" ] || journalctl -b -q --no-pager --no-hostname -n {lines} -o short-monotonic \
INVOCATION_ID="$id" + _SYSTEMD_INVOCATION_ID="$id"
"""
"""systemd.journal-fields(7): the first is in systemd's messages about the unit, which are there if the unit says
nothing; the second in those of its processes. Each start of a unit has an ID of its own. journald may lag behind,
unless it is told to finish (--sync)."""
_WITHOUT_READY = ("simple", "exec", "idle")
"""systemd.service(5), Type=: such a unit is active as soon as its program runs, not when it is ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingUnit:
    """What a guest says of a unit: properties as `systemctl show` has them. ``has_job``: systemd starts it, or will.
    ``said`` are lines of its processes since its last start, the oldest first."""

    load: str = "loaded"
    type: str = "notify"
    active: str = "activating"
    sub: str = "start"
    main_pid: int = 0
    restarts: int = 0
    has_job: bool = False
    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Whether a unit may wait as it does: what is wrong, empty if it may. ``is_settled``: that will not change."""

    problem: str = ""
    is_settled: bool = True


def judge(unit: WaitingUnit, says: str) -> Judged:
    """Whether ``unit`` may wait for its control plane: pure.

    It may if it runs and one of its lines since its last start has a match of the regular expression ``says``; if that
    is empty, if it runs. A unit that told systemd that it is ready has found its control plane.
    """
    if unit.load != "loaded":
        return Judged(problem=f"is {unit.load}")
    if unit.restarts or unit.sub.startswith("auto-restart"):
        times = "once" if unit.restarts <= 1 else f"{unit.restarts} times"
        end = ", until systemd gave it up" if unit.active == "failed" else ""
        return Judged(problem=f"ended, and was started again {times}{end}")
    if unit.active == "active" and unit.type not in _WITHOUT_READY:
        return Judged()
    if unit.active not in ("active", "activating", "reloading") and not unit.has_job:
        return Judged(problem=f"is {unit.active}")
    if not unit.main_pid:
        return Judged(problem="has no main process", is_settled=False)
    if says and not any(re.search(says, line) for line in unit.said):
        return Judged(problem=f"runs, and has not said what it waits for: no line has {says!r}", is_settled=False)
    return Judged()


def read_waiting_unit(channel: Channel, unit: str) -> WaitingUnit:
    """What the guest says of ``unit``, a name that it knows; `ImageError` if it cannot say."""
    command = _SHOW.format(properties=",".join(_PROPERTIES), unit=shlex.quote(unit), lines=_LINES)
    probe = Probe(f"state of {unit}", command)
    return read(ask(channel, [probe]), probe, _unit)


def _unit(text: str) -> WaitingUnit:
    shown, _, rest = text.partition("\njournal of ")
    row: Mapping[str, str] = dict(line.split("=", 1) for line in shown.splitlines())
    lines, main_pid = rest.splitlines()[1:], int(row.get("MainPID", 0))
    if main_pid and not lines:
        raise ValueError("the journal has no line of its start")
    return WaitingUnit(
        load=row["LoadState"],
        type=row.get("Type", ""),
        active=row["ActiveState"],
        sub=row["SubState"],
        main_pid=main_pid,
        restarts=int(row.get("NRestarts", 0)),
        has_job=bool(row.get("Job")),
        said=tuple(line for line in lines if is_own(line)),
    )


def find_not_waiting(
    channel: Channel, unit: str, says: str, where: str, deadline: Deadline | None = None
) -> Finding | None:
    """The finding about ``unit`` if it does not wait as `judge` demands; None as soon as it does.

    A unit that has not said it yet has time until ``deadline``, by default `SAYS_S` on the reference machine.
    `ImageError` if the guest cannot say.
    """
    deadline = deadline or Deadline(SAYS_S)
    judged = Judged(problem="was not looked at", is_settled=False)

    def is_settled() -> bool:
        nonlocal judged
        judged = judge(read_waiting_unit(channel, unit), says)
        return judged.is_settled

    poll(is_settled, deadline, every_s=_EVERY_S * host_scale())
    if not judged.problem:
        return None
    late = "" if judged.is_settled else f" after {deadline.passed_s:.0f} s"
    return not_waiting(unit, f"{judged.problem}{late}", survey_units(channel, [unit]), where)
