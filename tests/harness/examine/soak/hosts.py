"""Hosts that are soaked, as looks: all is still but what a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.examine.soak.ground import Ground
from harness.examine.soak.looks import Look, Phase
from harness.examine.soak.samples import Sample, Space, Timer, UnitState, UnitUse
from harness.examine.storage import Mount

MIB = 1 << 20
RUN = Mount(place="/run", kind="tmpfs", source="tmpfs", device="0:20")
DATA = Mount(place="/data", kind="ext4", source="/dev/sda2", device="8:2")
GROUND = Ground(began_s=1000, mounts=(RUN, DATA), upper="/run/overlayfs", cursor="i=1;b=2", journal_bytes=64 * MIB)
STILL = Sample(
    at_s=100.0,
    memory={"MemTotal": 2048 * MIB, "MemAvailable": 1500 * MIB},
    units={"ssh.service": UnitState()},
    use={"ssh.service": UnitUse(memory=8 * MIB, tasks=1), "agent.service": UnitUse(memory=20 * MIB, tasks=3)},
    space={"/run": Space(size=400 * MIB, used=20 * MIB, inodes=50000, used_inodes=900),
           "/data": Space(size=8192 * MIB, used=100 * MIB, inodes=500000, used_inodes=800)},
    processes={1: "init.scope", 70: "ssh.service", 80: "agent.service"},
    descriptors={1: 60, 70: 8, 80: 12},
    cursor="i=1;b=2",
)  # fmt: skip
Change = Callable[[Sample, float], Mapping[str, Any]]
"""Of the still sample and of the seconds since the first look, what differs."""


def minutes(change: Change, *, count: int = 100, every_s: float = 6.0, still: Sample = STILL) -> list[Look]:
    """Ten minutes in which the host is left alone, used and taken through days, a third of the time each."""
    third = count // 3
    looks = list[Look]()
    for number in range(count):
        at_s = number * every_s
        sample = replace(still, at_s=100.0 + at_s, **change(still, at_s))
        phase = Phase.ALONE if number < third else Phase.USED if number < 2 * third else Phase.DAYS
        since = number - third + 1 if phase is Phase.USED else number - 2 * third + 1
        day = since * 30 / (count - 2 * third)
        looks.append(Look(sample=sample, phase=phase, number={Phase.USED: since, Phase.DAYS: day}.get(phase, 0)))
    return looks


def with_timers(looks: Sequence[Look], every_days: Mapping[str, float]) -> Iterator[Look]:
    """``looks`` in which each timer starts its unit, of the same name, so often."""
    for look in looks:
        timers = dict[str, Timer]()
        for name, days in every_days.items():
            times = look.number // days if look.phase is Phase.DAYS else 0
            timers[name] = Timer(unit=name.replace(".timer", ".service"), last_s=1000.0 * times)
        yield replace(look, sample=replace(look.sample, timers=timers))


def memory(unit: str, size: Callable[[float], float]) -> Change:
    """The memory of a unit over the seconds, in MiB."""

    def change(still: Sample, at_s: float) -> Mapping[str, Any]:
        return {"use": {**still.use, unit: UnitUse(memory=int(size(at_s) * MIB), tasks=3)}}

    return change


def file(path: str, size: Callable[[float], float], place: str = "/run") -> Change:
    """A file of a file system, with the space that it takes, over the seconds, in MiB."""

    def change(still: Sample, at_s: float) -> Mapping[str, Any]:
        taken, space = int(size(at_s) * MIB), still.space[place]
        use = {**still.use, "agent.service": UnitUse(memory=20 * MIB, tasks=3, files=taken)}
        return {
            "files": {path: taken},
            "space": {**still.space, place: replace(space, used=space.used + taken)},
            "use": use,
        }

    return change
