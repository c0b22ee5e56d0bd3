"""Reads every file of a squashfs in one pass, without root, mounting or a temporary file.

``unsquashfs -pf`` (4.5.1 or later) prints a pseudo file, mksquashfs(1): a line for each file, then the bytes of all
regular ones, one after the other. Extended attributes are in it only since 4.6, so they are not read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Protocol

from harness.core import process
from harness.core.errors import ImageError

_BEGIN = b"#\n# START OF DATA - DO NOT MODIFY\n#\n"
_NAME = rb"(?P<name>(?:\\.|[^\\ ])+)"
"""Blanks, quotes and backslashes are escaped with a backslash."""
_HEAD = re.compile(_NAME + rb" [DRBCISLx] ", re.DOTALL)
_RECORD = re.compile(
    _NAME
    + rb" (?:(?P<kind>[DRBCIS]) (?P<mtime>-?\d+) (?P<mode>[0-7]+) (?P<uid>-?\d+) (?P<gid>-?\d+)|(?P<other>[Lx]))"
    + rb"(?: (?P<rest>[^\n]*))?\n",
    re.DOTALL,
)
"""``L`` is another name of a file, ``x`` an extended attribute."""

_KINDS = {b"D": "folder", b"R": "file", b"S": "link", b"B": "block device", b"C": "character device", b"I": "pipe"}
_QUEUES = ("-data-queue", "32", "-frag-queue", "32")
"""In MiB. As quick as the default of 256 each, with 80 MiB of memory instead of 530."""
_MOST_ARGUMENTS = 2000
"""Of a command: names of files are 4 KiB at most, and execve(2) takes 2 MiB, of which usual names take a tenth."""
_CHUNK_BYTES = 1 << 20
_HEAD_BYTES = 4096
_TEXT_BYTES = 256 << 20
"""No user database, kernel configuration, program or database of a package manager is longer."""
_MOST_NAMES_BYTES = 128 << 20
_MOST_FILES = 1_000_000
_MOST_BYTES = 64 << 30
"""A root file system is downloaded into RAM; what is larger was made to exhaust a reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFile:
    """``content`` is a SHA-256, or another digest that was asked for, in hex; ``target`` is that of a link, or the
    device number; ``mode`` has no type bits."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime: int
    size_bytes: int = 0
    target: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True)
class FileTree:
    """Files by their paths without the first slash, and the bytes of those that were ``wanted``."""

    files: dict[str, TreeFile]
    texts: dict[str, bytes]


class Visitor(Protocol):
    """Sees the files while they are read, in the order of the image; a link has no contents."""

    def names(self, files: Mapping[str, TreeFile]) -> None:
        """All files of the tree, before any of their bytes. ``files`` changes while they are read: ``content`` is empty
        until a file was read, and is under the first of its names."""

    def wants(self, path: str, file: TreeFile, head: bytes) -> bool:
        """Whether `contents` shall be called with all bytes of the file, which begin with ``head`` (4 KiB)."""

    def contents(self, path: str, file: TreeFile, content: bytes) -> None: ...


class _Wanted:
    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern
        self.texts = dict[str, bytes]()

    def names(self, files: Mapping[str, TreeFile]) -> None: ...

    def wants(self, path: str, file: TreeFile, head: bytes) -> bool:  # noqa: ARG002  # its name decides
        return self._pattern.fullmatch(path) is not None

    def contents(self, path: str, file: TreeFile, content: bytes) -> None:  # noqa: ARG002
        self.texts[path] = content


def read_tree(image: Path, wanted: re.Pattern[str]) -> FileTree:
    """Read the squashfs ``image``: about 5 s for 1.2 GB of files.

    The bytes of files that match ``wanted`` are kept. `ImageError` if it is damaged, or unsquashfs is too old.
    """
    visitor = _Wanted(wanted)
    return FileTree(visit_tree(image, visitor), visitor.texts)


Algorithm = str | Callable[[Iterable[str]], str]
"""One of hashlib, or what chooses it by the names of all files."""


def visit_tree(image: Path, visitor: Visitor, *, algorithm: Algorithm = "sha256") -> dict[str, TreeFile]:
    """Read the squashfs ``image`` and show its files to ``visitor``, which keeps what it needs.

    The digests are of ``algorithm``. `ImageError` if it is damaged or too large to be a root file system, or
    unsquashfs is too old.
    """
    try:
        with _printing(image) as printed:
            header, begun = _header(printed)
            return _visit(header, _Data(begun, printed), visitor, algorithm)
    except (process.CommandFailed, ValueError) as error:
        raise ImageError(f"{image} is damaged, or unsquashfs older than 4.5.1: {error}") from error


def read_names(image: Path) -> dict[str, TreeFile]:
    """The files of the squashfs ``image`` without their contents, which are not read; errors as of `visit_tree`."""
    try:
        with _printing(image) as printed:
            return _files(_header(printed)[0])[0]
    except (process.CommandFailed, ValueError) as error:
        raise ImageError(f"{image} is damaged, or unsquashfs older than 4.5.1: {error}") from error


def read_files(image: Path, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """The bytes of some regular files of the squashfs ``image`` by their sizes, as `read_names` has them.

    Only these are unpacked. No name may lead through a link. Errors as of `visit_tree`.
    """
    program, found = process.require("unsquashfs", "squashfs-tools"), dict[str, bytes]()
    names = list(sizes)
    for at in range(0, len(names), _MOST_ARGUMENTS):
        part = names[at : at + _MOST_ARGUMENTS]
        words = [re.sub(r"([\\*?\[\](){}|!+@])", r"\\\1", f"/{name}") for name in part]
        try:
            with process.reading([program, *_QUEUES, "-cat", str(image), *words]) as printed:
                data = _Data(b"", printed)
                found |= {name: b"".join(data.take(sizes[name])) for name in part}
                if not data.is_at_end:
                    raise ValueError("its files have more bytes than their sizes")
        except (process.CommandFailed, ValueError) as error:
            raise ImageError(f"{image} is damaged, or unsquashfs older than 4.5.1: {error}") from error
    return found


def _printing(image: Path) -> AbstractContextManager[BufferedReader]:
    program = process.require("unsquashfs", "squashfs-tools")
    check_count(image)
    return process.reading([program, "-no-progress", *_QUEUES, "-pf", "/dev/stdout", str(image)])


def check_count(image: Path) -> None:
    """`ImageError` if its superblock promises more files than are read.

    Its second number counts the inodes (Linux, fs/squashfs/squashfs_fs.h).
    """
    with image.open("rb") as file:
        count = int.from_bytes(file.read(8)[4:], "little")
    if count > _MOST_FILES:
        raise ImageError(f"{image} has {count:,} files; a root file system has at most {_MOST_FILES:,}")


def _header(printed: BufferedReader) -> tuple[bytes, bytes]:
    """The text before the files' bytes, and the part of those bytes that was read with it."""
    seen = bytearray()
    while chunk := printed.read1(_CHUNK_BYTES):
        searched = max(0, len(seen) - len(_BEGIN))
        seen += chunk
        if len(seen) > _MOST_NAMES_BYTES:
            raise ValueError("the names of its files take more than 128 MiB")
        at = seen.find(b"\n" + _BEGIN, searched)
        if at >= 0:
            begun = bytes(seen[at + 1 + len(_BEGIN) :])
            del seen[at + 1 :]
            return bytes(seen), begun
    raise ValueError("it printed no files")


class _Data:
    """The files' bytes, in order."""

    def __init__(self, begun: bytes, printed: BufferedReader) -> None:
        self._begun, self._printed = begun, printed

    def take(self, size_bytes: int) -> Iterator[bytes]:
        while size_bytes:
            chunk = self._begun[:size_bytes] or self._printed.read1(min(size_bytes, _CHUNK_BYTES))
            if not chunk:
                raise ValueError("it ended in the middle of a file")
            self._begun = self._begun[len(chunk) :]
            size_bytes -= len(chunk)
            yield chunk

    @property
    def is_at_end(self) -> bool:
        return not self._begun and not self._printed.read1(1)


def _visit(header: bytes, data: _Data, visitor: Visitor, algorithm: Algorithm) -> dict[str, TreeFile]:
    files, same = _files(header)
    check_bytes(file.size_bytes for file in files.values())
    chosen = algorithm if isinstance(algorithm, str) else algorithm(files)
    every = {**files, **{name: files[other] for name, other in same.items() if other in files}}
    visitor.names(every)
    for name, file in files.items():
        if file.kind == "file":
            content = show_contents(name, file, data.take(file.size_bytes), visitor, hashlib.new(chosen))
            files[name] = every[name] = replace(file, content=content)
    if not data.is_at_end:
        raise ValueError("it has more bytes than its files")
    return files | {name: files[other] for name, other in same.items() if other in files}


def check_bytes(sizes: Iterable[int]) -> None:
    """`ValueError` for files that are more than a root file system's in all."""
    total_bytes = sum(sizes)
    if total_bytes > _MOST_BYTES:
        raise ValueError(
            f"its files have {total_bytes >> 30:,} GiB, and more than {_MOST_BYTES >> 30} GiB are not read"
        )


def show_contents(name: str, file: TreeFile, chunks: Iterator[bytes], visitor: Visitor, hashed: hashlib._Hash) -> str:
    """The digest of a file's bytes, which ``visitor`` is shown if it wants them."""
    head = bytearray()
    while len(head) < min(_HEAD_BYTES, file.size_bytes):
        head += next(chunks)
    is_wanted = file.size_bytes <= _TEXT_BYTES and visitor.wants(name, file, bytes(head[:_HEAD_BYTES]))
    hashed.update(head)
    for chunk in chunks:
        hashed.update(chunk)
        if is_wanted:
            head += chunk
    if is_wanted:
        visitor.contents(name, file, bytes(head))
    return hashed.hexdigest()


def _files(header: bytes) -> tuple[dict[str, TreeFile], dict[str, str]]:
    """The files in the order of their bytes, and further names of files: each with its first name."""
    files, same = dict[str, TreeFile](), dict[str, str]()
    for record, rest in _records(header):
        if len(files) > _MOST_FILES:
            raise ValueError(f"it has more than {_MOST_FILES:,} files")
        name = _name(record["name"])
        if record["other"] == b"L":
            same[name] = _name(rest)
        elif record["kind"]:
            files[name] = _file(record, rest)
    return files, same


def _records(header: bytes) -> Iterator[tuple[re.Match[bytes], bytes]]:
    """Each record and its last field; the target of a link may span several lines."""
    at, folders = 0, {b""}
    while at < len(header):
        record = _RECORD.match(header, at)
        if record is None:
            raise ValueError(f"{header[at : at + 80]!r} is not the record of a file")
        at = record.end()
        if record["kind"] == b"D":
            folders.add(record["name"])
        leads = record["kind"] == b"S" or record["other"] == b"L"
        while leads and not _begins_record(header, at, folders):
            at = header.index(b"\n", at) + 1
        yield record, header[record.start("rest") : at - 1] if record["rest"] is not None else b""


def _begins_record(header: bytes, at: int, folders: Set[bytes]) -> bool:
    """Whether the record of a file in an already listed folder begins at ``at``."""
    head = _HEAD.match(header, at)
    return at == len(header) or (head is not None and head["name"].rpartition(b"/")[0] in folders)


def _file(record: re.Match[bytes], rest: bytes) -> TreeFile:
    kind = _KINDS[record["kind"]]
    return TreeFile(
        kind="socket" if kind == "pipe" and rest == b"s" else kind,
        mode=int(record["mode"], 8),
        uid=int(record["uid"]),
        gid=int(record["gid"]),
        mtime=int(record["mtime"]),
        size_bytes=int(rest.split()[0]) if kind == "file" else 0,
        target="" if kind in ("file", "pipe") else _text(rest),
    )


def _name(escaped: bytes) -> str:
    return _text(re.sub(rb"\\(.)", rb"\1", escaped, flags=re.DOTALL))


def _text(name: bytes) -> str:
    """Decode a name, which is bytes, the same in every locale."""
    return name.decode("utf-8", "surrogateescape")
