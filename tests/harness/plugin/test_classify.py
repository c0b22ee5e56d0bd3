"""What a failed test means: the blame by the exception and by what its machine still does."""

from __future__ import annotations

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import Blame, HarnessError, HostError, ImageError
from harness.guest.channel import Completed
from harness.guest.waiting import WaitFailed
from harness.machine.template_store import StateFailed
from harness.plugin.classify import blame_of, finding_of


class Machine:
    """A machine as far as blame depends on it: ``status`` is that of every command, an error to raise, or None."""

    def __init__(self, *, is_on: bool = True, doubt: str = "", status: int | HostError = 0) -> None:
        self.is_on, self._doubt, self._status = is_on, doubt, status

    def doubt(self, error: BaseException | None = None) -> str:  # noqa: ARG002  # as a Machine's
        return self._doubt

    def run(self, command: str, _: Deadline) -> Completed:
        if isinstance(self._status, HostError):
            raise self._status
        return Completed(command=command, status=self._status, stdout=b"", stderr=b"")


def _failure() -> BaseException:
    try:
        pytest.fail("by hand")
    except pytest.fail.Exception as failure:
        return failure


@pytest.mark.parametrize(
    ("error", "machine", "blame"),
    [
        (AssertionError("no"), None, Blame.IMAGE),
        (_failure(), None, Blame.IMAGE),
        (AssertionError("no"), Machine(doubt="the emulator hit int3"), Blame.HOST),
        (AssertionError("no"), Machine(doubt="rootfs.squashfs was altered"), Blame.HOST),
        (ImageError("a unit failed"), Machine(is_on=False), Blame.IMAGE),
        (HostError("the disk is full"), Machine(), Blame.HOST),
        (HarnessError("a bug"), Machine(), Blame.HARNESS),
        (ImageError("a unit failed"), Machine(doubt="the template was altered"), Blame.HOST),
        (ValueError("no number"), Machine(), Blame.IMAGE),
        (ValueError("no number"), Machine(status=1), Blame.HARNESS),
        (ValueError("no number"), Machine(status=HostError("no answer")), Blame.HARNESS),
        (ValueError("no number"), Machine(is_on=False), Blame.HARNESS),
        (ValueError("no number"), None, Blame.HARNESS),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_blame_depends_on_the_error_and_on_what_the_machine_still_does(
    error: BaseException, machine: Machine | None, blame: Blame
) -> None:
    assert blame_of(error, machine) is blame


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (AssertionError("no"), "check-failed"),
        (_failure(), "check-failed"),
        (ImageError("'mount -a' ended with status 32"), "check-failed"),
        (WaitFailed("machine", "the start of x.service", 120, "inactive", (), "look"), "check-failed"),
        (HostError("the disk is full"), "HostError"),
        (StateFailed("upgraded", "the first boot failed", Blame.IMAGE), "state-failed"),
        (KeyError("x"), "KeyError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value,
)
def test_a_finding_is_named_after_its_kind_of_error(error: BaseException, name: str) -> None:
    assert finding_of(error, "t::one", None).id == name


def test_a_finding_quotes_the_error_from_its_first_line_on() -> None:
    found = finding_of(AssertionError("\n".join(f"line {n}" for n in range(30))), "t::one", None, "a race")

    assert (found.what, found.where, found.cause) == ("line 0", "t::one", "a race")
    assert found.evidence == tuple(f"line {n}" for n in range(1, 13))
    assert finding_of(AssertionError(), "t::one", None).what == "AssertionError"
