"""SSH to a guest."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable, Mapping

from harness.core.deadline import Deadline
from harness.core.errors import HostError
from harness.guest.channel import (
    COMMAND_S,
    NO_TRANSCRIPT,
    SHELL_SETUP,
    ChannelClosed,
    ChannelTimeout,
    Completed,
    Transcript,
)

_SSH_FAILED = 255
"""ssh(1): "ssh exits with the exit status of the remote command or with 255 if an error occurred"."""
_SCRIPT = """\
{setup}(eval {command})
status=$?
printf '\\n%s\\n' {mark} >&2
exit $status
"""
"""The mark shows that the command has ended by itself, whatever its status."""


class SshChannel:
    """Commands over SSH, for images without the serial shell and to prove that SSH itself works.

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
        self._transcript.add_command(command)
        mark = secrets.token_hex(8)
        script = _SCRIPT.format(setup=SHELL_SETUP, command=shlex.quote(command), mark=mark)
        try:
            status, stdout, stderr = self._run_ssh([*self._ssh, script], deadline)
        except ChannelTimeout as error:
            raise ChannelTimeout(self._machine, command, error.waited_s, error.hint) from error
        before, found, after = stderr.rpartition(f"\n{mark}\n".encode())
        if status == _SSH_FAILED and not found:
            reason = stderr.decode("utf-8", "replace").strip()
            if reason.startswith("No user exists for uid"):  # ssh(1) and ssh-keygen(1), before they connect
                raise HostError(f"ssh needs a user with a name: {reason}", remedy="add the id to /etc/passwd")
            raise ChannelClosed(f"{self._machine}: ssh could not run {command!r}: {reason}")
        done = Completed(command=command, status=status, stdout=stdout, stderr=before + after)
        self._transcript.add_answer(done, self._machine, deadline.passed_s)
        return done


def ssh_command(address: str, key: str, known_hosts: str, more: Mapping[str, str]) -> list[str]:
    """The ssh command line to root at ``address``; the command is still to be appended.

    ``key`` and ``known_hosts`` are files, the latter of this machine alone; ``more`` are further options of ssh(1).
    """
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
