"""The terminal that a person sits at."""

from __future__ import annotations

import os
import select
import socket
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

QUIT = b"\x1d"  # Ctrl-], as in telnet(1) and virsh console
_LOOK_EVERY_S = 0.2


@contextmanager
def raw() -> Iterator[None]:
    """Every key goes to the machine while the block lasts; nothing changes where standard input is no terminal."""
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
    """This terminal and what is behind the ``door``, until either ends, the person quits, or it is over."""
    sources = [door.fileno(), sys.stdin.fileno()]
    while not is_over():
        readable, _, _ = select.select(sources, [], [], _LOOK_EVERY_S)
        if door.fileno() in readable:
            try:
                chunk = door.recv(1 << 16)
            except ConnectionResetError:  # unix(7): it ended with something unread
                return
            if not chunk:
                return
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        if sys.stdin.fileno() in readable:
            said = os.read(sys.stdin.fileno(), 1024)
            if QUIT in said:
                return
            if said:
                with suppress(BrokenPipeError):
                    door.sendall(said)
            else:  # what it still has to say is shown
                sources.pop()
                door.shutdown(socket.SHUT_WR)


def to_stderr(line: str) -> None:
    """For commands whose standard output is a result."""
    print(line, file=sys.stderr, flush=True)
