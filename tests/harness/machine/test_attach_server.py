"""Access to a running machine, as a client sees it: over real sockets, with a plain object as the machine."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cli.main import main
from harness.core import serialization
from harness.core.deadline import Deadline
from harness.core.errors import HostError, UsageError
from harness.guest.channel import Completed
from harness.guest.console_view import ConsoleView
from harness.machine import attach_server
from harness.machine.attach_server import CONSOLE, GDB, LOGIN, MONITOR, Access, HeldMachine, hold_machine, open_access
from harness.machine.observation import BootState
from harness.model.events import Note
from harness.runs.folder import Run


class Console:
    """Echoes what is typed, after a line of its own."""

    is_closed = False

    def __init__(self) -> None:
        self.printed = bytearray(b"login: ")
        self.phases = {"userspace": 20.0}
        self.change = threading.Event()

    @property
    def printed_bytes(self) -> int:
        return len(self.printed)

    def read(self, start: int, deadline: Deadline) -> bytes:
        if len(self.printed) <= start:
            self.change.wait(min(0.01, deadline.left_s))
        return bytes(self.printed[start:])

    def send(self, text: str) -> None:
        self.printed += text.encode()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def power(tmp_path: Path) -> Any:
    def run(command: str, _: Deadline) -> Completed:
        return Completed(command=command, status=0, stdout=b"", stderr=b"")

    return SimpleNamespace(
        plan=SimpleNamespace(
            spec=SimpleNamespace(name="machine-direct", address="10.77.0.10"),
            artifacts=SimpleNamespace(manifest=SimpleNamespace(image="base")),
            folder=tmp_path / "machine-direct" / "boot-1",
            is_clone=False,
        ),
        context=SimpleNamespace(
            lab=SimpleNamespace(ssh_options=lambda _spec, _ask: {}), run=SimpleNamespace(key=tmp_path / "key")
        ),
        watch=SimpleNamespace(state=BootState.FAILED, view=ConsoleView()),
        child=SimpleNamespace(pid=os.getpid()),
        console=Console(),
        channel=SimpleNamespace(run=run),
        ask_monitor=lambda line: f"{line} is done\r\n",
        outliving_resets=nullcontext,
    )


@pytest.fixture
def opened(power: Any) -> Iterator[Access]:
    with open_access(power, "its boot failed", for_s=600) as opened:
        yield opened


def _read(door: socket.socket, until: bytes) -> bytes:
    door.settimeout(10)
    output = b""
    while until not in output and (chunk := door.recv(1000)):
        output += chunk
    assert until in output
    return output


def test_it_is_listed_while_it_runs(opened: Access, capsys: pytest.CaptureFixture[str]) -> None:
    assert attach_server.held_machines() == [opened.about]
    assert (
        attach_server.find(None)
        == attach_server.find("machine-direct")
        == attach_server.find(opened.about.id)
        == opened.about
    )
    assert main(["ps"]) == 0
    output = capsys.readouterr().out
    assert "machine-direct" in output
    assert "in 10 min" in output


def test_its_console_shows_earlier_output_and_takes_what_is_typed(opened: Access) -> None:
    with attach_server.ask(opened.about.id, CONSOLE) as door:
        assert _read(door, b"login: ")
        door.sendall(b"root")
        assert _read(door, b"root")


def test_its_monitor_answers_each_line(opened: Access) -> None:
    with attach_server.ask(opened.about.id, MONITOR) as door:
        door.sendall(b"info status\n")
        assert _read(door, b"done").startswith(attach_server.PROMPT.encode() + b"info status")


def test_root_is_logged_in(opened: Access) -> None:
    assert attach_server.answer(opened.about.id, LOGIN) == ""


def test_a_debugger_gets_an_address_or_a_reason(opened: Access) -> None:
    with pytest.raises(HostError, match=r"^gdbserver unix:"):
        attach_server.answer(opened.about.id, GDB)


def test_a_wait_ends_when_the_machine_is_stopped(opened: Access) -> None:
    assert not opened.is_stopped
    assert main(["stop"]) == 0
    opened.wait(Deadline(10))
    assert opened.is_stopped


def test_no_folder_is_left_of_a_machine_that_ended(opened: Access, power: Any, tmp_path: Path) -> None:
    with open_access(power, "another"):
        assert len(attach_server.held_machines()) == 2
        with pytest.raises(UsageError, match="several machines run, name one"):
            attach_server.find(None)
    assert attach_server.held_machines() == [opened.about]
    assert [folder.name for folder in (tmp_path / f"bootproof-{os.getuid()}").iterdir()] == [opened.about.id]


def test_the_folder_of_a_killed_process_is_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / f"bootproof-{os.getuid()}" / "beef"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o700)
    about = HeldMachine(id="beef", machine="m", image="base", why="", since=0.0, until=0.0, qemu=1, ssh=())
    serialization.write(folder / "machine.json", about)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        listening.listen()

    assert main(["ps"]) == 0
    assert capsys.readouterr().out == "no machine is held\n"
    assert not folder.exists()
    assert main(["attach"]) == 4
    assert "no machine is held: pytest --keep-failed" in capsys.readouterr().err


def test_a_folder_that_others_may_enter_is_not_used(
    power: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, other = f"bootproof-{os.getuid()}", tmp_path / "other"
    other.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(other))
    (tmp_path / name).mkdir(mode=0o755)
    with open_access(power, "it is safe"):
        assert [one.why for one in attach_server.held_machines()] == ["it is safe"]
        assert list((other / name).iterdir())

    (other / name).chmod(0o777)
    with pytest.raises(HostError, match="others may enter it"), open_access(power, "it is not"):
        pass


def test_a_session_folder_with_a_long_path_is_not_used(
    power: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (long := tmp_path / ("x" * 90)).mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    (short := tmp_path / "y").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    with open_access(power, "short") as opened:
        assert attach_server.answer(opened.about.id, LOGIN) == ""


def test_connections_end_with_the_machine(power: Any) -> None:
    with open_access(power, "for a moment") as opened:
        stack = ExitStack()
        door = stack.enter_context(attach_server.ask(opened.about.id, MONITOR))
        assert _read(door, attach_server.PROMPT.encode())
    with stack:
        assert door.recv(10) == b""


def test_before_user_space_a_login_is_refused(opened: Access, power: Any) -> None:
    power.console.phases = {"ipxe": 1.0}

    with pytest.raises(HostError, match=r"^the machine is still in ipxe$"):
        attach_server.answer(opened.about.id, LOGIN)


def test_a_machine_that_has_ended_is_not_held_and_its_failure_stays_what_it_was(power: Any, tmp_path: Path) -> None:
    run = Run(tmp_path, "main")
    machine: Any = SimpleNamespace(name="m", running_boot=power, context=SimpleNamespace(run=run))
    power.child.status = 0

    hold_machine(machine, "its boot failed", for_s=60)

    assert (power.watch.state, list(run.events())) == (BootState.FAILED, [])


def test_a_machine_that_cannot_be_held_is_noted(power: Any, tmp_path: Path) -> None:
    run = Run(tmp_path, "main")
    machine: Any = SimpleNamespace(name="m", running_boot=power, context=SimpleNamespace(run=run))
    power.child.status, power.child.pid = None, 1 << 30

    hold_machine(machine, "its boot failed", for_s=60)

    (note,) = run.of_kind(Note)
    assert note.text.startswith("m cannot be held: ")
