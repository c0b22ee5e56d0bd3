"""A killed run leaves no process, mount or file behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from harness.core.deadline import Deadline, poll
from harness.model.events import PhaseBegan
from harness.runs.folder import Run

from .conftest import ROOT


def processes_about(folder: Path) -> list[str]:
    """Command lines of processes that name ``folder``: QEMU's disks and logs, dnsmasq's configuration."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # the process has ended meanwhile
            lines.append(file.read_bytes().replace(b"\0", b" ").decode())
    return [line for line in lines if str(folder) in line]


@pytest.mark.parametrize("network", ["lab", "user"])
def test_nothing_is_left_two_seconds_after_the_controller_was_killed(tmp_path: Path, network: str) -> None:
    argv = [sys.executable, "-m", "pytest", "-n", "2", "--image", "base", f"--run-dir={tmp_path}", "--network", network]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as controller:
        is_up = poll(lambda: has_booted_a_kernel(tmp_path), Deadline(300), every_s=0.5)
        before = processes_about(tmp_path)
        controller.send_signal(signal.SIGKILL)

    assert is_up
    assert any("qemu-system" in line for line in before)
    assert poll(lambda: not processes_about(tmp_path), Deadline(2), every_s=0.1), processes_about(tmp_path)


def has_booted_a_kernel(folder: Path) -> bool:
    phases = Run((folder / "latest").resolve(), "main").of_kind(PhaseBegan)
    return any(began.phase == "kernel" for began in phases)
