"""The guest's names of units: the script on this host's bash, with a systemctl that knows some units."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.core.deadline import Deadline
from harness.guest.channel import Channel, Completed
from harness.guest.unit_names import name_in_guest

SYSTEMCTL = """#!/bin/sh
[ "$*" = "show -p LoadState --value -- $6" ] || exit 1
case $6 in {known}) echo loaded ;; *) echo not-found ;; esac
"""


class Guest(Channel):
    def __init__(self, folder: Path, known: str) -> None:
        self._folder, self.runs = folder, 0
        (folder / "systemctl").write_text(SYSTEMCTL.format(known=known))
        (folder / "systemctl").chmod(0o755)

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        self.runs += 1
        environment = {"PATH": f"{self._folder}:{os.environ['PATH']}", "LC_ALL": "C"}
        done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, env=environment)
        return Completed(command=command, status=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.mark.parametrize(
    ("known", "unit", "name"),
    [
        ("sshd.service", "ssh.service", "sshd.service"),
        ("ssh.service", "sshd.service", "ssh.service"),
        ("ssh.service|sshd.service", "sshd.service", "sshd.service"),  # an alias, which systemctl takes
        ("cronie.service", "cron.service", "cronie.service"),
        ("none", "ssh.service", "ssh.service"),
    ],
)
def test_the_name_is_the_one_that_the_guest_has(known: str, unit: str, name: str, tmp_path: Path) -> None:
    assert name_in_guest("m", Guest(tmp_path, known), unit) == name


def test_a_unit_with_one_name_needs_no_question(tmp_path: Path) -> None:
    guest = Guest(tmp_path, "none")

    assert name_in_guest("m", guest, "systemd-networkd.service") == "systemd-networkd.service"
    assert guest.runs == 0
