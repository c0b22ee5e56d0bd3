"""Guests: a channel in, a testinfra Host out. The only importer of testinfra."""

from __future__ import annotations

from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

from harness.channel import Channel

__all__ = ["Host", "open_guest"]


class _ChannelBackend(BaseBackend):  # type: ignore[misc]  # testinfra ships no types
    """testinfra's way to run commands, over any channel."""

    NAME = "bootproof"

    def __init__(self, machine: str, channel: Channel) -> None:
        super().__init__(machine)
        self._channel = channel
        self._encoding = "utf-8"

    def run(self, command: str, *args: str, **_: Any) -> CommandResult:
        line = self.get_command(command, *args)
        done = self._channel.run(line)
        return self.result(done.status, line.encode(), done.stdout, done.stderr)


def open_guest(machine: str, channel: Channel) -> Host:
    """A Host of its own for each boot, since testinfra caches facts for ever."""
    return Host(_ChannelBackend(machine, channel))
