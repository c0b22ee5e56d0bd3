"""Channels: how commands reach a guest. `serial_shell` and `ssh` are the two kinds."""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.core.deadline import Deadline
from harness.core.errors import ImageError

_log = logging.getLogger(__name__)

_LOGGED_BYTES = 4096
_SHOWN = 300
COMMAND_S = 120.0
"""Default limit for one command, in seconds on the reference machine."""

SHELL_SETUP = """\
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
umask 022
cd /
"""
"""Run before each command, so that a command finds the same environment on every channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """How a command in the guest ended."""

    command: str
    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text, without the last newline."""
        return self.stdout.decode("utf-8", "replace").rstrip("\n")

    @property
    def errors(self) -> str:
        """Standard error as text, without blanks around it."""
        return self.stderr.decode("utf-8", "replace").strip()

    @property
    def ending(self) -> str:
        """The status in words: "ended with status 137 (SIGKILL)"; a shell adds 128 to a signal's number."""
        killed = self.status - 128 in set(signal.Signals)
        return f"ended with status {self.status}" + (f" ({signal.Signals(self.status - 128).name})" if killed else "")

    def checked(self, machine: str = "the guest") -> str:
        """`text`; `GuestCommandFailed` for any status but 0."""
        if self.status:
            raise GuestCommandFailed(machine, self.command, self.ending, self.errors or self.text)
        return self.text


class Channel(Protocol):
    """The one seam between the harness and a guest."""

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:
        """Run a shell command as root and return how it ended, whatever its status: the caller looks at it, or calls
        `Completed.checked`.

        Raises `ChannelTimeout` if it has not ended by the deadline, `COMMAND_S` by default.
        """


class GuestCommandFailed(ImageError):
    """``command`` in the guest of ``machine`` failed: ``ending`` is its status in words, ``output`` what it printed."""

    def __init__(self, machine: str, command: str, ending: str, output: str) -> None:
        super().__init__(machine, command, ending, output)
        self.machine, self.command, self.ending, self.output = machine, command, ending, output

    def __str__(self) -> str:
        shown = self.command if len(self.command) <= _SHOWN else f"{self.command[:_SHOWN]} …"
        return f"{self.machine}: {shown!r} {self.ending}: {self.output or 'it printed nothing'}"


class ChannelTimeout(ImageError):
    """``command`` in the guest ``machine`` did not end within ``waited_s``."""

    def __init__(self, machine: str, command: str, waited_s: float, hint: str) -> None:
        super().__init__(machine, command, waited_s, hint)
        self.machine, self.command, self.waited_s, self.hint = machine, command, waited_s, hint

    def __str__(self) -> str:
        return f"{self.machine}: timed out after {self.waited_s:.0f} s waiting for {self.command!r}. {self.hint}"


class ChannelClosed(ImageError):
    """The other end is gone: QEMU ended, or is ending."""


class Transcript:
    """The commands run in a guest over its channels, logged to ``file`` with the beginning of each answer.

    If ``file`` cannot be written, the log is lost, not the command.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._started_s = file, time.monotonic()

    def add_command(self, command: str) -> None:
        self._add(f"[{time.monotonic() - self._started_s:8.2f}] $ {command}\n")

    def add_answer(self, done: Completed, machine: str, elapsed_s: float) -> None:
        for output in (done.stdout, done.stderr):
            if text := output[:_LOGGED_BYTES].decode("utf-8", "replace"):
                more = f"\n... {len(output)} bytes" if len(output) > _LOGGED_BYTES else ""
                self._add(text.rstrip("\n") + more + "\n")
        self._add(f"[{time.monotonic() - self._started_s:8.2f}] status {done.status}\n")
        first_line = done.command.strip().partition("\n")[0]
        _log.debug("%s: %s: status %d after %.2f s", machine, first_line, done.status, elapsed_s)

    def _add(self, text: str) -> None:
        with suppress(OSError), self._file.open("a", encoding="utf-8") as file:
            file.write(text)


NO_TRANSCRIPT = Transcript(Path(os.devnull))
