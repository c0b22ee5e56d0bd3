"""A machine's serial console: read while the machine runs, logged to a file, watched for console patterns."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pexpect import EOF, TIMEOUT
from pexpect.spawnbase import SpawnBase

from harness.core.deadline import Changes, Deadline
from harness.core.errors import HostError, ImageError
from harness.core.text import plain
from harness.guest.console_patterns import begins_phase
from harness.guest.pattern_watcher import PatternMatch, PatternWatcher

_SPINNER = re.compile(r"^\[[ *]+\] .*\(.* / .*\)$")
"""systemd's "[ ***  ] Job x.service/start running (5s / no limit)", many a second: logged, but never evidence."""
_LOGGED = re.compile(r"\[ *(\d+\.\d\d)\] (.*)")
_PARTIAL_LINE_BYTES = 4096


class ConsoleTimeout(ImageError):
    """The console did not print ``awaited``, a regular expression, in time; ``tail`` is what it printed last."""

    def __init__(self, awaited: str, waited_s: float, log: str, tail: str) -> None:
        super().__init__(awaited, waited_s, log, tail)
        self.awaited, self.waited_s, self.log, self.tail = awaited, waited_s, log, tail

    def __str__(self) -> str:
        return f"no {self.awaited!r} on the console within {self.waited_s:.0f} s; {self.log} ends with:\n{self.tail}"


class Console:
    """What a machine has printed since its start. ``started_s`` is monotonic; the log's times count from it.

    ``phases`` maps each phase that began to its second after the start. ``listeners`` are called with each line, in the
    console's thread. ``problem`` is why lines could not be logged. Made by `follow`, which reads the socket.
    """

    def __init__(
        self, wire: socket.socket, log: Path, changes: Changes, on_phase: Callable[[str], None], watcher: PatternWatcher
    ) -> None:
        self.log = log
        self.lines: list[str] = []
        self.listeners: list[Callable[[str], None]] = []
        self.phases: dict[str, float] = {}
        self.is_closed = False
        self.problem: HostError | None = None
        self._wire, self._changes, self._on_phase, self._watcher = wire, changes, on_phase, watcher
        self._raw = bytearray()
        self._partial_line = b""
        self._successor: Console | None = None
        self.started_s = self._printed_s = time.monotonic()

    @property
    def matches(self) -> list[PatternMatch]:
        """The console patterns seen, oldest first: see `PatternWatcher`."""
        return self._watcher.matches

    @property
    def awaits_registers(self) -> bool:
        """Whether the registers of a kernel bug, which can show that it is the emulator's, may still follow."""
        return not self.is_closed and self._watcher.awaits_registers(time.monotonic())

    @property
    def silent_s(self) -> float:
        """Seconds since the machine last printed something."""
        return time.monotonic() - self._printed_s

    @property
    def printed_bytes(self) -> int:
        """Bytes printed so far, terminal control sequences included."""
        return len(self._raw)

    def send(self, text: str) -> None:
        """Type ``text`` on the console."""
        self._wire.sendall(text.encode())

    def expect(self, pattern: str, deadline: Deadline, *, start: int = 0) -> re.Match[str]:
        """Wait for the regular expression ``pattern`` in what byte ``start`` begins, or raise `ConsoleTimeout`."""
        reader = _Reader(self, start)
        outcome = reader.expect([pattern, TIMEOUT, EOF], timeout=deadline.left_s)
        if outcome:
            raise ConsoleTimeout(pattern, deadline.passed_s, str(self.log), self.tail())
        match = reader.match
        assert isinstance(match, re.Match)
        return match

    def read(self, start: int, deadline: Deadline) -> bytes:
        """The bytes printed from byte ``start`` on; empty if none came in time or the console is closed."""
        self._changes.wait_for(lambda: len(self._raw) > start or self.is_closed, deadline)
        return bytes(self._raw[start:])

    def tail(self, count: int = 15) -> str:
        """The last lines, for a message."""
        return "\n".join(self.lines[-count:])

    def begin_phase(self, phase: str) -> None:
        """Note that ``phase`` begins now, unless it has begun before."""
        if phase not in self.phases:
            self.phases[phase] = time.monotonic() - self.started_s
            self._on_phase(phase)

    def take_journal(self, lines: Iterable[str]) -> None:
        """Look for console patterns in lines of the guest's journal that its console does not show."""
        for line in lines:
            self._watcher.feed(line, time.monotonic())

    def begin(self, log: Path, on_phase: Callable[[str], None]) -> Console:
        """End this console and return one for the next boot, which gets all that is printed from now on."""
        self._successor = Console(self._wire, log, self._changes, on_phase, self._watcher.for_next_boot())
        return self._successor

    def follow(self) -> None:
        """Read until the other end closes. Runs in its own thread."""
        console = self
        while chunk := self._receive():
            while console._successor:
                console._close()
                console = console._successor
            console._take_chunk(chunk)
        while console._successor:
            console._close()
            console = console._successor
        console._close()

    def _take_chunk(self, chunk: bytes) -> None:
        self._raw += chunk
        self._printed_s = time.monotonic()
        *whole, self._partial_line = (self._partial_line + chunk).split(b"\n")
        if len(self._partial_line) > _PARTIAL_LINE_BYTES:
            whole, self._partial_line = [*whole, self._partial_line], b""
        self._take_all(whole)
        self._changes.note()

    def _close(self) -> None:
        self._take_all([self._partial_line] if self._partial_line else [])
        self.is_closed = True
        self._changes.note()

    def _take_all(self, lines: list[bytes]) -> None:
        try:
            with self.log.open("ab", buffering=0) as log:
                for line in lines:
                    self._take(line, log)
        except OSError as error:
            self.problem = HostError(f"{self.log} cannot be written: {error.strerror}; make room there")
        except HostError as error:
            self.problem = error

    def _receive(self) -> bytes:
        try:
            return self._wire.recv(65536)
        except OSError:
            return b""

    def _take(self, raw: bytes, log: IO[bytes]) -> None:
        line, now_s = plain(raw.decode("utf-8", "replace")), time.monotonic()
        since_start_s = now_s - self.started_s
        log.write(f"[{since_start_s:8.2f}] {line}\n".encode())
        if _SPINNER.match(line):
            return
        self.lines.append(line)
        for listener in self.listeners:
            listener(line)
        if phase := begins_phase(line):
            self.begin_phase(phase)
        self._watcher.feed(line, now_s)


def read_log(text: str) -> Iterator[tuple[float, str]]:
    """The lines of a console.log with something in them, and the seconds since power-on at which each came: pure."""
    for line in text.splitlines():
        match = _LOGGED.fullmatch(line)
        if match and match[2].strip() and not _SPINNER.match(match[2]):
            yield float(match[1]), match[2]


if TYPE_CHECKING:
    _TextSpawn = SpawnBase[str]
else:
    _TextSpawn = SpawnBase  # generic for the type checker only


class _Reader(_TextSpawn):
    """pexpect, reading from a console instead of a file."""

    def __init__(self, console: Console, position: int) -> None:
        super().__init__(encoding="utf-8", searchwindowsize=4096)
        self._console, self._position = console, position

    def read_nonblocking(self, size: int = 1, timeout: float | None = None) -> str:
        deadline = Deadline(60.0 if timeout is None or timeout < 0 else timeout, scaled=False)
        chunk = self._console.read(self._position, deadline)[:size]
        self._position += len(chunk)
        if chunk:
            return chunk.decode("utf-8", "replace")
        if self._console.is_closed:
            self.flag_eof = True
            raise EOF("the machine's console was closed")
        raise TIMEOUT("nothing new on the console")


@contextmanager
def follow(
    wire: socket.socket, log: Path, changes: Changes, on_phase: Callable[[str], None], watcher: PatternWatcher
) -> Iterator[Console]:
    """Read ``wire`` into ``log`` while the block lasts; ``changes`` is notified of everything that is printed.

    ``on_phase`` is called as each phase begins, in the console's thread.
    """
    console = Console(wire, log, changes, on_phase, watcher)
    thread = threading.Thread(target=console.follow, name=f"console {log}", daemon=True)
    thread.start()
    try:
        yield console
    finally:
        with suppress(OSError):  # the other end was first
            wire.shutdown(socket.SHUT_RDWR)
        thread.join()
