"""The wait for a guest that becomes ready: the script on this host's bash, with a systemctl of the test's own."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.deadline import Deadline
from harness.guest.channel import Channel, ChannelTimeout, Completed
from harness.guest.readiness import NotReady, StillStarting, wait_until_ready
from harness.model.definition import ImageDefinition, load_definition

BASE = replace(
    load_definition(Path(__file__).parents[3] / "images" / "base"),
    services=("ssh.service",), sockets=(), waiting=("nova.service",),
)  # fmt: skip
TWO = replace(BASE, services=("a.service", "b.service"))
SYSTEMCTL = """#!/bin/sh
case $1 in
    list-jobs) {jobs} ;;
    is-active) {state} ;;
    show) [ "$6" = "{missing}" ] && echo not-found || echo loaded ;;
esac
"""


class LocalShell(Channel):
    """The script ends after a second instead of half a minute, and has no patience with an inactive unit."""

    def __init__(self, folder: Path, *, jobs: str = ":", state: str = "echo active", missing: str = "") -> None:
        self._folder, self.runs = folder, 0
        (folder / "systemctl").write_text(SYSTEMCTL.format(jobs=jobs, state=state, missing=missing))
        (folder / "systemctl").chmod(0o755)

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        self.runs += 1
        command = command.replace("+ 3000))", "+ 100))").replace("+ 1500))", "+ 0))")
        environment = {"PATH": f"{self._folder}:{os.environ['PATH']}", "LC_ALL": "C"}
        done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, env=environment)
        return Completed(command=command, status=done.returncode, stdout=done.stdout, stderr=done.stderr)


def wait(shell: LocalShell, for_s: float = 60.0, definition: ImageDefinition = BASE) -> None:
    wait_until_ready("m", shell, definition, Deadline(for_s, scaled=False))


def test_a_guest_without_jobs_whose_demanded_units_are_active_is_ready(tmp_path: Path) -> None:
    wait(LocalShell(tmp_path))
    wait(LocalShell(tmp_path, jobs="echo '7 nova.service start running'; echo '8 x.target start waiting'"))


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("echo active; echo failed", "b.service must be active but is failed"),
        ("echo inactive; echo active", "a.service must be active but is inactive"),
        ("echo active", "b.service must be active but is inactive"),  # systemctl said nothing of it
    ],
)
def test_of_several_demanded_units_the_one_that_is_not_active_is_named(state: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=f"^m: {said}$"):
        wait(LocalShell(tmp_path, state=state), definition=TWO)


def test_a_unit_with_another_name_in_the_guest_is_demanded_by_that_name(tmp_path: Path) -> None:
    only_sshd = '[ "$3" = sshd.service ] && echo active || echo inactive'
    wait(LocalShell(tmp_path, state=only_sshd, missing="ssh.service"))
    with pytest.raises(NotReady, match=r"^m: ssh\.service must be active but is inactive$"):
        wait(LocalShell(tmp_path, state=only_sshd))


def test_an_image_that_demands_no_unit_is_ready_without_jobs(tmp_path: Path) -> None:
    wait(LocalShell(tmp_path, state="false"), definition=replace(BASE, services=()))


@pytest.mark.parametrize("state", ["failed", "inactive"])
def test_a_demanded_unit_that_failed_or_is_never_started_ends_the_wait(state: str, tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=f"^m: ssh.service must be active but is {state}$") as error:
        wait(LocalShell(tmp_path, state=f"echo {state}"))
    assert error.value.unit == "ssh.service"


@pytest.mark.parametrize(
    ("jobs", "unit"),
    [("echo '7 slow.service start running'", "slow.service"), ("echo no bus >&2; exit 1", "systemctl(failed)")],
)
def test_a_guest_that_does_not_become_ready_answers_from_time_to_time_until_the_deadline(
    jobs: str, unit: str, tmp_path: Path
) -> None:
    shell = LocalShell(tmp_path, jobs=jobs)

    with pytest.raises(StillStarting) as error:
        wait(shell, for_s=2.5)
    assert error.value.units == (unit,)
    assert shell.runs >= 2


class Deaf(LocalShell):
    """Does not answer the first command in time."""

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:
        if not self.runs:
            self.runs += 1
            raise ChannelTimeout("m", "x", 120.0, "")
        return super().run(command, deadline)


def test_a_guest_that_does_not_answer_once_is_asked_again_before_the_deadline(tmp_path: Path) -> None:
    wait(Deaf(tmp_path))
    with pytest.raises(ChannelTimeout):
        wait(Deaf(tmp_path), for_s=0.0)
