"""Messages, files and heartbeats over two pipes: between a shard's attempt and its host, with ssh between them.

A frame is its kind (one byte), the length of its payload (eight bytes, big endian) and the payload. Each side sends a
heartbeat every few seconds. Silence means that the other side, or the way to it, is lost: TCP alone would not notice.
"""

from __future__ import annotations

import json
import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from io import RawIOBase
from typing import Any, NamedTuple

from harness.core.deadline import Deadline
from harness.core.errors import HostError

BEAT_S, SILENCE_S = 5.0, 30.0
_HEAD_BYTES, _CHUNK_BYTES = 9, 1 << 18
_MOST_BYTES = 1 << 24


class PeerLost(HostError):
    """The other side closed the connection, or is silent."""


class Kind(Enum):
    BEAT = b"b"
    MESSAGE = b"m"  # JSON
    DATA = b"d"  # a piece of a file
    END = b"e"  # of the file


class Frame(NamedTuple):
    kind: Kind
    payload: bytes

    def message(self) -> dict[str, Any]:
        """`PeerLost` if it is not one: then this is not the other side."""
        with suppress(ValueError):
            if self.kind is Kind.MESSAGE and isinstance(plain := json.loads(self.payload), dict):
                return plain
        raise PeerLost(f"expected a message, got {self.payload[:80]!r}")


class Frames:
    """Both directions. Any thread may send; one receives."""

    def __init__(self, source: int, sink: int) -> None:
        self._source, self._sink = source, sink
        self._sending, self._is_over = threading.Lock(), threading.Event()
        self._buffer = bytearray()
        os.set_blocking(sink, False)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Send heartbeats while the block lasts. After it, nothing is sent any more."""

        def beat() -> None:
            with suppress(PeerLost):
                while not self._is_over.wait(BEAT_S):
                    self.send(Kind.BEAT)

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()

    def say(self, **message: Any) -> None:
        self.send(Kind.MESSAGE, json.dumps(message).encode())

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        """`PeerLost` if the other side takes nothing for `SILENCE_S`."""
        with self._sending:
            rest = memoryview(kind.value + len(payload).to_bytes(8, "big") + payload)
            while rest:
                self._await_room()
                try:
                    rest = rest[os.write(self._sink, rest) :]
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise PeerLost(f"the connection is closed: {error.strerror}") from error

    def _await_room(self) -> None:
        silence = Deadline(SILENCE_S, scaled=False)
        while not self._is_over.is_set():
            if select.select([], [self._sink], [], min(1.0, silence.left_s))[1]:
                return
            if silence.is_over:
                raise PeerLost(f"nothing can be sent for {SILENCE_S:.0f} s")
        raise PeerLost("nothing more is sent")

    def receive(self, deadline: Deadline | None = None) -> Frame:
        """The next frame that is not a heartbeat.

        `PeerLost` at the end of the connection and after `SILENCE_S` of silence; `TimeoutError` at the ``deadline``.
        """
        while True:
            kind, length = self._head(deadline)
            payload = self._take(length, deadline)
            if kind is not Kind.BEAT:
                return Frame(kind, payload)

    def _head(self, deadline: Deadline | None) -> tuple[Kind, int]:
        head = self._take(_HEAD_BYTES, deadline)
        length = int.from_bytes(head[1:], "big")
        try:
            kind = Kind(head[:1])
        except ValueError:
            kind = None
        if kind is None or length > _MOST_BYTES:
            printed = (head + bytes(self._buffer)).decode("utf-8", "replace").partition("\n")[0]
            raise PeerLost(f"the answer is not Bootproof's: {printed[:200]!r}")
        return kind, length

    def _take(self, size: int, deadline: Deadline | None) -> bytes:
        while len(self._buffer) < size:
            silence = Deadline(SILENCE_S, scaled=False)
            wait_s = min(silence.left_s, deadline.left_s) if deadline else silence.left_s
            if not select.select([self._source], [], [], wait_s)[0]:
                if deadline and deadline.is_over:
                    raise TimeoutError
                raise PeerLost(f"silent for {SILENCE_S:.0f} s")
            if not (chunk := os.read(self._source, _CHUNK_BYTES)):
                raise PeerLost("the connection was closed")
            self._buffer += chunk
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def writer(self) -> FrameWriter:
        return FrameWriter(self)

    def reader(self) -> FrameReader:
        return FrameReader(self)


class FrameWriter(RawIOBase):
    """A file for tarfile to write to; `close` ends it on the other side."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        for start in range(0, len(view), _CHUNK_BYTES):
            self._frames.send(Kind.DATA, bytes(view[start : start + _CHUNK_BYTES]))
        return len(view)

    def end(self) -> None:
        self._frames.send(Kind.END)


class FrameReader(RawIOBase):
    """A file for tarfile to read from: the frames until the other side's file ends."""

    def __init__(self, frames: Frames, first: Frame | None = None) -> None:
        self._frames, self._rest, self._is_over = frames, b"", False
        if first:
            self._add(first)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest and not self._is_over:
            self._add(self._frames.receive())
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def _add(self, frame: Frame) -> None:
        if frame.kind is Kind.MESSAGE:
            raise PeerLost(f"a file was cut off: {frame.message().get('failed', 'no reason was given')}")
        self._is_over = frame.kind is Kind.END
        self._rest = frame.payload

    def drain(self) -> None:
        """Read to the end: an archive may end before its file."""
        while self.read(_CHUNK_BYTES):
            pass
