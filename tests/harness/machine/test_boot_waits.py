"""What a boot waited for: from QEMU's CPU time, what the guest says of its units, and what the console printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.cpu_use import CpuSample
from harness.core.deadline import Deadline
from harness.guest.channel import Channel, Completed
from harness.guest.fingerprint import Fingerprint
from harness.guest.health import GuestHealth
from harness.guest.unit_states import UnitStart
from harness.lab import RequestRecord
from harness.machine.boot_waits import BootWaits, measure
from harness.machine.watch import BootWatch
from harness.model.machine_spec import BreakPoint, DiskSpec
from harness.model.network_faults import known
from harness.model.verdict import UnitWait

POWER_ON_S, KERNEL_S, READY_S = 1000.0, 1010.0, 1110.0
"""Monotonic seconds."""
HEALTH = GuestHealth(
    kernel="", image="", version="", boot_id="", tainted=0, prints=Fingerprint(), failed_units=(), restarted_units=(),
    uptime_s=READY_S - KERNEL_S,
    user_space_s=20.0,
    starts=(
        UnitStart(unit="basic.target", begins_s=29.0, ends_s=29.0),
        UnitStart(unit="planned.service", begins_s=29.5, ends_s=60.2, after=frozenset({"basic.target"})),
        UnitStart(unit="late.target", begins_s=99.0, ends_s=99.0, after=frozenset({"planned.service"})),
    ),
)  # fmt: skip
CONSOLE = """\
[   39.40] Starting planned.service...
[   45.00] [ ***  ] Job planned.service/start running (5s / no limit)
[   70.30] [  OK  ] Finished planned.service.
[   99.00] login:
"""


class Guest(Channel):
    """Has a journal with one job in the initrd, unless ``journal`` is something else; its disk was busy for a while."""

    def __init__(self, journal: str | None = None, disk_ms: int = 0) -> None:
        begins = {"UNIT": "dracut-initqueue.service", "MESSAGE_ID": "7d4958e842da4a758f6c1cdc7b36dcc5"}
        ends = begins | {"MESSAGE_ID": "39f53479d3a045ac8e11786248231fbf"}
        entries = (begins | {"__MONOTONIC_TIMESTAMP": "3000000"}, ends | {"__MONOTONIC_TIMESTAMP": "19000000"})
        self._journal = "\n".join(map(json.dumps, entries)) if journal is None else journal
        self._disks = f"8 0 sda 1 0 9 1 2 3 4 2 0 {disk_ms} 1\ncpu 1 0 1 9 99999 0 0 0 0 0"

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        text = f"{self._journal}\n\x1ejobs 0\n{self._disks}\n\x1etime of disks 0\n"
        return Completed(command=command, status=0, stdout=text.encode(), stderr=b"")


def samples(is_idle: Callable[[float], bool], *, waited: bool = False) -> Iterator[CpuSample]:
    """Every half second; a machine that is not idle runs, or waits for a CPU of the host."""
    used_s = 0.0
    for number in range(int(2 * (READY_S - POWER_ON_S)) + 10):
        at_s = POWER_ON_S + number / 2
        yield CpuSample(at_s, 0.0 if waited else used_s, used_s if waited else 0.0)
        used_s += 0.0 if is_idle(at_s) else 0.5


def between(begins_s: float, ends_s: float) -> Callable[[float], bool]:
    """Whether a moment is between two seconds after the kernel began."""
    return lambda at_s: KERNEL_S + begins_s <= at_s < KERNEL_S + ends_s


@pytest.fixture
def booted(watch: BootWatch, tmp_path: Path) -> BootWatch:
    """A boot in which the CPUs were idle from the 30th to the 60th second."""
    console: Any = watch.console
    console.log, console.started_s, watch.started_s = tmp_path / "console.log", POWER_ON_S, POWER_ON_S
    console.log.write_text(CONSOLE)
    watch.meter.samples.extend(samples(between(30, 60)))
    return watch


def resample(watch: BootWatch, is_idle: Callable[[float], bool], *, waited: bool = False) -> None:
    watch.meter.samples.clear()
    watch.meter.samples.extend(samples(is_idle, waited=waited))


def measured(watch: BootWatch, guest: Guest | None = None) -> BootWaits:
    return measure(watch, guest or Guest(), HEALTH, READY_S)


def test_a_unit_that_sleeps_is_named_with_what_the_console_said_before_and_after(booted: BootWatch) -> None:
    seen = measured(booted)

    assert seen.idle_s == 30.0
    assert seen.waits == (
        UnitWait(
            unit="planned.service",
            idle_s=30.0,
            lines=("Starting planned.service...", "[  OK  ] Finished planned.service."),
        ),
    )
    assert [(step.unit, step.idle_s) for step in seen.path] == [
        ("basic.target", 0.0), ("planned.service", 30.0), ("late.target", 0.0),
    ]  # fmt: skip


def test_a_wait_in_the_initrd_and_one_in_the_kernel_are_named_too(booted: BootWatch) -> None:
    resample(booted, lambda at_s: between(0, 3)(at_s) or between(5, 15)(at_s) or between(30, 35)(at_s))

    assert [(wait.unit, wait.idle_s) for wait in measured(booted).waits] == [
        ("dracut-initqueue.service", 10.0), ("planned.service", 5.0), ("the kernel", 3.0),
    ]  # fmt: skip


def test_short_waits_count_and_are_not_named(booted: BootWatch) -> None:
    resample(booted, lambda at_s: between(5, 5.5)(at_s) or between(30, 32)(at_s))

    seen = measured(booted)
    assert seen.idle_s == 2.5
    assert [(wait.unit, wait.idle_s) for wait in seen.waits] == [("planned.service", 2.0)]


def test_neither_a_busy_machine_nor_one_that_the_host_starved_waits(booted: BootWatch) -> None:
    for waited in (False, True):
        resample(booted, lambda _: False, waited=waited)
        assert (measured(booted).idle_s, measured(booted).waits) == (0.0, ())


def test_a_machine_that_the_host_starves_and_that_sleeps_waits_while_it_sleeps(booted: BootWatch) -> None:
    resample(booted, between(30, 60), waited=True)

    assert [(wait.unit, wait.idle_s) for wait in measured(booted).waits] == [("planned.service", 30.0)]


def test_a_machine_that_is_stopped_again_and_again_is_not_known_to_wait(booted: BootWatch) -> None:
    taken = list(samples(between(30, 60)))
    booted.meter.samples.clear()
    booted.meter.samples.extend(replace(one, is_stopped=number % 10 == 0) for number, one in enumerate(taken))

    assert (measured(booted).idle_s, measured(booted).waits) == (None, ())


def test_firmware_and_the_time_after_ready_do_not_count(booted: BootWatch) -> None:
    resample(booted, lambda at_s: at_s < KERNEL_S or at_s >= READY_S)

    assert measured(booted).idle_s == 0.0


def test_idle_cpus_while_no_job_runs_are_no_wait(booted: BootWatch) -> None:
    resample(booted, between(62, 98))

    assert (measured(booted).idle_s, measured(booted).waits) == (0.0, ())


def test_a_download_is_no_wait(booted: BootWatch) -> None:
    record = RequestRecord(
        started_s=KERNEL_S + 30, client=booted.plan.spec.address, method="GET", path="/x/rootfs.squashfs", status=200,
        size_bytes=1, bytes_sent=1, elapsed_s=25.0,
    )  # fmt: skip
    lab: Any = booted.context.lab
    lab.http.log = (record,)

    assert measured(booted).idle_s == 5.0


def test_the_time_in_which_a_disk_had_something_to_do_is_no_wait(booted: BootWatch) -> None:
    assert measured(booted, Guest(disk_ms=21_000)).idle_s == 9.0
    assert measured(booted, Guest(disk_ms=31_000)).idle_s == 0.0


def test_a_unit_that_has_ended_is_on_the_critical_path(booted: BootWatch) -> None:
    """systemd does not list it."""
    starts = (HEALTH.starts[0], replace(HEALTH.starts[2], after=frozenset({"once.service"})))
    begins = {"UNIT": "once.service", "MESSAGE_ID": "7d4958e842da4a758f6c1cdc7b36dcc5"}
    ends = begins | {"MESSAGE_ID": "39f53479d3a045ac8e11786248231fbf"}
    entries = (begins | {"__MONOTONIC_TIMESTAMP": "30000000"}, ends | {"__MONOTONIC_TIMESTAMP": "61000000"})
    guest = Guest("\n".join(map(json.dumps, entries)))

    seen = measure(booted, guest, replace(HEALTH, starts=starts), READY_S)

    assert [step.unit for step in seen.path] == ["basic.target", "once.service", "late.target"]
    assert [wait.unit for wait in seen.waits] == ["once.service"]


def test_without_a_journal_systemd_names_the_units_of_user_space(booted: BootWatch) -> None:
    assert [wait.unit for wait in measured(booted, Guest(journal="")).waits] == ["planned.service"]


def test_a_unit_that_may_wait_for_a_control_plane_is_excused(booted: BootWatch) -> None:
    definition = replace(booted.plan.definition, waiting=("planned.service",))
    plan = replace(booted.plan, definition=definition)

    assert measured(replace(booted, plan=plan)).waits == ()


@pytest.mark.parametrize("change", ["a late disk", "a slow disk", "a person", "a network fault"])
def test_a_boot_that_something_else_delays_says_nothing_about_the_image(booted: BootWatch, change: str) -> None:
    disk = DiskSpec(path=Path("x"), serial="x")
    plan, lab = booted.plan, booted.context.lab
    match change:
        case "a late disk":
            plan = replace(plan, spec=replace(plan.spec, disks=(replace(disk, late_s=9.0),)))
        case "a slow disk":
            plan = replace(plan, spec=replace(plan.spec, disks=(replace(disk, reads_per_s=9),)))
        case "a person":
            plan = replace(plan, stop=BreakPoint.GRUB)
        case _:
            faulty: Any = lab
            faulty.network_faults = (known()["link-lossy"],)

    seen = measured(replace(booted, plan=plan))

    assert (seen.idle_s, seen.waits) == (None, ())
    assert seen.path
