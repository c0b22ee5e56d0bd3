"""What a journey reports as lost."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.persistence.journey import Journey

KEPT, SCRATCH = "kept", "scratch"


class Guest:
    """A machine, as far as a journey asks it: this host's shell."""

    def check(self, command: str) -> str:
        done = subprocess.run(["bash", "-c", command], check=True, capture_output=True, text=True)
        return done.stdout.rstrip("\n")


@pytest.mark.parametrize(
    ("files", "loss"),
    [
        ({KEPT: b"abc"}, ""),
        ({}, "after a reboot: {kept} cannot be read, expected abc: "),
        ({KEPT: b"old"}, "after a reboot: {kept} has 'old', expected abc"),
        ({KEPT: b""}, "after a reboot: {kept} has '', expected abc"),
        ({KEPT: b"abc\0\0"}, "after a reboot: {kept} has 'abc\\x00\\x00', expected abc"),
        ({KEPT: b"abc", SCRATCH: b"gone"}, "after a reboot: not on /data, but survived: {scratch}"),
    ],
)
def test_what_a_boot_lost_or_left_is_named(files: dict[str, bytes], loss: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    kept, scratch = str(tmp_path / KEPT), str(tmp_path / SCRATCH)
    machine: Any = Guest()
    journey = Journey(machine, {kept: "abc"}, {kept: "local/x"}, (scratch,))

    journey.check("after a reboot")

    assert [one for one in journey.losses if not one.startswith(loss.format(kept=kept, scratch=scratch))] == []
    assert bool(journey.losses) == bool(loss)
