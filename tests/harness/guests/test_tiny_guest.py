"""The tiny guest's disk and answers; `tests/system/test_tiny_guest.py` runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import HarnessError, SpecError
from harness.guests.tiny_guest import (
    ANY_MAC,
    DISK_BYTES,
    TinyGuest,
    disk_content,
    make_disk,
    parameters,
    parse_answer,
    program,
    read_record,
)
from harness.model.machine_spec import DiskFormat
from harness.qemu.disk_images import format_of

MAC = "52:54:00:12:34:56"


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


@pytest.mark.parametrize("disk_format", DiskFormat)
def test_a_disk_that_never_ran_has_no_record(tmp_path: Path, disk_format: DiskFormat) -> None:
    disk = tmp_path / "disk"

    make_disk(disk, TinyGuest(nonce="n-1"), disk_format)

    assert format_of(disk) is disk_format
    assert read_record(disk) is None


def test_a_raw_disk_has_one_mib_and_is_not_overwritten(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    make_disk(disk, TinyGuest(nonce="n-1"))

    with pytest.raises(FileExistsError):
        make_disk(disk, TinyGuest(nonce="n-2"))

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


@pytest.mark.parametrize("line", ["", "\r\n", "SeaBIOS (version 1.16)", "status counter"])
def test_what_is_no_answer_is_refused(line: str) -> None:
    with pytest.raises(HarnessError):
        parse_answer(line)
