"""How the lab's HTTP server answers: with aiohttp, in a thread of the test process."""

from __future__ import annotations

import asyncio
import io
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from harness.core.eventloop import EventLoop
from harness.lab.http import TICK_S, HttpAnswer, HttpServer, Request, Transfer, is_unchanged
from harness.lab.supervisor import receive

_SHUTDOWN_S = 0.2
_CHUNK_BYTES = 1 << 16
_SENDFILE_BYTES = 8 << 20


async def start(routes: HttpServer, listening: socket.socket) -> tuple[web.Server, asyncio.Server]:
    server = _server(routes)
    listener = await asyncio.get_running_loop().create_server(server, sock=listening)
    return server, listener


async def start_relayed(routes: HttpServer, entrance: socket.socket, client: str) -> web.Server:
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


def stop(loop: EventLoop, server: web.Server, entrance: asyncio.Server | socket.socket) -> None:
    async def stop() -> None:
        if isinstance(entrance, socket.socket):
            asyncio.get_running_loop().remove_reader(entrance)
        entrance.close()
        await server.shutdown(_SHUTDOWN_S)

    loop.call(stop())


async def _handle(routes: HttpServer, raw: web.BaseRequest, client: str) -> web.StreamResponse:
    request = Request(
        client=client, method=raw.method, path=raw.path, query=raw.query_string, headers=dict(raw.headers)
    )
    connection = raw.transport.get_extra_info("socket") if raw.transport else None
    transfer, answer = Transfer(request, connection), HttpAnswer(status=500)
    ticking = asyncio.create_task(_tick(transfer))
    try:
        answer = routes.begin(transfer)
        await asyncio.sleep(answer.delay_s)
        return await _send(raw, answer, transfer)
    finally:
        ticking.cancel()
        routes.end(transfer, answer)


async def _tick(transfer: Transfer) -> None:
    while True:
        await asyncio.sleep(TICK_S)
        transfer.tick()


class _WithoutLength(web.StreamResponse):
    """An answer whose body aiohttp neither measures nor sends in chunks."""

    _length_check = False


async def _send(raw: web.BaseRequest, answer: HttpAnswer, transfer: Transfer) -> web.StreamResponse:
    kind = web.StreamResponse if answer.has_length else _WithoutLength
    response = kind(status=answer.status, headers=answer.headers)
    response.content_type = response.headers.get("Content-Type", "application/octet-stream")
    if answer.has_length:
        response.content_length = answer.size_bytes
    if not answer.has_length or response.headers.get("Connection") == "close":
        response.force_close()
    await response.prepare(raw)
    if raw.method == "HEAD":
        return response
    if isinstance(answer.body, Path) and is_unchanged(answer):
        await _send_file(raw, answer.body, answer.sent_bytes, transfer)
    else:
        await _send_chunks(response, answer, transfer)
    if answer.stall_after_bytes is not None:  # until the client closes the connection or the server is stopped
        while raw.transport is not None and not raw.transport.is_closing():
            await asyncio.sleep(TICK_S)
    if answer.sent_bytes < answer.size_bytes:
        if raw.transport is not None:
            raw.transport.close()
    else:
        with suppress(ConnectionError):
            await response.write_eof()
    return response


async def _send_file(raw: web.BaseRequest, path: Path, size_bytes: int, transfer: Transfer) -> None:
    """sendfile(2) keeps the file's position at the bytes sent, also when the client closes the connection."""
    with path.open("rb", buffering=0) as file:
        for start in range(0, size_bytes, _SENDFILE_BYTES):
            if raw.transport is None:
                return
            count = min(_SENDFILE_BYTES, size_bytes - start)
            try:
                await asyncio.get_running_loop().sendfile(raw.transport, file, start, count)
            finally:
                transfer.move(file.tell())


async def _send_chunks(response: web.StreamResponse, answer: HttpAnswer, transfer: Transfer) -> None:
    """Send through this process, changed and no faster than ``bytes_per_s``."""
    for chunk in _chunks(answer):
        await response.write(chunk)
        transfer.note(chunk)
        if answer.bytes_per_s:
            ahead_s = transfer.bytes_sent / answer.bytes_per_s - (time.monotonic() - transfer.started_s)
            await asyncio.sleep(max(0.0, ahead_s))


def _chunks(answer: HttpAnswer) -> Iterator[bytes]:
    with io.BytesIO(answer.body) if isinstance(answer.body, bytes) else answer.body.open("rb") as file:
        for start in range(0, answer.sent_bytes, _CHUNK_BYTES):
            chunk = bytearray(file.read(min(_CHUNK_BYTES, answer.sent_bytes - start)))
            if answer.flipped_at is not None and start <= answer.flipped_at < start + len(chunk):
                chunk[answer.flipped_at - start] ^= 1
            yield bytes(chunk)
