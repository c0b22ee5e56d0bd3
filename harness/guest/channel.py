"""Channels: how commands reach a guest. A framed root shell on a serial port, or SSH.

The serial shell is brought in by systemd credentials (systemd ≥ 256, systemd-debug-generator(8)), so the image
carries nothing of it. Older systems take root's SSH key the same way, and nothing more. The serial shell's frames:

    host → guest   NONCE COMMAND \\n                            COMMAND as printf's %b reads it
    guest → host   \\n NONCE \\n STDOUT \\n NONCE STATUS \\n STDERR \\n NONCE \\n

The nonce is new for every command, so whatever a late answer left on the line is skipped.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.core.deadline import Deadline, poll
from harness.core.errors import ImageError

COMMAND_S = 120.0
"""How long one command may take on the reference machine unless the caller says otherwise."""

_SETTING = """\
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
umask 022
cd /
"""
"""What commands find, whichever channel they come by."""

_SCRIPT = f"""\
{_SETTING}LC_ALL=C
stty raw -echo
work=/run/bootproof-shell
mkdir -p -m 700 "$work"
exec 3> >(exec cat)
printf '\\nbootproof-shell\\n' >&3
while read -r nonce encoded; do
    printf -v command %b "$encoded"
    printf '\\n%s\\n' "$nonce" >&3
    (umask 022; eval "$command") </dev/null 2>"$work/err" >&3 3>&-
    printf '\\n%s %s\\n' "$nonce" "$?" >&3
    [ -s "$work/err" ] && cat "$work/err" >&3
    printf '\\n%s\\n' "$nonce" >&3
done
"""
"""The guest's end: one cat for all commands keeps the terminal from them, since a fork costs milliseconds under TCG."""

_UNIT = """\
[Unit]
Description=Root shell on a serial port for Bootproof
ConditionPathExists=!/etc/initrd-release
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target

[Service]
ExecStart=/bin/bash /run/credentials/@system/bootproof.shell
StandardInput=tty-force
StandardOutput=tty
StandardError=journal
TTYPath=/dev/ttyS1
Restart=always
RestartSec=1
IgnoreSIGPIPE=no
"""

SHELL_UNIT = "bootproof-shell.service"

SERIAL_SHELL_SINCE = 256
"""The systemd release that takes whole units as credentials."""


def takes_serial_shell(systemd: int | None) -> bool | None:
    """Whether that release of systemd takes a shell on a serial port; None if it is not known which one it is."""
    return None if systemd is None else systemd >= SERIAL_SHELL_SINCE


SHELL_CREDENTIALS = {
    "bootproof.shell": _SCRIPT,
    f"systemd.extra-unit.{SHELL_UNIT}": _UNIT,
    "systemd.unit-dropin.sysinit.target~bootproof": f"[Unit]\nWants={SHELL_UNIT}\n",
    "systemd.unit-dropin.dev-ttyS0.device~bootproof": "[Unit]\nJobRunningTimeoutSec=infinity\n",
}
"""The credentials that bring the serial shell into an unmodified guest on its second serial port.

The first port is our console. How long udev may take to find it is the boot's deadline to say, which grows with a slow
host, not systemd's 90 s, which an emulated machine passed on a host at a quarter of the usual speed.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """What a command in the guest did."""

    command: str
    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text, without the last newline."""
        return self.stdout.decode("utf-8", "replace").rstrip("\n")


class Channel(Protocol):
    """The one seam between the harness and a guest."""

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:
        """Run a shell command as root; any status is an answer, no answer in time is an error."""


class ChannelTimeout(ImageError):
    """The guest did not answer."""

    def __init__(self, machine: str, command: str, waited_s: float, hint: str) -> None:
        super().__init__(machine, command, waited_s, hint)
        self.machine, self.command, self.waited_s, self.hint = machine, command, waited_s, hint

    def __str__(self) -> str:
        return f"{self.machine}: waited {self.waited_s:.0f} s for {self.command!r} to end, in vain. {self.hint}"


class ChannelClosed(ImageError):
    """The other end went away: QEMU ended, or is ending."""


class Transcript:
    """What was asked of a guest over its channels and what it answered, as a log in ``file``; of each answer the
    beginning. A full disk costs the log, not the command."""

    def __init__(self, file: Path) -> None:
        self._file, self._started_s = file, time.monotonic()

    def asked(self, command: str) -> None:
        self._add(f"[{time.monotonic() - self._started_s:8.2f}] $ {command}\n")

    def answered(self, done: Completed) -> None:
        for said in (done.stdout, done.stderr):
            if text := said[:_TOLD_BYTES].decode("utf-8", "replace"):
                more = f"\n... {len(said)} bytes" if len(said) > _TOLD_BYTES else ""
                self._add(text.rstrip("\n") + more + "\n")
        self._add(f"[{time.monotonic() - self._started_s:8.2f}] status {done.status}\n")

    def _add(self, text: str) -> None:
        with suppress(OSError), self._file.open("a", encoding="utf-8") as file:
            file.write(text)


_TOLD_BYTES = 4096
NO_TRANSCRIPT = Transcript(Path(os.devnull))


class SerialChannel:
    """The framed root shell on the guest's second serial port.

    ``alive`` is asked while waiting and raises what ended the machine, so that a panic or a reset is an error at
    once and not a time-out.
    """

    def __init__(
        self, machine: str, wire: socket.socket, alive: Callable[[], None], transcript: Transcript = NO_TRANSCRIPT
    ) -> None:
        self._machine, self._wire, self._alive, self._transcript = machine, wire, alive, transcript
        self._received = bytearray()

    def wait_for_shell(self, deadline: Deadline) -> None:
        """Until the guest has started the shell."""
        self._until(b"bootproof-shell\n", "the root shell on the second serial port", deadline)

    def has_shell(self, deadline: Deadline) -> bool:
        """Whether the guest starts the shell before the deadline."""
        try:
            self.wait_for_shell(deadline)
        except ChannelTimeout:
            return False
        return True

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:
        deadline = deadline or Deadline(COMMAND_S)
        nonce = secrets.token_hex(8)
        self._transcript.asked(command)
        try:
            self._wire.sendall(f"{nonce} {_encoded(command)}\n".encode())
        except OSError:
            raise self._closed(command) from None
        mark = b"\n" + nonce.encode()
        self._until(mark + b"\n", command, deadline)
        stdout = self._until(mark + b" ", command, deadline)
        status = self._until(b"\n", command, deadline)
        stderr = self._until(mark + b"\n", command, deadline)
        done = Completed(command=command, status=int(status), stdout=stdout, stderr=stderr)
        self._transcript.answered(done)
        return done

    def _until(self, mark: bytes, awaited: str, deadline: Deadline) -> bytes:
        """What comes before ``mark``; both are taken from what was received."""
        looked_at = 0
        while (found := self._received.find(mark, looked_at)) < 0:
            looked_at = max(0, len(self._received) - len(mark) + 1)
            self._receive(awaited, deadline)
        taken = bytes(self._received[:found])
        del self._received[: found + len(mark)]
        return taken

    def _receive(self, awaited: str, deadline: Deadline) -> None:
        self._alive()
        if deadline.is_over:
            hint = "The shell itself may hang: look at the console, and at what the command waits for."
            raise ChannelTimeout(self._machine, awaited, deadline.passed_s, hint)
        readable, _, _ = select.select([self._wire], [], [], min(0.2, deadline.left_s))
        if readable:
            try:
                chunk = self._wire.recv(1 << 20)
            except ConnectionResetError:  # QEMU was killed
                chunk = b""
            if not chunk:
                raise self._closed(awaited)
            self._received += chunk

    def _closed(self, awaited: str) -> ChannelClosed:
        """Why QEMU ended is known a little later, and is the better error."""
        poll(self._alive, Deadline(5), every_s=0.05)
        return ChannelClosed(f"{self._machine}: the serial line was closed while waiting for {awaited!r}")


def _encoded(command: str) -> str:
    """``command`` on one line of ASCII, for bash's ``printf %b``; its ``\\c`` ends it, so that no blank is lost."""
    plain = (chr(byte) if 32 <= byte < 127 and byte != ord("\\") else f"\\0{byte:03o}" for byte in command.encode())
    return "".join(plain) + "\\c"


class SshChannel:
    """SSH, for images that take no serial shell and for proving that SSH itself works.

    ``run_ssh`` runs an ssh command line where the lab's network is and returns status, stdout and stderr.
    """

    def __init__(
        self,
        machine: str,
        ssh: list[str],
        run_ssh: Callable[[list[str], Deadline], tuple[int, bytes, bytes]],
        transcript: Transcript = NO_TRANSCRIPT,
    ) -> None:
        self._machine, self._ssh, self._run_ssh, self._transcript = machine, ssh, run_ssh, transcript

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:
        deadline = deadline or Deadline(COMMAND_S)
        self._transcript.asked(command)
        status, stdout, stderr = self._run_ssh([*self._ssh, _SETTING + command], deadline)
        if status == 255:  # ssh(1): "or with 255 if an error occurred"
            reason = stderr.decode("utf-8", "replace").strip()
            raise ChannelClosed(f"{self._machine}: ssh could not run {command!r}: {reason}")
        done = Completed(command=command, status=status, stdout=stdout, stderr=stderr)
        self._transcript.answered(done)
        return done


def ssh_command(address: str, key: str, known_hosts: str, more: Mapping[str, str]) -> list[str]:
    """The ssh command line to root on ``address``, with ``more`` options: every machine has its own ``known_hosts``."""
    options = {
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": known_hosts,
        "StrictHostKeyChecking": "accept-new",
        "BatchMode": "yes",
        "ConnectTimeout": "30",
        "LogLevel": "ERROR",
        "ControlPath": "none",
        **more,
    }
    settings = [part for key_, value in options.items() for part in ("-o", f"{key_}={value}")]
    return ["ssh", "-F", "none", "-i", key, *settings, f"root@{address}", "--"]
