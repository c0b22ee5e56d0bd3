"""The contents of a file system after a power cut: replayed, checked and read on the host, without root."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.core import process
from harness.core.debugfs import CORRECTED, debugfs
from harness.core.errors import HostError

_FORCED = "check forced"
"""Printed by e2fsck -p when it checked everything, as -fn would."""


@dataclass(frozen=True, slots=True)
class DiskContents:
    """``problem`` is what e2fsck finds wrong after the replay of the journal; ``files`` maps each path to a digest.

    A folder's digest is ``folder``; a link's begins with ``-> ``. ``load`` is the content of the write load's file.
    """

    problem: str
    files: dict[str, str]
    load: bytes = b""


def read_disk(state: Path, scratch: Path, load: str = "") -> DiskContents:
    """Replay, check and read the ext4 in ``state``, which this changes. ``scratch`` is a folder to be created.

    ``load`` is the path of the write load's file.
    """
    e2fsck = process.require("e2fsck", "e2fsprogs")
    status, text = _answer([e2fsck, "-p", str(state)])
    if status > CORRECTED:
        return DiskContents(f"e2fsck -p: {_sentence(text, state)}", {})
    if _FORCED not in text:
        status, text = _answer([e2fsck, "-fn", str(state)])
        if status:
            return DiskContents(f"e2fsck -fn: {_sentence(text, state)}", {})
    scratch.mkdir()
    try:
        _dump(state, scratch)
        if os.geteuid():
            _make_readable(scratch)
        files = dict(_walk(scratch))
        kept = Path(f"{scratch}{load}").read_bytes() if files.pop(load, None) else b""
        return DiskContents("", files, kept)
    finally:
        shutil.rmtree(scratch)


def _answer(argv: list[str]) -> tuple[int, str]:
    status, text = process.answer(argv)
    _check_room(text)
    return status, text


def _dump(state: Path, scratch: Path) -> None:
    """Copy all files to ``scratch``; only root can preserve their owners."""
    try:
        debugfs(state, f'rdump / "{scratch}"', ignored=".* while changing ownership of .*")
    except process.CommandFailed as error:
        _check_room(error.tail)
        raise


def _check_room(text: str) -> None:
    if os.strerror(errno.ENOSPC) in text:
        raise HostError(f"the host has no room to lay out crash states: {text.strip().splitlines()[-1]}")


def _make_readable(folder: Path) -> None:
    """debugfs restores the modes of files, which may keep users other than root from reading or removing them."""
    folder.chmod(0o700)
    for at, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(at, name)
            if not path.is_symlink():
                path.chmod(0o700)


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    stack = [""]
    while stack:
        inside = stack.pop()
        with os.scandir(f"{folder}{inside}") as entries:
            for entry in entries:
                path = f"{inside}/{entry.name}"
                if entry.is_symlink():
                    yield path, f"-> {os.readlink(entry.path)}"
                elif entry.is_dir():
                    yield path, "folder"
                    stack.append(path)
                else:
                    yield path, _digest(entry.path)


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.blake2b(file.read(), digest_size=8).hexdigest()


def _sentence(text: str, state: Path) -> str:
    """The first complaint of e2fsck, without the names of our files."""
    lines = (line.replace(str(state), "").strip(": ") for line in text.splitlines())
    noise = ("e2fsck ", "/", "Pass ")
    return next((line for line in lines if line and not line.startswith(noise)), "it cannot be read")
