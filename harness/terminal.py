"""The terminal that a person sits at."""

from __future__ import annotations

import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

QUIT = b"\x1d"  # Ctrl-], as in telnet(1) and virsh console


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


def to_stderr(line: str) -> None:
    """For commands whose standard output is a result."""
    print(line, file=sys.stderr, flush=True)
