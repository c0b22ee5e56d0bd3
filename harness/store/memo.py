"""Things that are found out once a run, whichever of its processes asks first; a failure is not repeated either."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from harness.core import serialization
from harness.core.errors import BootproofError, Subject
from harness.store.store import lock_folder

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What is remembered of it for the rest of a run."""

    said: str
    subject: Subject
    is_only_unfrozen: bool = False

    @classmethod
    def of(cls, error: BaseException, *, is_only_unfrozen: bool = False) -> Failure:
        said = next(iter(str(error).splitlines()), "") or type(error).__name__
        return cls(said=said, subject=blamed(error), is_only_unfrozen=is_only_unfrozen)


class FailedBefore(BootproofError):
    """``what`` failed before in this run, as ``said``; whose doing it was is ``subject``."""

    def __init__(self, what: str, said: str, subject: Subject) -> None:
        super().__init__(what, said, subject)
        self.what, self.said, self.subject = what, said, subject

    def __str__(self) -> str:
        return f"{self.what} failed, and is not tried again in this run: {self.said}"


def blamed(error: BaseException) -> Subject:
    """Whose doing an error is that a test, or what a test asked for, ended with."""
    if isinstance(error, BootproofError):
        return error.subject
    if isinstance(error, OSError):
        return Subject.HOST
    is_claim = isinstance(error, AssertionError) or type(error).__name__ == "Failed"  # that of pytest.fail()
    return Subject.IMAGE if is_claim else Subject.HARNESS


def once(what: str, file: Path, kind: type[T], make: Callable[[], T]) -> T:
    """The ``kind`` that ``make`` finds out, and ``file`` keeps for who asks next, or waits meanwhile.

    ``file`` lies in a folder of its own, in which there is nothing else when ``make`` begins. Raises what ``make``
    raises, and `FailedBefore` to all others.
    """
    failed = file.with_suffix(".failed")
    descriptor = lock_folder(file.parent, fcntl.LOCK_EX)
    assert descriptor is not None
    try:
        if file.exists():
            return serialization.read(kind, file)
        if failed.exists():
            failure = serialization.read(Failure, failed)
            raise FailedBefore(what, failure.said, failure.subject)
        for left in file.parent.iterdir():  # by one that was killed at it
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            value = make()
        except Exception as error:
            serialization.write(failed, Failure.of(error))
            raise
        serialization.write(file, value)
        return value
    finally:
        os.close(descriptor)
