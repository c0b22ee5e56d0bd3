"""What a journey reports as lost."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from harness.guest.channel import Completed
from harness.persistence.journey import Journey

FILE, SCRATCH = "/var/local/bootproof-nonce-first", "/root/scratch"


class Guest:
    """A machine, as far as a journey asks it: ``files`` maps path to content."""

    def __init__(self, **files: str) -> None:
        self.files = files

    def run(self, command: str) -> Completed:
        (_, path) = shlex.split(command)
        if path not in self.files:
            return Completed(command=command, status=1, stdout=b"", stderr=b"No such file")
        return Completed(command=command, status=0, stdout=self.files[path].encode(), stderr=b"")

    def check(self, command: str) -> str:
        return SCRATCH if SCRATCH in command and SCRATCH in self.files else ""


@pytest.mark.parametrize(
    ("files", "loss"),
    [
        ({FILE: "abc"}, ""),
        ({}, f"after a reboot: {FILE} cannot be read, expected abc"),
        ({FILE: "old"}, f"after a reboot: {FILE} has 'old', expected abc"),
        ({FILE: "abc", SCRATCH: "gone"}, f"after a reboot: not on /data, but survived: {SCRATCH}"),
    ],
)
def test_what_a_boot_lost_or_left_is_named(files: dict[str, str], loss: str) -> None:
    guest: Any = Guest(**files)
    journey = Journey(guest, {FILE: "abc"}, {FILE: "local/x"}, (SCRATCH,))

    journey.check("after a reboot")

    assert [one for one in journey.losses if not one.startswith(loss)] == []
    assert bool(journey.losses) == bool(loss)
