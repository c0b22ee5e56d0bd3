"""A journey that a state began and a test ends, and what it reports as lost."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from harness.guest.channel import Completed
from harness.machine.states import path_to
from harness.persistence.journey import REBOOTED, Journey

FILE, SCRATCH = "/var/local/bootproof-nonce-first", "/root/scratch"


class Guest:
    """A machine, as far as a journey asks it: ``files`` maps path to content."""

    def __init__(self, **files: str) -> None:
        self.notes: dict[str, dict[str, str]] = {}
        self.files = files

    def run(self, command: str) -> Completed:
        (_, path) = shlex.split(command)
        if path not in self.files:
            return Completed(command=command, status=1, stdout=b"", stderr=b"No such file")
        return Completed(command=command, status=0, stdout=self.files[path].encode(), stderr=b"")

    def check(self, command: str) -> str:
        return SCRATCH if SCRATCH in command and SCRATCH in self.files else ""


def journey(**files: str) -> Journey:
    """That of a clone whose template wrote "abc" to `FILE` before it rebooted."""
    template: Any = Guest()
    Journey(template, {FILE: "abc"}, {FILE: "local/x"}, (SCRATCH,)).note()
    clone: Any = Guest(**files)
    clone.notes = template.notes
    return Journey.resumed(clone)


def test_a_clone_continues_the_journey_of_its_template() -> None:
    resumed = journey()

    assert (resumed.nonces, resumed.on_disk, resumed.scratch) == ({FILE: "abc"}, {FILE: "local/x"}, (SCRATCH,))


@pytest.mark.parametrize(
    ("files", "loss"),
    [
        ({FILE: "abc"}, ""),
        ({}, f"after a reboot: {FILE} cannot be read, expected abc"),
        ({FILE: "old"}, f"after a reboot: {FILE} has 'old', expected abc"),
        ({FILE: "abc", SCRATCH: "gone"}, f"after a reboot: not on /data, but survived: {SCRATCH}"),
    ],
)
def test_what_the_reboot_of_the_state_lost_or_left_is_the_tests_finding(files: dict[str, str], loss: str) -> None:
    resumed = journey(**files)

    resumed.check("after a reboot")

    assert [one for one in resumed.losses if not one.startswith(loss)] == []
    assert bool(resumed.losses) == bool(loss)


def test_what_one_test_writes_another_does_not_expect() -> None:
    first = journey()
    first.nonces["/var/local/more"] = "x"

    assert Journey.resumed(first.machine).nonces == {FILE: "abc"}


def test_the_state_makes_one_boot_after_the_first() -> None:
    assert [(state.name, state.boots) for state in path_to(REBOOTED)] == [("booted", 1), (REBOOTED, 1)]
