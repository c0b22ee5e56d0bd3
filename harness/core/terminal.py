"""The terminal of the person at the keyboard, and the copying between terminals, sockets and consoles."""

from __future__ import annotations

import os
import select
import socket
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from harness.core.deadline import Deadline

QUIT = b"\x1d"  # Ctrl-], as in telnet(1) and virsh console
_LOOK_EVERY_S = 0.2


class Screen(Protocol):
    """A console that keeps everything it printed."""

    @property
    def is_closed(self) -> bool:
        """Whether it will print no more."""

    def read(self, start: int, deadline: Deadline) -> bytes:
        """The bytes printed from ``start`` on; empty if there are none by the deadline, or ever."""

    def send(self, text: str) -> None:
        """Type ``text``."""


@contextmanager
def raw() -> Iterator[None]:
    """Pass every key on while the block lasts; no effect if standard input is not a terminal."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def join(door: socket.socket, is_over: Callable[[], bool] = lambda: False) -> None:
    """Copy between this terminal and the socket ``door`` until it ends, the person quits, or ``is_over``.

    At the end of standard input, output is still shown.
    """
    sources = [door.fileno(), sys.stdin.fileno()]
    while not is_over():
        readable, _, _ = select.select(sources, [], [], _LOOK_EVERY_S)
        if door.fileno() in readable:
            try:
                chunk = door.recv(1 << 16)
            except ConnectionResetError:  # unix(7): the other end closed with unread data
                return
            if not chunk:
                return
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        if sys.stdin.fileno() in readable:
            typed = os.read(sys.stdin.fileno(), 1024)
            if QUIT in typed:
                return
            if typed:
                with suppress(BrokenPipeError):
                    door.sendall(typed)
            else:
                sources.pop()
                door.shutdown(socket.SHUT_WR)


def serve_console(
    console: Screen, door: socket.socket, start: int = 0, is_over: Callable[[], bool] = lambda: False
) -> None:
    """Copy between ``console``, from byte ``start`` on, and the socket ``door`` until one ends or ``is_over``."""
    threading.Thread(target=_type, args=(console, door), daemon=True).start()
    with suppress(OSError):  # the client left
        while not is_over():
            was_closed = console.is_closed
            chunk = console.read(start, Deadline(_LOOK_EVERY_S, scaled=False))
            start += len(chunk)
            door.sendall(chunk)
            if was_closed and not chunk:
                break
        door.shutdown(socket.SHUT_RDWR)


def _type(console: Screen, door: socket.socket) -> None:
    with suppress(OSError):
        while typed := door.recv(1024):
            console.send(typed.decode("utf-8", "replace"))


def to_stderr(line: str) -> None:
    """Print for the person where standard output is a command's result."""
    print(line, file=sys.stderr, flush=True)
