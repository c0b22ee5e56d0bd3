"""Ways into a machine that runs, from another process's point of view: on real sockets, the machine a plain object."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import doors, record
from harness.__main__ import main
from harness.channel import Completed
from harness.deadline import Deadline
from harness.doors import CONSOLE, GDB, LOGIN, MONITOR, Doors, Kept, open_doors
from harness.errors import HostError, UsageError


class Console:
    """Prints what is typed, and has printed a line before."""

    is_closed = False

    def __init__(self) -> None:
        self.said = bytearray(b"login: ")

    @property
    def printed_bytes(self) -> int:
        return len(self.said)

    def read(self, start: int, deadline: Deadline) -> bytes:
        if len(self.said) <= start:
            deadline.__class__(0.01, scaled=False)
        return bytes(self.said[start:])

    def send(self, text: str) -> None:
        self.said += text.encode()


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
            site=SimpleNamespace(
                lab=SimpleNamespace(ssh_options=lambda _spec, _ask: {}), run=SimpleNamespace(key=tmp_path / "key")
            ),
        ),
        child=SimpleNamespace(pid=os.getpid()),
        console=Console(),
        channel=SimpleNamespace(run=run),
        ask_monitor=lambda line: f"{line} is done\r\n",
    )


@pytest.fixture
def opened(power: Any) -> Iterator[Doors]:
    with open_doors(power, "its boot failed", for_s=600) as opened:
        yield opened


def _read(door: socket.socket, until: bytes) -> bytes:
    door.settimeout(10)
    said = b""
    while until not in said:
        said += door.recv(1000)
    return said


def test_it_is_listed_while_it_runs(opened: Doors, capsys: pytest.CaptureFixture[str]) -> None:
    assert doors.kept() == [opened.about]
    assert doors.find(None) == doors.find("machine-direct") == doors.find(opened.about.id) == opened.about
    assert main(["ps"]) == 0
    said = capsys.readouterr().out
    assert "machine-direct" in said
    assert "in 10 min" in said


def test_its_console_shows_what_it_said_and_takes_what_is_typed(opened: Doors) -> None:
    with doors.ask(opened.about.id, CONSOLE) as door:
        assert _read(door, b"login: ")
        door.sendall(b"root")
        assert _read(door, b"root")


def test_its_monitor_answers_each_line(opened: Doors) -> None:
    with doors.ask(opened.about.id, MONITOR) as door:
        door.sendall(b"info status\n")
        assert _read(door, b"done").startswith(doors.PROMPT.encode() + b"info status")


def test_root_is_logged_in(opened: Doors) -> None:
    assert doors.answer(opened.about.id, LOGIN) == ""


def test_a_debugger_is_told_where_or_why_not(opened: Doors) -> None:
    assert doors.answer(opened.about.id, GDB).startswith("error: gdbserver unix:")


def test_whoever_waits_is_told_that_it_was_stopped(opened: Doors) -> None:
    assert not opened.is_stopped
    assert main(["stop"]) == 0
    opened.wait(Deadline(10))
    assert opened.is_stopped


def test_nothing_is_left_of_it(opened: Doors, power: Any, tmp_path: Path) -> None:
    with open_doors(power, "another"):
        assert len(doors.kept()) == 2
        with pytest.raises(UsageError, match="say which machine"):
            doors.find(None)
    assert doors.kept() == [opened.about]
    assert [folder.name for folder in (tmp_path / f"bootproof-{os.getuid()}").iterdir()] == [opened.about.id]


def test_what_a_killed_one_left_is_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / f"bootproof-{os.getuid()}" / "beef"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o700)
    about = Kept(id="beef", machine="m", image="base", why="", since=0.0, until=0.0, pid=1, ssh=())
    record.write(folder / "kept.json", about)

    assert main(["ps"]) == 0
    assert capsys.readouterr().out == "no machine is kept\n"
    assert not folder.exists()
    assert main(["attach"]) == 4
    assert "no machine is kept: pytest --keep failed" in capsys.readouterr().err


def test_a_folder_that_others_may_enter_is_not_used(tmp_path: Path) -> None:
    (tmp_path / f"bootproof-{os.getuid()}").mkdir(mode=0o755)

    with pytest.raises(HostError, match="others may enter it"):
        doors.kept()
