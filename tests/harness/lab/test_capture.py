"""A lab keeps its packets: all that pass its bridge, also between two machines, the newest 20 MB."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.deadline import Deadline, poll
from harness.lab import Lab, open_lab
from harness.lab.bridge import open_bridge_lab
from harness.lab.capture import FILE_BYTES, capture_files

_CABLES = r"""
import socket, subprocess
for number in (0, 1):
    for command in (f"link add v{number} type veth peer name m{number}", f"link set v{number} master br0 up",
                    f"link set m{number} up"):
        subprocess.run(["ip", *command.split()], check=True)
socks = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW) for _ in range(2)]
for number, sock in enumerate(socks):
    sock.bind((f"m{number}", 0x88B5))
    sock.settimeout(0.2)
macs = [bytes([0x52, 0x54, 0, 0x77, 0, number]) for number in range(2)]
for _ in range(50):  # a port of a bridge forwards some time after its cable is up
    socks[1].send(b"\xff" * 6 + macs[1] + b"\x88\xb5" + b"here I am")
    try:
        socks[0].recv(2000)
        break
    except TimeoutError:
        pass
"""
_BETWEEN = (
    _CABLES
    + r"""
socks[1].settimeout(5)
socks[0].send(macs[1] + macs[0] + b"\x88\xb5" + b"just for you" + bytes(988))
assert b"just for you" in socks[1].recv(2000)
"""
)
_MANY = (
    _CABLES
    + r"""
for number in range(3000):
    socks[0].send(macs[1] + macs[0] + b"\x88\xb5" + number.to_bytes(4, "big") + bytes(1000))
"""
)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with open_lab(tmp_path, "lab") as lab:
        yield lab


def packets(file: Path) -> list[tuple[int, bytes]]:
    """The length of each, and what was kept of it (pcap)."""
    data, at, found = file.read_bytes(), 24, list[tuple[int, bytes]]()
    while at < len(data):
        _, _, kept, size = struct.unpack_from("@IIII", data, at)
        found.append((size, data[at + 16 : at + 16 + kept]))
        at += 16 + kept
    return found


def _run(lab: Lab, program: str) -> None:
    assert lab.spawn([sys.executable, "-I", "-c", program]).wait(Deadline(30)) == 0


def _seen(lab: Lab, text: bytes) -> list[tuple[int, bytes]]:
    return [(size, data) for size, data in packets(lab.captures[0]) if text in data]


def test_what_two_machines_say_to_each_other_is_captured_once(lab: Lab) -> None:
    _run(lab, _BETWEEN)

    poll(lambda: _seen(lab, b"just for you"), Deadline(5), every_s=0.01)
    [(size, data)] = _seen(lab, b"just for you")
    assert size == 14 + 1000
    assert len(data) == 256
    assert lab.capture_problem == ""


def test_a_closed_lab_leaves_a_complete_capture(tmp_path: Path) -> None:
    with open_lab(tmp_path, "lab") as lab:
        _run(lab, _BETWEEN)
        poll(lambda: _seen(lab, b"just for you"), Deadline(5), every_s=0.01)

    header = struct.unpack("@IHHiIII", lab.captures[0].read_bytes()[:24])
    assert header == (0xA1B23C4D, 2, 4, 0, 0, 256, 1)  # pcap-savefile(5), of nanoseconds
    assert len(_seen(lab, b"just for you")) == 1


def test_none_of_many_is_lost(lab: Lab) -> None:
    _run(lab, _MANY)

    def numbers() -> set[bytes]:
        return {data[14:18] for _, data in packets(lab.captures[0]) if data[12:14] == b"\x88\xb5"} - {b"here"}

    poll(lambda: len(numbers()) == 3000, Deadline(10), every_s=0.1)
    assert len(numbers()) == 3000


def test_the_oldest_packets_are_dropped(tmp_path: Path) -> None:
    with capture_files(str(tmp_path / "capture.pcap")) as files:
        for number in range(7):
            files.write(bytes([number]) * (FILE_BYTES // 2 - 100))

    newest, before = tmp_path / "capture.pcap", tmp_path / "capture.pcap.before"
    assert newest.stat().st_size + before.stat().st_size <= 2 * FILE_BYTES
    assert newest.read_bytes()[24] == newest.read_bytes()[-1] == 6
    assert (before.read_bytes()[24], before.read_bytes()[-1]) == (4, 5)


def test_a_capture_that_cannot_be_written_is_reported_and_the_lab_works(tmp_path: Path) -> None:
    (tmp_path / "capture.pcap").mkdir()
    with open_lab(tmp_path, "lab") as lab:
        poll(lambda: lab.capture_problem, Deadline(10), every_s=0.01)

        assert lab.capture_problem.startswith("the capture ended: ")
        assert lab.spawn(["true"]).wait(Deadline(10)) == 0


def test_a_kernel_that_captures_nothing_is_reported_and_the_lab_works(tmp_path: Path) -> None:
    with open_bridge_lab(tmp_path, {}, frame_bytes=7) as lab:  # which every kernel refuses
        assert lab.capture_problem == "this kernel captures no packets: OSError: [Errno 22] Invalid argument"
        assert lab.spawn(["true"]).wait(Deadline(10)) == 0
