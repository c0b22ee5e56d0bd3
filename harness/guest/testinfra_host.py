"""testinfra Hosts for guests, over any channel. The only importer of testinfra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from textwrap import shorten
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

from harness.core.deadline import Deadline
from harness.core.errors import UsageError
from harness.guest.channel import Channel

__all__ = ["Facts", "Host", "gather_facts", "open_guest"]

Facts = dict[str, tuple[int, str]]
"""Status and standard output of the commands by which testinfra detects the system, by command."""

_KILLED = 128
"""From this status on a command was killed, and its result is not a property of the system."""
_MODULES = (
    "system_info", "file", "service", "package", "user", "group", "interface", "socket", "process", "mount_point",
)  # fmt: skip
"""testinfra's modules that choose an implementation by the system, or are used by those."""


_SHOWN_CHARACTERS = 120


class _Result(CommandResult):  # type: ignore[misc]  # testinfra ships no types
    """A result whose representation is for a person who reads a failed assertion."""

    def __repr__(self) -> str:
        output = (self.stderr_bytes.strip() or self.stdout_bytes.strip()).decode("utf-8", "replace").splitlines()
        command = shorten(self.command.decode("utf-8", "replace"), _SHOWN_CHARACTERS)
        return f"<exit status {self.rc} of {command!r}: {shorten(''.join(output[-1:]), _SHOWN_CHARACTERS)}>"


class _ChannelBackend(BaseBackend):  # type: ignore[misc]  # testinfra ships no types
    """Runs testinfra's commands over a channel."""

    NAME = "bootproof"

    def __init__(self, machine: str, channel: Channel) -> None:
        super().__init__(machine)
        self._channel = channel
        self._encoding = "utf-8"
        self.facts: Facts = {}
        self._is_choosing = False

    def result(self, rc: int, cmd: bytes, stdout: bytes, stderr: bytes) -> CommandResult:
        return _Result(backend=self, exit_status=rc, command=cmd, _stdout=stdout, _stderr=stderr)

    @contextmanager
    def choosing(self) -> Iterator[None]:
        """While the block lasts, testinfra detects the system: commands with known results are not run again."""
        before, self._is_choosing = self._is_choosing, True
        try:
            yield
        finally:
            self._is_choosing = before

    def get_sudo_command(self, command: str, sudo_user: str | None) -> str:
        """Commands run as root, so ``host.sudo()`` changes nothing, and no image needs sudo for another user."""
        if sudo_user in (None, "root"):
            return command
        return str(self.quote("runuser -s /bin/sh %s -c %s", sudo_user, command))

    def run(self, command: str, *args: str, timeout: float | None = None, **_: Any) -> CommandResult:
        """Raises `ChannelTimeout` if the command does not end within ``timeout`` seconds on the reference machine."""
        line = self.get_command(command, *args)
        if self._is_choosing and line in self.facts:
            status, stdout = self.facts[line]
            return self.result(status, line.encode(), stdout.encode(), b"")
        done = self._channel.run(line, Deadline(timeout) if timeout is not None else None)
        if self._is_choosing and done.status < _KILLED:
            self.facts[line] = (done.status, done.stdout.decode())
        return self.result(done.status, line.encode(), done.stdout, done.stderr)


class _KnownHost(Host):  # type: ignore[misc]  # testinfra ships no types
    """A Host that detects the system only if it is not known yet."""

    def __repr__(self) -> str:
        return f"<host {self.backend.hostname}>"

    @property
    def has_command_v(self) -> bool:
        with self.backend.choosing():
            return bool(self.run("command -v command").rc == 0)

    def __getattr__(self, name: str) -> Any:
        """A module of testinfra, on its first use; `UsageError` for one that no guest can have."""
        if name == "ansible":
            raise UsageError(
                "this test uses host.ansible, which needs testinfra's connection by Ansible, and --image has none; "
                "use other modules of testinfra, such as host.file, host.service and host.run"
            )
        with self.backend.choosing():
            module = super().__getattr__(name)
            if name == "system_info":
                module.sysinfo  # noqa: B018  # it caches its result
            return module


def open_guest(machine: str, channel: Channel, facts: Facts | None = None) -> Host:
    """A Host for one boot, as testinfra caches for ever. Commands in ``facts`` are not run again to detect the
    system."""
    backend = _ChannelBackend(machine, channel)
    backend.facts = facts if facts is not None else {}
    return _KnownHost(backend)


def gather_facts(machine: str, channel: Channel) -> Facts:
    """The results of all commands by which testinfra's usual modules detect the system."""
    host = open_guest(machine, channel)
    for name in _MODULES:
        with suppress(NotImplementedError, RuntimeError, ValueError):  # this guest has no such thing
            getattr(host, name)
    return dict(host.backend.facts)
