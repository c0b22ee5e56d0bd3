"""The stop in the initrd: the script that goes into guests, with folders that stand for its kernel and udev."""

from __future__ import annotations

import os
import pty
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from harness.core import process
from harness.core.deadline import Deadline
from harness.guest.initrd_stop import STOP_CREDENTIALS, go_on, wait_for_stop
from harness.guest.serial_shell import SerialChannel

Stop = Callable[[], SerialChannel]


@pytest.fixture
def stop(tmp_path: Path) -> Iterator[Stop]:
    """Starts the script behind a terminal with the settings of a new one, as on a serial port."""
    with ExitStack() as stack:

        def start() -> SerialChannel:
            script = tmp_path / "stop"
            text = STOP_CREDENTIALS["bootproof.stop"].replace(" /sys/block", f" {tmp_path}/block")
            script.write_text(text.replace('"/run/udev/', f'"{tmp_path}/udev/').replace("-ge 300", "-ge 3"))
            ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
            terminal, guest = pty.openpty()
            stack.callback(os.close, terminal)
            path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
            stack.enter_context(
                process.spawn(["/bin/sh", str(script)], stdin=guest, stdout=guest, stderr=guest, env=path, grace_s=0.0)
            )
            os.close(guest)
            for ends in ((theirs.fileno(), terminal), (terminal, theirs.fileno())):
                threading.Thread(target=pump, args=ends, daemon=True).start()
            return SerialChannel("test", ours, lambda: None)

        yield start


def pump(source: int, target: int) -> None:
    with suppress(OSError):
        while chunk := os.read(source, 65536):
            os.write(target, chunk)


def plug(folder: Path, name: str, number: str, *, is_known: bool = True) -> None:
    (folder / "block" / name).mkdir(parents=True)
    (folder / "block" / name / "dev").write_text(f"{number}\n")
    (folder / "udev" / "data").mkdir(parents=True, exist_ok=True)
    if is_known:
        (folder / "udev" / "data" / f"b{number}").touch()


def program(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("disks", [0, 1, 2])
def test_a_guest_goes_on_when_udev_knows_all_disks_and_the_clock_is_set(stop: Stop, tmp_path: Path, disks: int) -> None:
    program(tmp_path, "chroot", f'echo "$*" >{tmp_path}/clock')
    program(tmp_path, "udevadm", "exit 0")
    for number in range(disks):
        plug(tmp_path, f"sd{'ab'[number]}", f"8:{16 * number}")
    serial = stop()

    wait_for_stop(serial, Deadline(20))

    assert go_on(serial, disks, Deadline(20)) == ""
    assert (tmp_path / "clock").read_text().startswith("/sysroot date -s @")


def test_a_guest_that_lacks_a_disk_stays_and_says_why(stop: Stop, tmp_path: Path) -> None:
    program(tmp_path, "chroot", "exit 0")
    plug(tmp_path, "sda", "8:0")
    plug(tmp_path, "sdb", "8:16", is_known=False)
    serial = stop()
    wait_for_stop(serial, Deadline(20))

    assert go_on(serial, 2, Deadline(20)) == "it knows 1 of 2 disks"


def test_a_guest_whose_clock_cannot_be_set_stays_and_says_why(stop: Stop, tmp_path: Path) -> None:
    program(tmp_path, "chroot", "echo no date here >&2; exit 127")
    serial = stop()
    wait_for_stop(serial, Deadline(20))

    assert go_on(serial, 0, Deadline(20)) == "its clock cannot be set: no date here"
