"""Findings about units, as a guest's survey explains them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.guest.unit_findings import (
    Awaited,
    awaited,
    cause_of,
    device_path,
    explain,
    failed_units,
    result_of,
    root_units,
    survey_of_log,
    telling,
    units_on,
)
from harness.guest.unit_survey import UnitState, UnitSurvey
from harness.model.verdict import Finding

APP = UnitState(
    id="app.service",
    result="exit-code",
    exit_code=1,
    exit_status=1,
    needs=("db.service",),
    journal=("[  9.0] systemd[1]: Dependency failed for app.service.",),
)
DB = UnitState(
    id="db.service",
    result="exit-code",
    exit_code=1,
    exit_status=203,
    program="/usr/bin/db",
    missing=(("/usr/bin/db", "ls: cannot access '/usr/bin/db': No such file or directory"),),
    journal=(
        "[    8.1] systemd[1]: Starting db.service - Database...",
        "[    8.2] (db)[411]: db.service: Unable to locate executable '/usr/bin/db': No such file or directory",
        "[    8.3] systemd[1]: db.service: Main process exited, code=exited, status=203/EXEC",
        "[    8.4] systemd[1]: db.service: Failed with result 'exit-code'.",
        "[    8.5] systemd[1]: db.service: Scheduled restart job, restart counter is at 1.",
    ),
)
DEVICE = UnitState(
    id=r"dev-disk-by\x2duuid-aaaa\x2dbbbb.device",
    active="inactive",
    job_result="timeout",
    journal=("[   29.0] systemd[1]: Timed out waiting for device /dev/disk/by-uuid/aaaa-bbbb.",),
)
MOUNT = UnitState(id="mnt-old.mount", active="inactive", job_result="dependency", needs=(DEVICE.id,))
CONSOLE = Finding(
    id="unit-failed", what="a unit failed during boot", where="here", evidence=("[FAILED] Failed to start app…",)
)
UNKNOWN = UnitState(id="x.service", result="exit-code")


def test_the_finding_is_about_the_unit_that_the_others_follow_from_and_lists_those() -> None:
    other = UnitState(id="other.service", result="signal", exit_code=2, exit_status=9)
    found = explain(CONSOLE, UnitSurvey(units=(APP, DB, other))).finding

    assert found.id == "unit-failed"
    assert found.what == "db.service failed: exit status 203/EXEC: its program /usr/bin/db is missing"
    assert found.cause == "its program /usr/bin/db is missing"
    assert found.evidence[:3] == DB.journal[1:4]
    assert found.evidence[3:] == ("because of it: app.service", "failed as well: other.service")


def test_a_unit_follows_also_by_way_of_units_that_have_not_failed_and_from_those_it_wants_and_comes_after() -> None:
    target = UnitState(id="db.target", active="inactive", needs=("db.service",))
    indirect = replace(APP, needs=("db.target",))
    wanting = replace(APP, needs=(), wants_before=("db.service",))
    unordered = replace(APP, needs=())

    assert root_units([indirect, DB], UnitSurvey(units=(indirect, DB, target))) == [DB]
    assert root_units([wanting, DB], UnitSurvey(units=(wanting, DB))) == [DB]
    assert root_units([unordered, DB], UnitSurvey(units=(unordered, DB))) == [unordered, DB]


def test_units_that_need_each_other_are_named_all_the_same() -> None:
    one, other = replace(APP, needs=("db.service",)), replace(DB, needs=("app.service",))

    assert explain(CONSOLE, UnitSurvey(units=(one, other))).finding.what.startswith("app.service failed")


def test_a_device_that_is_absent_is_named_by_its_path_and_with_the_mount_that_needs_it() -> None:
    finding = replace(CONSOLE, id="unit-dependency-failed")
    explained = explain(finding, UnitSurvey(units=(MOUNT, DEVICE), is_settled=True))

    assert explained.awaited is Awaited.ABSENT
    assert explained.finding.id == "unit-dependency-failed"
    assert explained.finding.what == "/dev/disk/by-uuid/aaaa-bbbb, which mnt-old.mount needs, did not appear"
    assert explained.finding.cause.startswith("no disk of the machine has it")
    assert explained.finding.evidence[-1] == "because of it: mnt-old.mount"


def test_a_dependency_that_failed_because_of_a_service_is_that_services_failure() -> None:
    assert (
        explain(replace(CONSOLE, id="unit-dependency-failed"), UnitSurvey(units=(APP, DB))).finding.id == "unit-failed"
    )


@pytest.mark.parametrize(
    ("unit", "is_settled", "what_became"),
    [
        (DEVICE, True, Awaited.ABSENT),
        (DEVICE, False, Awaited.UNKNOWN),
        (replace(DEVICE, active="active"), False, Awaited.CAME_LATE),
        (DB, False, Awaited.ABSENT),
        (replace(DB, missing=()), True, Awaited.FAILED),
        (replace(UNKNOWN, result="timeout"), True, Awaited.UNKNOWN),
        (replace(UNKNOWN, result="timeout", active="active"), True, Awaited.CAME_LATE),
        (replace(UNKNOWN, journal=("x[1]: connection timed out",)), True, Awaited.UNKNOWN),
        (UNKNOWN, True, Awaited.FAILED),
    ],
)
def test_what_became_of_the_awaited_thing_is_known(unit: UnitState, *, is_settled: bool, what_became: Awaited) -> None:
    assert awaited(unit, UnitSurvey(units=(unit,), is_settled=is_settled)) is what_became


def test_a_unit_that_the_console_names_and_that_is_active_now_came_late() -> None:
    finding = replace(CONSOLE, evidence=("[FAILED] Failed to start slow.service - Slow.",))
    slow = UnitState(id="slow.service", active="active")

    assert explain(finding, UnitSurvey(units=(slow,))).awaited is Awaited.CAME_LATE
    assert explain(finding, UnitSurvey()).awaited is Awaited.UNKNOWN
    assert explain(finding, UnitSurvey()).finding == finding


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (DB, "failed: exit status 203/EXEC"),
        (replace(DB, journal=()), "failed: exit status 203/EXEC"),
        (replace(UNKNOWN, result="signal", exit_code=2, exit_status=9), "failed: killed by signal 9 (SIGKILL)"),
        (
            replace(UNKNOWN, result="core-dump", exit_code=3, exit_status=11),
            "failed: killed by signal 11 (SIGSEGV), with a core dump",
        ),
        (replace(UNKNOWN, result="timeout"), "failed: a time limit of systemd expired"),
        (
            replace(DB, result="start-limit-hit"),
            "failed: it was restarted too often (start limit); last, exit status 203/EXEC",
        ),
        (
            UnitState(
                id="mnt.mount",
                result="exit-code",
                journal=("[ 4.0] systemd[1]: mnt.mount: Mount process exited, code=exited, status=32/n/a",),
            ),
            "failed: exit status 32",
        ),
        (UnitState(id="x.service", active="inactive", load="masked"), "is masked"),
        (UnitState(id="x.service", active="inactive", load="not-found"), "does not exist"),
        (UnitState(id="x.service", active="inactive"), "must be active and is inactive"),
    ],
)
def test_how_a_unit_ended_is_said_in_words(unit: UnitState, words: str) -> None:
    assert result_of(unit) == words


MODPROBE = "[ 5.0] modprobe[300]: modprobe: FATAL: Module kvm not found in directory /usr/lib/modules/6.12.48"


@pytest.mark.parametrize(
    ("unit", "survey", "cause"),
    [
        (DB, UnitSurvey(), "its program /usr/bin/db is missing"),
        (
            replace(UNKNOWN, missing=(("/var/lib/app", "lrwxrwxrwx 1 /var/lib/app -> /data/app"),)),
            UnitSurvey(),
            "its working folder /var/lib/app is a dangling link to /data/app",
        ),
        (
            UNKNOWN,
            UnitSurvey(kernel="6.12.48", modules=("6.12.48-old",)),
            "no modules for 6.12.48 in /usr/lib/modules: there is 6.12.48-old",
        ),
        (
            replace(UNKNOWN, journal=(MODPROBE,)),
            UnitSurvey(kernel="6.12.48", modules=("6.12.48",)),
            "modprobe: FATAL: Module kvm not found in directory /usr/lib/modules/6.12.48",
        ),
        (replace(UNKNOWN, exit_code=1, exit_status=217), UnitSurvey(), "its User= does not exist, or could not be set"),
        (
            replace(
                UNKNOWN, exit_code=1, exit_status=1, journal=("[ 1.0] app[9]: no route", "[ 1.1] systemd[1]: x: y")
            ),
            UnitSurvey(),
            "no route",
        ),
        (
            UnitState(
                id="x.service",
                active="inactive",
                journal=(
                    "[ 1.0] systemd[1]: x.service - X was skipped because of an unmet condition check "
                    "(ConditionPathExists=/etc/x).",
                ),
            ),
            UnitSurvey(),
            "a condition of the unit was not met: ConditionPathExists=/etc/x",
        ),
        (UnitState(id="x.service", active="inactive", enabled="disabled"), UnitSurvey(), "it is not enabled"),
        (UNKNOWN, UnitSurvey(), ""),
    ],
)
def test_a_cause_that_files_status_or_journal_show_is_named(unit: UnitState, survey: UnitSurvey, cause: str) -> None:
    assert cause_of(unit, survey) == cause


def test_a_demanded_unit_that_is_inactive_is_explained_and_one_that_needs_a_failed_unit_by_that() -> None:
    finding = replace(CONSOLE, id="unit-not-ready")
    wanted = UnitState(id="ssh.service", active="inactive", load="masked")
    needing = UnitState(id="ssh.service", active="inactive", needs=("db.service",))
    stranger = UnitState(id="other.service", result="signal", exit_code=2, exit_status=9)

    found = explain(finding, UnitSurvey(units=(wanted, stranger)), asked="ssh.service").finding
    assert found.what == "ssh.service is masked: a unit file or a kernel argument masks it"
    assert found.evidence[-1] == "failed as well: other.service"
    found = explain(finding, UnitSurvey(units=(needing, DB)), asked="ssh.service").finding
    assert found.what.startswith("db.service failed")


def test_a_boot_that_hangs_is_about_the_job_that_does_not_end() -> None:
    finding = Finding(id="boot-hangs", what="not ready after 420 s", where="here", cause="unknown")
    job = UnitState(
        id="slow.service", active="activating", has_running_job=True, journal=("[ 9.0] slow[4]: waiting for x",)
    )
    found = explain(finding, UnitSurvey(units=(job,))).finding

    assert found.what == "not ready after 420 s; systemd still waits for slow.service"
    assert found.evidence == ("[ 9.0] slow[4]: waiting for x",)
    assert explain(finding, UnitSurvey(units=(job,)), waiting=["slow.service"]).finding == finding


def test_the_harness_own_units_are_never_named_and_those_that_may_wait_are_if_they_fail() -> None:
    own = UnitState(id="bootproof-shell.service")

    assert explain(CONSOLE, UnitSurvey(units=(own,))).finding == CONSOLE
    assert explain(CONSOLE, UnitSurvey(units=(APP,)), waiting=["app.service"]).finding.what.startswith("app.service")


def test_a_ready_machine_has_one_finding_for_each_failure_that_stands_alone() -> None:
    other = UnitState(id="other.service", result="signal", exit_code=2, exit_status=9)

    found = list(failed_units(UnitSurvey(units=(APP, DB, other)), "here"))
    assert [one.what.split()[0] for one in found] == ["db.service", "other.service"]


def test_the_lines_that_lead_to_the_last_failure_are_quoted_without_routine() -> None:
    credentials = "[ 1.0] localhost systemd[1]: Received regular credentials: systemd.extra-unit.db.service"
    assert telling((credentials, *DB.journal)) == DB.journal[1:4]
    again = ("[ 9.0] systemd[1]: db.service: Start request repeated too quickly.", "[ 9.5] db[1]: fine now")

    assert telling((*DB.journal, *again)) == DB.journal[1:4]
    assert telling(tuple(f"[ 1.{number}] a[1]: {number}" for number in range(9)))[0].endswith(": 3")


def test_a_guest_that_cannot_list_its_units_is_quoted() -> None:
    survey = UnitSurvey(problem="Failed to connect to bus")

    assert explain(CONSOLE, survey).finding.evidence[-1] == (
        "the guest could not name its units: Failed to connect to bus"
    )


def test_a_log_names_units_where_the_guest_does_not_answer() -> None:
    lines = [*DB.journal, "[ 9.0] other[1]: x"]
    survey = survey_of_log(lines)

    assert [unit.id for unit in survey.units] == ["db.service"]
    assert explain(CONSOLE, survey).finding.what == (
        "db.service failed: exit status 203/EXEC: its program could not be executed: it is missing, has no execute "
        "permission, or its interpreter is missing"
    )
    assert survey_of_log(["nothing"]).units == ()


def test_units_are_read_from_console_lines_unless_their_names_were_shortened() -> None:
    lines = [
        "[FAILED] Failed to start systemd-modules-load.service - Load Kernel Modules.",
        "[DEPEND] Dependency failed for mnt-old.mount - /mnt/old.",
        "[FAILED] Failed to start systemd-networkd-w… Wait for Network to be Configured.",
        "[FAILED] Failed to mount mnt-old.mount - /mnt/old.",
    ]
    assert units_on(lines) == ["systemd-modules-load.service", "mnt-old.mount"]


def test_a_device_units_name_is_its_path_escaped() -> None:
    assert device_path(DEVICE.id) == "/dev/disk/by-uuid/aaaa-bbbb"
