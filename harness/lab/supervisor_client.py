"""The client of a lab's supervisor: requests, answers, exit notices."""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.core.deadline import Changes, Deadline
from harness.core.errors import HarnessError, HostError
from harness.lab.supervisor import receive

_log = logging.getLogger(__name__)

_ANSWER_S = 30.0
"""The supervisor answers within milliseconds; after this long it is stuck."""


class LabError(HarnessError):
    """The lab's supervisor refused or did not answer the request to ``what``, because of ``problem``."""

    def __init__(self, what: str, problem: str, log: Path) -> None:
        super().__init__(what, problem, log)
        self.what, self.problem, self.log = what, problem, log

    def __str__(self) -> str:
        return f"the lab could not {self.what}: {self.problem} (see {self.log})"


class LabProcess:
    """A program in the lab.

    ``pid`` is its process id outside the lab, ``pid_inside`` that in the lab's PID namespace. ``status`` is None while
    it runs, -N after signal N.
    """

    def __init__(self, control: SupervisorClient, key: int, on_exit: Callable[[int], None] | None) -> None:
        self.pid = self.pid_inside = 0
        self.status: int | None = None
        self._control, self._key, self._on_exit = control, key, on_exit
        self._changes = Changes()

    def wait(self, deadline: Deadline) -> int | None:
        """The exit status; None when the deadline is over first."""
        self._changes.wait_for(lambda: self.status is not None, deadline)
        return self.status

    def signal(self, number: int) -> None:
        """Send that signal; does nothing if the program or the lab has ended."""
        if self.status is None:
            self._control.ask("signal a program", "signal", process=self._key, signal=int(number))

    def end(self, grace_s: float = 5.0) -> int:
        """End the program: SIGTERM first, SIGKILL after ``grace_s``. Returns its exit status."""
        for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, _ANSWER_S)):
            self.signal(number)
            status = self.wait(Deadline(patience_s, scaled=False))
            if status is not None:
                return status
        raise LabError(f"end process {self.pid}", "it survives SIGKILL", self._control.log)

    def ended(self, status: int) -> None:
        """Called by the reader of exit notices."""
        self.status = status
        _log.debug("process %d in the lab ended with status %d", self.pid, status)
        self._changes.note()
        if self._on_exit:
            self._on_exit(status)


class SupervisorClient:
    """Requests to the supervisor, from any thread but the one that reads its answers."""

    def __init__(self, sock: socket.socket, log: Path) -> None:
        self.log = log
        self._sock = sock
        self._lock = threading.Lock()
        self._last_key = 0
        self._is_open = True
        self._answers: dict[int, Future[tuple[Any, list[int]]]] = {}
        self._processes: dict[int, LabProcess] = {}

    def ask(self, what: str, op: str, fds: Sequence[int] = (), **fields: Any) -> tuple[Any, list[int]]:
        """Send a request; returns the answer and the descriptors with it. ``what`` names the request in an error."""
        return self._ask(what, self._new_key(), {"op": op, **fields}, fds)

    def run(self, argv: Sequence[str], text: str, output: int) -> int:
        """Run a short program in the lab to its end, with ``text`` as input and ``output`` as output; its status."""
        status, _ = self.ask(f"run {argv[0]}", "run", [output, output], argv=list(argv), input=text)
        return int(status)

    def spawn(
        self, argv: Sequence[str], files: dict[int, int], on_exit: Callable[[int], None] | None = None
    ) -> LabProcess:
        """Start ``argv``; ``files`` maps each number inside to a descriptor here."""
        key = self._new_key()
        process = self._processes[key] = LabProcess(self, key, on_exit)
        fields = {"op": "spawn", "argv": list(argv), "targets": list(files)}
        try:
            process.pid_inside, (pidfd,) = self._ask(f"start {argv[0]}", key, fields, list(files.values()))
        except LabError as error:
            self._processes.pop(key, None)
            if error.problem.startswith(FileNotFoundError.__name__):
                raise HostError(f"{argv[0]} is not installed (PATH was searched)") from error
            raise
        process.pid = _pid_outside(pidfd)
        _log.debug("process %d started in the lab: %s", process.pid, shlex.join(argv)[:2000])
        return process

    def _new_key(self) -> int:
        with self._lock:
            self._last_key += 1
            return self._last_key

    def _ask(self, what: str, key: int, fields: dict[str, Any], fds: Sequence[int]) -> tuple[Any, list[int]]:
        message = json.dumps({"id": key, **fields}).encode()
        answer: Future[tuple[Any, list[int]]] = Future()
        try:
            with self._lock:
                if not self._is_open:
                    raise LabError(what, "it has ended", self.log)
                self._answers[key] = answer
                socket.send_fds(self._sock, [message], list(fds))
            return answer.result(_ANSWER_S)
        except (OSError, TimeoutError, _Refused) as error:
            raise LabError(what, str(error) or f"no answer within {_ANSWER_S:.0f} s", self.log) from error
        finally:
            self._answers.pop(key, None)

    def read(self) -> None:
        """Deliver answers and exit notices until the supervisor is gone."""
        with suppress(ConnectionResetError):
            while True:
                message, fds = receive(self._sock)
                if not message:
                    break
                self._take(json.loads(message), fds)
        with self._lock:
            self._is_open = False
            unanswered = list(self._answers.values())
        for answer in unanswered:
            answer.set_exception(_Refused("it has ended"))
        for key in list(self._processes):
            self._note_exit(key, -signal.SIGKILL)  # as the kernel ends everything in a PID namespace

    def _take(self, message: dict[str, Any], fds: list[int]) -> None:
        if "exit" in message:
            self._note_exit(message["exit"], message["status"])
            return
        answer = self._answers.get(message["id"])
        if answer is None:  # the caller has given up
            for fd in fds:
                os.close(fd)
        elif "error" in message:
            answer.set_exception(_Refused(message["error"]))
        else:
            answer.set_result((message["value"], fds))

    def _note_exit(self, key: int, status: int) -> None:
        try:
            self._processes.pop(key).ended(status)
        except Exception:  # an error of one listener must not stop the others; pytest reports it
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))


class _Refused(Exception):
    """The supervisor's reason for refusing a request."""


@contextmanager
def connected(sock: socket.socket, log: Path) -> Iterator[SupervisorClient]:
    """A client on ``sock`` while the block lasts; closing it ends the supervisor."""
    control = SupervisorClient(sock, log)
    reader = threading.Thread(target=control.read, name="lab control", daemon=True)
    reader.start()
    try:
        yield control
    finally:
        sock.shutdown(socket.SHUT_RDWR)
        reader.join()


def _pid_outside(pidfd: int) -> int:
    """proc(5): ``Pid`` in fdinfo is the number in the PID namespace of this /proc; -1 once it is reaped."""
    try:
        lines = Path(f"/proc/self/fdinfo/{pidfd}").read_text("ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pid:"))
    finally:
        os.close(pidfd)
