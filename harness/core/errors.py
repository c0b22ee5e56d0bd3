"""What can go wrong, as a tree by who must act.

    BootproofError
    ├── UsageError      the person at the keyboard: an option, a definition     exit 4
    ├── ImageError      the image: it did not build, boot or behave             exit 1
    ├── HostError       this machine: a program, disk space, the network        exit 75
    └── HarnessError    Bootproof itself                                        exit 75

The exit statuses are pytest's (4 is its usage error) and sysexits.h's EX_TEMPFAIL (75): an outcome that
says nothing about the image. Every error pickles, because xdist sends it between processes.
"""

from __future__ import annotations

from enum import StrEnum


class Blame(StrEnum):
    """Whose doing something is; decides between *failed* and *inconclusive*."""

    IMAGE = "image"
    HOST = "host"
    HARNESS = "harness"


class BootproofError(Exception):
    """Anything Bootproof says in one sentence instead of a traceback."""

    exit_status = 75
    blame = Blame.HARNESS


class UsageError(BootproofError):
    """An option or a definition is wrong; the sentence names it and what would be right."""

    exit_status = 4


class DefinitionError(UsageError):
    """``file``: ``key`` is wrong because of ``problem``; ``remedy`` says what would be right."""

    def __init__(self, file: str, key: str, problem: str, remedy: str) -> None:
        super().__init__(file, key, problem, remedy)
        self.file, self.key, self.problem, self.remedy = file, key, problem, remedy

    def __str__(self) -> str:
        return f"{self.file}: {self.key}: {self.problem}; {self.remedy}"


class SpecError(UsageError):
    """A machine or lab that cannot exist was asked for."""


class ImageError(BootproofError):
    """The image is at fault."""

    exit_status = 1
    blame = Blame.IMAGE


class HostError(BootproofError):
    """This machine lacks something, or failed at something, that says nothing about the image."""

    blame = Blame.HOST


class HarnessError(BootproofError):
    """Bootproof broke a promise of its own."""


def blame_of(error: BaseException) -> Blame:
    """Whose doing an error is: a failed assertion is about the image, an `OSError` about the host."""
    if isinstance(error, BootproofError):
        return error.blame
    if is_claim(error):
        return Blame.IMAGE
    return Blame.HOST if isinstance(error, OSError) else Blame.HARNESS


def is_claim(error: BaseException) -> bool:
    """Whether ``error`` is a failed assertion, or what ``pytest.fail()`` raises: pytest is not imported here."""
    return isinstance(error, AssertionError) or type(error).__name__ == "Failed"
