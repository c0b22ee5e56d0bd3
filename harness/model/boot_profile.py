"""Where the CPU time of a boot goes: by phase, unit and program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseUse:
    """A phase of a boot: its duration, and the CPU seconds that QEMU used in it on the host."""

    name: str
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitUse:
    """The CPU seconds of all processes of ``unit`` in ``phase``, which is initrd or userspace."""

    unit: str
    phase: str
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramUse:
    """The CPU seconds of the processes called ``program`` in ``unit``; with ``children_s``, those of their children
    that have ended. ``unit`` is empty for the kernel's threads."""

    program: str
    unit: str
    own_s: float
    children_s: float

    @property
    def cpu_s(self) -> float:
        return self.own_s + self.children_s


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUse:
    """What passed after ``line`` was printed on the console until the next line was."""

    line: str
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestUse:
    """What a guest counted: ``busy_s`` of all its processes since its kernel started, its units and its programs."""

    busy_s: float
    units: tuple[UnitUse, ...]
    programs: tuple[ProgramUse, ...]

    def scaled(self, factor: float) -> GuestUse:
        """The same with all seconds multiplied."""
        return GuestUse(
            busy_s=self.busy_s * factor,
            units=tuple(
                UnitUse(unit=one.unit, phase=one.phase, cpu_s=round(one.cpu_s * factor, 2)) for one in self.units
            ),
            programs=tuple(
                ProgramUse(
                    program=one.program,
                    unit=one.unit,
                    own_s=round(one.own_s * factor, 2),
                    children_s=round(one.children_s * factor, 2),
                )
                for one in self.programs
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BootProfile:
    """One boot from power-on until ready: ``phases`` in their order, the longest ``steps`` in theirs, ``units`` and
    ``programs`` with the largest first.

    All CPU seconds are the host's. A guest whose virtual CPUs share a core of the host counts the time in which it
    waits for that core as used, so its seconds are multiplied by ``scale``: QEMU's seconds since the kernel started, of
    each second that the guest counted.
    """

    image: str
    artifacts: str
    accelerator: str
    phases: tuple[PhaseUse, ...]
    steps: tuple[StepUse, ...]
    units: tuple[UnitUse, ...]
    programs: tuple[ProgramUse, ...]
    scale: float

    @property
    def cpu_s(self) -> float:
        return sum(phase.cpu_s for phase in self.phases)

    @property
    def wall_s(self) -> float:
        return sum(phase.wall_s for phase in self.phases)

    @property
    def kernel_to_ready_s(self) -> float:
        """CPU seconds without what runs before the kernel."""
        return sum(phase.cpu_s for phase in self.phases if phase.name in LINUX)


LINUX = ("kernel", "initrd", "userspace")
"""The phases in which Linux runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A part of a picture of CPU time: ``parts`` are inside it and together are not larger."""

    name: str
    cpu_s: float
    kind: str
    parts: tuple[Slice, ...] = ()


def slices(profile: BootProfile) -> Slice:
    """The boot, its phases, their units, and the programs in these: pure."""
    phases = tuple(
        Slice(name=phase.name, cpu_s=phase.cpu_s, kind=phase.name, parts=tuple(_units(profile, phase)))
        for phase in profile.phases
    )
    return Slice(name="boot", cpu_s=profile.cpu_s, kind="boot", parts=phases)


def _units(profile: BootProfile, phase: PhaseUse) -> Iterator[Slice]:
    """A unit may continue after the boot, and the guest's seconds are estimates: no phase gets more than it has."""
    units = [unit for unit in profile.units if unit.phase == phase.name]
    total_s = sum(unit.cpu_s for unit in units)
    fits = min(1.0, phase.cpu_s / total_s) if total_s else 1.0
    programs = dict[str, list[ProgramUse]]()
    for program in profile.programs if phase.name == "userspace" else ():
        programs.setdefault(program.unit, []).append(program)
    for unit in units:
        cpu_s = unit.cpu_s * fits
        yield Slice(
            name=unit.unit, cpu_s=cpu_s, kind=phase.name, parts=tuple(_programs(programs.get(unit.unit, []), cpu_s))
        )


def _programs(programs: list[ProgramUse], most_s: float) -> Iterator[Slice]:
    total_s = sum(program.cpu_s for program in programs)
    fits = min(1.0, most_s / total_s) if total_s else 1.0
    for program in programs:
        yield Slice(name=program.program, cpu_s=program.cpu_s * fits, kind="program")


def phase_uses(durations_s: Mapping[str, float], used_s: Mapping[str, float]) -> tuple[PhaseUse, ...]:
    """The phases from their durations, and the CPU seconds that were used until each began and until "ready": pure."""
    names = [*durations_s]
    ends = [used_s[name] for name in names[1:]] + [used_s["ready"]]
    return tuple(
        PhaseUse(name=name, wall_s=round(durations_s[name], 2), cpu_s=round(max(0.0, end_s - used_s[name]), 2))
        for name, end_s in zip(names, ends, strict=True)
    )
