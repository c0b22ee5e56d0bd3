"""Tiny guests in QEMU on this host, and what the other end of their network cable sends and expects."""

from __future__ import annotations

import shutil
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedReader
from ipaddress import IPv4Address
from pathlib import Path
from subprocess import Popen

from harness.core import process
from harness.core.deadline import Deadline, poll
from harness.core.errors import HarnessError
from harness.guests.tiny_guest import Answer, first_answer, parse_answer
from harness.qemu import command_line, program
from harness.qemu.disk_images import format_of
from harness.qemu.qmp import Qmp, open_qmp

MAC, ADDRESS = "52:54:00:12:34:56", "10.9.8.7"
OUR_MAC, OUR_ADDRESS = bytes.fromhex("020000000001"), "10.9.8.1"
MEMORY_MIB = 16
_BROADCAST, _ARP, _IPV4 = b"\xff" * 6, b"\x08\x06", b"\x08\x00"
_IDENTIFIER = 7
_SHORTEST = 60  # Ethernet, without the checksum


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A machine of QEMU, and the devices of a tiny guest; with ``has_ports``, each is behind a PCIe root port."""

    machine: str
    disk: str
    nic: str
    has_ports: bool = False

    def command(self, disk: Path, *, serial_fd: int, qmp_fd: int, cable_fd: int) -> list[str]:
        """QEMU's command line: no device that wakes an idle QEMU."""
        ports = (1, 2) if self.has_ports else ()
        buses = [f",bus=port{port}" for port in ports] or ["", ""]
        return [
            program.in_use().program,
            *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
            *("-machine", f"{self.machine},usb=off", "-accel", "tcg", "-m", f"{MEMORY_MIB}M", "-rtc", "clock=vm"),
            *("-chardev", f"socket,id=com1,fd={serial_fd}", "-serial", "chardev:com1"),
            *("-chardev", f"socket,id=qmp,fd={qmp_fd}", "-mon", "chardev=qmp,mode=control"),
            *(word for port in ports for word in ("-device", f"pcie-root-port,id=port{port},chassis={port}")),
            *(("-device", "virtio-scsi-pci") if self.disk == "scsi-hd" else ()),
            *("-drive", f"id=disk,if=none,file={disk},format={format_of(disk)}"),
            *("-device", f"{self.disk},drive=disk,bootindex=0{buses[0]}"),
            *("-netdev", f"dgram,id=net,local.type=fd,local.str={cable_fd}"),
            *("-device", f"{self.nic},netdev=net,mac={MAC},rombar=0{buses[1]}"),
        ]


BOARDS = {
    "q35-virtio": Board(machine="q35", disk="virtio-blk-pci", nic="virtio-net-pci", has_ports=True),
    "q35-ahci-e1000e": Board(machine="q35", disk="ide-hd", nic="e1000e"),
    "q35-scsi-rtl8139": Board(machine="q35", disk="scsi-hd", nic="rtl8139"),
    "pc-virtio": Board(machine="pc", disk="virtio-blk-pci", nic="virtio-net-pci"),
    "pc-ide-e1000": Board(machine="pc", disk="ide-hd", nic="e1000"),
    "pc-ide-rtl8139": Board(machine="pc", disk="ide-hd", nic="rtl8139"),
}


UEFI_BOARDS = {
    "q35-virtio": Board(machine="q35", disk="virtio-blk-pci", nic="e1000e", has_ports=True),
    "q35-ahci": Board(machine="q35", disk="ide-hd", nic="e1000"),
    "pc-virtio": Board(machine="pc", disk="virtio-blk-pci", nic="rtl8139"),
}
"""UEFI firmware puts the registers of virtio cards out of the guest's reach."""
UEFI_PATIENCE_S = 60
"""How long UEFI firmware may take until the guest starts; 4 CPU seconds on a host of today."""


def uefi_options(variables: Path) -> list[str]:
    """Options of QEMU for UEFI firmware with the file ``variables``, which are made if there are none."""
    if not variables.exists():
        shutil.copyfile(process.require_file(command_line.UEFI_FACTORY_VARIABLES, "ovmf"), variables)
    code = process.require_file(command_line.UEFI_CODE, "ovmf")
    return [
        *("-m", "128M"),
        *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}"),
        *("-drive", f"if=pflash,unit=1,format=raw,file={variables}"),
    ]


@contextmanager
def tpm_options(model: str, state: Path) -> Iterator[list[str]]:
    """Options of QEMU for a TPM 2.0 of ``model``, with its state in the folder ``state``: it runs in the block."""
    state.mkdir(exist_ok=True)
    control = state.parent / f"{state.name}.sock"
    argv = [process.require("swtpm", "swtpm"), "socket", "--tpm2", "--tpmstate", f"dir={state}"]
    argv += ["--pid", f"file={state.parent / state.name}.pid"]
    with process.spawn([*argv, "--ctrl", f"type=unixio,path={control}"], stderr=2):
        assert poll(control.exists, Deadline(10), every_s=0.05), "swtpm does not listen"
        yield [
            *("-chardev", f"socket,id=tpm,path={control}", "-tpmdev", "emulator,id=tpm0,chardev=tpm"),
            *("-device", f"{model},tpmdev=tpm0"),
        ]


class Cable:
    """Our end of the cable: a datagram is a frame."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def answer(self, *frames: bytes) -> bytes:
        """Send ``frames``; the first frame to us that comes back. `TimeoutError` if there is none.

        QEMU itself announces a restored machine's MAC to all.
        """
        for frame in frames:
            self._sock.send(frame)
        self._sock.settimeout(Deadline(10).length_s)
        while not (answer := self._sock.recv(2048)).startswith(OUR_MAC):
            pass
        return answer


class RunningGuest:
    """A tiny guest in a QEMU of its own, which exists within `running`."""

    def __init__(
        self, child: Popen[bytes], qmp: Qmp, serial: socket.socket, lines: BufferedReader, cable: Cable
    ) -> None:
        self.child, self.qmp, self.cable = child, qmp, cable
        self._serial, self._lines = serial, lines

    def next_line(self) -> Answer:
        """`HarnessError` if QEMU ended, `TimeoutError` if the guest prints nothing."""
        line = self._lines.readline().decode("ascii", "replace")
        if not line:
            raise HarnessError(f"QEMU ended with status {self.child.wait(5)} while its guest was asked")
        return parse_answer(line)

    def wait_until_started(self) -> Answer:
        """Its first line, past what firmware prints. UEFI firmware needs seconds."""
        return first_answer(line.decode("ascii", "replace") for line in self._lines)

    def ask(self, command: str) -> Answer:
        self.tell(command)
        return self.next_line()

    def tell(self, command: str) -> None:
        self._serial.sendall(f"{command}\n".encode())


@contextmanager
def running(board: Board, disk: Path, *options: str, patience_s: float = 15) -> Iterator[RunningGuest]:
    """A tiny guest on ``board`` with ``disk``, killed after the block: as when the power fails.

    ``options`` are further ones of QEMU; ``patience_s`` is how long to wait for its answers.
    """
    with ExitStack() as stack:
        serial, com1 = socket.socketpair()
        monitor, qmp_end = socket.socketpair()
        ours, cable_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for one in (serial, ours):
            stack.enter_context(one)
        com1.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with com1, qmp_end, cable_end:
            fds = [one.fileno() for one in (com1, qmp_end, cable_end)]
            argv = board.command(disk, serial_fd=fds[0], qmp_fd=fds[1], cable_fd=fds[2])
            child = stack.enter_context(process.spawn([*argv, *options], pass_fds=fds, stderr=2, grace_s=0.0))
        qmp = stack.enter_context(open_qmp(monitor, name="tiny", on_event=lambda *_: None))
        serial.settimeout(Deadline(patience_s).length_s)
        lines = stack.enter_context(serial.makefile("rb"))
        yield RunningGuest(child, qmp, serial, lines, Cable(ours))


def arp_request(target: str) -> bytes:
    """A frame that asks who has the address ``target`` (RFC 826)."""
    ours, theirs = IPv4Address(OUR_ADDRESS).packed, IPv4Address(target).packed
    body = struct.pack(">HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, OUR_MAC, ours, bytes(6), theirs)
    return (_BROADCAST + OUR_MAC + _ARP + body).ljust(_SHORTEST, b"\0")


def arp_reply(frame: bytes) -> tuple[str, str]:
    """The MAC and the address that an answer to us gives. `AssertionError` if it is none."""
    kind, protocol, mac_bytes, address_bytes, operation, mac, address, to_mac, to_address = struct.unpack_from(
        ">HHBBH6s4s6s4s", frame, 14
    )
    assert (kind, protocol, mac_bytes, address_bytes, operation) == (1, 0x0800, 6, 4, 2), frame.hex()
    assert (frame[:6], frame[6:12], frame[12:14]) == (OUR_MAC, mac, _ARP), frame.hex()
    assert (to_mac, to_address) == (OUR_MAC, IPv4Address(OUR_ADDRESS).packed), frame.hex()
    assert len(frame) >= _SHORTEST
    return mac.hex(":"), str(IPv4Address(address))


def echo_request(target: str, number: int, payload: bytes, *, mac: str = MAC, fragment: int = 0) -> bytes:
    """A ping (RFC 792); ``fragment`` are the flags and the offset of the IPv4 header."""
    message = struct.pack(">BBHHH", 8, 0, 0, _IDENTIFIER, number) + payload
    message = message[:2] + checksum(message) + message[4:]
    addresses = IPv4Address(OUR_ADDRESS).packed + IPv4Address(target).packed
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(message), number, fragment, 64, 1, 0) + addresses
    header = header[:10] + checksum(header) + header[12:]
    return (bytes.fromhex(mac.replace(":", "")) + OUR_MAC + _IPV4 + header + message).ljust(_SHORTEST, b"\0")


def payload_for(checksum: int, number: int) -> bytes:
    """Two bytes that give a ping with this ``number`` this ``checksum``."""
    return ((0xFFFF - checksum - 0x0800 - _IDENTIFIER - number) % 0xFFFF).to_bytes(2, "big")


def echo_reply(frame: bytes) -> tuple[str, int, bytes]:
    """Who answered, which number, and the payload. `AssertionError` if it is no answer to us or a checksum is wrong."""
    assert (frame[:6], frame[12:14]) == (OUR_MAC, _IPV4), frame.hex()
    header, length = frame[14:34], int.from_bytes(frame[16:18], "big")
    message = frame[34 : 14 + length]
    assert checksum(header) == checksum(message) == b"\0\0", frame.hex()
    assert header[16:] == IPv4Address(OUR_ADDRESS).packed, frame.hex()
    kind, code, _, identifier, number = struct.unpack_from(">BBHHH", message)
    assert (kind, code, identifier) == (0, 0, _IDENTIFIER), frame.hex()
    return str(IPv4Address(header[12:16])), number, message[8:]


def checksum(data: bytes) -> bytes:
    """Of the Internet (RFC 1071): zeros for data that has the right one in it."""
    padded = data + bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", total ^ 0xFFFF)
