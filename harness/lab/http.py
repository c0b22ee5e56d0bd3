"""The lab's HTTP server: aiohttp in a thread of the test process.

It serves a socket that listens in the lab, or single connections that `relay` hands over. A test can change the answers
while machines download, answer each machine differently, plant faults (`HttpAnswer`), and read who fetched what
(`HttpServer.log`).
"""

from __future__ import annotations

import fcntl
import hashlib
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.eventloop import event_loop

TICK_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request; ``path`` is without the query, ``client`` is the client's address."""

    client: str
    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    query: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """An answer. The fields from ``delay_s`` on are faults.

    ``delay_s`` is a pause before the answer. ``only_bytes`` shortens the body and the announced length. After
    ``cut_after_bytes`` the connection is closed, after ``stall_after_bytes`` nothing more is sent. The byte at offset
    ``flipped_at`` is changed. ``bytes_per_s`` limits the speed. Without ``has_length``, no length is announced: the
    body ends with the connection (RFC 9112, 6.3).
    """

    body: bytes | Path = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    only_bytes: int | None = None
    cut_after_bytes: int | None = None
    stall_after_bytes: int | None = None
    flipped_at: int | None = None
    bytes_per_s: int | None = None
    has_length: bool = True

    @property
    def size_bytes(self) -> int:
        """The length that the answer announces, unless it has none."""
        whole = self.body.stat().st_size if isinstance(self.body, Path) else len(self.body)
        return whole if self.only_bytes is None else min(whole, self.only_bytes)

    @property
    def sent_bytes(self) -> int:
        """The bytes that a client gets if it reads them all."""
        ends = [end for end in (self.cut_after_bytes, self.stall_after_bytes) if end is not None]
        return min([self.size_bytes, *ends])


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One answered request. ``started_s`` is monotonic.

    ``size_bytes`` were announced; ``bytes_sent`` were handed to the kernel, which is more than a client received that
    closed the connection. The bytes were those of ``file``, unchanged, or else have the digest ``sha256``.
    """

    started_s: float
    client: str
    method: str
    path: str
    status: int
    size_bytes: int
    bytes_sent: int
    elapsed_s: float
    file: Path | None = None
    sha256: str = ""

    @property
    def request(self) -> Request:
        return Request(client=self.client, method=self.method, path=self.path)


class Transfer:
    """An answer that is being sent: ``bytes_sent`` of the announced ``size_bytes`` were handed to the kernel.

    For ``idle_s`` the client has had all of them and has waited for more. The server counts its own ticks, which stop
    when this process is starved.
    """

    def __init__(self, request: Request, connection: socket.socket | None) -> None:
        self.request = request
        self.started_s = time.monotonic()
        self.size_bytes = self.bytes_sent = 0
        self.idle_s = 0.0
        self._connection = connection
        self._hash = hashlib.sha256()

    def note(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self.move(self.bytes_sent + len(chunk))

    def move(self, bytes_sent: int) -> None:
        self.bytes_sent, self.idle_s = bytes_sent, 0.0

    def tick(self) -> None:
        self.idle_s = self.idle_s + TICK_S if self._is_awaited else 0.0

    @property
    def _is_awaited(self) -> bool:
        """Whether the client has acknowledged everything that was sent: tcp(7), SIOCOUTQ."""
        if self._connection is None or self.bytes_sent >= self.size_bytes:
            return False
        try:
            unread = fcntl.ioctl(self._connection.fileno(), termios.TIOCOUTQ, bytes(4))
        except (OSError, ValueError):  # it is closed
            return False
        return bool(struct.unpack("i", unread)[0] == 0)

    def record(self, answer: HttpAnswer) -> RequestRecord:
        file = answer.body if isinstance(answer.body, Path) and is_unchanged(answer) else None
        return RequestRecord(
            client=self.request.client, method=self.request.method, path=self.request.path, status=answer.status,
            started_s=self.started_s, elapsed_s=time.monotonic() - self.started_s, size_bytes=self.size_bytes,
            bytes_sent=self.bytes_sent, file=file, sha256="" if file else self._hash.hexdigest(),
        )  # fmt: skip


def is_unchanged(answer: HttpAnswer) -> bool:
    """Whether the file is sent unchanged and at full speed, so that the kernel can send it."""
    return (answer.flipped_at, answer.bytes_per_s, answer.only_bytes) == (None, None, None)


Route = Path | bytes | Callable[[Request], HttpAnswer]
AnswerFilter = Callable[[Request, HttpAnswer, int], HttpAnswer]
"""Changes an answer; the number is how many answers that client got for that path before."""


class HttpServer:
    """Routes and the log of requests. Routes can be changed at any time, from any thread."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}
        self._log: list[RequestRecord] = []
        self._under_way: list[Transfer] = []
        self._answered: dict[tuple[str, str], int] = {}
        self._filter: AnswerFilter = lambda _, answer, __: answer
        self.listeners: list[Callable[[Request | RequestRecord], None]] = []
        """Called in the server's thread with each request as it begins, and with its record when it has ended: before
        the client can send another request on that connection."""

    @property
    def log(self) -> list[RequestRecord]:
        """The requests answered so far, in the order of their ends."""
        return list(self._log)

    @property
    def under_way(self) -> list[Transfer]:
        return list(self._under_way)

    def filter_answers(self, answer_filter: AnswerFilter) -> None:
        """Pass the answer of every route through ``answer_filter`` from now on, in place of the one before."""
        self._filter = answer_filter

    def serve(self, url_path: str, route: Route) -> None:
        """Answer ``url_path`` from now on with a file, with bytes, or with the result of a function that is quick."""
        self._routes[url_path] = route

    def answer_to(self, request: Request) -> HttpAnswer:
        """The answer to this request, if it were sent now."""
        route = self._routes.get(request.path)
        answer = HttpAnswer(status=404, body=f"{request.path} is not served here\n".encode())
        if route is not None:
            answer = route(request) if callable(route) else HttpAnswer(body=route)
        if isinstance(answer.body, Path) and not answer.body.is_file():
            answer = HttpAnswer(status=404, body=f"{answer.body} does not exist\n".encode())
        return self._filter(request, answer, self._answered.get((request.client, request.path), 0))

    # Called in the server's own thread

    def begin(self, transfer: Transfer) -> HttpAnswer:
        """Note that ``transfer`` begins; returns the answer to send."""
        for listener in self.listeners:
            listener(transfer.request)
        answer = self.answer_to(transfer.request)
        transfer.size_bytes = answer.size_bytes
        if transfer.request.method != "HEAD":
            key = (transfer.request.client, transfer.request.path)
            self._answered[key] = self._answered.get(key, 0) + 1
        self._under_way.append(transfer)
        return answer

    def end(self, transfer: Transfer, answer: HttpAnswer) -> None:
        if transfer in self._under_way:
            self._under_way.remove(transfer)
        record = transfer.record(answer)
        self._log.append(record)
        for listener in self.listeners:
            listener(record)


@contextmanager
def serving(listening: socket.socket) -> Iterator[HttpServer]:
    """A server on ``listening`` while the block lasts; on leaving, its socket and its thread are gone."""
    from harness.lab import http_serving  # aiohttp takes long to import, and not every process opens a lab

    routes = HttpServer()
    with listening, event_loop("lab http") as loop:
        server, listener = loop.call(http_serving.start(routes, listening))
        try:
            yield routes
        finally:
            http_serving.stop(loop, server, listener)


@contextmanager
def serving_relayed(routes: HttpServer, entrance: socket.socket, client: str) -> Iterator[None]:
    """Serve the connections that `relay` sends to ``entrance`` while the block lasts; all of them are ``client``'s."""
    from harness.lab import http_serving

    with entrance, event_loop(f"lab http of {client}") as loop:
        server = loop.call(http_serving.start_relayed(routes, entrance, client))
        try:
            yield
        finally:
            http_serving.stop(loop, server, entrance)
