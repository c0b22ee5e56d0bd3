"""The record of a template in the store, and its removal."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.locks import lock_folder
from harness.model.machine_spec import MachineSpec
from harness.model.verdict import BootResult
from harness.store.store import Store, modified_ns

RECORD = "template.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Size and time of a file, which show whether it changed."""

    size_bytes: int
    modified_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A frozen machine in ``folder``, made by the run in the folder ``run`` after these ``boots``.

    ``facts`` are answers of its guest that no test changes, ``notes`` what its state noted for tests; ``offers`` are
    the artifacts in its GRUB menu, if GRUB booted it. ``files`` are stamps of its files when it was made.
    """

    folder: Path
    image: str
    version: str
    boot_id: str
    state: str
    spec: MachineSpec
    artifacts: Path
    run: Path
    is_serial: bool
    boots: tuple[BootResult, ...]
    facts: dict[str, tuple[int, str]]
    files: dict[str, Stamp]
    offers: tuple[Path, ...] = ()
    notes: dict[str, dict[str, str]] = field(default_factory=dict)

    def alteration(self) -> str:
        """A sentence if one of its files was altered or removed since it was made; empty if none was."""
        for name, made in self.files.items():
            try:
                now = stamp(self.folder / name)
            except FileNotFoundError:
                return f"{self.folder / name} was removed"
            if now != made:
                return f"{self.folder / name} was altered"
        return ""


def discard(store: Store, folder: Path) -> bool:
    """Remove a template unless it is in use; True if it no longer exists."""
    descriptor = lock_folder(folder, waits=False)
    if descriptor is not None:
        with suppress(OSError), store.workfolder() as work:  # it belongs to another user, or the store is read-only
            folder.rename(work / "template")
        os.close(descriptor)
    return not folder.exists()


def evict(store: Store, most_bytes: int) -> None:
    """Remove templates not in use, the least recently used first, until the rest fits into ``most_bytes``."""
    folders = sorted(store.folder("templates").iterdir(), key=modified_ns)
    sizes = {folder: size_bytes(folder) for folder in folders}
    left = sum(sizes.values())
    for folder in folders:
        if left > most_bytes and discard(store, folder):
            left -= sizes[folder]


def size_bytes(folder: Path) -> int:
    """The disk space that a template takes."""
    with suppress(OSError):  # another process removed it meanwhile
        return sum(file.stat().st_blocks * 512 for file in folder.iterdir())  # stat(2): units of 512 bytes
    return 0


def stamp(file: Path) -> Stamp:
    seen = file.stat()
    return Stamp(size_bytes=seen.st_size, modified_ns=seen.st_mtime_ns)
