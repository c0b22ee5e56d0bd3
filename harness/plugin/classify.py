"""What a failed test means: who is to blame, and what a person is shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import Any, Protocol

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import Blame, BootproofError, HostError, ImageError, is_claim
from harness.examine.rules import RuleFailed
from harness.guest.channel import Completed
from harness.lint.finding import LintFailed
from harness.machine.errors import BootFailed, by_hand
from harness.machine.machine import Machine
from harness.machine.shared import SharedMachine
from harness.machine.template_store import StateFailed
from harness.model.events import DependentTest
from harness.model.layout import FAILURE
from harness.model.verdict import Finding
from harness.plugin import dependents, other_plugins, tracebacks
from harness.plugin.collect import CONSOLE_PROPERTY, IMAGE_PROPERTY, TEST_PROPERTY
from harness.plugin.state import RunState
from harness.store.memo import FailedBefore
from harness.verdict import attribution
from harness.verdict.causes import STATE_FAILED

_EVIDENCE_LINES = 12
_WHAT_CHARACTERS = 240
_NUMBER = re.compile(r"\b\d+\b")


class MachineInUse(Protocol):
    """What the blame of a failed test depends on."""

    @property
    def is_on(self) -> bool: ...

    def doubt(self, error: BaseException | None = None) -> str: ...

    def run(self, command: str, deadline: Deadline) -> Completed: ...


def classify(
    item: pytest.Item, report: pytest.TestReport, excinfo: pytest.ExceptionInfo[BaseException], state: RunState
) -> None:
    """Record why the test failed in the run at once, write the bundle, and add both to pytest's report.

    A test that failed because of a boot or a state only depends on its finding: see `dependents`.
    """
    properties = dict(item.user_properties)
    error = other_plugins.blamed(excinfo.value)
    run, test = state.runs.get(str(properties.get(IMAGE_PROPERTY, ""))), str(properties.get(TEST_PROPERTY, ""))
    if run is None:
        return
    machine = _awake_machine_of(item)
    finding = cause_of(error, is_setup=report.when == "setup")
    if finding is not None:
        dependents.mark(report, finding)
        with suppress(HostError):  # a full disk; the boot's finding was recorded when it was made
            run.add(DependentTest(test=test, finding=finding))
    else:
        mark = item.get_closest_marker("cause")
        cause = str(mark.args[0]) if mark and mark.args and _is_about_image(error) else ""
        statement = tracebacks.statement_of(excinfo)
        finding = finding_of(error, test, machine, cause, statement)
        if isinstance(error, RuleFailed):
            finding = of_rule(error, finding)
        if statement and (crash := getattr(report.longrepr, "reprcrash", None)):  # of --tb=line and pytest's summary
            crash.message = "\n".join((finding.what, *finding.evidence))
        with suppress(HostError):  # a full disk; the test has failed, so its check has
            run.add_finding(finding)
    bundle = _bundle(item, error, finding, machine, state)
    lines = [f"reproduce:          bootproof replay {bundle}"] if bundle else []
    if machine is not None and machine.folder not in state.described:
        state.described.add(machine.folder)
        lines += _describe(machine, with_console=not is_claim(error))
        report.sections.append(("Bootproof: the machine", "\n".join(lines)))


def cause_of(error: BaseException, *, is_setup: bool) -> Finding | None:
    """The finding about a boot, a state or the host because of which a test failed or did not run; None if the test
    itself failed. ``is_setup``: the test has not begun."""
    if isinstance(error, BootFailed | LintFailed):
        return error.finding
    if isinstance(error, StateFailed):
        return error.finding or _not_reached(error.reason, f"state {error.state}", error.blame)
    if isinstance(error, FailedBefore):
        return error.finding or _not_reached(error.said, error.what, error.blame)
    if is_setup and isinstance(error, BootproofError) and error.blame is not Blame.IMAGE:
        what, *evidence = str(error).splitlines() or [""]
        name, lines = type(error).__name__, tuple(evidence[:_EVIDENCE_LINES])
        return Finding(id=name, what=what or name, where="set-up of tests", blame=error.blame, evidence=lines)
    return None


def _not_reached(reason: str, where: str, blame: Blame) -> Finding:
    return Finding(id=STATE_FAILED, what=reason, where=where, blame=blame)


def finding_of(
    error: BaseException, test: str, machine: MachineInUse | None, cause: str = "", statement: str = ""
) -> Finding:
    """The finding about a ``test`` that raised ``error``, at ``statement`` if it was an assertion.

    ``machine`` is the one that it used, if any; a doubt about it is a better cause than the test's own ``cause``.
    """
    doubt = machine.doubt(error) if machine is not None else ""
    name = "check-failed" if _is_about_image(error) else type(error).__name__
    lines = str(error).splitlines()
    what = claim(statement, lines[0] if lines else "")
    return Finding(
        id=name,
        what=what or type(error).__name__,
        where=test,
        blame=blame_of(error, machine, doubt),
        evidence=tuple(lines[0 if what not in lines[:1] else 1 :][:_EVIDENCE_LINES]),
        cause=doubt or cause,
    )


def of_rule(error: RuleFailed, finding: Finding) -> Finding:
    """``finding``, about the test of a rule, with what the rule says: its id, what is wrong, where the rule is."""
    rule = error.finding
    cause = finding.cause or rule.cause
    return replace(finding, id=rule.id, what=rule.what, evidence=(rule.where, *rule.evidence), cause=cause)


def claim(statement: str, message: str) -> str:
    """What an assertion claimed, and the values that refute it: "assert host.run('x').rc == 0: 1 == 0".

    ``message`` is the first line of the exception. pytest writes "assert" and the values there, below the message that
    the author of the test gave; such a message says more than the statement.
    """
    if not statement or (message and not message.startswith("assert ")):
        return message
    values = message.removeprefix("assert ")
    if "0o" in statement:
        values = _NUMBER.sub(lambda number: oct(int(number[0])), values)
    text = statement if not values or values in statement else f"{statement}: {values}"
    return shorten(text, _WHAT_CHARACTERS, placeholder=" …")


def blame_of(error: BaseException, machine: MachineInUse | None, doubt: str) -> Blame:
    """Who is to blame for a test that raised ``error`` while it used ``machine``: see `attribution`.

    ``doubt`` says why the machine may not show what the image does, empty if it does. The guest is asked only if the
    error alone does not show what it means.
    """
    answers = machine is not None and not doubt and attribution.is_unknown(error) and _answers(machine)
    return attribution.blame_of_exception(error, doubt=doubt, guest_answers=answers)


def _answers(machine: MachineInUse) -> bool:
    try:
        return machine.is_on and machine.run("true", Deadline(20)).status == 0
    except BootproofError:
        return False


def _is_about_image(error: BaseException) -> bool:
    """A failed assertion, or a verb of a machine that did not succeed, such as ``check`` or ``wait_for_unit``."""
    return isinstance(error, ImageError) or is_claim(error)


def _bundle(
    item: pytest.Item, error: BaseException, finding: Finding, machine: Machine | None, state: RunState
) -> Path | None:
    """The bundle of the boot that failed, or of the test and the last boot of its machine.

    All tests that fail in one shared machine have one bundle, which is written when the run ends.
    """
    from harness.plugin import bundles  # long to import, and only a failure needs it

    image, test = (str(dict(item.user_properties)[name]) for name in (IMAGE_PROPERTY, TEST_PROPERTY))
    if isinstance(error, BootFailed):
        return bundles.keep(state, image, finding, Path(error.folder))
    if machine is None or not (boots := list(machine.folder.glob("boot-*"))):
        return None
    last = max(boots, key=lambda folder: int(folder.name.rpartition("-")[2]))
    shared = state.shared.get(image)
    if shared is not None and machine is shared.running:
        if not (last / FAILURE).exists() and machine.is_on:
            machine.running_boot.keep_evidence()
        return bundles.note_test(state, image, finding, last, test)
    if machine.is_on:
        machine.running_boot.keep_evidence()
    return bundles.keep(state, image, finding, last, test)


def keep_machine(item: pytest.Item, state: RunState) -> None:
    """With ``--keep-failed``, keep the machine in which a test failed for somebody to look at."""
    machine = _awake_machine_of(item)
    if machine is not None and machine.is_on:
        state.keep(machine, f"{dict(item.user_properties)[TEST_PROPERTY]} failed")


def note_console(item: pytest.Item, report: pytest.TestReport) -> None:
    """Where the console of the test's machine is, to compare with that of another repeat."""
    machine = machine_of(item)
    if machine is not None and machine.is_on:
        report.user_properties.append((CONSOLE_PROPERTY, str(machine.console.log)))


def machine_of(item: pytest.Item) -> Machine | None:
    """The test's own machine, else the one it shares; fixtures that failed gave it none."""
    given: Mapping[str, Any] = getattr(item, "funcargs", {})
    own = next((value for value in given.values() if isinstance(value, Machine)), None)
    shared = _shared_of(item)
    return own or (shared.running if shared else None)


def _shared_of(item: pytest.Item) -> SharedMachine | None:
    given: Mapping[str, Any] = getattr(item, "funcargs", {})
    return next((value for value in given.values() if isinstance(value, SharedMachine)), None)


def _awake_machine_of(item: pytest.Item) -> Machine | None:
    """As `machine_of`; a shared machine that the test left paused continues, because it will be asked."""
    if shared := _shared_of(item):
        shared.resume()
    return machine_of(item)


def _describe(machine: Machine, *, with_console: bool) -> Iterator[str]:
    yield f"logs of all boots:  {machine.folder}"
    yield f"boot it by hand:    {by_hand(machine.artifacts, machine.spec)}"
    if machine.is_on and with_console:
        yield "the console ends:"
        yield from (f"    {line}" for line in machine.console.lines[-_EVIDENCE_LINES:])
