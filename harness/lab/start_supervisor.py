"""A lab's holder: a process of its own that starts everything in the lab, and takes it along.

It ends when the socket that only this process holds is closed, however that comes about. This process never
forks, sets or unshares namespaces.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.core import process
from harness.core.deadline import Deadline, poll
from harness.core.errors import HostError
from harness.lab import supervisor
from harness.lab.supervisor_client import SupervisorClient, controlled

START_S = 20.0
_END_S = 5.0


class NoSupervisor(HostError):
    """The holder did not start; what it, or whatever was to start it, said."""


@contextmanager
def held(prefix: Sequence[str], log: Path) -> Iterator[SupervisorClient]:
    """A holder started by way of ``prefix``; on leaving, it and everything that it started is gone."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # A session of its own: Ctrl-C at the terminal is for pytest, which ends the lab in order.
    argv = ["setsid", *prefix, sys.executable, "-I", "-S", supervisor.__file__, str(theirs.fileno())]
    env = os.environ | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    with ours, log.open("ab") as file, ExitStack() as stack:
        start, output = file.tell(), file.fileno()
        with theirs:
            child = stack.enter_context(
                process.spawn(argv, env=env, stdout=output, stderr=output, pass_fds=[theirs.fileno()])
            )
        if not _has_started(ours):
            raise NoSupervisor(log.read_bytes()[start:].decode("utf-8", "replace").strip() or f"nothing ({log})")
        try:
            with controlled(ours, log) as control:
                yield control
        finally:
            poll(lambda: child.poll() is not None, Deadline(_END_S, scaled=False), every_s=0.002)


def _has_started(ours: socket.socket) -> bool:
    ours.settimeout(START_S)
    try:
        return bool(ours.recv(supervisor.MESSAGE_BYTES))
    except (TimeoutError, ConnectionResetError):
        return False
    finally:
        ours.settimeout(None)
