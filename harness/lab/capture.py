"""A packet capture: ``python -I -S capture.py SOCKET_FD FILE``, until it is ended.

The supervisor made the socket and its ring before, so no packet is lost while this program starts. The first 256 bytes
of each packet are written to FILE. At 10 MB it is renamed to FILE.before and a new file begun, so that the newest 20 MB
are kept. tcpdump(1) and Wireshark read both files (pcap, times in nanoseconds).

tcpdump itself cannot capture in a lab: it calls initgroups(3), which fails in a user namespace with one user.
"""

from __future__ import annotations

import mmap
import os
import select
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SNAP_BYTES = 256
FILE_BYTES = 10_000_000
BEFORE = ".before"
FRAME_BYTES, FRAMES = 512, 2048
"""The ring: a frame has room for its header and some 400 bytes; the kernel cuts off the rest."""

_TO_USER, _TO_KERNEL = 1, bytes(4)
_HEADER = struct.Struct("@IIIHHII")
"""linux/if_packet.h, tpacket2_hdr: status, len, snaplen, mac, net, sec, nsec."""
_RECORD = struct.Struct("@IIII")
_FILE_HEADER = struct.pack("@IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, SNAP_BYTES, 1)
"""pcap 2.4 with nanoseconds, UTC, Ethernet."""


def record(ring: mmap.mmap, place: int) -> bytes:
    """The frame at offset ``place`` of the ring, as a pcap record."""
    _, size, kept, start, _, second, nanosecond = _HEADER.unpack_from(ring, place)
    kept = min(kept, SNAP_BYTES)
    return _RECORD.pack(second, nanosecond, kept, size) + ring[place + start : place + start + kept]


class CaptureFiles:
    """The newest packets go to ``path``; the file before it is kept beside it. Made by `capture_files`."""

    def __init__(self, path: str, fd: int, size_bytes: int) -> None:
        self._path, self._fd, self._size_bytes = path, fd, size_bytes

    def write(self, records: bytes) -> None:
        if self._size_bytes + len(records) > FILE_BYTES:
            self.close()
            os.replace(self._path, self._path + BEFORE)
            self._fd, self._size_bytes = _begin_file(self._path)
        self._size_bytes += os.write(self._fd, records)

    def close(self) -> None:
        os.close(self._fd)


@contextmanager
def capture_files(path: str) -> Iterator[CaptureFiles]:
    """Files for packets while the block lasts; the first is begun at once."""
    files = CaptureFiles(path, *_begin_file(path))
    try:
        yield files
    finally:
        files.close()


def _begin_file(path: str) -> tuple[int, int]:
    """A new file with a header: its descriptor and its size in bytes."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    return fd, os.write(fd, _FILE_HEADER)


def main(fd: int, path: str) -> None:
    ring = mmap.mmap(fd, FRAME_BYTES * FRAMES)
    arrival = select.poll()
    arrival.register(fd, select.POLLIN)
    place = 0
    with capture_files(path) as files:
        while True:
            records = list[bytes]()
            while ring[place] & _TO_USER and len(records) < FRAMES:
                records.append(record(ring, place))
                ring[place : place + len(_TO_KERNEL)] = _TO_KERNEL
                place = (place + FRAME_BYTES) % len(ring)
            if records:
                files.write(b"".join(records))
            else:
                arrival.poll()


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), sys.argv[2])
    except OSError as error:
        sys.exit(f"the capture ended: {error}")
