"""The text of a console from whatever kept it: raw bytes in, lines of text out, in chunks of about a megabyte.

Each chunk has as many line ends as the bytes that it was made of, so the numbers of its lines are those of the file.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import BinaryIO

from harness.core.text import plain

BREAK = "\x1e"
"""Stands within a line for what moves the cursor elsewhere: a carriage return, or a control sequence."""

SEAM = "\x1f"
"""Stands in place of the end of a line that a terminal wrapped; `console_style.joined` puts it there."""

_CHUNK_BYTES = 1 << 20
_SAMPLE = 1 << 16
_MOST_PARTS_BYTES = 64 << 20
_WRAPPED, _MOST_LONG_LINES = 60, 50
_TEXT_SHARE = 0.75
"""Of random bytes, two fifths are characters of a text; of a console with noise on the line, nearly all are."""
_COLOURS = re.compile(r"\x1b\[[\d;]*m")
_MOVES = re.compile(r"\x1b\[[\d;]*[HfJ]|\x1b[cDEM]")
"""ECMA-48 CUP, HVP and ED, with which firmware writes each piece of text to its place; RIS, IND, NEL and RI."""
_WITH_BACKSPACES = re.compile(r"[^\n]*\x08[^\n]*")
_UTF_16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_PSTORE = re.compile(rb"^([A-Z][\w ]{2,15})#(\d+) Part(\d+)\n", re.MULTILINE)
"""Linux, fs/pstore/platform.c: the header of each record of a dump; Part1 has the newest lines."""
_JOURNAL_FILE = b"LPKSHHRH"
"""The signature in systemd's JOURNAL_FILE_FORMAT."""
_JSON = re.compile(rb'\x1e?\{.*"(__CURSOR|MESSAGE|_BOOT_ID)"')
_ENTRY, _LINE = (b"\n\n__CURSOR=", 2), (b"\n", 1)
_EXPORTED = re.compile(rb"(__CURSOR|__REALTIME_TIMESTAMP|_BOOT_ID)=")


class Unreadable(ValueError):
    """The bytes are not a text; the message says why."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines. ``is_journal`` if each line begins with a time, a host and a program."""

    text: str
    is_journal: bool = False


def read_text(stream: BinaryIO) -> Iterator[Chunk]:
    """The lines of ``stream``; `Unreadable` if it is empty or not a text."""
    head = next((piece for piece in iter(partial(stream.read, _CHUNK_BYTES), b"") if piece.strip(b"\0")), b"")
    if not head.strip(b"\0 \t\r\n"):
        raise Unreadable("it is empty")
    if head.startswith(_JOURNAL_FILE):
        raise Unreadable("it is a file of systemd-journald: journalctl --file=FILE -o export | bootproof explain -")
    pieces: Iterator[bytes] = chain([head], iter(partial(stream.read, _CHUNK_BYTES), b""))
    encoding = _UTF_16.get(head[:2])
    if encoding:
        decoder = codecs.getincrementaldecoder(encoding)("replace")
        pieces = (decoder.decode(piece).encode("utf-8", "replace") for piece in pieces)
    elif not _is_text(head[:_SAMPLE]):
        raise Unreadable("it is not a text: most of its bytes are not characters")
    is_export = bool(_EXPORTED.match(head))
    journal = _line_of_export if is_export else _line_of_json if _JSON.match(head) else None
    if journal:
        yield from _journal(_cut(pieces, *_ENTRY if is_export else _LINE), is_export, journal)
    elif _PSTORE.match(head):
        yield Chunk(_clean(in_order(head + stream.read(_MOST_PARTS_BYTES))))
    else:
        yield from (Chunk(_clean(piece)) for piece in _cut(pieces, *_LINE))


def in_order(dump: bytes) -> bytes:
    """The records of kernel dumps from pstore, oldest lines first: the kernel numbers them from the newest."""
    marks = [*_PSTORE.finditer(dump)]
    ends = [mark.start() for mark in marks[1:]] + [len(dump)]
    records, seen, group = list[tuple[int, bytes, int, int, bytes]](), set[tuple[bytes, bytes, bytes]](), 0
    for mark, end in zip(marks, ends, strict=True):
        reason, number, part = mark.groups()
        if mark.groups() in seen:  # the numbers begin anew with each boot
            seen, group = set(), group + 1
        seen.add((reason, number, part))
        records.append((group, reason, int(number), -int(part), dump[mark.start() : end].rstrip(b"\n") + b"\n"))
    return b"".join(record[-1] for record in sorted(records, key=lambda record: (record[0], record[2], record[3])))


def _is_text(sample: bytes) -> bool:
    text = sample.replace(b"\0", b"").decode("utf-8", "replace")
    good = sum((char.isprintable() and char != "�") or char in "\t\n\r\x1b\b\f\x07\x0f" for char in text)
    return good > _TEXT_SHARE * len(text) and len(text) * 4 > len(sample)


def _cut(pieces: Iterator[bytes], end: bytes, kept: int) -> Iterator[bytes]:
    """The same bytes, cut ``kept`` bytes into an ``end``, but where there is none for megabytes.

    A piece of lines does not end in one that a terminal may have wrapped: what follows that line belongs to it.
    """
    rest = b""
    for piece in pieces:
        rest += piece
        at = rest.rfind(end) + kept
        for _ in range(_MOST_LONG_LINES if end == b"\n" else 0):
            before = rest.rfind(end, 0, max(0, at - 1))
            if before < 0 or at - before < _WRAPPED:
                break
            at = before + 1
        if at < kept:
            if len(rest) < 4 * _CHUNK_BYTES:
                continue
            at = len(rest)
        yield rest[:at]
        rest = rest[at:]
    if rest:
        yield rest


def _clean(raw: bytes) -> str:
    """Without control sequences and overwritten characters. Bytes that are not UTF-8 are taken for Latin-1."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "surrogateescape")
        text = re.sub("[\udc80-\udcff]", lambda byte: chr(ord(byte[0]) - 0xDC00), text)
    text = text.replace("\ufeff", "").replace(BREAK, "").replace(SEAM, "").replace("\r\n", "\n")
    if "\r" in text:
        text = re.sub(r"\r+\n|\n\r+", "\n", text.lstrip("\r"))
        if text.count("\r") > 20 * text.count("\n"):  # its lines end with carriage returns alone
            text = text.replace("\r", "\n")
        text = text.replace("\r", BREAK)
    if "\x1b" in text:
        text = _COLOURS.sub("", text)
    if "\x1b" in text:
        text = _MOVES.sub(BREAK, text)
    if any(control in text for control in "\x1b\x00\x07\x0f"):
        text = plain(text)
    return _WITH_BACKSPACES.sub(_overwritten, text) if "\b" in text else text


def _overwritten(line: re.Match[str]) -> str:
    """The line as a screen shows it: a backspace moves to the left, and the next character overwrites."""
    shown, column = list[str](), 0
    for char in line[0]:
        if char == "\b":
            column = max(0, column - 1)
        else:
            shown[column : column + 1] = char
            column += 1
    return "".join(shown)


Entry = dict[str, str]


def _journal(pieces: Iterator[bytes], is_export: bool, line_of: Callable[[bytes], Entry | None]) -> Iterator[Chunk]:
    """systemd's JOURNAL_EXPORT_FORMATS: entries as lines, a line of ``-- Boot ID --`` before each boot."""
    boot = ""
    for piece in pieces:
        lines = list[str]()
        for raw in re.split(rb"(?<=\n\n)(?=__CURSOR=)", piece) if is_export else piece.split(b"\n"):
            entry = line_of(raw)
            mark = ""
            if entry and entry["_BOOT_ID"] != boot:
                boot = entry["_BOOT_ID"]
                mark = f"-- Boot {boot} --{BREAK}"
            line = mark + _line(entry) if entry else raw.decode("utf-8", "replace").replace("\n", " ")
            lines.append(line + "\n" * raw.count(b"\n"))
        yield Chunk(("" if is_export else "\n").join(lines), is_journal=True)


def _line(entry: Entry) -> str:
    stamp = entry["__REALTIME_TIMESTAMP"]
    at = datetime.fromtimestamp(int(stamp) / 1e6 if stamp.isdecimal() else 0, UTC).isoformat(timespec="milliseconds")
    program = entry["SYSLOG_IDENTIFIER"] or entry["_COMM"] or "unknown"
    pid = f"[{entry['_PID']}]" if entry["_PID"] and program != "kernel" else ""
    message = _clean(entry["MESSAGE"].encode("utf-8", "replace")).replace("\n", BREAK)
    return f"{at} {entry['_HOSTNAME'] or 'localhost'} {re.sub(r'[^!-~]', '_', program)}{pid}: {message}"


_FIELDS = ("_BOOT_ID", "__REALTIME_TIMESTAMP", "_HOSTNAME", "SYSLOG_IDENTIFIER", "_COMM", "_PID", "MESSAGE")


def _line_of_json(raw: bytes) -> Entry | None:
    try:
        fields = json.loads(raw.strip(b"\x1e\r"))
    except (ValueError, RecursionError):
        return None
    return {name: _text(fields.get(name)) for name in _FIELDS} if isinstance(fields, dict) else None


def _text(value: object) -> str:
    """A field of the journal in JSON: a text, the bytes of what is not UTF-8, or null for what is very long."""
    if isinstance(value, list):
        is_bytes = all(isinstance(byte, int) and 0 <= byte < 256 for byte in value)
        return bytes(value).decode("utf-8", "replace") if is_bytes else _text(value[0] if value else "")
    return "" if value is None else str(value)


def _line_of_export(raw: bytes) -> Entry | None:
    """A field is ``NAME=value``, or ``NAME``, a line end, its length as 8 bytes and the value, which may have lines."""
    entry, at = dict.fromkeys(_FIELDS, ""), 0
    while at < len(raw):
        end = raw.find(b"\n", at)
        end = len(raw) if end < 0 else end
        name, equals, value = raw[at:end].partition(b"=")
        at = end + 1
        if not equals and name:
            size = int.from_bytes(raw[at : at + 8], "little")
            value = raw[at + 8 : at + 8 + size]
            at += 8 + size + 1
        if (known := name.decode("ascii", "replace")) in entry:
            entry[known] = value.decode("utf-8", "replace")
    return entry if entry["MESSAGE"] or entry["_BOOT_ID"] else None
