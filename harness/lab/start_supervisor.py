"""Starting a lab's supervisor: the process that starts everything in the lab and ends it.

It ends when its socket is closed, which only this process has open. This process itself never forks and never changes
its namespaces.
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
from harness.lab.supervisor_client import SupervisorClient, connected

START_S = 20.0
_END_S = 5.0


class NoSupervisor(HostError):
    """The supervisor did not start; the message is its output, or that of the program that should start it."""


@contextmanager
def running_supervisor(prefix: Sequence[str], log: Path) -> Iterator[SupervisorClient]:
    """A supervisor, started by the command ``prefix``; after the block it and all that it started is gone."""
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
            raise NoSupervisor(log.read_bytes()[start:].decode("utf-8", "replace").strip() or f"no output in {log}")
        try:
            with connected(ours, log) as control:
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
