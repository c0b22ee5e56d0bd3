"""The host that came up is fit for its work: what listens, runs, is set, mounted and logged on a ready machine."""

from __future__ import annotations

import pytest

from harness import ImageDefinition, Machine
from harness.examine import HostFaulty, examine
from harness.lab.dnsmasq import DOMAIN
from harness.model.machine_spec import Network
from harness.model.prepared import PreparedImage
from harness.runs.folder import Run


@pytest.mark.check("host")
def test_the_running_host_is_fit(
    shared_machine: Machine, definition: ImageDefinition, prepared: PreparedImage, run: Run
) -> None:
    has_names = prepared.network is not Network.USER and not prepared.network_faults
    report = examine(shared_machine.channel, definition, resolves=f"lab.{DOMAIN}" if has_names else "")
    for sentence in report.unchecked:
        run.add_unchecked(f"host: {sentence}")
    for finding in report.failing:
        run.add_finding(finding.as_verdict_finding(shared_machine.spec.name))
    for finding in report.warning:
        run.add_note(f"host: {finding.path}: {finding.what} [{finding.id}]")

    if report.failing:
        raise HostFaulty(report.failing[0].as_verdict_finding(shared_machine.spec.name))
