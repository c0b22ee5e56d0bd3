"""Losing memory: a process takes all that is free, and the OOM killer must choose it, not a service of the image."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.core.deadline import Deadline, measure_host_speed, poll
from harness.examine.processes import unit_of
from harness.examine.soak.ground import END_OF_JOURNAL, cursor_of
from harness.examine.texts import lines_of
from harness.guest.channel import Channel
from harness.guest.probes import Probe, ask, read
from harness.lint.finding import LintFinding, fails, warns
from harness.model.definition import ImageDefinition

HOG = "bootproof-memory.service"
_TAKES_S = 60
"""On the reference machine without other work."""
_START = rf"""
all_kib=$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo) || exit
systemd-run --quiet --unit={HOG} -p OOMScoreAdjust=0 -p RuntimeMaxSec=TAKES_S \
    dd if=/dev/zero of=/dev/null bs=$((all_kib - 1024))K count=1 iflag=fullblock
"""
"""dd(1) reads one block, the largest that the kernel promises without looking at what is free (overcommit_memory 0)."""
_STATE = Probe("the process that takes all memory", f"systemctl show -p ActiveState -p Result -- {HOG}")
_RUNS = ("active", "activating", "reloading")
_KILLED = re.compile(r"oom-kill:.*\btask_memcg=(?P<group>[^,]*),task=(?P<task>.*),pid=(?P<pid>\d+)")
"""Linux ≥ 5.0, mm/oom_kill.c: dump_oom_summary."""
_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """What the OOM killer chose: ``victims`` are units, each with the kernel's line; ``ended`` are units of the
    definition that were active before and are not afterwards, with what they are."""

    victims: tuple[tuple[str, str], ...] = ()
    ended: Mapping[str, str] = field(default_factory=dict)


def lose_memory(channel: Channel, definition: ImageDefinition) -> Pressure:
    """Take all memory of a host once; the console shows it. `ImageError` if the host does not answer afterwards."""
    units = Probe("states of units", f"systemctl show -p Id -p ActiveState -- {' '.join(_demanded(definition))}")
    before = ask(channel, [END_OF_JOURNAL, units])
    cursor = read(before, END_OF_JOURNAL, cursor_of)
    takes_s = round(_TAKES_S * measure_host_speed().scale)
    channel.run(_START.replace("TAKES_S", str(takes_s)), Deadline(_LIMIT_S)).checked()
    poll(lambda: _has_ended(channel), Deadline(2.0 * takes_s, scaled=False), every_s=1.0)
    kernel = Probe("messages of the kernel", f"echo look\njournalctl -k -q --no-pager --after-cursor='{cursor}' -o cat")
    answers = ask(channel, [kernel, units], Deadline(_LIMIT_S))
    was, now = (read(one, units, lambda text: dict(_states(text))) for one in (before, answers))
    return Pressure(
        victims=tuple(read(answers, kernel, lambda text: list(victims(lines_of(text))))),
        ended={unit: now[unit] for unit, state in was.items() if state == "active" and now[unit] not in _RUNS},
    )


def _demanded(definition: ImageDefinition) -> Sequence[str]:
    return (*definition.services, *definition.sockets) or ("-.mount",)


def _has_ended(channel: Channel) -> bool:
    state = ask(channel, [_STATE], Deadline(_LIMIT_S))[_STATE.name]
    return "ActiveState=active" not in state


def victims(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if found := _KILLED.search(line):
            yield unit_of(found["group"]), line


def _states(text: str) -> Iterator[tuple[str, str]]:
    for block in text.split("\n\n"):
        row = dict(line.split("=", 1) for line in block.splitlines())
        yield row["Id"], row["ActiveState"]


def judge(pressure: Pressure, definition: ImageDefinition) -> Iterator[LintFinding]:
    """Pure."""
    behind_sockets = (socket.replace(".socket", ".service") for socket in definition.sockets)
    own = {*definition.services, *definition.may_wait, *behind_sockets}
    taken = dict[str, str]()
    for unit, line in pressure.victims:
        taken.setdefault(unit, line)
    for unit, line in taken.items():
        if unit in own:
            what = "the OOM killer chose it when another process had taken all memory"
            yield fails("oom-kills-service", f"unit:{unit}", what, line)
        elif unit != HOG:
            what = "the OOM killer chose it, not the process that took all memory"
            yield warns("oom-kills-service", f"unit:{unit or 'none'}", what, line)
    for unit, state in pressure.ended.items():
        if unit not in taken:
            what = f"it did not survive that another process took all memory: it is {state}"
            yield fails("oom-kills-service", f"unit:{unit}", what)


def unchecked(pressure: Pressure) -> Iterator[str]:
    if not pressure.victims:
        yield "which process the OOM killer chooses: it did not act before the process that takes all memory was ended"
