"""What tests are given, in a run as a person starts it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import Blame
from harness.model.events import Cloned, Resumed
from harness.model.verdict import Verdict
from harness.runs.folder import Run

Judge = Callable[..., tuple[int, Verdict]]

CHANGES = """
def test_looks(host):
    assert host.service("ssh").is_running

def test_changes_a_file_and_a_service(host):
    host.check_output("echo changed >/etc/changed; systemctl stop cron || systemctl stop systemd-networkd")

def test_looks_at_another_machine(host):
    assert not host.file("/etc/changed").exists

def test_writes_to_data(host):
    host.check_output("echo changed >/data/changed")

def test_looks_at_other_data(host):
    assert not host.file("/data/changed").exists
"""

MACHINES = """
import pytest
from harness.core.errors import ImageError

@pytest.mark.parametrize("number", range(8))
def test_each_has_its_own(machine, guest, number):
    assert not guest.file("/etc/mine").exists
    guest.check_output("echo %s >/etc/mine; rm /usr/bin/ls", str(number))

@pytest.mark.state("broken")
@pytest.mark.parametrize("number", range(3))
def test_waits_for_a_broken_state(machine, number): ...
"""
STATE = """
import harness

@harness.state("broken")
def broken(machine, versions):
    machine.check("echo nothing will come of it >&2; exit 3")
"""

THEIR_FIXTURES = """
import pytest

@pytest.fixture
def machine(host):
    return "their machine"

@pytest.fixture(scope="session")
def image():
    return "cirros"

@pytest.fixture
def disk():
    return "sda"

@pytest.fixture
def lab(disk):
    return "lab of " + disk

@pytest.fixture
def run(host):
    return host.check_output

@pytest.fixture
def folder(tmp_path):
    return tmp_path
"""
THEIRS = """
import pytest

@pytest.mark.parametrize("service", ["ssh", "systemd-networkd"])
def test_service(host, service):
    assert host.service(service).is_running

@pytest.mark.parametrize("image", ["ubuntu"])
def test_image(host, image):
    assert image == "ubuntu" and host.file("/etc/debian_version").exists

def test_fixtures(host, machine, image, run, folder, lab):
    assert (machine, image, lab) == ("their machine", "cirros", "lab of sda")
    assert run("hostname") and folder.is_dir()

def test_sudo(host):
    with host.sudo():
        assert host.check_output("id -un") == "root"
        with host.sudo("nobody"):
            assert host.check_output("id -un") == "nobody"

def test_timeout(host):
    with pytest.raises(Exception, match="timed out"):
        host.run("sleep 30", timeout=0.2)
    assert host.check_output("echo still here") == "still here"

def test_guest(guest):
    assert guest.file("/etc/passwd").exists

def test_ansible(host):
    host.ansible("setup")
"""

PAIR = """
def test_two_hypervisors_reach_each_other(pair):
    left, right = pair
    left.check(f"ping -c 3 -W 5 {right.spec.address}")
    right.check(f"ping -c 3 -W 5 {left.spec.address}")
    assert left.check("cat /etc/machine-id") != right.check("cat /etc/machine-id")
"""


def test_who_changes_the_shared_machine_is_named_and_the_next_gets_another(
    judge: Judge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_mine.py").write_text(CHANGES)
    judge("base", str(tmp_path / "test_mine.py"))

    said = capsys.readouterr().out
    assert "5 passed" in said
    assert said.count("SharedMachineChanged:") == 2
    assert "test_changes_a_file_and_a_service[base] changed the machine it shares" in said
    assert "(/etc/changed is new" in said
    assert ".service is no longer active" in said
    assert "test_writes_to_data[base] changed the machine it shares (/data/changed is new)" in said
    resumed = Run(tmp_path / "latest", "main").of_kind(Resumed)
    assert len(resumed) == 2, "each of two machines was paused once between two tests"


def test_workers_share_one_template_and_a_broken_state_is_tried_once(
    judge: Judge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_mine.py").write_text(MACHINES)
    (tmp_path / "conftest.py").write_text(STATE)
    status, verdict = judge("base", "-n", "8", str(tmp_path / "test_mine.py"))

    assert status == 1
    assert re.search("8 passed,.* 1 error,.* 2 not run", capsys.readouterr().out)
    clones = Run(tmp_path / "latest", "main").of_kind(Cloned)
    assert len(clones) == 9  # of the eight tests, and the one that should have become the state
    (finding,) = (finding for finding in verdict.findings if "nothing will come of it" in finding.what)
    assert len(finding.tests) == 2
    assert "state-failed" not in {found.id for found in verdict.findings}, "the test that tried first has the finding"
    assert len({boot.console for boot in verdict.boots}) == 1


def test_tests_that_somebody_already_has_run_unchanged(
    judge: Judge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_theirs.py").write_text(THEIRS)
    (tmp_path / "conftest.py").write_text(THEIR_FIXTURES)
    _, verdict = judge("base", "--boot-path", "direct", str(tmp_path / "test_theirs.py"))

    assert "1 failed, 7 passed" in capsys.readouterr().out
    (finding,) = verdict.findings
    assert "this test uses host.ansible" in finding.what
    assert finding.blame is not Blame.IMAGE


def test_a_pair_is_two_machines_on_one_segment(
    judge: Judge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_mine.py").write_text(PAIR)
    _, verdict = judge("base", "-n0", str(tmp_path / "test_mine.py"))

    assert "1 passed" in capsys.readouterr().out
    assert not verdict.findings
    assert sorted(boot.number for boot in verdict.boots) == [1, 1]
