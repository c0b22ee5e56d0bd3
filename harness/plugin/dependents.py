"""Tests that failed, or did not run, because of something else: a boot, a state, the host (DESIGN decision 15).

A worker marks their reports. In the controller the first report of each cause stays a failure, with the whole message;
the others become skipped tests that refer to it. The terminal has a category of its own for them, because the verdict
shows the finding.
"""

from __future__ import annotations

import pytest

from harness.core import serialization
from harness.model.verdict import Finding
from harness.plugin.state import RunState
from harness.verdict.causes import cause_of

_FINDING = "bootproof_finding"
"""The attribute of a report that has the finding as plain values, which xdist sends to the controller."""

_LAST_FAILED = "cache/lastfailed"
"""The key of pytest's own cache plugin."""

NOT_RUN, LIKEWISE = "not run", "failed likewise"
"""Categories of pytest's terminal: tests that had not begun; tests that failed for the same reason as one before."""


def mark(report: pytest.TestReport, finding: Finding) -> None:
    """Note that the test failed because of ``finding``."""
    setattr(report, _FINDING, serialization.dump(finding))


def has_not_begun(report: pytest.TestReport) -> bool:
    """Whether the test did not run because of something else."""
    return hasattr(report, _FINDING) and report.when == "setup"


def fold(report: pytest.TestReport, image: str, state: RunState) -> None:
    """Make the report of a test whose cause is known already a skipped test."""
    plain = getattr(report, _FINDING, None)
    if plain is None:
        return
    finding = serialization.load(Finding, plain)
    cause = (image, cause_of(finding))
    if cause not in state.causes:
        state.causes.add(cause)
        if report.when == "setup":
            from harness.report import words  # a worker, which does not come here, need not import reports

            report.longrepr = "\n".join([f"{finding.what} [{finding.id}]", *words.details(finding)])
        return
    state.folded.add(report.nodeid)
    path, line = report.location[:2]
    report.outcome = "skipped"
    report.longrepr = (path, line or 0, f"Skipped: {finding.where}: {finding.what} [{finding.id}]")


def keep_last_failed(config: pytest.Config, state: RunState) -> None:
    """Let ``pytest --lf`` repeat the folded tests, too: pytest's cache leaves out skipped ones."""
    cache = getattr(config, "cache", None)  # absent with -p no:cacheprovider
    if cache is not None and state.folded:
        cache.set(_LAST_FAILED, {**cache.get(_LAST_FAILED, {}), **dict.fromkeys(sorted(state.folded), True)})


def status(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """Category, letter and word for pytest's terminal; None for a test that failed by itself.

    At the first test that did not run, the terminal gets a line with the cause, and from then on none for each file;
    under xdist it has no such lines, and the progress of the run has the cause.
    """
    if has_not_begun(report):
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and reporter.showfspath:
            reporter.showfspath = False
            finding = serialization.load(Finding, getattr(report, _FINDING))
            reporter.write_line(f"{finding.where}: {finding.what} [{finding.id}]")
        return NOT_RUN, "n", ("NOT RUN", {"red": True})
    if hasattr(report, _FINDING) and report.skipped:
        return LIKEWISE, "f", ("FAILED LIKEWISE", {"red": True})
    return None
