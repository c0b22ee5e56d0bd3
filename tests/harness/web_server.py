"""A web server of a folder that knows ranges, and what may go wrong on the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ENDLESS_BYTES = 64 << 20


@dataclass(slots=True)
class Web:
    """Serves ``root``. ``breaks_after`` is the number of bytes after which an answer breaks off, ``has_ranges`` whether
    a file can be continued; ``endless`` names a file that does not end. With ``stalls``, an answer that would break off
    waits for that event first. ``asked`` has each path with its range."""

    root: Path
    url: str = ""
    breaks_after: int = 0
    has_ranges: bool = True
    endless: str = ""
    stalls: threading.Event | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    sent: int = 0


@contextmanager
def serving(root: Path) -> Iterator[Web]:
    """On a free port of this host."""
    web = Web(root)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(self, web)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(request: BaseHTTPRequestHandler, web: Web) -> None:
    path, wanted = web.root / request.path.lstrip("/"), request.headers.get("Range", "")
    web.asked.append((request.path, wanted))
    request.close_connection = True
    if web.endless and request.path.endswith(web.endless):
        request.send_response(200)
        request.end_headers()
        _send(request, web, bytes(ENDLESS_BYTES))
        return
    if not path.is_file():
        request.send_error(404)
        return
    content = path.read_bytes()
    begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and web.has_ranges else 0
    if begin > len(content):
        request.send_error(416)
        return
    request.send_response(206 if begin else 200)
    if begin:
        request.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
    request.send_header("Content-Length", str(len(content) - begin))
    request.end_headers()
    end = begin + web.breaks_after if web.breaks_after else len(content)
    _send(request, web, content[begin:end])
    if end < len(content) and web.stalls:
        web.stalls.wait()


def _send(request: BaseHTTPRequestHandler, web: Web, content: bytes) -> None:
    try:
        for at in range(0, len(content), 1 << 16):
            chunk = content[at : at + (1 << 16)]
            request.wfile.write(chunk)
            web.sent += len(chunk)
    except OSError:  # the client has had enough
        pass
