"""What a failed test means: whose doing it was, and what a person wants to see of it."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import Blame, BootproofError, HostError
from harness.machine.by_hand import by_hand
from harness.machine.errors import BootFailed
from harness.machine.machine import Machine
from harness.machine.shared import SharedMachine
from harness.machine.templates import StateFailed
from harness.model.verdict import Finding
from harness.plugin import bundles
from harness.plugin.state import RunState
from harness.verdict import attribution

_EVIDENCE_LINES = 12


def classify(item: pytest.Item, report: pytest.TestReport, error: BaseException, state: RunState) -> None:
    """Note the finding in the run at once, and show its machine in the report."""
    properties = dict(item.user_properties)
    run = state.runs.get(str(properties.get("image", "")))
    if run is None:
        return
    machine = _machine_of(item)
    if isinstance(error, BootFailed):  # which noted its finding when it was raised
        finding = error.finding
    else:
        finding = Finding(
            id=_id(error),
            what=_first_line(error),
            where=str(properties["test"]),
            blame=_blame(error, machine),
            evidence=tuple(str(error).splitlines()[1 : 1 + _EVIDENCE_LINES]),
            cause=_cause(error, item),
        )
        with suppress(HostError):  # a full disk; the test has failed, so its check has
            run.add_finding(finding)
    made = _bundle(item, error, finding, state)
    lines = [f"have it again:      bootproof replay {made}"] if made else []
    lines += _portrait(machine) if machine is not None else []
    if lines:
        report.sections.append(("Bootproof: the machine", "\n".join(lines)))


def _bundle(item: pytest.Item, error: BaseException, finding: Finding, state: RunState) -> Path | None:
    """What it takes to have this failure again elsewhere."""
    image, test = (str(dict(item.user_properties)[name]) for name in ("image", "test"))
    machine, is_boot = _machine_of(item), isinstance(error, BootFailed)
    boot = _boot_of(error, machine)
    if boot is None:
        return None
    if machine and machine.is_on and not is_boot:
        machine.power.keep_evidence()
    return bundles.keep(state, image, finding, boot, test="" if is_boot else test)


def _boot_of(error: BaseException, machine: Machine | None) -> Path | None:
    """The folder of the boot in which it happened."""
    if isinstance(error, BootFailed):
        return Path(error.folder)
    if machine is None:
        return None
    boots = sorted(machine.folder.glob("boot-*"), key=lambda folder: int(folder.name.rpartition("-")[2]))
    return boots[-1] if boots else None


def keep_machine(item: pytest.Item, state: RunState) -> None:
    """For whoever wants to look at the machine in which a test failed."""
    machine = _machine_of(item)
    if machine is not None and machine.is_on:
        state.keep(machine, f"{dict(item.user_properties)['test']} failed")


def hand_over(item: pytest.Item) -> None:
    """The test's machine, and a Host of it, by names that are known in whatever frame the debugger stops."""
    machine = _machine_of(item)
    if machine is not None and machine.is_on:
        vars(builtins).update(machine=machine, guest=machine.guest)


def take_back() -> None:
    """What `hand_over` gave is of no use when its test has ended."""
    for name in ("machine", "guest"):
        vars(builtins).pop(name, None)


def note_console(item: pytest.Item, report: pytest.TestReport) -> None:
    """Where to read what the test's machine said, for one that fails in another repeat."""
    machine = _machine_of(item)
    if machine is not None and machine.is_on:
        report.user_properties.append(("console", str(machine.console.log)))


def _blame(error: BaseException, machine: Machine | None) -> Blame:
    """See `attribution`; the guest is asked only if the error alone does not show what it means."""
    doubt = machine.doubt() if machine is not None else ""
    answers = machine is not None and not doubt and attribution.is_unknown(error) and _answers(machine)
    return attribution.blame_of_exception(error, doubt=doubt, guest_answers=answers)


def _answers(machine: Machine) -> bool:
    try:
        return machine.is_on and machine.run("true", Deadline(20)).status == 0
    except BootproofError:
        return False


def _machine_of(item: pytest.Item) -> Machine | None:
    values = _given(item).values()
    own = next((value for value in values if isinstance(value, Machine)), None)
    shared = next((value for value in values if isinstance(value, SharedMachine)), None)
    return own or (shared.running if shared else None)


def _given(item: pytest.Item) -> dict[str, Any]:
    """What the test's fixtures gave it, as far as they got."""
    return getattr(item, "funcargs", {})


def _portrait(machine: Machine) -> Iterator[str]:
    yield f"logs of all boots:  {machine.folder}"
    yield f"boot it by hand:    {by_hand(machine.artifacts, machine.spec)}"
    if machine.is_on:
        yield "the console ends:"
        yield from (f"    {line}" for line in machine.console.lines[-_EVIDENCE_LINES:])


def _id(error: BaseException) -> str:
    if isinstance(error, StateFailed):
        return "state-failed"
    return "check-failed" if isinstance(error, AssertionError | pytest.fail.Exception) else type(error).__name__


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _cause(error: BaseException, item: pytest.Item) -> str:
    doc = getattr(getattr(item, "function", None), "__doc__", None)
    if isinstance(error, AssertionError) and doc:
        return str(doc).strip().splitlines()[0]
    return ""
