"""Where text of a console is kept: a file, standard input, a folder or a tar, compressed or not."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shutil
import sys
import tarfile
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from io import BufferedReader, BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from harness.core import process
from harness.core.errors import UsageError
from harness.guest.console_log import LogReader
from harness.guest.console_text import Unreadable, read_text
from harness.guest.logged_boot import ConsoleLog

DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError, tarfile.TarError, process.CommandFailed)
"""What reading a file raises that is cut off or damaged."""

_STDIN = "standard input"
_MAGIC_BYTES = 512
_PSTORE_BYTES = 16 << 20
_LOGS = re.compile(
    r"vmcore-dmesg.*|dmesg.*|journalctl.*|messages([-.].*)?|syslog([-.].*)?|kern\.log.*|boot\.(log|msg|omsg).*"
    r"|[\w.-]*(console|serial)[\w.-]*\.(log|txt|out)([-.].*)?|console(-ramoops.*)?|[\w.-]+\.(console|dmesg)|ttyS\d.*"
)
"""Files with the text of a console or of the kernel: in sosreports, kdump's folders, /var/log, runs of Bootproof."""
_NOT_LOGS = re.compile(r"journalctl.*--(list-boots|disk-usage|verify|fields|header)|(^|/)(etc|usr|proc|bin|lib\w*)/")
_PSTORE = re.compile(r"dmesg-[a-z]+[-_]\d+(\.\w+)*")
_PSTORE_EFI_TAIL = 5
"""Digits for part and count at the end of dmesg-efi-*: Linux, drivers/firmware/efi/efi-pstore.c."""


def logs_in(what: str) -> list[ConsoleLog]:
    """The logs of ``what``, a path or ``-``; `UsageError` if nothing can be read."""
    path = Path(what)
    try:
        logs = list(_in_folder(path) if what != "-" and path.is_dir() else _in_file(what, path))
    except (Unreadable, *DAMAGED) as error:
        raise UsageError(f"{what} cannot be read: {_reason(error)}") from error
    if not logs:
        raise UsageError(
            f"{what} contains no file with the text of a console, such as console.log, vmcore-dmesg.txt, dmesg, "
            "journalctl*, messages, syslog, boot.log or dmesg-efi-*; name the file itself"
        )
    if not any(log.boots for log in logs):
        raise UsageError(f"{logs[0].name} cannot be read: {logs[0].problem or 'it is empty'}")
    return logs


def _in_file(what: str, path: Path) -> Iterator[ConsoleLog]:
    with ExitStack() as stack:
        file = sys.stdin.buffer if what == "-" else stack.enter_context(path.open("rb"))
        logs, problem = list[ConsoleLog](), ""
        try:
            with _unpacked(_buffered(file)) as stream:
                for log in _in_tar(stream) if _is_tar(stream) else [_read(_STDIN if what == "-" else what, stream)]:
                    logs.append(log)
        except DAMAGED as error:
            if not logs:
                raise
            problem = f"cut off or damaged: {_reason(error)}"
        if problem and len(logs) == 1:
            logs = [replace(logs[0], problem=problem)]
        elif problem:
            logs.append(ConsoleLog(name=what, boots=(), problem=problem))
        yield from logs


def _read(name: str, stream: BinaryIO) -> ConsoleLog:
    reader, problem = LogReader(), ""
    try:
        with _unpacked(stream) as unpacked:
            for chunk in read_text(unpacked):
                reader.feed(chunk)
    except Unreadable as error:
        problem = str(error)
    except DAMAGED as error:
        problem = f"cut off or damaged: {_reason(error)}"
    return ConsoleLog(name=name, boots=reader.end(), problem=problem)


def _reason(error: Exception) -> str:
    if isinstance(error, process.CommandFailed):
        return error.tail.strip().splitlines()[-1] if error.tail.strip() else f"{error.argv[0]} failed"
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def _in_folder(folder: Path) -> Iterator[ConsoleLog]:
    dumps = defaultdict[str, list[bytes]](list)
    for place, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            path = Path(place, file)
            name = path.relative_to(folder).as_posix()
            if path.is_symlink() or not path.is_file() or not _is_wanted(name):
                continue
            try:
                with path.open("rb") as stream:
                    if _PSTORE.fullmatch(file):
                        dumps[_dump(name)].append(stream.read(_PSTORE_BYTES))
                    elif stream.peek(1):
                        yield _read(str(path), stream)
            except OSError as error:
                yield ConsoleLog(name=str(path), boots=(), problem=_reason(error))
    yield from (_read(f"{folder}/{name}", BytesIO(b"\n".join(parts))) for name, parts in dumps.items())


def _in_tar(stream: BinaryIO) -> Iterator[ConsoleLog]:
    dumps = defaultdict[str, list[bytes]](list)
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            if not member.isreg() or not member.size or not _is_wanted(member.name):
                continue
            content = tar.extractfile(member)
            assert content is not None
            if _PSTORE.fullmatch(PurePosixPath(member.name).name):
                dumps[_dump(member.name)].append(content.read(_PSTORE_BYTES))
            else:
                yield _read(member.name, _buffered(content))
    yield from (_read(name, BytesIO(b"\n".join(parts))) for name, parts in dumps.items())


def _is_wanted(name: str) -> bool:
    """A path inside a folder or tar."""
    inner = name.removeprefix("./").partition("/")[2] or name
    return bool(_LOGS.fullmatch(PurePosixPath(name).name)) and not _NOT_LOGS.search(inner)


def _dump(name: str) -> str:
    """One name for all records of a kernel dump in pstore."""
    path = PurePosixPath(name)
    stem = path.name.partition(".")[0]
    stem = stem[:-_PSTORE_EFI_TAIL] if stem.startswith("dmesg-efi") else stem.rstrip("0123456789")
    return str(path.with_name(f"{stem}*"))


def _buffered(stream: IO[bytes]) -> BufferedReader:
    return stream if isinstance(stream, BufferedReader) else BufferedReader(cast("BufferedReader", stream))


def _head(stream: BinaryIO) -> bytes:
    return stream.peek(_MAGIC_BYTES)[:_MAGIC_BYTES] if isinstance(stream, BufferedReader) else b""


def _is_tar(stream: BinaryIO) -> bool:
    return _head(stream)[257:262] == b"ustar"


@contextmanager
def _unpacked(stream: BinaryIO) -> Iterator[BinaryIO]:
    """What is in ``stream``, decompressed as often as it was compressed."""
    with ExitStack() as stack:
        while True:
            head = _head(stream)
            if head.startswith(b"\x1f\x8b"):
                stream = _buffered(cast("IO[bytes]", gzip.GzipFile(fileobj=stream)))
            elif head.startswith(b"BZh"):
                stream = _buffered(cast("IO[bytes]", bz2.BZ2File(stream)))
            elif head.startswith(b"\xfd7zXZ\x00"):
                stream = _buffered(cast("IO[bytes]", lzma.LZMAFile(stream)))  # noqa: SIM115 - ends with its stream
            elif head.startswith(b"\x28\xb5\x2f\xfd"):
                stream = stack.enter_context(_from_zstd(stream))
            else:
                yield stream
                return


@contextmanager
def _from_zstd(stream: BinaryIO) -> Iterator[BufferedReader]:
    with tempfile.NamedTemporaryFile() as packed:  # zstd(1) reads a file; a pipe would need a thread
        shutil.copyfileobj(stream, packed, 1 << 20)
        packed.flush()
        with process.reading([process.require("zstd", "zstd"), "-dcq", "--memory=256MB", packed.name]) as unpacked:
            yield unpacked
