"""The lab's HTTP server: what it serves can change, be faulty, and is on record."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path

import pytest

from harness.core.deadline import Deadline, poll
from harness.lab.http import HttpAnswer, HttpServer, serving


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def server(listening: socket.socket) -> Iterator[HttpServer]:
    with serving(listening.dup()) as server:
        yield server


@pytest.fixture
def client(server: HttpServer, listening: socket.socket) -> Iterator[HTTPConnection]:  # noqa: ARG001 - must be up
    host, port = listening.getsockname()
    connection = HTTPConnection(host, port, timeout=5)
    yield connection
    connection.close()


def _get(client: HTTPConnection, path: str, method: str = "GET") -> tuple[int, bytes]:
    client.request(method, path)
    response = client.getresponse()
    return response.status, response.read()


def test_files_and_bytes_are_served(server: HttpServer, client: HTTPConnection, tmp_path: Path) -> None:
    (tmp_path / "rootfs").write_bytes(b"r" * 3_000_000)
    server.serve("/rootfs", tmp_path / "rootfs")
    server.serve("/script", b"#!ipxe\n")

    assert _get(client, "/rootfs") == (200, b"r" * 3_000_000)
    assert _get(client, "/script") == (200, b"#!ipxe\n")
    assert _get(client, "/script?x=1") == (200, b"#!ipxe\n")


def test_routes_change_while_it_runs(server: HttpServer, client: HTTPConnection) -> None:
    server.serve("/version", b"1")
    first = _get(client, "/version")
    server.serve("/version", b"2")
    second = _get(client, "/version")

    assert (first, second) == ((200, b"1"), (200, b"2"))


def test_an_answer_may_depend_on_the_client(server: HttpServer, client: HTTPConnection) -> None:
    server.serve("/boot.ipxe", lambda request: HttpAnswer(body=request.client.encode()))

    assert _get(client, "/boot.ipxe") == (200, b"127.0.0.1")


def test_head_has_the_length_and_no_body(server: HttpServer, client: HTTPConnection) -> None:
    server.serve("/script", b"12345")

    client.request("HEAD", "/script")
    response = client.getresponse()

    assert (response.getheader("Content-Length"), response.read()) == ("5", b"")


@pytest.mark.parametrize("as_file", [True, False])
def test_an_answer_may_have_no_length(
    server: HttpServer, client: HTTPConnection, tmp_path: Path, as_file: bool
) -> None:
    (tmp_path / "loader").write_bytes(b"r" * 200_000)
    body = tmp_path / "loader" if as_file else b"r" * 200_000
    server.serve("/loader", lambda _: HttpAnswer(body=body, has_length=False))

    seen = []
    for method in ("HEAD", "GET"):
        client.request(method, "/loader")
        response = client.getresponse()
        seen.append((dict(response.getheaders()), response.read()))

    assert [body for _, body in seen] == [b"", b"r" * 200_000]
    for headers, _ in seen:
        assert not {"Content-Length", "Transfer-Encoding"} & set(headers)
        assert headers["Connection"] == "close"
    assert poll(lambda: len(server.log) == 2, Deadline(5), every_s=0.01)
    assert server.log[1].bytes_sent == server.log[1].size_bytes == 200_000


def test_an_empty_file_is_a_whole_answer(server: HttpServer, client: HTTPConnection, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    server.serve("/empty", tmp_path / "empty")

    assert _get(client, "/empty") == (200, b"")


def test_a_file_that_is_gone_is_404(server: HttpServer, client: HTTPConnection, tmp_path: Path) -> None:
    server.serve("/gone", tmp_path / "gone")

    assert _get(client, "/gone")[0] == 404


def test_the_log_says_who_got_what(server: HttpServer, client: HTTPConnection) -> None:
    server.serve("/script", b"12345")
    _get(client, "/script")
    _get(client, "/missing")

    assert poll(lambda: len(server.log) == 2, Deadline(5), every_s=0.01)
    script, missing = server.log
    assert (script.client, script.method, script.path, script.status) == ("127.0.0.1", "GET", "/script", 200)
    assert script.bytes_sent == 5
    assert script.elapsed_s < 5
    assert missing.path == "/missing"


@pytest.mark.parametrize("as_file", [True, False])
def test_a_download_can_be_cut_short(server: HttpServer, client: HTTPConnection, tmp_path: Path, as_file: bool) -> None:
    (tmp_path / "rootfs").write_bytes(b"r" * 1000)
    body = tmp_path / "rootfs" if as_file else b"r" * 1000
    server.serve("/rootfs", lambda _: HttpAnswer(body=body, cut_after_bytes=300))

    with pytest.raises(IncompleteRead) as caught:
        _get(client, "/rootfs")

    assert caught.value.partial == b"r" * 300
    assert poll(lambda: server.log, Deadline(5), every_s=0.01)
    assert server.log[0].bytes_sent == 300


def test_a_client_that_hangs_up_leaves_a_partial_count(
    server: HttpServer, listening: socket.socket, tmp_path: Path
) -> None:
    size_bytes = 64 << 20
    with (tmp_path / "rootfs").open("wb") as file:
        file.truncate(size_bytes)
    server.serve("/rootfs", tmp_path / "rootfs")
    with socket.create_connection(listening.getsockname()) as sock:
        sock.sendall(b"GET /rootfs HTTP/1.1\r\nHost: lab\r\n\r\n")
        sock.recv(10_000)

    assert poll(lambda: server.log, Deadline(5), every_s=0.01)
    assert 0 < server.log[0].bytes_sent < size_bytes


def test_a_download_still_running_ends_with_the_server(listening: socket.socket, tmp_path: Path) -> None:
    with (tmp_path / "rootfs").open("wb") as file:
        file.truncate(64 << 20)
    with socket.create_connection(listening.getsockname()) as sock, serving(listening.dup()) as server:
        server.serve("/rootfs", tmp_path / "rootfs")
        sock.sendall(b"GET /rootfs HTTP/1.1\r\nHost: lab\r\n\r\n")
        sock.recv(10_000)

    assert [record.path for record in server.log] == ["/rootfs"]
    assert server.log[0].bytes_sent < 64 << 20


def test_a_fault_in_a_route_is_answered_500_and_noted(server: HttpServer, client: HTTPConnection) -> None:
    server.serve("/bad", lambda request: HttpAnswer(body=request.headers["No-Such-Header"].encode()))

    assert _get(client, "/bad")[0] == 500
    assert server.log[0].status == 500
