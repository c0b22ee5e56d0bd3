"""The text of a console is found in whatever kept it, with the numbers of its lines."""

from __future__ import annotations

import json
import random
from io import BytesIO

import pytest

from harness.guest.console_text import BREAK, Unreadable, in_order, read_text

BOOT_IDS = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210")


def read(raw: bytes) -> str:
    return "".join(chunk.text for chunk in read_text(BytesIO(raw)))


def exported(message: bytes, *, boot: str = BOOT_IDS[0], program: str = "kernel") -> bytes:
    """An entry as JOURNAL_EXPORT_FORMATS defines it: a value with a line end has its length before it."""
    text = b"MESSAGE=" + message
    if b"\n" in message:
        text = b"MESSAGE\n" + len(message).to_bytes(8, "little") + message
    fields = [b"__CURSOR=s=1", b"__REALTIME_TIMESTAMP=1764394502123456", f"_BOOT_ID={boot}".encode(),
              b"_HOSTNAME=web7", f"SYSLOG_IDENTIFIER={program}".encode(), b"_PID=1", text]  # fmt: skip
    return b"\n".join(fields) + b"\n\n"


@pytest.mark.parametrize("raw", [b"", b"\0\0\0", b" \r\n\n", bytes(random.Random(1).randbytes(10_000))])
def test_what_is_empty_or_not_a_text_is_unreadable(raw: bytes) -> None:
    with pytest.raises(Unreadable):
        read(raw)


def test_of_a_journals_own_file_the_command_that_reads_it_is_named() -> None:
    with pytest.raises(Unreadable, match="journalctl --file=FILE -o export"):
        read(b"LPKSHHRH\0\0MESSAGE=Linux version 6.1")


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"one\r\ntwo\r\r\nthree\n\rfour", "one\ntwo\nthree\nfour"),
        (b"\x1b[0;32m  OK  \x1b[0m\x1b]0;title\x07 done\n", "  OK   done\n"),
        (b"10 %\r20 %\rfailed\n", f"10 %{BREAK}20 %{BREAK}failed\n"),
        (b"\x1b[2J\x1b[01;01HBooting\x1b[05;01Hfrom disk\n", f"{BREAK}{BREAK}Booting{BREAK}from disk\n"),
        (b"Configuring... wait\b\b\b\bok  \n", "Configuring... ok  \n"),
        ("Treiber für\n".encode("latin-1"), "Treiber für\n"),
        ("für\n".encode(), "für\n"),
        (b"\xef\xbb\xbfone\n", "one\n"),
        ("für\r\n".encode("utf-16"), "für\n"),
        (b"\xfe\xff" + "für\n".encode("utf-16-be"), "für\n"),
        (b"P\0a\0n\0i\0c\0\n\0", "Panic\n"),
        (b"one\rtwo\rthree\r" * 20, "one\ntwo\nthree\n" * 20),
    ],
)
def test_controls_and_encodings_hide_nothing(raw: bytes, text: str) -> None:
    assert read(raw) == text


def test_a_long_text_is_cut_at_ends_of_lines_only() -> None:
    raw = b"".join(b"[%12.6f] a line of a console\n" % number for number in range(100_000))

    chunks = [chunk.text for chunk in read_text(BytesIO(raw))]

    assert len(chunks) > 2
    assert all(chunk.endswith("\n") for chunk in chunks)
    assert "".join(chunks) == raw.decode()


def test_a_journal_in_json_has_a_line_for_each_entry_and_a_mark_for_each_boot() -> None:
    common = {"__REALTIME_TIMESTAMP": "1764394502123456", "_HOSTNAME": "web7"}
    entries = [
        {**common, "_BOOT_ID": BOOT_IDS[0], "SYSLOG_IDENTIFIER": "kernel", "MESSAGE": "Linux version 6.1"},
        {**common, "_BOOT_ID": BOOT_IDS[1], "_COMM": "init", "_PID": "1", "MESSAGE": [*"für".encode("latin-1")]},
        {**common, "_BOOT_ID": BOOT_IDS[1], "SYSLOG_IDENTIFIER": "systemd", "MESSAGE": None},
    ]

    lines = read("\n".join(map(json.dumps, entries)).encode()).split("\n")

    at = "2025-11-29T05:35:02.123+00:00 web7"
    assert lines[0] == f"-- Boot {BOOT_IDS[0]} --{BREAK}{at} kernel: Linux version 6.1"
    assert lines[1].startswith(f"-- Boot {BOOT_IDS[1]} --{BREAK}{at} init[1]: f")
    assert lines[2:] == [f"{at} systemd: "]


def test_an_exported_journal_keeps_the_numbers_of_its_lines() -> None:
    raw = exported(b"one") + exported(b"two\n\nlines", program="systemd") + exported(b"three", boot=BOOT_IDS[1])

    lines = read(raw).split("\n")

    at = "2025-11-29T05:35:02.123+00:00 web7"
    assert {number: line for number, line in enumerate(lines, 1) if line} == {
        1: f"-- Boot {BOOT_IDS[0]} --{BREAK}{at} kernel: one",
        9: f"{at} systemd[1]: two{BREAK}{BREAK}lines",
        21: f"-- Boot {BOOT_IDS[1]} --{BREAK}{at} kernel: three",
    }
    assert raw.split(b"\n")[20] == b"__CURSOR=s=1"


def test_the_parts_of_a_kernel_dump_are_put_in_order() -> None:
    newest_first = b"Panic#2 Part1\nthird\nfourth\nPanic#2 Part2\nfirst\nsecond\n"

    assert in_order(newest_first) == b"Panic#2 Part2\nfirst\nsecond\nPanic#2 Part1\nthird\nfourth\n"
    assert read(newest_first + newest_first).count("second\nPanic#2 Part1\nthird") == 2
