"""A console behind a socket, joined with the terminal of the person: a pipe stands in for the keyboard."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from typing import IO

import pytest

from harness.core.deadline import Changes, Deadline
from harness.core.terminal import QUIT, join, serve_console


class EchoConsole:
    """Prints what is typed, and ends when that is "exit"."""

    def __init__(self, printed: bytes = b"") -> None:
        self._printed, self._changes, self.is_closed = printed, Changes(), False

    def read(self, start: int, deadline: Deadline) -> bytes:
        self._changes.wait_for(lambda: len(self._printed) > start or self.is_closed, deadline)
        return self._printed[start:]

    def send(self, text: str) -> None:
        self._printed += text.encode()
        self.is_closed = text.endswith("exit")
        self._changes.note()


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[IO[bytes]]:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "wb", buffering=0) as keys:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield keys


def joined(console: EchoConsole) -> None:
    ours, theirs = socket.socketpair()
    server = threading.Thread(target=serve_console, args=(console, theirs))
    with ours, theirs:
        server.start()
        join(ours)
        ours.shutdown(socket.SHUT_RDWR)
        server.join(10)
    assert not server.is_alive()


def test_all_that_a_console_printed_is_shown_before_it_ends(
    keyboard: IO[bytes], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    keyboard.write(b"exit")

    joined(EchoConsole(b"login: " + b"x" * 100_000))

    assert capfdbinary.readouterr().out == b"login: " + b"x" * 100_000 + b"exit"


def test_the_quit_key_leaves_a_console_that_goes_on(
    keyboard: IO[bytes], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    console = EchoConsole(b"login: ")
    keyboard.write(QUIT)

    joined(console)

    assert not console.is_closed
    assert QUIT not in capfdbinary.readouterr().out


def test_after_the_end_of_input_output_is_still_shown(
    keyboard: IO[bytes], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    console = EchoConsole()
    keyboard.close()
    threading.Timer(0.5, console.send, ["late exit"]).start()

    joined(console)

    assert capfdbinary.readouterr().out == b"late exit"
