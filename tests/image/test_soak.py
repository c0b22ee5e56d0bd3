"""The host stays fit: left alone, in use, and through 30 days by its clock."""

from __future__ import annotations

import pytest

from harness import ImageDefinition, Machine
from harness.examine import HostFaulty
from harness.examine.soak import soak
from harness.plugin.state import RunState
from harness.runs.folder import Run


@pytest.mark.thorough
@pytest.mark.check("soak")
def test_the_host_stays_fit(machine: Machine, definition: ImageDefinition, bootproof: RunState, run: Run) -> None:
    report = soak(machine, definition, bootproof.options.soak_minutes, run.add_note)
    for sentence in report.unchecked:
        run.add_unchecked(f"soak: {sentence}")
    for finding in report.failing:
        run.add_finding(finding.as_verdict_finding(machine.spec.name))
    for finding in report.warning:
        run.add_note(f"soak: {finding.path}: {finding.what} [{finding.id}]")

    if report.failing:
        raise HostFaulty(report.failing[0].as_verdict_finding(machine.spec.name))
