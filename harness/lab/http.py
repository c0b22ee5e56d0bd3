"""The lab's HTTP server: aiohttp in a thread of the test process, on a socket that listens in the lab, or on
connections that come one by one.

A test can change what is served while machines download, answer each machine differently, plant faults
(`Answer`), and read who fetched what (`HttpServer.log`).
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from harness.deadline import Changes, Deadline
from harness.eventloop import EventLoop, event_loop
from harness.lab.holder import receive

_SHUTDOWN_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asked for; ``path`` has no query, ``client`` is its address."""

    client: str
    method: str
    path: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to send. The last two are faults: a pause before the answer, a connection cut in its body."""

    body: bytes | Path = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    cut_after_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One answered request. ``started_s`` is monotonic; ``bytes_sent`` of the body went to the kernel, which
    is more than a client saw that broke off."""

    started_s: float
    client: str
    method: str
    path: str
    status: int
    bytes_sent: int
    elapsed_s: float


Route = Path | bytes | Callable[[Request], Answer]


class HttpServer:
    """What is served, and what was asked for. Routes may change at any time, from any thread."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}
        self._log: list[RequestRecord] = []
        self._changes = Changes()
        self.listeners: list[Callable[[Request | RequestRecord], None]] = []
        """Are called as a request begins, and with its record when it has ended, in the server's thread."""

    @property
    def log(self) -> list[RequestRecord]:
        """The requests answered so far, in the order of their ends."""
        return list(self._log)

    def serve(self, url_path: str, route: Route) -> None:
        """From now on, answer ``url_path`` with a file, with bytes, or with what a (quick) function says."""
        self._routes[url_path] = route

    def withdraw(self, url_path: str) -> None:
        """From now on, ``url_path`` is 404 again."""
        self._routes.pop(url_path, None)

    def wait_for_request(self, matches: Callable[[RequestRecord], bool], deadline: Deadline) -> RequestRecord | None:
        """The first answered request that ``matches``, be it past or to come; None if the deadline is over."""
        return self._changes.wait_for(lambda: next(filter(matches, self._log), None), deadline)

    def answer_to(self, request: Request) -> Answer:
        """The answer that the routes give now."""
        route = self._routes.get(request.path)
        if route is None:
            return Answer(status=404, body=f"{request.path} is not served here\n".encode())
        if callable(route):
            return route(request)
        return Answer(body=route)

    def note(self, record: RequestRecord) -> None:
        """For the server's own thread."""
        self._log.append(record)
        self._changes.note()
        self.tell(record)

    def tell(self, request: Request | RequestRecord) -> None:
        """For the server's own thread."""
        for listener in self.listeners:
            listener(request)


@contextmanager
def serving(listening: socket.socket) -> Iterator[HttpServer]:
    """A server on ``listening`` while the block lasts; on leaving, its socket and its thread are gone."""
    routes = HttpServer()
    with listening, event_loop("lab http") as loop:
        server, listener = loop.call(_start(routes, listening))
        try:
            yield routes
        finally:
            _stop(loop, server, listener)


@contextmanager
def serving_relayed(routes: HttpServer, entrance: socket.socket, client: str) -> Iterator[None]:
    """Serve the connections that `relay` sends to ``entrance`` while the block lasts; all of them are ``client``'s."""
    with entrance, event_loop(f"lab http of {client}") as loop:
        server = loop.call(_start_relayed(routes, entrance, client))
        try:
            yield
        finally:
            _stop(loop, server, entrance)


async def _start(routes: HttpServer, listening: socket.socket) -> tuple[web.Server, asyncio.Server]:
    server = _server(routes)
    listener = await asyncio.get_running_loop().create_server(server, sock=listening)
    return server, listener


async def _start_relayed(routes: HttpServer, entrance: socket.socket, client: str) -> web.Server:
    server = _server(routes, client)
    loop = asyncio.get_running_loop()
    greetings: set[asyncio.Task[object]] = set()  # the loop itself keeps weak references

    def admit() -> None:
        for fd in receive(entrance)[1]:
            greeting = loop.create_task(loop.connect_accepted_socket(server, socket.socket(fileno=fd)))
            greetings.add(greeting)
            greeting.add_done_callback(greetings.discard)

    entrance.setblocking(False)
    loop.add_reader(entrance, admit)
    return server


def _server(routes: HttpServer, client: str = "") -> web.Server:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await _handle(routes, request, client or request.remote or "")

    return web.Server(handle, access_log=None)


def _stop(loop: EventLoop, server: web.Server, door: asyncio.Server | socket.socket) -> None:
    async def stop() -> None:
        if isinstance(door, socket.socket):
            asyncio.get_running_loop().remove_reader(door)
        door.close()
        await server.shutdown(_SHUTDOWN_S)

    loop.call(stop())


async def _handle(routes: HttpServer, raw: web.BaseRequest, client: str) -> web.StreamResponse:
    request = Request(client=client, method=raw.method, path=raw.path, headers=dict(raw.headers))
    started_s = time.monotonic()
    routes.tell(request)
    sent = _Sent()
    answer = Answer(status=500)
    try:
        answer = _existing(routes.answer_to(request))
        await asyncio.sleep(answer.delay_s)
        return await _send(raw, answer, sent)
    finally:
        record = RequestRecord(
            started_s=started_s,
            client=request.client,
            method=request.method,
            path=request.path,
            status=answer.status,
            bytes_sent=sent.size_bytes,
            elapsed_s=time.monotonic() - started_s,
        )
        routes.note(record)


def _existing(answer: Answer) -> Answer:
    if isinstance(answer.body, Path) and not answer.body.is_file():
        return Answer(status=404, body=f"{answer.body} does not exist\n".encode())
    return answer


class _Sent:
    """Counts the bytes of one body."""

    def __init__(self) -> None:
        self.size_bytes = 0


async def _send(raw: web.BaseRequest, answer: Answer, sent: _Sent) -> web.StreamResponse:
    body = answer.body
    size_bytes = body.stat().st_size if isinstance(body, Path) else len(body)
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_type = response.headers.get("Content-Type", "application/octet-stream")
    response.content_length = size_bytes
    await response.prepare(raw)
    if raw.method == "HEAD":
        return response
    limit = size_bytes if answer.cut_after_bytes is None else min(size_bytes, answer.cut_after_bytes)
    if isinstance(body, Path):
        await _send_file(raw, body, limit, sent)
    elif limit:
        await response.write(body[:limit])
        sent.size_bytes = limit
    if limit < size_bytes:
        _cut(raw)
    else:
        with suppress(ConnectionError):
            await response.write_eof()
    return response


async def _send_file(raw: web.BaseRequest, path: Path, size_bytes: int, sent: _Sent) -> None:
    """sendfile(2), which keeps the file's own position at what went out, also when the client goes away."""
    transport = raw.transport
    if transport is None or size_bytes == 0:
        return
    with path.open("rb", buffering=0) as file:
        try:
            await asyncio.get_running_loop().sendfile(transport, file, 0, size_bytes)
        finally:
            sent.size_bytes = file.tell()


def _cut(raw: web.BaseRequest) -> None:
    if raw.transport is not None:
        raw.transport.close()
