"""What grows on a host is found with its cause and its end, and nothing else is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.examine.soak.judge import judge_leaks
from harness.examine.soak.leaks import Axis, Leak, filled, filling, find_leaks, timers_behind
from harness.examine.soak.looks import Kind, Look, Phase
from harness.examine.soak.samples import Sample, Space, UnitUse
from harness.examine.soak.writers import Writer, writer_of
from harness.lint.finding import LintFinding

from .hosts import GROUND, MIB, RUN, STILL, file, memory, minutes, with_timers

LOG = "/run/overlayfs/var/log/x"


def leaks(looks: list[Look]) -> list[tuple[Kind, str]]:
    return [(leak.series.kind, leak.series.name) for leak in find_leaks(looks, GROUND)]


def finding_of(looks: list[Look], leak: Leak | None = None) -> LintFinding:
    found = [leak] if leak else find_leaks(looks, GROUND)
    writers = [writer_of(one, looks, GROUND, {80: "agent"}, []) for one in found]
    (finding,) = judge_leaks(found, writers, GROUND)
    return finding


def test_a_still_host_has_none() -> None:
    assert leaks(minutes(lambda _, __: {})) == []


def test_a_units_leak_of_a_mebibyte_a_minute_is_found_with_its_end() -> None:
    finding = finding_of(minutes(memory("leak.service", lambda at_s: 30 + at_s / 60)))

    assert (finding.id, finding.path) == ("fills-memory", "unit:leak.service")
    assert "it grows by 1.0 MiB a minute: memory is full in 25 hours" in finding.what
    assert "unit: leak.service" in finding.evidence
    assert any("95 % confidence" in line for line in finding.evidence)


@pytest.mark.parametrize(
    "size",
    [
        lambda at_s: min(100.0, 30 + at_s),
        lambda at_s: 30 + 60 * (1 - math.exp(-at_s / 200)),
        lambda at_s: 30 + at_s % 90 / 10,
        lambda at_s: 30 + 10 * math.log(1 + at_s),
    ],
    ids=["full cache", "exponential", "collected", "logarithm"],
)
def test_a_cache_that_levels_off_is_none(size: Callable[[float], float]) -> None:
    assert leaks(minutes(memory("cache.service", size))) == []


def test_a_unit_with_a_limit_is_full_at_its_limit() -> None:
    def change(still: Sample, at_s: float) -> dict[str, object]:
        used = UnitUse(memory=int((20 + at_s / 60) * MIB), memory_limit=90 * MIB)
        return {"use": {**still.use, "agent.service": used}}

    assert "memory is full in 60 minutes" in finding_of(minutes(change)).what


def test_what_is_full_only_after_months_is_none() -> None:
    assert leaks(minutes(memory("slow.service", lambda at_s: 30 + at_s / 60 / 60))) == []


def test_pages_that_the_kernel_takes_after_a_boot_are_none() -> None:
    """260 KiB in a minute and a half, seen on a good host: it would be full in eight days."""

    def change(still: Sample, at_s: float) -> dict[str, object]:
        return {"memory": {**still.memory, "SUnreclaim": 30 * MIB + int(at_s * 2700)}}

    assert leaks(minutes(change, count=16)) == []
    assert leaks(minutes(change)) == [(Kind.KERNEL, "SUnreclaim")]


def test_page_cache_is_none() -> None:
    def change(still: Sample, at_s: float) -> dict[str, object]:
        cached = UnitUse(memory=20 * MIB, cache=int(at_s * MIB), tasks=1)
        return {"use": {**still.use, "reader.service": cached}, "memory": {**still.memory, "Cached": int(at_s * MIB)}}

    assert leaks(minutes(change)) == []


def test_a_file_explains_its_folder_and_file_system_and_is_called_as_programs_call_it() -> None:
    looks = minutes(file(LOG, lambda at_s: at_s / 60))

    assert leaks(looks) == [(Kind.FILE, LOG)]
    finding = finding_of(looks)
    assert (finding.id, finding.path) == ("fills-memory", "/var/log/x")
    assert "/run is full in 6 hours" in finding.what
    assert "agent.service" in finding.what, "whose pages grow with it"


def test_a_file_that_is_rotated_is_none() -> None:
    assert leaks(minutes(file(LOG, lambda at_s: at_s % 120 / 10))) == []


def test_of_two_writers_each_is_told_by_the_pages_that_it_touched() -> None:
    def change(still: Sample, at_s: float) -> dict[str, object]:
        one, two = int(at_s / 60 * MIB), int(at_s / 6 * MIB)
        use = {"one.service": UnitUse(files=one), "two.service": UnitUse(files=two)}
        space = replace(still.space["/run"], used=20 * MIB + one + two)
        return {
            "files": {"/run/one": one, "/run/two": two}, "space": {**still.space, "/run": space}, "use": use,
        }  # fmt: skip

    looks = minutes(change)
    writers = {leak.series.name: writer_of(leak, looks, GROUND, {}, []).unit for leak in find_leaks(looks, GROUND)}
    assert writers == {"/run/one": "one.service", "/run/two": "two.service"}


def test_many_small_files_are_found_by_their_folder() -> None:
    def change(still: Sample, at_s: float) -> dict[str, object]:
        count = int(at_s / 2)
        space = replace(still.space["/run"], used=(20 + count) * MIB)
        return {
            "files": {f"/run/spool/{number}": MIB for number in range(count)},
            "space": {**still.space, "/run": space},
        }

    assert leaks(minutes(change)) == [(Kind.FOLDER, "/run/spool")]


def test_the_journal_keeps_to_its_own_limit() -> None:
    def change(still: Sample, at_s: float) -> dict[str, object]:
        size = int(at_s / 10 * MIB)
        space = replace(still.space["/run"], used=20 * MIB + size)
        return {"files": {"/run/log/journal/0a1b/system.journal": size}, "space": {**still.space, "/run": space}}

    assert leaks(minutes(change)) == []


def test_a_file_on_the_disk_fills_the_data() -> None:
    looks = minutes(file("/data/var/log/y", lambda at_s: at_s, place="/data"))

    assert finding_of(looks).id == "fills-data"


def test_descriptors_and_tasks_are_counted() -> None:
    opened = minutes(lambda still, at_s: {"descriptors": {**still.descriptors, 80: 12 + int(at_s / 10)}})
    forked = minutes(
        lambda still, at_s: {"use": {**still.use, "agent.service": UnitUse(memory=1, tasks=3 + int(at_s / 10))}}
    )

    assert (finding_of(opened).id, finding_of(opened).path) == ("leaks-descriptors", "unit:agent.service")
    assert any("agent, process 80" in line for line in finding_of(opened).evidence)
    assert (finding_of(forked).id, finding_of(forked).path) == ("leaks-tasks", "unit:agent.service")


def test_what_each_round_of_use_leaves_behind_is_found() -> None:
    looks = minutes(lambda _, __: {})
    used = [
        replace(look, sample=replace(look.sample, use={"logind.service": UnitUse(memory=int((9 + rounds) * MIB))}))
        for look in looks
        for rounds in [look.number if look.phase is Phase.USED else 33 if look.phase is Phase.DAYS else 0]
    ]

    (leak,) = find_leaks(used, GROUND)
    assert (leak.axis, round(leak.growth.rate / MIB)) == (Axis.ROUNDS, 1)
    assert "a round of use: memory is full after 1," in finding_of(used).what


def weekly(mib: float) -> list[Look]:
    """A timer that leaves a file each week, and one that fires daily."""
    looks = list(with_timers(minutes(lambda _, __: {}), {"weekly.timer": 7, "nightly.timer": 1}))
    return [
        replace(
            look,
            sample=replace(
                look.sample,
                files={f"/run/dump/{week}": int(mib * MIB) for week in range(weeks)},
                space={**STILL.space, "/run": Space(size=400 * MIB, used=int((20 + weeks * mib) * MIB))},
            ),
        )
        for look in looks
        for weeks in [int(look.number // 7) if look.phase is Phase.DAYS else 0]
    ]


def test_what_a_timer_leaves_behind_each_week_is_found_with_the_timer() -> None:
    looks = weekly(20)
    (leak,) = find_leaks(looks, GROUND)

    assert (leak.axis, leak.series.kind) == (Axis.DAYS, Kind.FOLDER)
    assert timers_behind(leak, looks) == ["weekly.timer"]
    assert "it grew when these timers fired: weekly.timer" in finding_of(looks).evidence


def test_what_fills_the_host_before_the_end_ends_the_soak_once_a_third_is_gone() -> None:
    looks = minutes(file(LOG, lambda at_s: 5 * at_s))
    ends = next(number for number in range(1, 100) if filling(looks[:number], GROUND, 500.0))

    assert 24 <= looks[ends - 1].sample.at_s - 100 <= 32
    leak = filling(looks[:ends], GROUND, 500.0)
    assert leak is not None
    assert "it grows by 5.0 MiB a second: /run is full in" in finding_of(looks[:ends], leak).what


def test_what_has_filled_the_host_between_two_looks_is_named() -> None:
    looks = minutes(file(LOG, lambda at_s: min(380.0, at_s * 60)))[:3]
    leak = filled(looks, GROUND, RUN)

    assert leak is not None
    finding = finding_of(looks, leak)
    assert (finding.path, "/run is full" in finding.what, "agent.service" in finding.what) == ("/var/log/x", True, True)
    assert filled(minutes(lambda _, __: {})[:3], GROUND, RUN) is None


def test_more_and_more_processes_explain_the_memory_of_their_unit() -> None:
    def change(still: Sample, at_s: float) -> dict[str, object]:
        return {"use": {**still.use, "forks.service": UnitUse(memory=int((1 + at_s / 10) * MIB), tasks=1 + int(at_s))}}

    assert leaks(minutes(change)) == [(Kind.TASKS, "forks.service")]


def test_what_will_not_fill_it_before_the_end_does_not_end_the_soak() -> None:
    slow, full = minutes(file(LOG, lambda at_s: at_s / 5)), minutes(file(LOG, lambda at_s: min(120, 5 * at_s)))

    assert not any(filling(slow[:number], GROUND, 600.0) for number in range(1, 100))
    assert not any(filling(full[:number], GROUND, 600.0) for number in range(1, 100))


def test_a_file_that_somebody_has_open_has_a_writer() -> None:
    looks = minutes(file(LOG, lambda at_s: at_s / 60))
    (leak,) = find_leaks(looks, GROUND)

    assert writer_of(leak, looks, GROUND, {70: "dd"}, [(70, "/var/log/x")]) == Writer(
        unit="ssh.service", how="dd, process 70, has /var/log/x open"
    )
