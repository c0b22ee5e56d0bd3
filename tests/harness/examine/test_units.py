"""Enabled units that did nothing, those that never become ready, generators, and limits."""

from __future__ import annotations

import pytest

from harness.core.errors import ImageError
from harness.examine import units
from harness.examine.processes import Process
from harness.examine.units import UnitRow

SHOWN = """\
Id=ssh.service
Names=ssh.service sshd.service
LoadState=loaded
ActiveState=active
SubState=running
Result=success
UnitFileState=enabled
ConditionResult=yes
ConditionTimestampMonotonic=9
AssertResult=yes
InactiveExitTimestampMonotonic=12
LimitNOFILESoft=1024
TasksMax=2262
TasksCurrent=1

Id=ssh.socket
Names=ssh.socket
LoadState=loaded
ActiveState=inactive
SubState=dead
Result=success
UnitFileState=disabled
ConditionResult=no
ConditionTimestampMonotonic=0
AssertResult=no
InactiveExitTimestampMonotonic=0
Listen=0.0.0.0:22 (Stream)
Listen=[::]:22 (Stream)"""
SKIPPED = UnitRow(id="a.service", active="inactive", meets_conditions=False, meets_asserts=False, was_started=False)
TARGET = UnitRow(id="multi-user.target")
SAYS = "a.service - Do it was skipped because of an unmet condition check (ConditionPathExists=/etc/a.conf)."


def found(*rows: UnitRow, says: tuple[str, ...] = (), wanted: str = "a.service") -> list[tuple[str, str, str]]:
    loaded = {row.id: row for row in (*rows, TARGET)}
    judged = units.judge(loaded, [("multi-user.target", wanted)], ["waits.service"], says)
    return [(one.id, one.path, one.what) for one in judged]


def test_units_are_read_by_all_names() -> None:
    rows = units.parse({"units": SHOWN})

    assert rows["sshd.service"] is rows["ssh.service"]
    assert rows["ssh.service"].files_limit == "1024"
    assert rows["ssh.socket"].listen == "0.0.0.0:22 (Stream) [::]:22 (Stream)"
    assert not rows["ssh.socket"].was_checked


def test_enabled_units_that_are_inactive_are_asked_by_name() -> None:
    wants = "look\n/etc/systemd/system/a.target.wants/ssh.service\n/etc/systemd/system/a.target.wants/-.x.service"
    answers = {"units": SHOWN, "enabled units": wants}
    (probe,) = units.inactive_probe(answers)

    assert probe.command.endswith(" -- -.x.service a.target")
    gone = SHOWN.replace("ssh", "-.x").replace("=active", "=inactive")
    assert units.parse({**answers, probe.name: gone})["-.x.service"].active == "inactive"
    assert units.parse(answers)["ssh.service"].active == "active"
    assert units.inactive_probe({**answers, "enabled units": "look"}) == []


def test_the_least_of_a_units_limits_counts() -> None:
    shown = SHOWN.replace("TasksMax=2262", "TasksMax=2262\nEffectiveTasksMax=50")

    assert units.parse({"units": shown})["ssh.service"].tasks_limit == "50"


def test_templates_and_devices_are_not_asked() -> None:
    links = (
        "look\n/etc/systemd/system/sshd@.service.wants/ssh.service\n/run/systemd/generator/a.device.wants/ssh.service"
    )

    assert units.inactive_probe({"units": SHOWN, "enabled units": links}) == []


def test_a_unit_that_only_a_missing_unit_wants_is_found() -> None:
    rows = {
        "a.service": UnitRow(id="a.service", active="inactive", was_started=False),
        "multiuser.target": UnitRow(id="multiuser.target", load="not-found", active="inactive"),
        "multi-user.target": TARGET,
    }

    def paths(*wanted: tuple[str, str]) -> list[tuple[str, str]]:
        return [(one.path, one.what) for one in units.judge(rows, wanted, [], [])]

    ((path, what),) = paths(("multiuser.target", "a.service"))
    assert (path, "multiuser.target" in what) == ("unit:a.service", True)
    rows["a.service"] = UnitRow(id="a.service")
    assert paths(("multiuser.target", "a.service"), ("multi-user.target", "a.service")) == []


def test_a_timer_that_never_starts_its_unit_is_found() -> None:
    timer = UnitRow(id="a.timer", sub="elapsed")

    assert [path for _, path, _ in found(timer, wanted="a.timer")] == ["unit:a.timer"]
    assert not found(UnitRow(id="a.timer", sub="waiting"), wanted="a.timer")
    assert not found(UnitRow(id="a.timer", sub="elapsed", last_trigger="Mon 2026-11-30"), wanted="a.timer")


def test_links_are_read() -> None:
    links = (
        "look\n/etc/systemd/system/multi-user.target.wants/ssh.service\n/run/systemd/generator/a.mount.requires/b.swap"
    )

    assert units.parse_wanted({"enabled units": links}) == (
        ("multi-user.target", "ssh.service"),
        ("a.mount", "b.swap"),
    )


@pytest.mark.parametrize("text", ["sorry", "Id=a.service", "look"])
def test_another_answer_is_an_error(text: str) -> None:
    with pytest.raises(ImageError, match="units"):
        units.parse({"units": text})


def test_units_that_run_ran_wait_or_are_masked_are_in_order() -> None:
    assert not found(UnitRow(id="a.service"))
    assert not found(UnitRow(id="a.service", active="inactive"))
    assert not found(UnitRow(id="a.service", active="inactive", load="masked", was_started=False))
    assert not found(UnitRow(id="a.service"), UnitRow(id="waits.service", active="activating", sub="start"))


@pytest.mark.parametrize(
    "says",
    [SAYS, "a.service - Do it skipped, unmet condition check ConditionPathExists=/etc/a.conf"],
    ids=["252", "257"],
)
def test_a_unit_that_a_condition_skipped_is_found_with_the_condition(says: str) -> None:
    ((name, path, what),) = found(SKIPPED, says=(says,))

    assert (name, path) == ("unit-did-nothing", "unit:a.service")
    assert "ConditionPathExists=/etc/a.conf" in what


@pytest.mark.parametrize("condition", ["ConditionVirtualization=!vm", "ConditionFirstBoot=yes"])
def test_conditions_about_the_machine_are_in_order(condition: str) -> None:
    assert not found(
        SKIPPED, says=(f"a.service - Do it was skipped because of an unmet condition check ({condition}).",)
    )


@pytest.mark.parametrize(
    "row",
    [
        UnitRow(id="a.service", active="inactive", meets_asserts=False, was_started=False),
        UnitRow(id="a.service", active="inactive", was_checked=False, was_started=False),
        UnitRow(id="a.service", active="inactive", load="not-found", was_started=False),
        UnitRow(id="other.service"),
    ],
    ids=["assert", "dependency", "not-found", "not-loaded"],
)
def test_other_units_that_did_nothing_are_found(row: UnitRow) -> None:
    assert [name for name, _, _ in found(row)] == ["unit-did-nothing"]


@pytest.mark.parametrize(
    "row",
    [
        UnitRow(id="b.service", active="activating", sub="start"),
        UnitRow(id="b.service", active="activating", sub="auto-restart"),
        UnitRow(id="b.service", active="failed", sub="failed", result="start-limit-hit"),
    ],
    ids=["start", "auto-restart", "start-limit"],
)
def test_a_unit_that_never_becomes_ready_is_found(row: UnitRow) -> None:
    assert [(name, path) for name, path, _ in found(UnitRow(id="a.service"), row)] == [
        ("unit-never-ready", "unit:b.service")
    ]


def test_a_unit_that_was_started_too_often_keeps_the_result_of_its_last_start() -> None:
    row = UnitRow(id="b.service", active="failed", sub="failed", result="exit-code")
    says = ("b.service: Start request repeated too quickly.",)

    assert [path for _, path, _ in found(UnitRow(id="a.service"), row, says=says)] == ["unit:b.service"]


@pytest.mark.parametrize(
    "line",
    [
        "/usr/lib/systemd/system-generators/site-generator failed with exit status 1.",
        "/etc/systemd/system-generators/site-generator terminated by signal SEGV.",
    ],
)
def test_a_generator_that_failed_is_found(line: str) -> None:
    assert [(name, path) for name, path, _ in found(UnitRow(id="a.service"), says=(line,))] == [
        ("generator-failed", "generator:site-generator")
    ]


@pytest.mark.parametrize(
    ("row", "is_low"),
    [
        (UnitRow(id="a.service", files_limit="1024", tasks_limit="2000", tasks="5"), False),
        (UnitRow(id="a.service", files_limit="524288", tasks_limit="infinity", tasks="[not set]"), False),
        (UnitRow(id="a.service", files_limit="64"), True),
        (UnitRow(id="a.service", tasks_limit="8", tasks="2"), True),
        (UnitRow(id="a.service", tasks_limit="100", tasks="90"), True),
        (UnitRow(id="a.service", files_limit="1100"), True),
    ],
    ids=["usual", "unlimited", "files", "tasks", "tasks-in-use", "files-in-use"],
)
def test_limits_that_are_too_low_are_found(row: UnitRow, is_low: bool) -> None:
    in_use = 1000 if row.files_limit == "1100" else 20
    process = Process(pid=7, name="a", group="/system.slice/a.service", open_files=in_use)
    judged = list(units.judge_limits({"a.service": row}, ["a.service"], {7: process}))

    assert [one.id for one in judged] == ["limit-too-low"] * is_low
