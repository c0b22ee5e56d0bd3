"""Requests of machines to the lab's servers become readable lines as they happen."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.deadline import Deadline
from harness.lab import HttpAnswer, Lab, open_lab
from harness.lab.http import Request, RequestRecord
from harness.lab.trace import Trace, TraceEvent, followed_output, format_trace, read_line, read_request

# As dnsmasq 2.90 printed them (log-dhcp); a second card, a stranger, TFTP as UEFI does it
LINES = {
    "dnsmasq-dhcp[3]: 4660 DHCPDISCOVER(br0) 52:54:00:77:00:03 ": (3, "discover", "DHCP DISCOVER"),
    "dnsmasq-dhcp[3]: 4660 DHCPOFFER(br0) 10.77.0.13 52:54:00:77:00:03 ": (3, "offer", "DHCP OFFER 10.77.0.13"),
    "dnsmasq-dhcp[3]: 4660 DHCPREQUEST(br0) 10.77.0.13 52:54:00:77:00:03 ": (3, "request", "DHCP REQUEST 10.77.0.13"),
    "dnsmasq-dhcp[3]: 4660 DHCPACK(br0) 10.77.0.13 52:54:00:77:00:03 machine-3": (3, "ack", "DHCP ACK 10.77.0.13"),
    "dnsmasq-dhcp[3]: 4660 DHCPNAK(br0) 10.77.0.13 52:54:00:77:00:03 wrong server-ID": (
        3, "nak", "DHCP NAK 10.77.0.13: wrong server-ID",
    ),
    "dnsmasq-dhcp[3]: 4660 DHCPNAK(br0) 10.77.0.99 52:54:00:77:00:03 wrong address": (
        3, "nak", "DHCP NAK 10.77.0.99: wrong address",
    ),
    "dnsmasq-dhcp[3]: 4660 DHCPDISCOVER(br0) 52:54:00:77:01:03 no address available": (
        3, "discover", "DHCP DISCOVER of network card 1: no address available",
    ),
    "dnsmasq-dhcp[3]: 4660 DHCPDISCOVER(br0) 52:54:00:12:34:56 no address available": (
        None, "discover", "DHCP DISCOVER: no address available",
    ),
    "dnsmasq-dhcp[3]: 4660 DHCPRELEASE(br0) 10.77.0.13 52:54:00:77:00:03 unknown lease": (
        3, "release", "DHCP RELEASE 10.77.0.13: unknown lease",
    ),
    "dnsmasq-tftp[3]: sent /runs/a b/tftp/ipxe.efi to 10.77.0.13": (3, "sent", "TFTP ipxe.efi sent"),
    "dnsmasq-tftp[3]: failed sending /runs/tftp/ipxe.efi to 10.77.0.13": (3, "failed", "TFTP ipxe.efi failed"),
    "dnsmasq-tftp[3]: file /runs/tftp/undionly.kpxe not found for 10.77.0.13": (
        3, "missing", "TFTP undionly.kpxe not found",
    ),
    "dnsmasq-tftp[3]: error 8 User aborted the transfer received from 10.77.0.13": (
        3, "error", "TFTP error 8 User aborted the transfer",
    ),
}  # fmt: skip
SILENT = (
    "dnsmasq[3]: started, version 2.90 cachesize 150",
    "dnsmasq-dhcp[3]: 4660 available DHCP subnet: 10.77.0.1/255.255.255.0",
    "dnsmasq-dhcp[3]: 4660 sent size:  4 option: 54 server-identifier  10.77.0.1",
    "dnsmasq-dhcp[3]: 4660 bootfile name: http://10.77.0.1/boot.ipxe",
    "",
)


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_dnsmasq_is_a_step(line: str) -> None:
    event = read_line(line, 7.0)

    assert event is not None
    assert (event.number, event.kind, event.text) == LINES[line]
    assert event.time_s == 7.0


def test_each_problem_is_named() -> None:
    problems = {event.problem for line in LINES if (event := read_line(line, 0.0))}

    assert {"", "no address available", "wrong server-ID", "not found", "failed"} <= problems
    assert "machine-3" not in problems


@pytest.mark.parametrize("line", SILENT)
def test_other_lines_are_none(line: str) -> None:
    assert read_line(line, 0.0) is None


def _request(path: str) -> Request:
    return Request(client="10.77.0.12", method="GET", path=path, headers={})


def _record(path: str, status: int = 200, size: int = 12_200_000) -> RequestRecord:
    return RequestRecord(
        client="10.77.0.12", method="GET", path=path, status=status, size_bytes=size, bytes_sent=size, started_s=0.0,
        elapsed_s=0.3,
    )  # fmt: skip


def test_a_request_is_a_step_when_it_begins_and_when_it_ends() -> None:
    path = f"/{'ab' * 32}/vmlinuz"
    begun, ended = read_request(_request(path), 1.0), read_request(_record(path), 1.3)

    assert (begun.number, begun.kind, begun.text) == (2, "begun", "GET /abababababab/vmlinuz …")
    assert (ended.number, ended.kind, ended.text) == (2, "ended", "GET /abababababab/vmlinuz 200 12.2 MB in 0.3 s")
    assert (ended.what, ended.problem) == (path, "")
    assert read_request(_record("/rootfs", 404, 5), 0.0).problem == "404"


def test_a_stalled_download_stays_in_the_formatted_trace() -> None:
    events = [
        read_request(_request("/kernel"), 1.0),
        read_request(_record("/kernel", size=4100), 1.5),
        read_request(_request("/rootfs"), 2.0),
    ]

    assert format_trace(events, 0.5) == ["[    1.00] GET /kernel 200 4.1 kB in 0.3 s", "[    1.50] GET /rootfs …"]


def test_steps_are_asked_for_by_machine_and_since_its_power_on() -> None:
    trace = Trace()
    for time_s, line in enumerate(LINES):
        trace.note(read_line(line, float(time_s)))

    assert [event.kind for event in trace.events(3, 2.0)][:2] == ["request", "ack"]
    assert trace.events(4) == []


def test_a_waiter_is_woken_by_a_step() -> None:
    trace = Trace()
    threading.Timer(0.05, trace.note_request, [_record("/x", 404)]).start()

    event = trace.wait_for(lambda event: event.problem == "404", Deadline(5))

    assert event is not None
    assert event.what == "/x"
    assert trace.wait_for(lambda event: event.problem == "503", Deadline(0.05, scaled=False)) is None


def test_each_machine_has_its_own_log(tmp_path: Path) -> None:
    trace = Trace()
    with trace.logged(2, tmp_path / "network.log", since_s=0.0):
        trace.note(read_request(_request("/x"), 1.25))
        trace.note(read_line("dnsmasq-dhcp[3]: 1 DHCPDISCOVER(br0) 52:54:00:77:00:03 ", 1.5))
        assert (tmp_path / "network.log").read_text("utf-8") == "[    1.25] GET /x …\n"  # at once
    trace.note(read_request(_record("/x"), 2.0))

    assert (tmp_path / "network.log").read_text("utf-8") == "[    1.25] GET /x …\n"


def test_a_programs_output_is_logged_unchanged_and_passed_on_by_lines(tmp_path: Path) -> None:
    lines = list[str]()
    with (
        followed_output(tmp_path / "log", lines.append) as output,
        open(output, "wb", buffering=0, closefd=False) as program,
    ):
        program.write(b"one\ntw")
        program.write(b"o\nth")

    assert lines == ["one", "two"]
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\nth"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_lab(tmp_path_factory.mktemp("lab"), "lab") as lab:
        yield lab


_DISCOVER = r"""
import socket, struct, subprocess, sys, time
mac = bytes.fromhex(sys.argv[1].replace(":", ""))
name = "v" + sys.argv[1][-2:]
for command in (f"link add {name} type veth peer name {name}p", f"link set {name} master br0 up",
                f"link set {name}p up"):
    subprocess.run(["ip", *command.split()], check=True)
bootp = struct.pack("!BBBBIHH16s16s", 1, 1, 6, 0, 0x1234, 0, 0x8000, b"", mac) + bytes(192)
bootp += bytes([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255])
header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(bootp), 1, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
total = sum(struct.unpack("!10H", header[:10] + bytes(2) + header[12:]))
total = (total & 0xFFFF) + (total >> 16)
header = header[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + header[12:]
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sock.bind((f"{name}p", 0))
for _ in range(4):  # on a busy host the link may not carry the first yet
    sock.send(b"\xff" * 6 + mac + b"\x08\0" + header + struct.pack("!HHHH", 68, 67, 8 + len(bootp), 0) + bootp)
    time.sleep(0.5)
"""
"""A client of DHCP that says one thing, and again."""


def _discover(lab: Lab, mac: str) -> TraceEvent | None:
    assert lab.spawn([sys.executable, "-I", "-c", _DISCOVER, mac]).wait(Deadline(10)) == 0
    number = int(mac[-2:], 16)
    return lab.trace.wait_for(
        lambda event: event.number == number and (event.kind == "offer" or bool(event.problem)), Deadline(10)
    )


def test_the_labs_own_dnsmasq_is_understood(lab: Lab) -> None:
    offer = _discover(lab, "52:54:00:77:00:07")
    refused = _discover(lab, "52:54:00:77:02:08")

    assert offer is not None
    assert refused is not None
    assert offer.text == "DHCP OFFER 10.77.0.17"
    assert refused.text == "DHCP DISCOVER of network card 2: no address available"
    assert "DHCPOFFER(br0) 10.77.0.17 52:54:00:77:00:07" in (lab.workdir / "dnsmasq.log").read_text("utf-8")


def test_the_labs_own_http_server_is_followed(lab: Lab) -> None:
    lab.http.serve("/slow", lambda _: HttpAnswer(body=b"12345", delay_s=0.3))
    program = "import urllib.request; urllib.request.urlopen('http://10.77.0.1/slow').read()"
    child = lab.spawn([sys.executable, "-I", "-c", program])

    begun = lab.trace.wait_for(lambda event: event.what == "/slow", Deadline(10))
    assert begun is not None
    assert begun.kind == "begun"
    ended = lab.trace.wait_for(lambda event: event.what == "/slow" and event.kind == "ended", Deadline(10))
    assert ended is not None
    assert ended.time_s - begun.time_s >= 0.3
    assert child.wait(Deadline(10)) == 0
