"""The hosts of a pool: a file with one on each line, as GNU parallel's --sshloginfile has it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from harness.core import process
from harness.core.errors import UsageError

_HOST = re.compile(
    r"(?:(?P<user>[^@\s]+)@)?(?P<name>\[[0-9A-Fa-f:.]+\]|[^\s:@\[\]-][^\s:@\[\]]*)(?::(?P<port>\d{1,5}))?"
)
_ALWAYS = (
    *("-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3"),
    *("-o", "ControlPath=none", "-o", "LogLevel=ERROR", "-T"),
)
"""Nobody is asked anything; a connection that is dead ends within 40 s and belongs to nobody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolHost:
    """One host: its ``name`` as a person wrote it, and further ``options`` of ssh(1)."""

    name: str
    destination: str
    port: int | None = None
    options: tuple[str, ...] = ()

    def ssh(self, command: str) -> list[str]:
        """The words that run the shell ``command`` there. ssh(1) takes the first of several values of an option."""
        port = ["-p", str(self.port)] if self.port else []
        ssh = process.require("ssh", "openssh-client")
        return [ssh, *self.options, *_ALWAYS, *port, "--", self.destination, command]


def read_hosts(file: Path) -> tuple[PoolHost, ...]:
    """The hosts in ``file``: ``[user@]host[:port] [options of ssh]``; ``#`` begins a comment.

    `UsageError` for a line that is not one, for a host that is named twice, and for a file without any.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--hosts {file} cannot be read: {error}") from None
    hosts = list[PoolHost]()
    for number, line in enumerate(lines, 1):
        host = _read_line(line, f"{file}, line {number}")
        if host and host.name in {one.name for one in hosts}:
            raise UsageError(f"{file}, line {number}: {host.name} is named twice; a host runs one shard at a time")
        hosts += [host] if host else []
    if not hosts:
        raise UsageError(f"{file} names no host; write one on each line: [user@]host[:port]")
    return tuple(hosts)


def _read_line(line: str, where: str) -> PoolHost | None:
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
    if not words:
        return None
    found = _HOST.fullmatch(words[0])
    if not found or (found["port"] and not 0 < int(found["port"]) < 65536):
        raise UsageError(f"{where}: {words[0]} is not a host; write [user@]host[:port], then options of ssh")
    name = found["name"].strip("[]")
    return PoolHost(
        name=words[0],
        destination=f"{found['user']}@{name}" if found["user"] else name,
        port=int(found["port"]) if found["port"] else None,
        options=tuple(words[1:]),
    )
