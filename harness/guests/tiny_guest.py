"""The tiny guest: its disk, and what it says. The program is assembled from ``tiny/``, which also describes it.

It counts, answers commands on its first serial port, keeps a record, and answers ARP, ping and TCP. The record is on
its disk or, under UEFI, a variable of the firmware. Each answer is one line: a word, then ``key=value`` pairs.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.core import process
from harness.core.errors import HarnessError, SpecError
from harness.guests.uefi_disk import make_uefi_disk
from harness.model.device_kinds import Firmware
from harness.model.machine_spec import DiskFormat
from harness.qemu import disk_images

SOURCES = Path(__file__).parent / "tiny"
ANY_MAC = "00:00:00:00:00:00"
"""As a key of addresses: for a card that has no row before this one."""
DISK_BYTES = 1 << 20
PARAMETERS_MAGIC, RECORD_MAGIC = b"BPTINY01", b"BPREC001"
_SECTOR_BYTES, _RECORD_SECTOR = 512, 128
_ROWS = 47
_SOURCES = {Firmware.BIOS: "tiny.asm", Firmware.UEFI: "uefi.asm"}
_UEFI_PARAMETERS = 4096
"""Where `parameters` are in the application: PROGRAM_AT in ``tiny/uefi.asm``."""
_RATES = {1: 0, **{32768 >> (rate - 1): rate for rate in range(3, 16)}}
"""Interrupts of the real time clock a second, and the rate that selects them (MC146818 data sheet, register A): 0 is
the interrupt of each second."""
_NAME = re.compile(r"[!-~]{1,31}")
_FIRST_WORDS = ("started ", "error ")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyGuest:
    """One tiny guest on paper. ``nonce`` tells it from others: 1 to 31 printable ASCII characters without blanks.

    It answers at the IPv4 address of its card's MAC in ``addresses``, at none without a row.
    """

    nonce: str
    addresses: Mapping[str, str] = field(default_factory=dict)
    counts_per_s: int = 1

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.nonce):
            raise SpecError(f"{self.nonce!r} is not a nonce: 1 to 31 printable ASCII characters without blanks")
        if self.counts_per_s not in _RATES:
            raise SpecError(f"counts_per_s is {self.counts_per_s}; possible: {', '.join(map(str, sorted(_RATES)))}")
        if len(self.addresses) > _ROWS:
            raise SpecError(f"a tiny guest knows at most {_ROWS} addresses, not {len(self.addresses)}")
        if wrong := [mac for mac in self.addresses if not _MAC.fullmatch(mac.lower())]:
            raise SpecError(f"{wrong[0]!r} is not a MAC address such as 52:54:00:12:34:56")
        if wrong := [address for address in self.addresses.values() if not _is_ipv4(address)]:
            raise SpecError(f"{wrong[0]!r} is not an IPv4 address such as 10.0.0.7")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a tiny guest wrote on its disk: the word of the last ``write``, how often it started and wrote."""

    nonce: str
    word: str
    boots: int
    writes: int


@dataclass(frozen=True, slots=True)
class Answer:
    """One line of a tiny guest: its first word, and its fields."""

    word: str
    fields: Mapping[str, str]

    @property
    def owner(self) -> str:
        """The nonce in its record, on its disk or in a variable of its firmware; empty if there is no such field."""
        return self.fields.get("disk") or self.fields.get("variable", "")

    def number(self, name: str) -> int:
        """`HarnessError` if there is no such field or if it is not a number."""
        try:
            return int(self.fields[name])
        except (KeyError, ValueError) as error:
            raise HarnessError(f"a tiny guest's answer has no number {name}: {self.word} {self.fields}") from error


def parse_answer(line: str) -> Answer:
    """`HarnessError` if ``line`` is not one of a tiny guest."""
    word, *pairs = line.split() or [""]
    fields = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    if not word.isalpha() or len(fields) < len(pairs):
        raise HarnessError(f"not a line of a tiny guest: {line!r}")
    return Answer(word, fields)


def first_answer(lines: Iterable[str]) -> Answer:
    """The first answer in ``lines`` of a serial port, past what firmware prints. `HarnessError` if there is none."""
    for line in lines:
        if line.startswith(_FIRST_WORDS):
            return parse_answer(line)
    raise HarnessError("the serial port was closed before a tiny guest started")


@cache
def program(firmware: Firmware = Firmware.BIOS) -> bytes:
    """As nasm(1) assembles it: boot sector, a sector for `parameters`, and the rest. For UEFI, an application."""
    nasm = process.require("nasm", "nasm")
    source = SOURCES / _SOURCES[firmware]
    with TemporaryDirectory(prefix="bootproof-") as folder:
        target = Path(folder) / "tiny.bin"
        process.output([nasm, "-Wall", "-Werror", f"-I{SOURCES}/", "-f", "bin", "-o", str(target), str(source)])
        return target.read_bytes()


def parameters(guest: TinyGuest) -> bytes:
    """The sector that ``guest`` reads at its start: pure. A row for any card comes last."""
    rows = sorted(guest.addresses.items(), key=lambda row: row[0] == ANY_MAC)
    table = b"".join(bytes.fromhex(mac.replace(":", "")) + IPv4Address(address).packed for mac, address in rows)
    head = struct.pack("<8s32sBB", PARAMETERS_MAGIC, guest.nonce.encode(), _RATES[guest.counts_per_s], len(rows))
    return (head + table).ljust(_SECTOR_BYTES, b"\0")


def application(guest: TinyGuest) -> bytes:
    """``guest`` as an application for UEFI."""
    code = program(Firmware.UEFI)
    return code[:_UEFI_PARAMETERS] + parameters(guest) + code[_UEFI_PARAMETERS + _SECTOR_BYTES :]


def disk_content(guest: TinyGuest) -> bytes:
    """The whole disk of a guest for a BIOS that never ran.

    Its record is not all zeros, so that it has space in a qcow2 from the start: writing it changes no metadata there.
    """
    code = program()
    parts = (
        code[:_SECTOR_BYTES],
        parameters(guest),
        code[2 * _SECTOR_BYTES : _RECORD_SECTOR * _SECTOR_BYTES].ljust((_RECORD_SECTOR - 2) * _SECTOR_BYTES, b"\0"),
        b"\xff" * _SECTOR_BYTES,
    )
    return b"".join(parts).ljust(DISK_BYTES, b"\0")


def make_disk(
    path: Path,
    guest: TinyGuest,
    disk_format: DiskFormat = DiskFormat.RAW,
    *,
    firmware: Firmware = Firmware.BIOS,
) -> None:
    """Make the boot disk of ``guest``, 1 MiB.

    `FileExistsError` if there is a file, `HostError` without nasm(1) or, for UEFI, mtools(1).
    """
    if disk_format is DiskFormat.RAW:
        if firmware is Firmware.UEFI:
            make_uefi_disk(path, application(guest), DISK_BYTES)
            return
        with path.open("xb") as file:
            file.write(disk_content(guest))
        return
    with TemporaryDirectory(prefix="bootproof-") as folder:
        raw = Path(folder) / "tiny.raw"
        make_disk(raw, guest, firmware=firmware)
        disk_images.to_qcow2(raw, path)


def read_record(disk: Path) -> Record | None:
    """What a guest wrote on its disk, which no machine has open; None if it wrote nothing, as under UEFI."""
    with TemporaryDirectory(prefix="bootproof-") as folder:
        raw = Path(folder) / "tiny.raw"
        disk_images.flatten(disk, raw)
        with raw.open("rb") as file:
            file.seek(_RECORD_SECTOR * _SECTOR_BYTES)
            sector = file.read(_SECTOR_BYTES)
    magic, nonce, word, boots, writes = struct.unpack_from("<8s32s32sII", sector)
    if magic != RECORD_MAGIC:
        return None
    return Record(nonce=_text(nonce), word=_text(word), boots=boots, writes=writes)


def _text(name: bytes) -> str:
    return name.rstrip(b"\0").decode("ascii", "replace")


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True
