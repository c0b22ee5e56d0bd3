"""The parts of an ELF file that decide whether it can run. Pure: bytes to values (System V ABI, elf(5))."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"\x7fELF"
_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_NEEDED, _STRING_TABLE, _RPATH, _RUNPATH = 1, 5, 15, 29
_CORE = 4
_MACHINES = {3: "i386", 40: "arm", 62: "x86-64", 183: "aarch64", 21: "ppc64", 22: "s390x", 243: "riscv", 247: "bpf"}
_MOST_ENTRIES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program or library. ``interpreter`` is the dynamic loader's path; ``damage`` says what its headers promise and
    the file does not have; ``mentions`` are further libraries that it opens by name while it runs."""

    machine: str = ""
    bits: int = 0
    interpreter: str = ""
    needed: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    is_core: bool = False
    damage: str = ""
    mentions: tuple[str, ...] = ()


def read_program(content: bytes) -> Program:
    """Read an ELF file, which may be damaged in any way."""
    try:
        return _read(content)
    except (struct.error, IndexError, ValueError):
        return Program(damage="its headers end early")


def _read(content: bytes) -> Program:
    if content[:4] != MAGIC or content[4] not in (1, 2) or content[5] not in (1, 2):
        raise ValueError("not ELF")
    is_64, order = content[4] == 2, "<" if content[5] == 1 else ">"
    kind, machine = struct.unpack_from(f"{order}HH", content, 16)
    at = 32 if is_64 else 28
    program_at, section_at = struct.unpack_from(f"{order}{'QQ' if is_64 else 'II'}", content, at)
    sizes_at = at + (16 if is_64 else 8) + 6
    program_size, programs, section_size, sections = struct.unpack_from(f"{order}HHHH", content, sizes_at)
    segments = list(_segments(content, order, is_64, program_at, program_size, programs))
    end = max([section_at + section_size * sections, *(offset + size for _, offset, _, size in segments)])
    interpreter, needed, search = "", tuple[str, ...](), tuple[str, ...]()
    for segment, offset, _, size in segments:
        if segment == _INTERPRETER:
            interpreter = _text(content, offset, offset + size)
        elif segment == _DYNAMIC:
            needed, search = _dynamic(content, order, is_64, offset, size, segments)
    return Program(
        machine=_MACHINES.get(machine, f"machine {machine}"),
        bits=64 if is_64 else 32,
        interpreter=interpreter,
        needed=needed,
        search=search,
        is_core=kind == _CORE,
        damage=f"it has {len(content):,} bytes, and its headers speak of {end:,}" if end > len(content) else "",
    )


_Segment = tuple[int, int, int, int]
"""Kind, place in the file, address, size in the file."""


def _segments(content: bytes, order: str, is_64: bool, at: int, size: int, count: int) -> Iterator[_Segment]:
    for number in range(count):
        begin = at + number * size
        if is_64:
            kind, _, offset, address, _, in_file = struct.unpack_from(f"{order}IIQQQQ", content, begin)
        else:
            kind, offset, address, _, in_file = struct.unpack_from(f"{order}IIIII", content, begin)
        yield kind, offset, address, in_file


def _dynamic(
    content: bytes, order: str, is_64: bool, offset: int, size: int, segments: list[_Segment]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The libraries that are needed, and the folders in which they are searched."""
    width, form = (16, "qQ") if is_64 else (8, "iI")
    entries = list[tuple[int, int]]()
    for at in range(offset, min(offset + size, len(content) - width + 1), width):
        tag, value = struct.unpack_from(f"{order}{form}", content, at)
        if tag == 0 or len(entries) > _MOST_ENTRIES:
            break
        entries.append((tag, value))
    table = next((value for tag, value in entries if tag == _STRING_TABLE), 0)
    places = (place + table - address for kind, place, address, in_file in segments
              if kind == _LOAD and address <= table < address + in_file)  # fmt: skip
    strings = next(places, table)
    names = [(tag, _text(content, strings + value)) for tag, value in entries if tag in (_NEEDED, _RPATH, _RUNPATH)]
    needed = tuple(name for tag, name in names if tag == _NEEDED)
    search = tuple(folder for tag, name in names if tag != _NEEDED for folder in name.split(":"))
    return needed, search


def _text(content: bytes, begin: int, end: int | None = None) -> str:
    stop = content.index(b"\0", begin, end)
    return content[begin : min(stop, begin + 4096)].decode("utf-8", "replace")
