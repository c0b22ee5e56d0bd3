"""What the store knows of a frozen machine: its record, and how it is removed."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.core.locks import lock_folder
from harness.model.machine_spec import MachineSpec
from harness.model.verdict import BootResult
from harness.store.store import Store, modified_ns

RECORD = "template.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """By which a change of a file is seen."""

    size_bytes: int
    modified_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A frozen machine as it is kept in ``folder``, made by the run of that folder after these ``boots``.

    ``facts`` are answers of its guest that no test changes; ``offers`` are the artifacts on its boot disk, if GRUB
    started it.
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

    def alteration(self) -> str:
        """What became of its files since it was made; empty if nothing did."""
        for name, made in self.files.items():
            try:
                now = stamp(self.folder / name)
            except FileNotFoundError:
                return f"{self.folder / name} is gone"
            if now != made:
                return f"{self.folder / name} was altered"
        return ""


def discard(store: Store, folder: Path) -> bool:
    """Remove a template that nobody uses; whether it is gone."""
    descriptor = lock_folder(folder, waits=False)
    if descriptor is not None:
        with suppress(OSError), store.workfolder() as work:  # another user's, or a store that is only read
            folder.rename(work / "template")
        os.close(descriptor)
    return not folder.exists()


def evict(store: Store, most_bytes: int) -> None:
    """Remove templates that nobody uses, the least recently used first, until the rest takes ``most_bytes``."""
    folders = sorted(store.folder("templates").iterdir(), key=modified_ns)
    sizes = {folder: size_bytes(folder) for folder in folders}
    left = sum(sizes.values())
    for folder in folders:
        if left > most_bytes and discard(store, folder):
            left -= sizes[folder]


def size_bytes(folder: Path) -> int:
    """What a template takes on disk."""
    with suppress(OSError):  # another was quicker
        return sum(file.stat().st_blocks * 512 for file in folder.iterdir())  # stat(2): units of 512 bytes
    return 0


def stamp(file: Path) -> Stamp:
    seen = file.stat()
    return Stamp(size_bytes=seen.st_size, modified_ns=seen.st_mtime_ns)
