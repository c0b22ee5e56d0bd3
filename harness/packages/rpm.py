"""rpm's database, as on Fedora, CentOS and openSUSE: in SQLite, or in rpm's own format ndb.

The Berkeley DB of rpm before 4.16 is not read.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from harness.core.errors import ImageError
from harness.packages.database import NO_FILES, Rights, merged, owned

T = TypeVar("T")

_FOLDERS = ("usr/lib/sysimage/rpm", "var/lib/rpm", "usr/share/rpm")
"""Of new releases, of older ones (Fedora 35, CentOS 9), and of rpm-ostree; where two exist, one is a link."""
_FILES = ("rpmdb.sqlite", "Packages.db")
_LOG = "-wal"
"""SQLite's write-ahead log beside a database: what a program that was killed wrote last is only there."""
_VENDORS = {
    "fedora": r"fedora-release(-.+)?",
    "centos": r"centos-(stream-)?release",
    "opensuse": r"openSUSE-release|(Leap|openSUSE-.+)-release",
    "redhat": r"redhat-release",
    "suse": r"SLES?-release",
}
_SHA256 = 8
"""RPMTAG_FILEDIGESTALGO has the numbers of RFC 4880, 9.4."""
_CONFIG, _MISSING_OK, _GHOST = 1 << 0, 1 << 3, 1 << 6
"""rpm, include/rpm/rpmfiles.h."""
_MAY_DIFFER = _MISSING_OK | _GHOST
_KEYS = "gpg-pubkey"
"""The packages under which rpm lists the keys that it trusts."""


class Rpm:
    manager = "rpm"
    purl_type = "rpm"
    list_command = (
        "rpm", "--query", "--all", "--queryformat", "%{NAME} %|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\\n",
    )  # fmt: skip
    files = tuple(f"{folder}/{name}" for folder in _FOLDERS for name in (*_FILES, f"{_FILES[0]}{_LOG}"))
    owner_files = "|".join(map(re.escape, files))
    sum_files = NO_FILES
    sum_algorithm = "sha256"
    caches = rf"({'|'.join(_FOLDERS)})/.*|var/lib/(dnf|zypp)/.*|usr/lib/sysimage/libdnf5/.*"

    def vendor(self, installed: Mapping[str, str]) -> str:
        """By the package with the release's name."""
        return next((name for name, rule in _VENDORS.items() if any(re.fullmatch(rule, one) for one in installed)), "")

    def purl_version(self, version: str) -> tuple[str, dict[str, str]]:
        """The epoch is a qualifier (purl-spec, types/rpm)."""
        epoch, _, rest = version.rpartition(":")
        return rest, {"epoch": epoch} if epoch else {}

    def read_list(self, printed: str) -> dict[str, str]:
        rows = (line.split() for line in printed.splitlines())
        return {row[0]: row[1] for row in rows if row[0] != _KEYS}

    def read_files(self, files: Mapping[str, bytes]) -> dict[str, str]:
        packages = dict(_read(files, lambda header: (header.name, header.version)))
        packages.pop(_KEYS, None)
        return packages

    def owners(self, files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, str]:
        listed = _read(files, lambda header: [(header.name, path) for path in header.paths()])
        return owned(itertools.chain(*listed), links)

    def sums(self, files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, str]:
        listed = _read(files, lambda header: list(header.digests()))
        return {merged(path, links): digest for path, digest in itertools.chain(*listed)}

    def rights(self, files: Mapping[str, bytes], links: Mapping[str, str]) -> dict[str, Rights]:
        listed = _read(files, lambda header: list(header.rights()))
        return {merged(path, links): given for path, given in itertools.chain(*listed)}


class _Header:
    """A package's header: big-endian numbers of entries and of data bytes, 16 bytes an entry, then the data
    (rpm, lib/header.c)."""

    def __init__(self, blob: bytes) -> None:
        entries, _ = struct.unpack_from(">II", blob)
        rows = (struct.unpack_from(">IIII", blob, 8 + 16 * number) for number in range(entries))
        self._entries = {tag: (at, count) for tag, _, at, count in rows}
        self._data = blob[8 + 16 * entries :]

    @property
    def name(self) -> str:
        return self._strings(1000)[0]

    @property
    def version(self) -> str:
        """As the query ``list_command`` prints it: EPOCH:VERSION-RELEASE, or without epoch."""
        (version,), (release,), epoch = self._strings(1001), self._strings(1002), self._numbers(1003)
        return f"{epoch[0]}:{version}-{release}" if epoch else f"{version}-{release}"

    def paths(self) -> Iterator[str]:
        """From RPMTAG_DIRINDEXES, RPMTAG_BASENAMES and RPMTAG_DIRNAMES."""
        folders = self._strings(1118)
        for folder, name in zip(self._numbers(1116), self._strings(1117), strict=True):
            yield folders[folder] + name

    def digests(self) -> Iterator[tuple[str, str]]:
        """From RPMTAG_FILEDIGESTS, of packages whose RPMTAG_FILEDIGESTALGO is SHA-256."""
        if self._numbers(5011) == (_SHA256,):
            for path, digest, flags in zip(self.paths(), self._strings(1035), self._flags(), strict=True):
                if digest and not flags & _MAY_DIFFER and not (flags & _CONFIG and not path.startswith("/etc/")):
                    yield path, digest

    def rights(self) -> Iterator[tuple[str, Rights]]:
        """From RPMTAG_FILEMODES, RPMTAG_FILEUSERNAME, RPMTAG_FILEGROUPNAME and RPMTAG_FILECAPS: "cap_net_raw=ep"."""
        paths, modes = list(self.paths()), self._numbers(1030, "H")
        capabilities = self._strings(5010) or [""] * len(paths)
        rows = (paths, modes, self._strings(1039), self._strings(1040), capabilities, self._flags())
        for path, mode, user, group, given, flags in zip(*rows, strict=True):
            if not flags & _MAY_DIFFER:
                names = frozenset(re.findall(r"cap_\w+", given))
                yield path, Rights(mode=mode & 0o7777, user=user, group=group, capabilities=names)

    def _flags(self) -> list[int]:
        """RPMTAG_FILEFLAGS; what RPMTAG_FILESTATES says is not installed counts as missing."""
        flags = self._numbers(1037)
        states = self._numbers(1029, "B") or (0,) * len(flags)
        return [flag | (_MISSING_OK if state else 0) for flag, state in zip(flags, states, strict=True)]

    def _numbers(self, tag: int, form: str = "I") -> tuple[int, ...]:
        at, count = self._entries.get(tag, (0, 0))
        return struct.unpack_from(f">{count}{form}", self._data, at)

    def _strings(self, tag: int) -> list[str]:
        at, count = self._entries.get(tag, (0, 0))
        *texts, _ = self._data[at:].split(b"\0", count)
        if len(texts) != count:
            raise ValueError(f"tag {tag} has {len(texts)} texts, not {count}")
        return [text.decode("utf-8", "surrogateescape") for text in texts]


def _read(files: Mapping[str, bytes], read: Callable[[_Header], T]) -> list[T]:
    """What ``read`` returns for the packages of all databases; `ImageError` for a damaged one."""
    readers = {b"SQLi": _from_sqlite, b"RpmP": _from_ndb}
    values = []
    for name in (f"{folder}/{name}" for folder in _FOLDERS for name in _FILES):
        content, log = files.get(name, b""), files.get(f"{name}{_LOG}", b"")
        try:
            values += [read(_Header(blob)) for blob in readers[content[:4]](content, log)] if content else []
        except (sqlite3.Error, struct.error, LookupError, ValueError, TypeError) as error:
            raise ImageError(f"/{name}: rpm's database is damaged, or of an unknown format ({error!r})") from error
    return values


def _from_sqlite(content: bytes, log: bytes) -> list[bytes]:
    """SQLite reads a log only beside a file."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / _FILES[0]
        file.write_bytes(content)
        file.with_name(f"{file.name}{_LOG}").write_bytes(log)
        with closing(sqlite3.connect(file)) as database:
            return [blob for (blob,) in database.execute("SELECT blob FROM Packages ORDER BY hnum")]


def _from_ndb(content: bytes, _log: bytes) -> Iterator[bytes]:
    """Slots of 16 bytes in the first pages, from the third on: magic, number, and place in blocks of 16 bytes. A blob
    has a head of 16 bytes, the last four of which are its length (rpm, lib/backend/ndb/rpmpkg.c)."""
    pages = struct.unpack_from("<I", content, 12)[0]
    for slot in range(32, pages * 4096, 16):
        magic, number, block, _ = struct.unpack_from("<4sIII", content, slot)
        if magic == b"Slot" and number and block:
            at = block * 16
            (size,) = struct.unpack_from("<I", content, at + 12)
            yield content[at + 16 : at + 16 + size]
