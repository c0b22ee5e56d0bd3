"""The monitor: against a QEMU of a few milliseconds, and against a peer that misbehaves."""

from __future__ import annotations

import json
import logging
import pickle
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from harness.core import process
from harness.core.deadline import Changes, Deadline, poll
from harness.model.machine_spec import BootPath, MachineSpec
from harness.qemu import command_line, program
from harness.qemu.qmp import Qmp, QmpGone, QmpRefused, QmpTimeout, open_qmp

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}
SPEC = MachineSpec(name="m1", uuid=UUID(int=1), boot_path=BootPath.IPXE_BIOS, memory_mib=64, cpus=1)


@dataclass
class Events:
    """What came, by name."""

    seen: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    changes: Changes = field(default_factory=Changes)

    def note(self, name: str, data: dict[str, Any]) -> None:
        self.seen.append((name, data))
        self.changes.note()

    def wait_for(self, name: str) -> dict[str, Any] | None:
        found = self.changes.wait_for(lambda: [row for row in self.seen if row[0] == name], Deadline(15))
        return found[0][1] if found else None


@contextmanager
def qemu(tmp_path: Path, events: Events, boot_sector: bytes = b"\xf4") -> Iterator[Qmp]:
    """A machine that runs ``boot_sector`` (16-bit code at 0x7c00; by default it halts)."""
    (tmp_path / "sector").write_bytes(boot_sector.ljust(510, b"\0") + b"\x55\xaa" + bytes(4 << 20))
    ours, theirs = socket.socketpair()
    with ExitStack() as stack:
        with theirs:
            argv = command_line.command(
                SPEC, qemu=program.of_path(), sockets=command_line.QemuSockets(qmp_fd=theirs.fileno())
            )
            argv += ["-drive", f"file={tmp_path / 'sector'},format=raw,if=none,id=d"]
            argv += ["-device", "virtio-blk-pci,drive=d,bootindex=0"]
            argv += ["-boot", "reboot-timeout=-1"]  # so that no reset is the firmware's
            stack.enter_context(process.spawn(argv, pass_fds=[theirs.fileno()], stderr=2))
        yield stack.enter_context(open_qmp(ours, name="m1", on_event=events.note, log=tmp_path / "qmp.log"))


def _is_gone(qmp: Qmp) -> bool:
    try:
        qmp.execute("query-status", deadline=Deadline(5))
    except QmpGone:
        return True
    return False


def test_commands_are_answered_and_logged(tmp_path: Path) -> None:
    with qemu(tmp_path, Events()) as qmp:
        assert qmp.execute("query-status", deadline=Deadline(5))["running"] is True
        uuid = qmp.execute("qom-get", {"path": "/machine", "property": "type"}, deadline=Deadline(5))

    assert "q35" in uuid
    log = [json.loads(line) for line in (tmp_path / "qmp.log").read_text().splitlines()]
    assert [row["execute"] for row in log if "execute" in row] == ["query-status", "qom-get"]


def test_a_refused_command_is_an_error_with_qemus_reason(tmp_path: Path) -> None:
    with qemu(tmp_path, Events()) as qmp, pytest.raises(QmpRefused, match=r"m1: QMP no-such: .*not been found"):
        qmp.execute("no-such", deadline=Deadline(5))


def test_the_end_of_qemu_is_noticed_at_once_after_its_last_event(tmp_path: Path) -> None:
    events = Events()
    with qemu(tmp_path, events) as qmp:
        qmp.execute("quit", deadline=Deadline(5))

        assert poll(lambda: _is_gone(qmp), Deadline(5), every_s=0.01)
        assert events.seen[-1] == ("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})


def test_a_panic_is_an_event_and_stops_the_machine(tmp_path: Path) -> None:
    """mov dx, 0x505; mov al, 1; out dx, al; hlt: what the kernel's pvpanic driver does."""
    events = Events()
    with qemu(tmp_path, events, bytes.fromhex("ba0505 b001 ee f4")) as qmp:
        assert events.wait_for("GUEST_PANICKED") == {"action": "pause"}
        assert qmp.execute("query-status", deadline=Deadline(5))["status"] == "guest-panicked"


def test_a_reset_ends_qemu_with_an_event_that_names_its_reason(tmp_path: Path) -> None:
    """mov al, 0xfe; out 0x64, al; hlt: the keyboard controller pulls the reset line."""
    events = Events()
    with qemu(tmp_path, events, bytes.fromhex("b0fe e664 f4")) as qmp:
        assert events.wait_for("SHUTDOWN") == {"guest": True, "reason": "guest-reset"}
        assert poll(lambda: _is_gone(qmp), Deadline(5), every_s=0.01)


@contextmanager
def _peer(*, answers: bool) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Greets, agrees on capabilities, and then says nothing (or nothing at all)."""
    ours, theirs = socket.socketpair()
    with theirs:
        if answers:
            theirs.sendall(json.dumps(GREETING).encode() + b"\r\n" + b'{"return": {}}\r\n')
        yield ours, theirs


def test_no_answer_is_a_timeout_after_which_the_session_still_works() -> None:
    with _peer(answers=True) as (ours, theirs), open_qmp(ours, name="m1", on_event=Events().note) as qmp:
        with pytest.raises(QmpTimeout, match=r"m1: QMP stop: no answer within 0\.1 s"):
            qmp.execute("stop", deadline=Deadline(0.1, scaled=False))
        theirs.recv(4096)
        reply = threading.Thread(target=_answer, args=(theirs,))
        reply.start()
        assert qmp.execute("query-name", deadline=Deadline(5)) == {"name": "m1"}
        reply.join()


def _answer(sock: socket.socket) -> None:
    command = json.loads(sock.recv(4096).splitlines()[-1])
    sock.sendall(json.dumps({"return": {"name": "m1"}, "id": command["id"]}).encode() + b"\r\n")


def test_a_command_that_waits_when_qemu_ends_fails_at_once() -> None:
    with _peer(answers=True) as (ours, theirs), open_qmp(ours, name="m1", on_event=Events().note) as qmp:
        timer = threading.Timer(0.1, theirs.shutdown, [socket.SHUT_RDWR])
        timer.start()
        with pytest.raises(QmpGone, match="QEMU is gone"):
            qmp.execute("stop", deadline=Deadline(60))
        timer.join()


def test_a_qemu_that_never_greets_is_an_error() -> None:
    with _peer(answers=False) as (ours, theirs):
        theirs.close()
        with pytest.raises(QmpGone, match="before"), open_qmp(ours, name="m1", on_event=Events().note):
            pass


def test_thousands_of_events_are_passed_on_in_order_and_not_kept() -> None:
    events = Events()
    with _peer(answers=True) as (ours, theirs), open_qmp(ours, name="m1", on_event=events.note) as qmp:
        for number in range(5000):
            event = {"event": "E", "data": {"n": number}, "timestamp": {"seconds": 0, "microseconds": 0}}
            theirs.sendall(json.dumps(event).encode() + b"\r\n")
        theirs.close()
        assert events.changes.wait_for(lambda: len(events.seen) == 5000, Deadline(10))
        assert not qmp._client.events.history

    assert [data["n"] for _, data in events.seen] == list(range(5000))


def test_errors_travel_between_processes() -> None:
    error = QmpTimeout("m1", "stop", "no answer within 1.0 s")

    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_commands_and_events_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    events = Events()
    with caplog.at_level(logging.DEBUG, "harness"), qemu(tmp_path, events) as qmp:
        qmp.execute("quit", deadline=Deadline(5))
        assert events.wait_for("SHUTDOWN")

    assert "m1: QMP command quit" in caplog.messages
    assert "m1: QMP event SHUTDOWN" in caplog.messages
