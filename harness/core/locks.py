"""Locks between the processes of one host: flock(2). The only importer of ``fcntl`` for locking.

A lock belongs to an open file, and is released when its last descriptor is closed, however the process ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from harness.core.errors import HostError


def lock(file: int | IO[Any]) -> None:
    """Wait until this process alone holds the lock of this open file."""
    fcntl.flock(file, fcntl.LOCK_EX)


def try_lock(file: int | IO[Any]) -> bool:
    """Lock this open file for us alone, if nobody else has; returns whether it is locked now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path, *, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of the file ``path``, made if missing; ``waiting`` is called once if another process has it."""
    with path.open("ab") as file:
        if not try_lock(file):
            waiting()
            lock(file)
        yield


def is_locked(path: Path) -> bool:
    """Whether a living process has the lock of ``path``; a file that is missing or cannot be opened is not locked."""
    try:
        with path.open("rb") as file:
            return not try_lock(file)
    except OSError:
        return False


def lock_folder(folder: Path, *, is_shared: bool = False, waits: bool = True) -> int | None:
    """A descriptor that locks ``folder`` until it is closed, with others if ``is_shared``.

    None if the folder was removed, also while waiting for the lock, or if another process has it and this one does not
    wait. Raises `HostError` where the file system has no locks.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    operation = (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | (0 if waits else fcntl.LOCK_NB)
    try:
        fcntl.flock(descriptor, operation)
        if os.path.samestat(os.fstat(descriptor), folder.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        os.close(descriptor)
        raise HostError(f"{folder} cannot be locked: {error.strerror}; run bootproof doctor") from error
    os.close(descriptor)
    return None
