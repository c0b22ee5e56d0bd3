"""Keeps what passes a packet socket: ``python -I -S capture.py SOCKET_FD FILE``, until it is ended.

The socket is the holder's, and has its ring already: nothing is lost while this program starts. FILE gets the newest
packets, each with its first 256 bytes. At 10 MB it is renamed to FILE.before and a new one begun, so that 20 MB are
kept and the oldest are dropped. tcpdump(1) and Wireshark read both (pcap, times in nanoseconds).

tcpdump itself cannot write them in a lab: it insists on initgroups(3), which is forbidden where there is but one user.
"""

from __future__ import annotations

import mmap
import os
import select
import struct
import sys

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
    """The frame in that place of the ring, as pcap has it."""
    _, size, kept, start, _, second, nanosecond = _HEADER.unpack_from(ring, place)
    kept = min(kept, SNAP_BYTES)
    return _RECORD.pack(second, nanosecond, kept, size) + ring[place + start : place + start + kept]


class CaptureFiles:
    """The newest packets in ``path``, those before beside it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._begin()

    def write(self, records: bytes) -> None:
        if self._size + len(records) > FILE_BYTES:
            os.close(self._fd)
            os.replace(self._path, self._path + BEFORE)
            self._begin()
        self._size += os.write(self._fd, records)

    def _begin(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._size = os.write(self._fd, _FILE_HEADER)


def main(fd: int, path: str) -> None:
    ring, files = mmap.mmap(fd, FRAME_BYTES * FRAMES), CaptureFiles(path)
    arrival = select.poll()
    arrival.register(fd, select.POLLIN)
    place = 0
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
