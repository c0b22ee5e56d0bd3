"""Segments of TCP to a tiny guest on our cable, and its answers (RFC 9293)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from .tiny_guests import ADDRESS, MAC, OUR_ADDRESS, OUR_MAC, checksum

ECHO_PORT = 7
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
_SHORTEST = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """``sequence`` and ``acknowledged`` are those of its sender; ``port`` is ours."""

    flags: int
    sequence: int
    acknowledged: int = 0
    data: bytes = b""
    port: int = 40000
    options: bytes = b""

    @property
    def frame(self) -> bytes:
        """As we send it to the guest."""
        ours, theirs = IPv4Address(OUR_ADDRESS).packed, IPv4Address(ADDRESS).packed
        words = (20 + len(self.options)) << 10
        head = struct.pack(
            ">HHIIHHHH", self.port, ECHO_PORT, self.sequence % 2**32, self.acknowledged % 2**32, words | self.flags,
            64240, 0, 0,
        )  # fmt: skip
        body = head + self.options + self.data
        body = body[:16] + checksum(_pseudo(ours, theirs, body) + body) + body[18:]
        header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 5, 0x4000, 63, 6, 0) + ours + theirs
        header = header[:10] + checksum(header) + header[12:]
        return (bytes.fromhex(MAC.replace(":", "")) + OUR_MAC + b"\x08\x00" + header + body).ljust(_SHORTEST, b"\0")


def read_segment(frame: bytes) -> Segment:
    """An answer of the guest to us. `AssertionError` if it is none, or a checksum is wrong."""
    assert (frame[:6], frame[12:14], frame[23]) == (OUR_MAC, b"\x08\x00", 6), frame.hex()
    header, length = frame[14:34], int.from_bytes(frame[16:18], "big")
    body = frame[34 : 14 + length]
    assert checksum(header) == checksum(_pseudo(header[12:16], header[16:20], body) + body) == b"\0\0", frame.hex()
    assert header[12:] == IPv4Address(ADDRESS).packed + IPv4Address(OUR_ADDRESS).packed, frame.hex()
    source, port, sequence, acknowledged, words, _, _, _ = struct.unpack_from(">HHIIHHHH", body)
    assert (source, words >> 12) == (ECHO_PORT, 5), frame.hex()
    return Segment(flags=words & 0x3F, sequence=sequence, acknowledged=acknowledged, data=body[20:], port=port)


def _pseudo(source: bytes, target: bytes, body: bytes) -> bytes:
    return source + target + struct.pack(">BBH", 0, 6, len(body))
