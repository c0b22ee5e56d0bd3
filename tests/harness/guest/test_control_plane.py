"""What excuses a unit that waits for a control plane: it runs and says so. The lines are of nova 31 on Debian 13."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.guest.channel import Channel, Completed
from harness.guest.control_plane import WaitingUnit, find_not_waiting, judge, read_waiting_unit
from harness.model.definition import load_definition

UNIT = "nova-compute.service"
SAYS = load_definition(Path(__file__).parents[3] / "images" / "nova-kvm").waiting_says[UNIT]
BEGIN = "[  172.681429] systemd[1]: Starting nova-compute.service - OpenStack Nova Compute (nova-compute)..."
LOADED = "[  405.202295] nova-compute[1104]: 2026-11-30 21:28:07.474 1104 INFO os_vif [-] Loaded VIF plugins: noop, ovs"
RABBIT = (
    "[  427.213977] nova-compute[1104]: 2026-11-30 21:28:29.574 1104 ERROR oslo.messaging._drivers.impl_rabbit "
    "[None req-6960b94c-1580-4aee-abea-80de203c55cb - - - - - -] Connection failed: "
)
REFUSED = (
    f"{RABBIT}[Errno 111] ECONNREFUSED (retrying in 1.0 seconds): ConnectionRefusedError: [Errno 111] ECONNREFUSED"
)
NO_LOGIN = f"{RABBIT}(0, 0): (403) ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN"
NO_CONDUCTOR = (
    "[  512.3] nova-compute[1104]: 2026-11-30 21:30:01.1 1104 WARNING nova.conductor.api [None req-69 - - - - - -] "
    "Timed out waiting for nova-conductor.  Is it running? Or did this service start before nova-conductor?"
)
WAITS = WaitingUnit(main_pid=1104, has_job=True, said=(LOADED, REFUSED))

SHOWN = """\
Type=notify
MainPID=1104
NRestarts=0
LoadState=loaded
ActiveState=activating
SubState=start
Job=346
InvocationID=8fe3085b2ae44d0681039cdb7c7ba192
"""
CRASHED = SHOWN.replace("MainPID=1104", "MainPID=0").replace("NRestarts=0", "NRestarts=5")
TRACEBACK = """\
[  525.199796] systemd[1]: Starting nova-compute.service - OpenStack Nova Compute (nova-compute)...
[  526.764455] nova-compute[1347]: Traceback (most recent call last):
[  526.764455] nova-compute[1347]:   File "/usr/bin/nova-compute", line 6, in <module>
[  526.764455] nova-compute[1347]:     from nova.cmd.compute import main
[  526.764455] nova-compute[1347]: ModuleNotFoundError: No module named 'no_such_library'
[  526.902944] systemd[1]: nova-compute.service: Main process exited, code=exited, status=1/FAILURE
[  526.914164] systemd[1]: nova-compute.service: Failed with result 'exit-code'.
[  526.943592] systemd[1]: Failed to start nova-compute.service - OpenStack Nova Compute (nova-compute).
[  527.087027] systemd[1]: nova-compute.service: Scheduled restart job, restart counter is at 5.
"""
SKIPPED = (
    "[  640.699492] systemd[1]: nova-compute.service - OpenStack Nova Compute (nova-compute) skipped, "
    "unmet condition check ConditionPathExists=/nowhere\n"
)
SYSTEMCTL = """\
#!/bin/sh
case "$*" in
    show*) echo Id=nova-compute.service; cat '{folder}/shown' ;;
esac
"""


class Guest(Channel):
    """This host's shell, with a systemctl and a journalctl that print what a guest did."""

    def __init__(self, folder: Path, shown: str, journal: str) -> None:
        (folder / "bin").mkdir()
        (folder / "shown").write_text(shown)
        (folder / "journal").write_text(journal)
        programs = {
            "systemctl": SYSTEMCTL.format(folder=folder),
            "journalctl": f"#!/bin/sh\ncase $* in *MESSAGE_ID* | --sync) ;; *) exec cat '{folder}/journal' ;; esac\n",
            "udevadm": "#!/bin/sh\n",
        }
        for name, text in programs.items():
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        self._environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        self.count = 0

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        self.count += 1
        done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, env=self._environment)
        return Completed(command=command, status=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.mark.parametrize("line", [REFUSED, NO_CONDUCTOR])
def test_a_unit_that_runs_and_says_that_it_cannot_reach_its_peer_may_wait(line: str) -> None:
    assert judge(replace(WAITS, said=(LOADED, line)), SAYS).problem == ""


def test_a_refused_login_is_no_excuse() -> None:
    assert judge(replace(WAITS, said=(LOADED, NO_LOGIN)), SAYS).problem


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"restarts": 5}, "ended, and was started again 5 times"),
        ({"restarts": 0, "sub": "auto-restart", "main_pid": 0}, "ended, and was started again once"),
        ({"restarts": 5, "active": "failed"}, "ended, and was started again 5 times, until systemd gave it up"),
        ({"active": "failed", "sub": "failed", "main_pid": 0, "has_job": False}, "is failed"),
        ({"active": "inactive", "sub": "dead", "main_pid": 0, "has_job": False}, "is inactive"),
        ({"load": "not-found", "active": "inactive", "main_pid": 0, "has_job": False}, "is not-found"),
    ],
)
def test_a_unit_that_ended_or_was_not_started_does_not_wait_whatever_it_said(
    change: dict[str, object], problem: str
) -> None:
    judged = judge(replace(WAITS, **change), SAYS)  # type: ignore[arg-type]  # values as the fields want them

    assert judged.problem == problem
    assert judged.is_settled


@pytest.mark.parametrize(
    "unit",
    [
        replace(WAITS, said=(LOADED,)),
        replace(WAITS, sub="start-pre", main_pid=0, said=()),
        replace(WAITS, active="inactive", sub="dead", main_pid=0, said=()),
        replace(WAITS, type="simple", active="active", sub="running", said=()),
    ],
)
def test_a_unit_that_has_not_said_it_yet_has_time(unit: WaitingUnit) -> None:
    judged = judge(unit, SAYS)

    assert judged.problem
    assert not judged.is_settled


def test_a_unit_that_told_systemd_that_it_is_ready_need_not_wait() -> None:
    assert judge(replace(WAITS, active="active", sub="running", said=()), SAYS).problem == ""


def test_a_unit_without_words_in_the_definition_must_run() -> None:
    assert judge(replace(WAITS, said=()), "").problem == ""
    assert judge(replace(WAITS, main_pid=0, said=()), "").problem == "has no main process"
    assert judge(replace(WAITS, restarts=1), "").problem


def test_the_lines_are_those_of_the_unit_and_not_systemds(tmp_path: Path) -> None:
    guest = Guest(tmp_path, SHOWN, f"{BEGIN}\n{LOADED}\n{REFUSED}\n")

    assert read_waiting_unit(guest, UNIT) == WAITS
    assert find_not_waiting(guest, UNIT, SAYS, "here") is None


def test_a_journal_without_the_start_is_an_error_and_not_a_silent_unit(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="the journal has no line of its start"):
        read_waiting_unit(Guest(tmp_path, SHOWN, ""), UNIT)


def test_a_unit_that_has_ended_or_not_begun_may_have_no_line_any_more(tmp_path: Path) -> None:
    shown = SHOWN.replace("MainPID=1104", "MainPID=0").replace("activating", "inactive")

    assert read_waiting_unit(Guest(tmp_path, shown, ""), UNIT).said == ()


def test_a_crash_at_import_is_found_at_once_with_its_status_and_last_lines(tmp_path: Path) -> None:
    guest = Guest(tmp_path, CRASHED, TRACEBACK)

    finding = find_not_waiting(guest, UNIT, SAYS, "here")

    assert finding is not None
    assert finding.id == "unit-not-waiting"
    assert finding.what == (
        "nova-compute.service ended, and was started again 5 times: failed: exit status 1/FAILURE: "
        "ModuleNotFoundError: No module named 'no_such_library'"
    )
    assert finding.cause == "ModuleNotFoundError: No module named 'no_such_library'"
    assert any("from nova.cmd.compute import main" in line for line in finding.evidence)
    assert guest.count == 2, "one look, one survey"


def test_a_condition_that_is_not_met_is_the_cause(tmp_path: Path) -> None:
    shown = SHOWN.replace("MainPID=1104", "MainPID=0").replace("activating", "inactive").replace("Job=346", "Job=")

    finding = find_not_waiting(Guest(tmp_path, shown, SKIPPED), UNIT, SAYS, "here")

    assert finding is not None
    assert finding.what == "nova-compute.service is inactive: a condition of the unit was not met: " + (
        "ConditionPathExists=/nowhere"
    )


def test_a_unit_that_stays_silent_is_found_when_its_time_is_over(tmp_path: Path) -> None:
    guest = Guest(tmp_path, SHOWN, f"{BEGIN}\n{LOADED}\n")

    finding = find_not_waiting(guest, UNIT, SAYS, "here", Deadline(0.1, scaled=False))

    assert finding is not None
    assert finding.what.startswith(f"{UNIT} runs, and has not said what it waits for: no line has ")
    assert "after 0 s" in finding.what
    assert finding.evidence == (LOADED,)
