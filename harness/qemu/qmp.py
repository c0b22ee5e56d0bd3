"""QEMU's machine protocol (QMP) over a connected socket. The only importer of qemu.qmp.

qemu.qmp is asynchronous; its event loop runs in a thread of its own. Commands have deadlines, which the library does
not offer. Events are passed on at once and not kept: the library's queue and history would grow without bound.
"""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from qemu.qmp import ConnectError, ExecInterruptedError, ExecuteError, Message, QMPClient, QMPError, StateError

from harness.core.deadline import Deadline
from harness.core.errors import HarnessError
from harness.core.eventloop import EventLoop, event_loop

_debug = logging.getLogger(__name__)

OnEvent = Callable[[str, dict[str, Any]], None]
EventFilter = Callable[[Message], bool]

_CLOSE_S = 5.0


class QmpError(HarnessError):
    """The QMP ``command`` to ``machine`` failed because of ``problem``."""

    def __init__(self, machine: str, command: str, problem: str) -> None:
        super().__init__(machine, command, problem)
        self.machine, self.command, self.problem = machine, command, problem

    def __str__(self) -> str:
        return f"{self.machine}: QMP {self.command}: {self.problem}"


class QmpRefused(QmpError):
    """QEMU answered with an error."""


class QmpTimeout(QmpError):
    """QEMU runs but did not answer in time."""


class QmpGone(QmpError):
    """QEMU has ended, or never started: look at how its process ended."""


class Qmp:
    """One machine's monitor."""

    def __init__(self, name: str, client: QMPClient, loop: EventLoop, log: _Log) -> None:
        self._name, self._client, self._loop, self._log = name, client, loop, log

    def execute(self, command: str, arguments: Mapping[str, object] | None = None, *, deadline: Deadline) -> Any:
        """QEMU's answer. Raises `QmpRefused`, `QmpTimeout` or `QmpGone`; the last at once when QEMU ends."""
        self._log.write({"execute": command, "arguments": dict(arguments or {})})
        _debug.debug("%s: QMP command %s", self._name, command)
        try:
            answer = self._loop.call(self._client.execute(command, arguments), timeout_s=deadline.left_s)
        except ExecuteError as error:
            raise QmpRefused(self._name, command, str(error)) from error
        except TimeoutError as error:
            raise QmpTimeout(self._name, command, f"no answer within {deadline.length_s:.1f} s") from error
        except (ExecInterruptedError, StateError) as error:
            raise QmpGone(self._name, command, "QEMU is gone; its exit status and stderr say why") from error
        self._log.write({"return": answer})
        return answer


@contextmanager
def open_qmp(sock: socket.socket, *, name: str, on_event: OnEvent, log: Path | None = None) -> Iterator[Qmp]:
    """A session on ``sock``, which is closed after the block.

    ``on_event`` is called with each event's name and data, in order, in the monitor's own thread: it must be quick and
    must not execute commands. All messages are appended to ``log``, a JSON object a line. Raises `QmpGone` if QEMU ends
    before its greeting.
    """
    with ExitStack() as stack:
        stack.callback(sock.close)
        record = _Log(stack.enter_context(log.open("ab", buffering=0)) if log else None)
        loop = stack.enter_context(event_loop(f"qmp {name}"))
        client = loop.call(_connect(name, sock, _filter(name, on_event, record)))
        stack.callback(_close, loop, client)
        yield Qmp(name, client, loop, record)


def _filter(name: str, on_event: OnEvent, log: _Log) -> EventFilter:
    """A filter that passes every event on and then declines it, so that the library does not keep it."""

    def pass_on(message: Message) -> bool:
        log.write(dict(message))
        _debug.debug("%s: QMP event %s", name, message["event"])
        on_event(str(message["event"]), dict(message.get("data", {})))  # type: ignore[call-overload]  # typed as object
        return False

    return pass_on


async def _connect(name: str, sock: socket.socket, pass_on: EventFilter) -> QMPClient:
    client = QMPClient(name)
    client.logger = _SILENT  # its errors are raised here, and the end of QEMU is not always an error
    client.events.event_filter = pass_on
    sock.setblocking(False)
    try:
        await client.connect(sock)
    except ConnectError as error:
        raise QmpGone(name, "greeting", f"QEMU ended before it ({error.exc!r})") from error
    return client


def _close(loop: EventLoop, client: QMPClient) -> None:
    with suppress(QMPError, EOFError, OSError, TimeoutError):  # a command that failed has raised it
        loop.call(client.disconnect(), timeout_s=_CLOSE_S)


class _Log:
    """A JSON object a line, with the monotonic time. If it cannot be written, the log is lost, not the machine."""

    def __init__(self, file: IO[bytes] | None) -> None:
        self._file = file

    def write(self, message: Mapping[str, object]) -> None:
        if self._file is not None:
            line = json.dumps({"monotonic_s": round(time.monotonic(), 6), **message}) + "\n"
            with suppress(OSError):
                self._file.write(line.encode())


_SILENT = logging.getLogger(f"{__name__}.library")
_SILENT.propagate = False
_SILENT.addHandler(logging.NullHandler())
