"""Downloads: the first that cannot succeed is a finding, one that may still succeed is not."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from harness.core.deadline import Deadline, poll
from harness.lab import HttpAnswer, HttpServer
from harness.lab.http import serving
from harness.lab.http_faults import apply_faults
from harness.machine.downloads import Downloads
from harness.model.artifacts import Artifacts, FileRecord, Manifest
from harness.model.network_faults import known

DIGEST = "d" * 64
CONTENT = {"vmlinuz": b"kernel" * 1000, "initrd.img": b"initrd" * 1000, "rootfs.squashfs": b"root" * 50_000}
URL = f"/{DIGEST}/rootfs.squashfs"
WHERE = "m, boot 1 (ipxe-bios)"


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def http(listening: socket.socket) -> Iterator[HttpServer]:
    with serving(listening.dup()) as http:
        yield http


@pytest.fixture
def downloads(http: HttpServer, tmp_path: Path) -> Downloads:
    """The downloads of a machine at 127.0.0.1, of artifacts that ``http`` serves."""
    files = {}
    for name, content in CONTENT.items():
        (tmp_path / name).write_bytes(content)
        http.serve(f"/{DIGEST}/{name}", tmp_path / name)
        files[name] = FileRecord(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    manifest = Manifest(
        image="sample", version="1", kernel_version="6.12", kernel_arguments=(), files=files, packages={},
        dracut_modules=(), initrd_drivers=(), definition="", sources={}, builder={},
    )  # fmt: skip
    artifacts = Artifacts(folder=tmp_path, manifest=manifest)
    return Downloads(http=http, client="127.0.0.1", since_s=0.0, artifacts=artifacts)


@pytest.fixture
def get(http: HttpServer, listening: socket.socket) -> Callable[[str], None]:
    """Fetch a file as a machine does, with any result; returns when the server has recorded the request."""

    def get(path: str = URL) -> None:
        before = len(http.log)
        host, port = listening.getsockname()
        connection = HTTPConnection(host, port, timeout=5)
        with suppress(HTTPException):
            connection.request("GET", path)
            connection.getresponse().read()
        connection.close()
        assert poll(lambda: len(http.log) > before, Deadline(5), every_s=0.01)

    return get


def inject(http: HttpServer, name: str, tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.mkdir()
    http.filter_answers(lambda request, answer, before: apply_faults([known()[name]], noise, request, answer, before))


def test_whole_files_are_no_finding(downloads: Downloads, get: Callable[..., None]) -> None:
    for name in CONTENT:
        get(f"/{DIGEST}/{name}")

    assert downloads.failure(WHERE) is None
    assert list(downloads.lacking(tuple(CONTENT), WHERE)) == []
    assert downloads.sums() == {name: len(content) for name, content in CONTENT.items()}


@pytest.mark.parametrize(
    ("name", "finding_id", "words"),
    [
        ("http-404-rootfs", "http-error", "answered 404 for rootfs.squashfs"),
        ("http-503-rootfs", "http-error", "answered 503 for rootfs.squashfs"),
        ("http-cut-rootfs", "download-cut", "rootfs.squashfs ended after 100000 of 200000 bytes"),
        ("http-truncated-rootfs", "served-bytes-differ", "100000 bytes were served as rootfs.squashfs, which are not"),
        ("http-flipped-rootfs", "served-bytes-differ", "200000 bytes were served as rootfs.squashfs, which are not"),
        ("http-noise-rootfs", "served-bytes-differ", "200000 bytes were served as rootfs.squashfs, which are not"),
    ],
)
def test_a_download_that_cannot_succeed_is_named(
    name: str, finding_id: str, words: str, downloads: Downloads, get: Callable[..., None], tmp_path: Path
) -> None:
    inject(downloads.http, name, tmp_path)
    get()
    finding = downloads.failure(WHERE)

    assert finding is not None
    assert finding.id == finding_id
    assert words in finding.what


def test_a_retry_that_would_succeed_is_waited_for_but_not_for_ever(
    downloads: Downloads, get: Callable[..., None], tmp_path: Path
) -> None:
    inject(downloads.http, "http-503-once-rootfs", tmp_path)
    get()

    assert downloads.failure(WHERE) is None
    late = downloads.judge(WHERE, downloads.http.answer_to, now_s=downloads.http.log[-1].started_s + 8 * 60 + 1)
    assert late is not None
    assert late.id == "download-not-retried"

    get()
    assert downloads.failure(WHERE) is None
    assert list(downloads.lacking(("rootfs.squashfs",), WHERE)) == []


def test_a_download_whose_server_stopped_sending_is_a_stall(
    downloads: Downloads, listening: socket.socket, tmp_path: Path
) -> None:
    inject(downloads.http, "http-stalls-rootfs", tmp_path)
    with socket.create_connection(listening.getsockname()) as client:
        client.sendall(f"GET {URL} HTTP/1.1\r\nHost: lab\r\n\r\n".encode())
        reader = threading.Thread(target=lambda: [None for _ in iter(lambda: client.recv(65536), b"")], daemon=True)
        reader.start()
        finding = poll(lambda: downloads.failure(WHERE), Deadline(20, scaled=False), every_s=0.1)
        client.shutdown(socket.SHUT_RDWR)
        reader.join()

    assert finding is not None
    assert finding.id == "download-stalls"
    assert "rootfs.squashfs stopped after 0.1 of 0.2 MB" in finding.what


def test_a_client_that_does_not_read_is_not_called_a_stall(
    downloads: Downloads, listening: socket.socket, tmp_path: Path
) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(64 << 20)
    downloads.http.serve(URL, big)
    with socket.create_connection(listening.getsockname()) as client:
        client.sendall(f"GET {URL} HTTP/1.1\r\nHost: lab\r\n\r\n".encode())
        assert poll(lambda: downloads.http.under_way, Deadline(5), every_s=0.01)
        assert poll(lambda: downloads.failure(WHERE), Deadline(4.5, scaled=False), every_s=0.1) is None


def test_a_file_never_fetched_is_lacking(downloads: Downloads, get: Callable[..., None]) -> None:
    get(f"/{DIGEST}/vmlinuz")
    [finding] = downloads.lacking(("vmlinuz", "initrd.img"), WHERE)

    assert finding.id == "served-bytes-differ"
    assert finding.what == "0 bytes of initrd.img were served, 6000 are in the manifest"


def test_another_machines_requests_are_not_its_own(downloads: Downloads, get: Callable[..., None]) -> None:
    downloads.http.serve(URL, lambda _: HttpAnswer(status=404))
    get()
    other = Downloads(http=downloads.http, client="10.77.0.11", since_s=0.0, artifacts=downloads.artifacts)

    assert other.failure(WHERE) is None
