"""Phases, units and programs of a boot become a picture in which no part is larger than the whole."""

from __future__ import annotations

from harness.model.boot_profile import (
    BootProfile,
    GuestUse,
    PhaseUse,
    ProgramUse,
    Slice,
    StepUse,
    UnitUse,
    phase_uses,
    slices,
)

PROFILE = BootProfile(
    image="base",
    artifacts="ab" * 32,
    accelerator="tcg",
    phases=(
        PhaseUse(name="firmware", wall_s=2.0, cpu_s=1.0),
        PhaseUse(name="initrd", wall_s=20.0, cpu_s=10.0),
        PhaseUse(name="userspace", wall_s=30.0, cpu_s=20.0),
    ),
    steps=(StepUse(line="[    1.2] RAS: \x1b[1minitialized.", wall_s=2.0, cpu_s=1.2),),
    units=(
        UnitUse(unit="nova-compute.service", phase="userspace", cpu_s=30.0),
        UnitUse(unit="ssh.service", phase="userspace", cpu_s=10.0),
        UnitUse(unit="systemd-udevd.service", phase="initrd", cpu_s=4.0),
    ),
    programs=(
        ProgramUse(program="nova-compute", unit="nova-compute.service", own_s=25.0, children_s=5.0),
        ProgramUse(program="sshd", unit="ssh.service", own_s=2.0, children_s=0.0),
    ),
    scale=0.5,
)


def test_the_time_of_a_phase_is_what_was_used_from_its_begin_to_the_next() -> None:
    phases = phase_uses({"firmware": 2.0, "kernel": 3.0}, {"firmware": 0.5, "kernel": 1.5, "ready": 4.0})

    assert phases == (
        PhaseUse(name="firmware", wall_s=2.0, cpu_s=1.0),
        PhaseUse(name="kernel", wall_s=3.0, cpu_s=2.5),
    )


def test_the_guests_seconds_are_scaled_to_those_of_the_host() -> None:
    guest = GuestUse(busy_s=100.0, units=PROFILE.units, programs=PROFILE.programs).scaled(0.5)

    assert guest.busy_s == 50.0
    assert [unit.cpu_s for unit in guest.units] == [15.0, 5.0, 2.0]
    assert (guest.programs[0].own_s, guest.programs[0].children_s) == (12.5, 2.5)


def test_only_what_runs_in_linux_counts_from_the_kernel_on() -> None:
    assert PROFILE.cpu_s == 31.0
    assert PROFILE.kernel_to_ready_s == 30.0


def test_no_part_is_larger_than_the_whole() -> None:
    root = slices(PROFILE)

    def check(one: Slice) -> None:
        assert sum(part.cpu_s for part in one.parts) <= one.cpu_s + 1e-6
        for part in one.parts:
            check(part)

    check(root)
    assert [part.name for part in root.parts] == ["firmware", "initrd", "userspace"]
    initrd, userspace = root.parts[1:]
    assert [(part.name, part.cpu_s) for part in initrd.parts] == [("systemd-udevd.service", 4.0)]
    assert [(part.name, part.cpu_s) for part in userspace.parts] == [
        ("nova-compute.service", 15.0),
        ("ssh.service", 5.0),
    ]
    assert [(part.name, part.cpu_s) for part in userspace.parts[0].parts] == [("nova-compute", 15.0)]
