"""The files of the image hold together: told before any boot, and without a machine."""

from __future__ import annotations

import pytest

from harness import Artifacts, ImageDefinition, not_applicable
from harness.core.errors import UsageError
from harness.lint import LintFailed, lint
from harness.model.artifacts import load_artifacts
from harness.model.prepared import PreparedImage
from harness.plugin.state import RunState


@pytest.mark.check("lint")
def test_lint_finds_nothing_that_fails(
    bootproof: RunState, image: str, definition: ImageDefinition, artifacts: Artifacts, prepared: PreparedImage
) -> None:
    run = bootproof.runs[image]
    previous = load_artifacts(prepared.old) if prepared.old != prepared.under_test else None
    try:
        report = lint(artifacts, definition, previous=previous)
    except UsageError as error:
        not_applicable(str(error))
    for finding in report.failing:
        run.add_finding(finding.as_verdict_finding())
    if report.warning:
        run.add_note(f"lint has {len(report.warning)} warnings: bootproof lint {artifacts.digest[:12]}")

    if report.failing:
        raise LintFailed(report.failing[0].as_verdict_finding())
