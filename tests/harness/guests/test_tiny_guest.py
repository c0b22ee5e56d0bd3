"""The tiny guest's disk and answers; `tests/system/test_tiny_guest.py` runs it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core import process
from harness.core.errors import HarnessError, SpecError
from harness.guests.tiny_guest import (
    ANY_MAC,
    DISK_BYTES,
    PARAMETERS_MAGIC,
    TinyGuest,
    application,
    disk_content,
    first_answer,
    make_disk,
    parameters,
    parse_answer,
    program,
    read_record,
)
from harness.model.device_kinds import Firmware
from harness.model.machine_spec import DiskFormat
from harness.qemu.disk_images import format_of

MAC = "52:54:00:12:34:56"
_PARTITION = (("<B", 450), ("<I", 454), ("<I", 458))
"""The first entry of a master boot record: type, first sector, sectors."""


def test_the_program_is_a_boot_sector_and_a_few_kib() -> None:
    assert program()[510:512] == b"\x55\xaa"
    assert 4096 < len(program()) < 8192


def test_parameters_are_where_the_program_reads_them() -> None:
    guest = TinyGuest(nonce="n-1", addresses={ANY_MAC: "10.0.0.9", MAC: "10.0.0.7"}, counts_per_s=4)

    sector = parameters(guest)

    assert len(sector) == 512
    assert sector[:40] == b"BPTINY01" + b"n-1".ljust(32, b"\0")
    assert sector[40:42] == bytes([14, 2])  # 32768 Hz >> 13
    assert sector[42:62].hex() == "5254001234560a0000070000000000000a000009"  # that for any card comes last
    assert not any(sector[62:])
    assert disk_content(guest)[512:1024] == sector


def test_the_application_is_a_pe32_plus_file_of_the_size_that_it_says() -> None:
    """PE format, "COFF File Header" and "Optional Header": x86-64, a UEFI application, the entry, the one section."""
    code = application(TinyGuest(nonce="n-1"))

    assert (code[:2], code[64:68]) == (b"MZ", b"PE\0\0")
    machine, sections = struct.unpack_from("<HH", code, 68)
    magic, entry, subsystem = (
        struct.unpack_from(kind, code, at)[0] for kind, at in (("H", 88), ("I", 104), ("H", 156))
    )
    assert (machine, sections, magic, subsystem) == (0x8664, 1, 0x20B, 10)
    in_memory, address, in_file, offset = struct.unpack_from("<IIII", code, 88 + 112 + 6 * 8 + 8)
    assert address == offset == entry
    assert offset + in_file == len(code)
    assert in_memory > in_file
    assert 8192 < len(code) < 16384


def test_the_parameters_are_where_the_application_copies_them_from() -> None:
    guest, empty = TinyGuest(nonce="n-1"), program(Firmware.UEFI)[4096:4608]

    assert not any(empty)
    assert application(guest)[4096:4608] == parameters(guest)
    assert program(Firmware.UEFI).count(PARAMETERS_MAGIC) == program().count(PARAMETERS_MAGIC) == 1


def test_firmware_finds_the_application_on_a_disk_for_uefi(tmp_path: Path) -> None:
    guest, disk, loader = TinyGuest(nonce="n-1"), tmp_path / "disk", tmp_path / "loader"

    make_disk(disk, guest, firmware=Firmware.UEFI)

    kind, start, sectors = (struct.unpack_from(kind, disk.read_bytes(), at)[0] for kind, at in _PARTITION)
    assert (kind, (start + sectors) * 512) == (0xEF, DISK_BYTES)
    process.output(["mcopy", "-i", f"{disk}@@{start * 512}", "::/EFI/BOOT/BOOTX64.EFI", str(loader)])
    assert loader.read_bytes() == application(guest)


@pytest.mark.parametrize("firmware", Firmware)
@pytest.mark.parametrize("disk_format", DiskFormat)
def test_a_disk_that_never_ran_has_no_record(tmp_path: Path, disk_format: DiskFormat, firmware: Firmware) -> None:
    disk = tmp_path / "disk"

    make_disk(disk, TinyGuest(nonce="n-1"), disk_format, firmware=firmware)

    assert format_of(disk) is disk_format
    assert read_record(disk) is None


@pytest.mark.parametrize("firmware", Firmware)
def test_a_raw_disk_has_one_mib_and_is_not_overwritten(tmp_path: Path, firmware: Firmware) -> None:
    disk = tmp_path / "disk"
    make_disk(disk, TinyGuest(nonce="n-1"), firmware=firmware)

    with pytest.raises(FileExistsError):
        make_disk(disk, TinyGuest(nonce="n-2"), firmware=firmware)

    assert disk.stat().st_size == DISK_BYTES


@pytest.mark.parametrize(
    "make",
    [
        lambda: TinyGuest(nonce=""),
        lambda: TinyGuest(nonce="two words"),
        lambda: TinyGuest(nonce="x" * 32),
        lambda: TinyGuest(nonce="n", counts_per_s=3),
        lambda: TinyGuest(nonce="n", addresses={"52:54:00": "10.0.0.1"}),
        lambda: TinyGuest(nonce="n", addresses={MAC: "10.0.0.256"}),
        lambda: TinyGuest(nonce="n", addresses={f"52:54:00:00:00:{n:02x}": "10.0.0.1" for n in range(48)}),
    ],
    ids=["no-nonce", "blank", "long-nonce", "rate", "mac", "address", "too-many"],
)
def test_a_guest_that_cannot_be_is_refused(make: Callable[[], TinyGuest]) -> None:
    with pytest.raises(SpecError):
        make()


def test_a_line_is_read() -> None:
    answer = parse_answer("status nonce=a=b counter=12 word=-\r\n")

    assert (answer.word, answer.fields) == ("status", {"nonce": "a=b", "counter": "12", "word": "-"})
    assert answer.number("counter") == 12
    with pytest.raises(HarnessError, match="no number word"):
        answer.number("word")


def test_what_firmware_prints_before_the_guest_starts_is_passed_over() -> None:
    lines = ["\x1b[2JBdsDxe: loading Boot0001\r\n", "\r\n", "started nonce=n-1\r\n", "status nonce=n-1\r\n"]

    assert first_answer(lines).fields == {"nonce": "n-1"}
    assert first_answer(["error reason=no-parameters\r\n"]).word == "error"
    with pytest.raises(HarnessError, match="closed"):
        first_answer(lines[:2])


@pytest.mark.parametrize("line", ["", "\r\n", "SeaBIOS (version 1.16)", "status counter"])
def test_what_is_no_answer_is_refused(line: str) -> None:
    with pytest.raises(HarnessError):
        parse_answer(line)
