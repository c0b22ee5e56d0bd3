"""A network card on USB that needs firmware, played by this process: a KL5KUSB101B, which Linux's kaweth drives.

QEMU's usb-redir makes a device of the guest of what talks usbredir (usbredir protocol 0.7) at its other end. Without
firmware the card says version 0.00; when the driver has sent all files and triggered them, it comes back as 2.00
(Linux, drivers/net/usb/kaweth.c). What the files contain does not matter to it.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from .devices import Emulated, Part

USB_CARD = "usb-card"
VENDOR, PRODUCT = 0x03E8, 0x0008
CARD = Emulated(
    name="usb-redir (KL5KUSB101B)",
    kind="nic",
    driver="uhci_hcd",
    module="uhci_hcd",
    parts=(
        Part(
            bus="usb", driver="kaweth", module="kaweth",
            modalias=f"usb:v{VENDOR:04X}p{PRODUCT:04X}d0000dcFFdsc00dp00icFFisc00ip00in00",
        ),
    ),
    qemu=(
        {"driver": "piix3-usb-uhci", "romfile": ""},
        {"driver": "usb-redir", "bus": "{id}.0", "chardev": USB_CARD},
    ),
)  # fmt: skip

_HELLO, _CONNECT, _DISCONNECT, _INTERFACES, _ENDPOINTS = 0, 1, 2, 4, 5
_SET_CONFIGURATION, _GET_CONFIGURATION, _CONFIGURATION = 6, 7, 8
_SET_ALTERNATIVE, _GET_ALTERNATIVE, _ALTERNATIVE = 9, 10, 11
_START_INTERRUPTS, _STOP_INTERRUPTS, _INTERRUPTS = 15, 16, 17
_CONTROL, _BULK = 100, 101
_HAS_VERSION, _HAS_PACKET_SIZES = 1 << 1, 1 << 4
_FULL_SPEED = 1
_DEVICE, _CONFIGURATION_DESCRIPTOR = 1, 2
_GET_DESCRIPTOR = 6
_TO_HOST = 0x80
_ENDPOINTS_OF_CARD = ((0x81, 2, 64, 0), (0x02, 2, 64, 0), (0x83, 3, 8, 16))
"""Address, type, size and interval (USB 2.0, 9.6.6): frames in, frames out, interrupts."""
_INTERFACE_BYTES = bytes((9, 4, 0, 0, len(_ENDPOINTS_OF_CARD), 0xFF, 0, 0, 0))
_ENDPOINT_BYTES = b"".join(struct.pack("<BBBBHB", 7, 5, *row) for row in _ENDPOINTS_OF_CARD)
_ETHERNET_CONFIGURATION = struct.pack("<3s6sIHHB", b"\x12\0\0", bytes.fromhex("525400abcdef"), 0, 1514, 8, 0)
"""struct kaweth_ethernet_configuration."""
_VENDOR_REQUEST = 0x40
_TRIGGER_BYTES, _TRIGGER = 8, 6


@dataclass
class _Card:
    wire: socket.socket
    has_firmware: bool = False

    def serve(self) -> None:
        """Answer until QEMU ends."""
        self._send(_HELLO, 0, b"card".ljust(64, b"\0") + struct.pack("<I", _HAS_VERSION | _HAS_PACKET_SIZES))
        with suppress(OSError, EOFError):
            while True:
                kind, length, number = struct.unpack("<III", self._receive(12))
                self._answer(kind, number, self._receive(length))

    def _answer(self, kind: int, number: int, body: bytes) -> None:
        if kind == _HELLO:
            self._connect()
        elif kind == _SET_CONFIGURATION:
            self._send(_CONFIGURATION, number, bytes((0, body[0])))
        elif kind == _GET_CONFIGURATION:
            self._send(_CONFIGURATION, number, bytes((0, 1)))
        elif kind == _SET_ALTERNATIVE:
            self._send(_ALTERNATIVE, number, bytes((0, body[0], body[1])))
        elif kind == _GET_ALTERNATIVE:
            self._send(_ALTERNATIVE, number, bytes((0, body[0], 0)))
        elif kind in (_START_INTERRUPTS, _STOP_INTERRUPTS):
            self._send(_INTERRUPTS, number, bytes((0, body[0])))
        elif kind == _CONTROL:
            self._control(number, body)
        elif kind == _BULK and not body[0] & _TO_HOST:
            self._send(_BULK, number, body[:8])

    def _connect(self) -> None:
        class_ = struct.pack("<I32s32s32s32s", 1, b"", b"\xff", b"", b"")
        self._send(_INTERFACES, 0, class_)
        kinds, intervals, sizes = bytearray([255] * 32), bytearray(32), [0] * 32
        for address, kind, size, interval in ((0x00, 0, 64, 0), (0x80, 0, 64, 0), *_ENDPOINTS_OF_CARD):
            place = (address & 0x80) >> 3 | address & 0x0F
            kinds[place], intervals[place], sizes[place] = kind, interval, size
        self._send(_ENDPOINTS, 0, bytes(kinds) + bytes(intervals) + bytes(32) + struct.pack("<32H", *sizes))
        connect = struct.pack("<BBBBHHH", _FULL_SPEED, 0xFF, 0, 0, VENDOR, PRODUCT, self._version)
        self._send(_CONNECT, 0, connect)

    @property
    def _version(self) -> int:
        return 0x0200 if self.has_firmware else 0x0000

    def _control(self, number: int, body: bytes) -> None:
        endpoint, request, kind, _, value, index, length = struct.unpack("<BBBBHHH", body[:10])
        answer = self._read(request, kind, value)[:length] if kind & _TO_HOST else b""
        size = len(answer) if kind & _TO_HOST else length
        self._send(_CONTROL, number, struct.pack("<BBBBHHH", endpoint, request, kind, 0, value, index, size) + answer)
        sent = body[10:]
        if kind == _VENDOR_REQUEST and len(sent) == _TRIGGER_BYTES and sent[4] == _TRIGGER:
            self._come_back()

    def _read(self, request: int, kind: int, value: int) -> bytes:
        if kind & _VENDOR_REQUEST:
            return _ETHERNET_CONFIGURATION
        if request != _GET_DESCRIPTOR:
            return bytes(2)
        if value >> 8 == _DEVICE:
            numbers = (18, 1, 0x0110, 0xFF, 0, 0, 64, VENDOR, PRODUCT, self._version, 0, 0, 0, 1)
            return struct.pack("<BBHBBBBHHHBBBB", *numbers)
        if value >> 8 == _CONFIGURATION_DESCRIPTOR:
            whole = _INTERFACE_BYTES + _ENDPOINT_BYTES
            return struct.pack("<BBHBBBBB", 9, 2, 9 + len(whole), 1, 1, 0, 0x80, 50) + whole
        return b""

    def _come_back(self) -> None:
        self.has_firmware = True
        self._send(_DISCONNECT, 0, b"")
        self._connect()

    def _send(self, kind: int, number: int, body: bytes) -> None:
        self.wire.sendall(struct.pack("<III", kind, len(body), number) + body)

    def _receive(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            part = self.wire.recv(count - len(found))
            if not part:
                raise EOFError
            found += part
        return found


@contextmanager
def usb_card() -> Iterator[socket.socket]:
    """The card while the block lasts; QEMU's chardev `USB_CARD` must be the socket."""
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=_Card(ours).serve, name="usb card")
    thread.start()
    try:
        yield theirs
    finally:
        with suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)
        theirs.close()
        thread.join()
        ours.close()
