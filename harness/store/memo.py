"""Values that are made once in a run, by the first of its processes that asks; a failure is not repeated either."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from harness.core import serialization
from harness.core.errors import Blame, BootproofError, blame_of
from harness.core.locks import lock_folder
from harness.model.verdict import Finding

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedFailure:
    """A failure that is remembered for the rest of a run: the first line of its error, its blame, and its finding if
    the error has one, as that of a failed boot has."""

    said: str
    blame: Blame
    is_only_unfrozen: bool = False
    finding: Finding | None = None

    @classmethod
    def of(cls, error: BaseException, *, is_only_unfrozen: bool = False) -> RememberedFailure:
        said = next(iter(str(error).splitlines()), "") or type(error).__name__
        finding = getattr(error, "finding", None)
        return cls(said=said, blame=blame_of(error), is_only_unfrozen=is_only_unfrozen, finding=finding)


class FailedBefore(BootproofError):
    """``what`` failed before in this run, with the message ``said``; ``blame`` and ``finding`` are those of the first
    failure."""

    def __init__(self, what: str, said: str, blame: Blame, finding: Finding | None = None) -> None:
        super().__init__(what, said, blame, finding)
        self.what, self.said, self.blame, self.finding = what, said, blame, finding

    def __str__(self) -> str:
        return f"{self.what} failed earlier in this run and is not tried again: {self.said}"


def once(what: str, file: Path, kind: type[T], make: Callable[[], T]) -> T:
    """The value of type ``kind`` in ``file`` or, if there is none, from ``make``; other processes wait meanwhile.

    ``file`` has a folder of its own, which is empty when ``make`` begins. The first process gets
    an error of ``make`` itself, all others get `FailedBefore`.
    """
    failed = file.with_suffix(".failed")
    descriptor = lock_folder(file.parent)
    assert descriptor is not None
    try:
        if file.exists():
            return serialization.read(kind, file)
        if failed.exists():
            failure = serialization.read(RememberedFailure, failed)
            raise FailedBefore(what, failure.said, failure.blame, failure.finding)
        for left in file.parent.iterdir():  # of a process that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            value = make()
        except Exception as error:
            serialization.write(failed, RememberedFailure.of(error))
            raise
        serialization.write(file, value)
        return value
    finally:
        os.close(descriptor)
