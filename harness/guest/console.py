"""A machine's serial console: followed while it runs, kept in a file, matched against signs."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pexpect import EOF, TIMEOUT
from pexpect.spawnbase import SpawnBase

from harness.core.deadline import Changes, Deadline
from harness.core.errors import HostError, ImageError
from harness.core.text import plain
from harness.guest.console_patterns import PATTERNS, ConsolePattern, begins_phase, read_line, shows_registers

_CONTEXT_LINES = 6
_SPINNER = re.compile(r"^\[[ *]+\] .*\(.* / .*\)$")
"""systemd's "[ ***  ] Job x.service/start running (5s / no limit)", many a second: kept in the log, never evidence."""
_PARTIAL_LINE_BYTES = 4096
_OF_THE_KERNEL = {name for sign in PATTERNS for name in sign.outranks}
_REGISTERS_S = 1.0
"""How long the kernel may take from the first line of a bug to its registers."""


@dataclass(frozen=True, slots=True)
class PatternMatch:
    """A sign as it was seen; ``evidence`` ends with the guilty line."""

    sign: ConsolePattern
    evidence: tuple[str, ...]


class ConsoleTimeout(ImageError):
    """The console did not print what was awaited."""

    def __init__(self, awaited: str, waited_s: float, log: str, tail: str) -> None:
        super().__init__(awaited, waited_s, log, tail)
        self.awaited, self.waited_s, self.log, self.tail = awaited, waited_s, log, tail

    def __str__(self) -> str:
        return f"waited {self.waited_s:.0f} s for {self.awaited!r} on the console, in vain ({self.log}):\n{self.tail}"


class Console:
    """What a console printed so far. Lines carry seconds since the machine's start, at ``started_s`` (monotonic).

    ``listeners`` are called with each line as it comes, in the console's thread. ``phases`` maps each phase that began
    to the second it did; ``matches`` are the signs seen, oldest first, each sign once. ``problem`` is what kept lines
    from being noted.
    """

    def __init__(
        self,
        wire: socket.socket,
        log: Path,
        changes: Changes,
        on_phase: Callable[[str], None],
        quiet_about: tuple[str, ...] = (),
        cards: int = 1,
        is_emulated: bool = False,
    ) -> None:
        self.log = log
        self.lines: list[str] = []
        self.listeners: list[Callable[[str], None]] = []
        self.phases: dict[str, float] = {}
        self.matches: list[PatternMatch] = []
        self.is_closed = False
        self.problem: HostError | None = None
        self._wire, self._changes, self._on_phase, self._quiet_about = wire, changes, on_phase, quiet_about
        self._cards_left, self._is_card_open = cards, True
        self._is_emulated = is_emulated
        self._bug: int | None = None
        """The place among the matches of a bug of the kernel's whose registers were not printed yet."""
        self._bug_s = 0.0
        self._raw = bytearray()
        self._rest = b""
        self._successor: Console | None = None
        self.started_s = self._printed_s = time.monotonic()

    @property
    def silent_s(self) -> float:
        """Seconds since it last printed something."""
        return time.monotonic() - self._printed_s

    @property
    def printed_bytes(self) -> int:
        """How much it printed so far, as it came."""
        return len(self._raw)

    def send(self, text: str) -> None:
        """Type ``text`` on the console."""
        self._wire.sendall(text.encode())

    def expect(self, pattern: str, deadline: Deadline, *, start: int = 0) -> re.Match[str]:
        """Wait until ``pattern`` (a regular expression) is printed, from byte ``start`` on; `ConsoleTimeout` if not."""
        reader = _Reader(self, start)
        outcome = reader.expect([pattern, TIMEOUT, EOF], timeout=deadline.left_s)
        if outcome:
            raise ConsoleTimeout(pattern, deadline.passed_s, str(self.log), self.tail())
        match = reader.match
        assert isinstance(match, re.Match)
        return match

    def read(self, start: int, deadline: Deadline) -> bytes:
        """What was printed from byte ``start`` on, as it came; empty when the deadline is over or it was closed."""
        self._changes.wait_for(lambda: len(self._raw) > start or self.is_closed, deadline)
        return bytes(self._raw[start:])

    def tail(self, count: int = 15) -> str:
        """The last lines, for a message."""
        return "\n".join(self.lines[-count:])

    def begin(self, log: Path, on_phase: Callable[[str], None]) -> Console:
        """What is printed from now on belongs to another boot, and is in the console that this returns."""
        self._successor = Console(
            self._wire, log, self._changes, on_phase, self._quiet_about, is_emulated=self._is_emulated
        )
        return self._successor

    def follow(self) -> None:
        """Read until the other end closes; runs in a thread of its own."""
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
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > _PARTIAL_LINE_BYTES:
            whole, self._rest = [*whole, self._rest], b""
        self._take_all(whole)
        self._changes.note()

    def _close(self) -> None:
        self._take_all([self._rest] if self._rest else [])
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
        line = plain(raw.decode("utf-8", "replace"))
        since_start_s = time.monotonic() - self.started_s
        log.write(f"[{since_start_s:8.2f}] {line}\n".encode())
        if _SPINNER.match(line):
            return
        self.lines.append(line)
        for listener in self.listeners:
            listener(line)
        phase = begins_phase(line)
        self._is_card_open |= phase == "ipxe"
        if phase and phase not in self.phases:
            self.phases[phase] = since_start_s
            self._on_phase(phase)
        if any(name in line for name in self._quiet_about):
            return
        for sign in read_line(line, is_emulated=self._is_emulated):
            if sign.is_of_a_card and self._has_another_card():
                continue
            if all(seen.sign.id != sign.id for seen in self.matches):
                self._see(sign, line, tuple(self.lines[-_CONTEXT_LINES:]))
        if shows_registers(line):
            self._bug = None

    def _see(self, sign: ConsolePattern, line: str, evidence: tuple[str, ...]) -> None:
        if not (sign.outranks and shows_registers(line)):
            if sign.id in _OF_THE_KERNEL and self._is_emulated:  # before another thread may see it
                self._bug_s, self._bug = time.monotonic(), len(self.matches)
            self.matches.append(PatternMatch(sign, evidence))
        elif self._bug is not None and self.matches[self._bug].sign.id in sign.outranks:
            guilty = self.matches[self._bug].evidence[-1]
            self.matches[self._bug] = PatternMatch(sign, evidence if guilty in evidence else (guilty, *evidence))

    @property
    def awaits_registers(self) -> bool:
        """A bug of the kernel's was just seen, and its registers may yet tell that it is the emulator's."""
        return self._bug is not None and not self.is_closed and time.monotonic() - self._bug_s < _REGISTERS_S

    def _has_another_card(self) -> bool:
        """One more has failed, unless it is the same as before: iPXE says so in one line or two."""
        if self._is_card_open:
            self._cards_left -= 1
        self._is_card_open = False
        return self._cards_left > 0


if TYPE_CHECKING:
    _TextSpawn = SpawnBase[str]
else:
    _TextSpawn = SpawnBase  # generic for the type checker only


class _Reader(_TextSpawn):
    """pexpect over what a console has printed and will print."""

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
    wire: socket.socket,
    log: Path,
    changes: Changes,
    on_phase: Callable[[str], None],
    quiet_about: tuple[str, ...] = (),
    cards: int = 1,
    is_emulated: bool = False,
) -> Iterator[Console]:
    """Follow ``wire`` into ``log`` while the block lasts; lines that name ``quiet_about`` are never signs.

    ``cards`` are those that the firmware may boot from. An emulator's faults are told of a machine that
    ``is_emulated``.
    """
    console = Console(wire, log, changes, on_phase, quiet_about, cards, is_emulated)
    thread = threading.Thread(target=console.follow, name=f"console {log}", daemon=True)
    thread.start()
    try:
        yield console
    finally:
        with suppress(OSError):  # the other end was first
            wire.shutdown(socket.SHUT_RDWR)
        thread.join()
