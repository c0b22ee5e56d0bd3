"""The survey of a guest's units: the script on this host's bash with programs of the test's own, and its answer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.guest.channel import Channel, Completed
from harness.guest.unit_survey import parse, script, survey_units

DEVICE = r"dev-disk-by\x2duuid-1.device"
SYSTEMCTL = r"""#!/bin/bash
case $1 in
    list-jobs) echo '7 slow.service start running'; echo '8 late.service start waiting' ;;
    list-units) echo 'app.service loaded failed failed App' ;;
    show)
        while [ "$1" != -- ]; do shift; done; shift
        for unit; do
            printf 'Id=%s\nLoadState=loaded\nActiveState=failed\n' "$unit"
            [ "$unit" != app.service ] || cat <<'EOF'
Result=exit-code
ExecMainCode=1
ExecMainStatus=203
NRestarts=2
Requires=db.service sysinit.target "a\\x2db.device"
BindsTo=
Wants=network.target late.service
After=network.target
ExecStart={ path=FOLDER/no-program ; argv[]=x ; ignore_errors=no }
WorkingDirectory=!FOLDER/link
EOF
            echo
        done ;;
esac
"""
JOURNALCTL = rf"""#!/bin/bash
case $* in
    *JOB_RESULT*) printf 'UNIT=%s\nJOB_RESULT=timeout\n\nUNIT=app.service\nJOB_RESULT=failed\n\n' '{DEVICE}' ;;
    *) echo "[    3.5] ${{@: -1}}[9]: last words" ;;
esac
"""


class LocalShell(Channel):
    def __init__(self, folder: Path, **programs: str) -> None:
        self._folder = folder
        for name, text in {"udevadm": "#!/bin/sh\n", "uname": "#!/bin/sh\necho 6.12.1\n", **programs}.items():
            (folder / name).write_text(text.replace("FOLDER", str(folder)))
            (folder / name).chmod(0o755)

    def run(self, command: str, deadline: object = None) -> Completed:  # noqa: ARG002  # a Channel
        environment = {"PATH": f"{self._folder}:{os.environ['PATH']}", "LC_ALL": "C"}
        done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, env=environment)
        return Completed(command=command, status=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.fixture
def guest(tmp_path: Path) -> LocalShell:
    (tmp_path / "link").symlink_to("/nowhere/else")
    return LocalShell(tmp_path, systemctl=SYSTEMCTL, journalctl=JOURNALCTL)


def test_the_units_asked_for_starting_failed_and_those_whose_job_failed_are_surveyed(guest: LocalShell) -> None:
    survey = survey_units(guest, ["ssh.service"])

    assert [unit.id for unit in survey.units] == ["ssh.service", DEVICE, "app.service", "slow.service"]
    assert survey.kernel == "6.12.1"
    assert survey.is_settled
    assert survey.unit("slow.service").has_running_job  # type: ignore[union-attr]  # it is there
    assert survey.unit(DEVICE).job_result == "timeout"  # type: ignore[union-attr]  # it is there


def test_a_unit_has_its_result_its_dependencies_its_missing_files_and_its_journal(
    guest: LocalShell, tmp_path: Path
) -> None:
    app = survey_units(guest).unit("app.service")

    assert app is not None
    assert (app.result, app.exit_code, app.exit_status, app.restarts) == ("exit-code", 1, 203, 2)
    assert app.needs == ("db.service", "sysinit.target", r"a\x2db.device")
    assert app.wants_before == ("network.target",)
    assert app.journal == ("[    3.5] app.service[9]: last words",)
    (program, _), (folder, listed) = app.missing
    assert (program, folder) == (f"{tmp_path}/no-program", f"{tmp_path}/link")
    assert listed.endswith(f"{tmp_path}/link -> /nowhere/else")


def test_a_guest_whose_systemctl_fails_says_why(tmp_path: Path) -> None:
    fails = "#!/bin/sh\necho 'Failed to connect to bus'\nexit 1\n"
    survey = survey_units(LocalShell(tmp_path, systemctl=fails, journalctl="#!/bin/sh\n"))

    assert survey.problem == "Failed to connect to bus"
    assert survey.units == ()


def test_an_udev_that_is_busy_leaves_open_whether_a_device_is_absent(tmp_path: Path) -> None:
    guest = LocalShell(tmp_path, systemctl="#!/bin/sh\n", journalctl="#!/bin/sh\n", udevadm="#!/bin/sh\nexit 1\n")

    assert not survey_units(guest).is_settled


def test_the_answer_of_an_initrd_through_a_terminal_is_read(guest: LocalShell) -> None:
    answer = guest.run(script()).text

    assert parse(answer.replace("\n", "\r\n")) == parse(answer)
    assert parse("") == parse("noise\n")


def test_no_more_units_are_surveyed_than_can_be_answered_soon(guest: LocalShell) -> None:
    survey = survey_units(guest, [f"{number}.service" for number in range(99)])

    assert len(survey.units) == 40
    assert len([unit for unit in survey.units if unit.journal]) == 12
