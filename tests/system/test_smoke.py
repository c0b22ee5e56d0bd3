"""The thinnest real path from end to end: build base, boot it over the network, look inside, judge."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from harness.deadline import Deadline, poll
from harness.run import Run
from harness.verdict import Outcome

from .conftest import ROOT, Judge


def test_base_boots_over_the_network_and_is_healthy(judge: Judge) -> None:
    status, verdict = judge("base", "tests/image/test_services.py", "tests/image/test_links.py")

    assert verdict.findings == ()
    assert [boot.boot_path for boot in verdict.boots if boot.ready_s] == ["ipxe-bios"]
    assert {"services", "links"} <= set(verdict.coverage.passed)
    assert (status, verdict.outcome) == (75, Outcome.INCONCLUSIVE), "part of the suite is not the whole of it"
    assert "survival" in verdict.coverage.missing


def test_every_boot_keeps_its_own_console(judge: Judge) -> None:
    _, verdict = judge("base", "tests/image/test_ssh.py")

    console = Path(verdict.boots[0].console).read_text("utf-8")
    assert "Linux version" in console
    assert list(verdict.boots[0].phases) == ["firmware", "ipxe", "kernel", "initrd", "userspace"]


def processes_about(folder: Path) -> list[str]:
    """The command lines that name ``folder``: QEMU's disks and logs, dnsmasq's configuration."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended meanwhile
            lines.append(file.read_bytes().replace(b"\0", b" ").decode())
    return [line for line in lines if str(folder) in line]


def test_nothing_is_left_two_seconds_after_the_controller_was_killed(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "pytest", "-n", "2", "--image", "base", "--run-dir", str(tmp_path)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as controller:
        is_up = poll(lambda: has_booted_a_kernel(tmp_path), Deadline(300), every_s=0.5)
        before = processes_about(tmp_path)
        controller.send_signal(signal.SIGKILL)

    assert is_up
    assert any("qemu-system" in line for line in before)
    assert poll(lambda: not processes_about(tmp_path), Deadline(2), every_s=0.1), processes_about(tmp_path)


def has_booted_a_kernel(folder: Path) -> bool:
    events = Run((folder / "latest").resolve(), "main").events()
    return any(event.data.get("phase") == "kernel" for event in events)
