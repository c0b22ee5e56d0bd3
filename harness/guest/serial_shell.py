"""The root shell on a guest's second serial port: needs no network, and nothing in the image.

systemd credentials bring it in (systemd 256 or newer, systemd-debug-generator(8)). Its frames:

    host → guest   NONCE COMMAND \\n                            COMMAND as printf's %b reads it
    guest → host   \\n NONCE \\n STDOUT \\n NONCE STATUS \\n STDERR \\n NONCE \\n

The nonce is new for every command, so the rest of a late answer is skipped.
"""

from __future__ import annotations

import secrets
import select
import socket
from collections.abc import Callable
from contextlib import suppress

from harness.core.deadline import Deadline, poll
from harness.guest import unit_survey
from harness.guest.channel import (
    COMMAND_S,
    NO_TRANSCRIPT,
    SHELL_SETUP,
    ChannelClosed,
    ChannelTimeout,
    Completed,
    Transcript,
)

_SCRIPT = f"""\
{SHELL_SETUP}LC_ALL=C
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
"""Run in the guest. One cat for all commands keeps the terminal from them; a cat each would cost a fork, milliseconds
under TCG."""

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

_SURVEY_UNIT = """\
[Unit]
Description=Survey of the units of an initrd that failed, for Bootproof
ConditionPathExists=/etc/initrd-release
DefaultDependencies=no

[Service]
Type=oneshot
ExecStart=/bin/bash /run/credentials/@system/bootproof.survey
StandardOutput=tty
StandardError=journal
TTYPath=/dev/ttyS1
IgnoreSIGPIPE=no
"""
"""An initrd has no stty(1), which the shell needs, so that it only prints, and only when it enters emergency mode."""

SHELL_UNIT = "bootproof-shell.service"
SURVEY_UNIT = "bootproof-survey.service"
SHELL_UNITS = (SHELL_UNIT, SURVEY_UNIT)
_SURVEY_END = "bootproof-survey-end"


def takes_serial_shell(systemd: int | None) -> bool | None:
    """Whether that systemd release takes whole units as credentials, as the serial shell needs; None if unknown."""
    return None if systemd is None else systemd >= 256


SHELL_CREDENTIALS = {
    "bootproof.shell": _SCRIPT,
    f"systemd.extra-unit.{SHELL_UNIT}": _UNIT,
    "bootproof.survey": f"({unit_survey.script()})\nprintf '\\n{_SURVEY_END}\\n'\n",
    f"systemd.extra-unit.{SURVEY_UNIT}": _SURVEY_UNIT,
    "systemd.unit-dropin.sysinit.target~bootproof": f"[Unit]\nWants={SHELL_UNIT}\n",
    "systemd.unit-dropin.emergency.target~bootproof": f"[Unit]\nWants={' '.join(SHELL_UNITS)}\n",
    "systemd.unit-dropin.dev-ttyS0.device~bootproof": "[Unit]\nJobRunningTimeoutSec=infinity\n",
}
"""The credentials that start the serial shell in an unmodified guest, and the survey in an initrd that fails.

The first serial port is the console. systemd would wait 90 s for its device, too short for an emulated machine on a
host at a quarter of the usual speed; the limit is the boot's own deadline, which grows with a slow host.
"""


class SerialChannel:
    """The framed root shell on the guest's second serial port.

    ``alive`` is called while waiting. It raises what ended the machine, so that a panic or a reset is an error at once
    and not a time-out.
    """

    def __init__(
        self, machine: str, wire: socket.socket, alive: Callable[[], None], transcript: Transcript = NO_TRANSCRIPT
    ) -> None:
        self._machine, self._wire, self._alive, self._transcript = machine, wire, alive, transcript
        self._received = bytearray()

    def wait_for_shell(self, deadline: Deadline) -> None:
        """Wait until the guest has started the shell; `ChannelTimeout` if it has not by then."""
        self._until(b"bootproof-shell\n", "the root shell on the second serial port", deadline)

    def wait_for_text(self, mark: str, awaited: str, deadline: Deadline) -> str:
        """The text that the guest sends before ``mark``; `ChannelTimeout` if ``mark`` does not come in time."""
        return self._until(mark.encode(), awaited, deadline).decode("utf-8", "replace")

    def send_line(self, line: str) -> None:
        """Send a line to what reads the serial port; `ChannelClosed` if QEMU has ended."""
        try:
            self._wire.sendall(f"{line}\n".encode())
        except OSError:
            raise self._closed(line) from None

    def wait_for_survey(self, deadline: Deadline) -> str:
        """Wait for what a failing guest offers: the survey of its initrd, or empty when the shell has started."""
        ends = (b"bootproof-shell\n", _SURVEY_END.encode())
        while not (ended := next((end for end in ends if end in self._received), b"")):
            self._receive("the root shell on the second serial port, or the initrd's survey", deadline)
        survey, _, rest = bytes(self._received).partition(ended)
        self._received[:] = rest
        return survey.decode("utf-8", "replace") if ended == ends[1] else ""

    def has_greeted(self) -> bool:
        """Whether the guest has started the shell by now: does not wait, and does not look after the machine."""
        if select.select([self._wire], [], [], 0.0)[0]:
            with suppress(OSError):  # QEMU was killed
                self._received += self._wire.recv(1 << 20)
        return b"bootproof-shell\n" in self._received

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
        self._transcript.add_command(command)
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
        self._transcript.add_answer(done, self._machine, deadline.passed_s)
        return done

    def _until(self, mark: bytes, awaited: str, deadline: Deadline) -> bytes:
        """The bytes before ``mark``; both are removed from what was received."""
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
            hint = "Look at the console, and at what the command waits for; the shell itself may hang."
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
        """Wait a moment for the reason that QEMU ended, which is the better error."""
        poll(self._alive, Deadline(5), every_s=0.05)
        return ChannelClosed(f"{self._machine}: the serial line was closed while waiting for {awaited!r}")


def _encoded(command: str) -> str:
    """``command`` on one line of ASCII for bash's ``printf %b``; it ends in ``\\c``, so that no blank is lost."""
    plain = (chr(byte) if 32 <= byte < 127 and byte != ord("\\") else f"\\0{byte:03o}" for byte in command.encode())
    return "".join(plain) + "\\c"
