"""Which files of a host's persistent data refer to a name: what changes there outweighs everything else."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.errors import UsageError

_MOST_BYTES = 256 << 10
"""A configuration is shorter; a disk image or a database is not searched."""
_MOST_FILES = 8
"""That are named for one name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """The files that refer to each name."""

    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to(self, *names: str) -> tuple[str, ...]:
        """The files that refer to one of ``names``."""
        return tuple(dict.fromkeys(file for name in names for file in self.files.get(name, ())))

    def with_those(self, other: References) -> References:
        names = dict.fromkeys((*self.files, *other.files))
        return References(files={name: (*self.to(name), *other.to(name)) for name in names})


def find_references(folder: Path, names: Collection[str]) -> References:
    """The files in ``folder``, a copy of a host's /data, whose text or target has one of ``names`` as a word.

    `UsageError` if it is not a folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; --data names a copy of a host's /data")
    words = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, sorted(names, key=len, reverse=True))) or '(?!)'})(?!\w)")
    found = defaultdict[str, list[str]](list)
    for path, text in _texts(folder):
        for name in sorted(set(words.findall(text))):
            if len(found[name]) < _MOST_FILES:
                found[name].append(path)
    return References(files={name: tuple(files) for name, files in found.items()})


def _texts(folder: Path) -> Iterator[tuple[str, str]]:
    """The path below ``folder`` and the text of each file that has one; of a link, its name and its target. No link is
    followed."""
    for at, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted((Path(at) / name for name in (*files, *folders)), key=str):
            path = str(file.relative_to(folder))
            if file.is_symlink():
                yield path, f"{file.name} {os.readlink(file)}"
            elif file.is_file() and file.stat().st_size <= _MOST_BYTES and b"\0" not in (content := _read(file)):
                yield path, content.decode("utf-8", "replace")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # what this user may not read is not searched
        return b"\0"
