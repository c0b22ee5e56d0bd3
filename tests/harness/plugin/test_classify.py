"""What a failed test means: the blame by the exception and by what its machine still does."""

from __future__ import annotations

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import Blame, HarnessError, HostError, ImageError
from harness.examine.rules import RuleFailed
from harness.guest.channel import Completed
from harness.guest.waiting import WaitFailed
from harness.machine.errors import BootFailed
from harness.machine.template_store import StateFailed
from harness.model.verdict import Finding
from harness.plugin.classify import cause_of, claim, finding_of, of_rule
from harness.store.memo import FailedBefore


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
    assert finding_of(error, "t::one", machine).blame is blame


def test_a_rule_that_is_broken_is_a_finding_about_its_test_that_names_the_rule() -> None:
    rule = Finding(id="rule-broken", what="utc: no", where="image.toml: check: utc", evidence=("CET",), cause="a zone")
    error = RuleFailed(rule)

    good, doubted = (
        of_rule(error, finding_of(error, "test_own_checks.py::test_it[base-utc]", machine))
        for machine in (None, Machine(doubt="the emulator hit int3"))
    )

    assert (good.id, good.what, good.cause, good.blame) == ("rule-broken", "utc: no", "a zone", Blame.IMAGE)
    assert (good.where, good.evidence) == (
        "test_own_checks.py::test_it[base-utc]", ("image.toml: check: utc", "CET")
    )  # fmt: skip
    assert (doubted.cause, doubted.blame) == ("the emulator hit int3", Blame.HOST)
    assert str(error).splitlines()[-1].strip() == "suspected cause: a zone"


def test_a_doubt_about_the_machine_is_the_cause() -> None:
    found = finding_of(_failure(), "t::one", Machine(doubt="the host starved this machine"), "a race")

    assert (found.blame, found.cause) == (Blame.HOST, "the host starved this machine")


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (AssertionError("no"), "check-failed"),
        (_failure(), "check-failed"),
        (ImageError("'mount -a' ended with status 32"), "check-failed"),
        (WaitFailed("machine", "the start of x.service", 120, "inactive", (), "look"), "check-failed"),
        (HostError("the disk is full"), "HostError"),
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


@pytest.mark.parametrize(
    ("statement", "message", "what"),
    [
        ("assert host.run('x').rc == 0", "assert 1 == 0", "assert host.run('x').rc == 0: 1 == 0"),
        ("assert f.mode == 0o600", "assert 420 == 384", "assert f.mode == 0o600: 0o644 == 0o600"),
        ("assert f.mode == 0o600", "the mode of f", "the mode of f"),
        ("assert False", "assert False", "assert False"),
        ("assert plain", "", "assert plain"),
        ("", "Failed: by hand", "Failed: by hand"),
        (f"assert {'x' * 150} == {'y' * 150}", "assert 1 == 2", f"assert {'x' * 150} == …"),
    ],
)
def test_a_claim_is_the_statement_in_the_test_and_the_values(statement: str, message: str, what: str) -> None:
    assert claim(statement, message) == what


def test_a_finding_with_the_statement_quotes_the_whole_message() -> None:
    found = finding_of(AssertionError("assert 1 == 0\n +  where 1 = x.rc"), "t::one", None, "", "assert x.rc == 0")

    assert (found.what, found.evidence) == ("assert x.rc == 0: 1 == 0", ("assert 1 == 0", " +  where 1 = x.rc"))


BOOT = Finding(id="boot-hangs", what="it hangs", where="m, boot 1 (direct)")
NO_ROOM = Finding(id="HostError", what="no", where="set-up of tests", blame=Blame.HOST, evidence=("room",))
NOT_REACHED = Finding(id="state-failed", what="mkfs failed", where="state upgraded")


@pytest.mark.parametrize(
    ("error", "is_setup", "cause"),
    [
        (BootFailed("m", BOOT, "folder", "by hand"), False, BOOT),
        (StateFailed("upgraded", "m: it hangs", Blame.IMAGE, BOOT), True, BOOT),
        (StateFailed("upgraded", "mkfs failed", Blame.IMAGE), True, NOT_REACHED),
        (FailedBefore("state upgraded", "mkfs failed", Blame.IMAGE), False, NOT_REACHED),
        (HostError("no\nroom"), True, NO_ROOM),
        (HostError("no room"), False, None),
        (ImageError("mkfs failed"), True, None),
        (AssertionError("no"), True, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)  # fmt: skip
def test_a_test_depends_on_what_failed_before_it(error: BaseException, is_setup: bool, cause: Finding | None) -> None:
    assert cause_of(error, is_setup=is_setup) == cause
