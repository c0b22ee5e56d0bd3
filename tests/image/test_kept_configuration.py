"""This version still understands the configuration that the version before left in persistent paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import Lab, Versions, not_applicable
from harness.machine.states import PREVIOUS
from harness.machine.templates import Templates
from harness.persistence.kept_configuration import (
    ConfigurationStale,
    KeptConfiguration,
    read_kept_configuration,
    stale_finding,
)
from harness.runs.folder import Run

pytestmark = [pytest.mark.thorough, pytest.mark.check("upgrades")]


@pytest.mark.boots(1)
def test_the_configuration_that_the_version_before_kept_is_understood(
    templates: Templates, versions: Versions, lab: Lab, folder: Path, run: Run
) -> None:
    if versions.under_test == versions.old:
        not_applicable("the run has no version before: --previous names one")

    def kept(state: str) -> KeptConfiguration:
        with templates.machine(state, f"{folder.name}-{state}", lab=lab, folder=folder / state) as machine:
            return read_kept_configuration(machine)

    before, after = kept(PREVIOUS), kept("upgraded")
    for reason in after.unchecked:
        run.add_unchecked(f"kept configuration: {reason}")
    if stale := after.stale(before):
        old, new = versions.old.manifest.version, versions.under_test.manifest.version
        finding = stale_finding(stale, old, new, f"an upgrade from {old}")
        run.add_finding(finding)
        raise ConfigurationStale(finding)
