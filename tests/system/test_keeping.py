"""--keep-failed: every way to connect to a kept machine works, and nothing of it outlives its run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.core import serialization
from harness.core.deadline import Deadline, poll
from harness.core.process import answer
from harness.machine import attach_server
from harness.machine.attach_server import CONSOLE, GDB, LOGIN, MONITOR, HeldMachine
from harness.model.verdict import Outcome, Verdict
from harness.replay.bundle_read import unpack

ROOT = Path(__file__).parents[2]
FAILS = """\
def test_it_is_something_else(machine):
    machine.check("echo kept >/root/kept")
    assert machine.check("hostname") == "something else"
"""
BOOTS = """\
def test_it_boots(cold_machine):
    assert cold_machine.is_on
"""


@contextmanager
def _pytest(folder: Path, test: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run that test; end the run with the block, if it has not ended."""
    (folder / "test_mine.py").write_text(test)
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--image=base", f"--images-dir={ROOT}/images"]
    with subprocess.Popen(
        [*argv, *options, "test_mine.py"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as child:
        try:
            yield child
        finally:
            child.terminate()


@pytest.fixture(autouse=True)
def _own_access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def _kept(child: subprocess.Popen[str]) -> HeldMachine:
    assert poll(lambda: attach_server.held_machines() or child.poll() is not None, Deadline(600), every_s=0.5)
    (one,) = attach_server.held_machines()
    return one


def _verdict(folder: Path) -> Verdict:
    return serialization.read(Verdict, folder / "runs" / "latest" / "verdict.json")


def _until(door: socket.socket, awaited: bytes, within_s: float = 90.0) -> bytes:
    door.settimeout(within_s)
    said = b""
    while awaited not in said and (chunk := door.recv(4096)):
        said += chunk
    print(said.decode("utf-8", "replace"))
    assert awaited in said
    return said


def test_every_way_leads_into_a_machine_in_which_a_test_failed(tmp_path: Path) -> None:
    with _pytest(tmp_path, FAILS, "-n0", "--keep-failed", "--keep-minutes=20") as child:
        one = _kept(child)
        assert one.why == "test_mine.py::test_it_is_something_else[base] failed"

        assert attach_server.answer(one.id, LOGIN) == ""
        with attach_server.ask(one.id, CONSOLE) as console:
            console.sendall(b"\n")
            _until(console, b"root@")
            console.sendall(b"cat /root/ke*; id -u\n")
            _until(console, b"kept\r\n0\r\n")
        with attach_server.ask(one.id, MONITOR) as monitor:
            monitor.sendall(b"info status\n")
            _until(monitor, b"VM status: running")
        status, said = answer([*one.ssh, "cat", "/root/kept"])
        assert (status, said) == (0, "kept\n")
        with socket.socket(socket.AF_UNIX) as gdb:  # its remote protocol: why did it stop?
            gdb.connect(attach_server.answer(one.id, GDB))
            gdb.sendall(b"$?#3f")
            _until(gdb, b"#")

        attach_server.answer(one.id, attach_server.STOP)
        said, _ = child.communicate(timeout=300)
    print(said)
    assert (
        f"is held for 20 minutes (test_mine.py::test_it_is_something_else[base] failed): bootproof attach {one.id}"
        in said
    )
    assert child.returncode == 1
    assert _verdict(tmp_path).outcome is Outcome.FAILED
    assert attach_server.held_machines() == []
    assert not Path(f"/proc/{one.qemu}").exists(), "QEMU is gone"


def test_a_machine_whose_boot_failed_is_kept_and_gone_with_a_run_that_is_killed(tmp_path: Path) -> None:
    with _pytest(tmp_path, BOOTS, "-n1", "--network-fault=http-404-rootfs", "--keep-failed") as child:
        one = _kept(child)
        assert one.why == "its boot failed"
        with attach_server.ask(one.id, MONITOR) as monitor:
            monitor.sendall(b"info status\n")
            _until(monitor, b"VM status: running")
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=60)

        assert poll(lambda: not Path(f"/proc/{one.qemu}").exists(), Deadline(60), every_s=0.2)
        assert attach_server.held_machines() == []


def test_a_machine_whose_firmware_gave_up_tries_again_while_it_is_kept(tmp_path: Path) -> None:
    with _pytest(tmp_path, BOOTS, "-n0", "--network-fault=http-404-kernel", "--keep-failed") as child:
        one = _kept(child)
        with attach_server.ask(one.id, CONSOLE) as console:
            console.settimeout(90)
            said_there = b""
            while said_there.count(b"iPXE failed to fetch the kernel") < 2:
                said_there += console.recv(4096)
        attach_server.answer(one.id, attach_server.STOP)
        said, _ = child.communicate(timeout=60)
    print(said)

    assert child.returncode == 1
    assert len(list((tmp_path / "runs" / "latest").glob("*.bundle"))) == 1


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_a_boot_that_is_interrupted_leaves_a_bundle_at_once(tmp_path: Path, workers: str) -> None:
    with _pytest(tmp_path, BOOTS, workers) as child:
        latest = tmp_path / "runs" / "latest"
        assert poll(lambda: any(_reached_kernel(latest)), Deadline(600), every_s=0.2)
        os.kill(child.pid, signal.SIGTERM)
        said, _ = child.communicate(timeout=60)
    print(said)

    assert child.returncode == 2
    assert {finding.id for finding in _verdict(tmp_path).findings} == {"interrupted", "boot-unfinished"}
    (made,) = latest.glob("*.bundle")
    (opened := tmp_path / "opened").mkdir()
    bundle = unpack(made, opened).bundle
    assert bundle.failure.finding.what.endswith((", in phase kernel", ", in phase initrd"))
    assert "Linux version" in (opened / "console.log").read_text("utf-8", "replace")
    assert (opened / "capture.pcap").stat().st_size
    assert f"bootproof replay {made.resolve()}" in said


def _reached_kernel(latest: Path) -> Iterator[bool]:
    for console in latest.glob("*/boot-1/console.log"):
        yield b"Linux version" in console.read_bytes()
