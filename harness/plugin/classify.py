"""What a failed test means: who is to blame, and what a person is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import Blame, BootproofError, HostError, ImageError, is_claim
from harness.guest.channel import Completed
from harness.machine.errors import BootFailed, by_hand
from harness.machine.machine import Machine
from harness.machine.shared import SharedMachine
from harness.machine.template_store import StateFailed
from harness.model.verdict import Finding
from harness.plugin import bundles
from harness.plugin.collect import CONSOLE_PROPERTY, IMAGE_PROPERTY, TEST_PROPERTY
from harness.plugin.state import RunState
from harness.verdict import attribution

_EVIDENCE_LINES = 12


class MachineInUse(Protocol):
    """What the blame of a failed test depends on."""

    @property
    def is_on(self) -> bool: ...

    def doubt(self, error: BaseException | None = None) -> str: ...

    def run(self, command: str, deadline: Deadline) -> Completed: ...


def classify(item: pytest.Item, report: pytest.TestReport, error: BaseException, state: RunState) -> None:
    """Record the finding in the run at once, write its bundle, and add both to pytest's report."""
    properties = dict(item.user_properties)
    run = state.runs.get(str(properties.get(IMAGE_PROPERTY, "")))
    if run is None:
        return
    machine = machine_of(item)
    if isinstance(error, BootFailed):  # its finding was recorded when it was raised
        finding = error.finding
    else:
        mark = item.get_closest_marker("cause")
        cause = str(mark.args[0]) if mark and mark.args and _is_about_image(error) else ""
        finding = finding_of(error, str(properties[TEST_PROPERTY]), machine, cause)
        with suppress(HostError):  # a full disk; the test has failed, so its check has
            run.add_finding(finding)
    bundle = _bundle(item, error, finding, machine, state)
    lines = [f"reproduce:          bootproof replay {bundle}"] if bundle else []
    lines += _describe(machine) if machine is not None else []
    if lines:
        report.sections.append(("Bootproof: the machine", "\n".join(lines)))


def finding_of(error: BaseException, test: str, machine: MachineInUse | None, cause: str = "") -> Finding:
    """The finding about a ``test`` that raised ``error``; ``machine`` is the one that it used, if any."""
    lines = str(error).splitlines()
    name = "state-failed" if isinstance(error, StateFailed) else "check-failed" if _is_about_image(error) else ""
    return Finding(
        id=name or type(error).__name__,
        what=(lines or [""])[0] or type(error).__name__,
        where=test,
        blame=blame_of(error, machine),
        evidence=tuple(lines[1 : 1 + _EVIDENCE_LINES]),
        cause=cause,
    )


def blame_of(error: BaseException, machine: MachineInUse | None) -> Blame:
    """Who is to blame for a test that raised ``error`` while it used ``machine``: see `attribution`.

    The guest is asked only if the error alone does not show what it means.
    """
    doubt = machine.doubt(error) if machine is not None else ""
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
    """The bundle of the boot that failed, or of the test and the last boot of its machine."""
    image, test = (str(dict(item.user_properties)[name]) for name in (IMAGE_PROPERTY, TEST_PROPERTY))
    if isinstance(error, BootFailed):
        return bundles.keep(state, image, finding, Path(error.folder))
    if machine is None or not (boots := list(machine.folder.glob("boot-*"))):
        return None
    if machine.is_on:
        machine.running_boot.keep_evidence()
    last = max(boots, key=lambda folder: int(folder.name.rpartition("-")[2]))
    return bundles.keep(state, image, finding, last, test)


def keep_machine(item: pytest.Item, state: RunState) -> None:
    """With ``--keep-failed``, keep the machine in which a test failed for somebody to look at."""
    machine = machine_of(item)
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
    shared = next((value for value in given.values() if isinstance(value, SharedMachine)), None)
    return own or (shared.running if shared else None)


def _describe(machine: Machine) -> Iterator[str]:
    yield f"logs of all boots:  {machine.folder}"
    yield f"boot it by hand:    {by_hand(machine.artifacts, machine.spec)}"
    if machine.is_on:
        yield "the console ends:"
        yield from (f"    {line}" for line in machine.console.lines[-_EVIDENCE_LINES:])
