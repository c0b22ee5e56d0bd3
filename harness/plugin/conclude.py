"""The controller's part at the end: verdicts, bundles, history, report, terminal summary and exit status."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from harness.core import serialization
from harness.core.errors import BootproofError, HarnessError, HostError, MissingExtra
from harness.model.artifacts import load_artifacts
from harness.model.verdict import Outcome, Verdict
from harness.plugin import bundles, shards
from harness.plugin.collect import TEST_PROPERTY
from harness.plugin.dependents import LIKEWISE
from harness.plugin.state import RunState
from harness.promotion import attest
from harness.promotion.select import select_promoted
from harness.report import annotate, write_all
from harness.report.terminal import Shown, format_verdict
from harness.runs import history
from harness.runs.folder import unwritable
from harness.store.store import find_store
from harness.verdict.assemble import Scope, conclude

_COMPARED = "stable"
"""The stream whose verdict the report compares a run with."""


def conclude_all(state: RunState, exit_status: int) -> int:
    """Write every verdict; the exit status of the worst, unless pytest's own is worse."""
    state.verdicts.clear()
    for name in state.runs:
        try:
            state.verdicts.append(_conclude(state, name))
        except BootproofError as error:
            state.problems.append(str(error))
    if state.problems:
        return HostError.exit_status
    outcomes = [verdict.outcome for verdict in state.verdicts]
    is_pooled = state.options.plan is not None and not state.options.shard_is_strict
    return final_status(outcomes, exit_status, is_interrupted=state.is_interrupted, is_pooled=is_pooled)


def _conclude(state: RunState, image: str) -> Verdict:
    run, prepared, options = state.runs[image], state.prepared.get(image), state.options
    scope = Scope(
        definition=options.definitions[image],
        boot_paths=options.paths_of(image),
        suites=state.suites,
        is_thorough=options.is_thorough,
        started=state.started,
        elapsed_s=state.elapsed_s,
        parts=shards.parts(run, options),
        tests=shards.own_tests(options),
    )
    verdict = conclude(scope, prepared, run)
    try:
        serialization.write(run.folder / "verdict.json", verdict)
        if prepared:
            shards.note_manifest(run, options, prepared)
            attest.write_all(run.folder, verdict, load_artifacts(prepared.under_test), state.signer, options.policy)
    except MissingExtra as error:  # a key to sign with was refused at the start
        state.remarks.append(f"no attestation of {image}: {error}")
    except OSError as error:
        raise unwritable(run.folder, error) from error
    except (ValueError, TypeError) as error:
        raise HarnessError(f"{run.folder}: the verdict cannot be attested: {error}") from error
    return verdict


def final_status(
    outcomes: Sequence[Outcome], pytest_status: int, *, is_interrupted: bool, is_pooled: bool = False
) -> int:
    """The status of the worst verdict; pytest's own if that is worse, or if a test that concerns no image failed.

    That pytest stopped early by itself, as for ``-x``, is not worse. With ``is_pooled``, a failed verdict has status 0:
    a pool of hosts would run that part again.
    """
    own = [pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED]
    if not is_interrupted:
        own.append(pytest.ExitCode.INTERRUPTED)
    if pytest_status not in own:
        return pytest_status
    worst = [Outcome.FAILED, Outcome.INCONCLUSIVE, Outcome.PASSED]
    outcome = min(outcomes, key=worst.index)
    if is_pooled and outcome is Outcome.FAILED:
        return pytest.ExitCode.OK
    return outcome.exit_status or pytest_status


def keep_bundles(state: RunState) -> None:
    """Write the bundles of failures for which no worker wrote one."""
    for name in state.prepared:
        bundles.keep_missing(state, name)


def remember(state: RunState) -> None:
    """Add the run to the history, and remove what only bundles needed."""
    for run in state.runs.values():
        bundles.forget_bundled(run)
    for verdict in state.verdicts:
        problem = history.keep(find_store(), verdict, state.runs[verdict.image].folder) if verdict.digests else ""
        state.remarks += [problem] if problem else []


def report(state: RunState) -> None:
    """Write the report pages and a forge's annotations; a failure here does not change the verdict."""
    for verdict in state.verdicts:
        folder = state.runs[verdict.image].folder
        try:
            with ExitStack() as until:
                write_all(verdict, folder, find_store(), select_promoted(None, verdict.image, _COMPARED, until))
        except (BootproofError, OSError) as error:
            state.remarks.append(f"no report: {error}")
        for line in annotate(verdict, os.environ):
            print(line)


class _PlainReporter:
    """pytest's terminal reporter, as far as `summarize` uses it, for a run without one (``-p no:terminal``)."""

    def section(self, title: str, **_: bool) -> None:
        print(f"== {title} ==")

    def write_line(self, line: str, **_: bool) -> None:
        print(line)


def summarize(reporter: Any, state: RunState) -> None:
    """Print the verdicts once, or why there are none."""
    if state.is_summarized:
        return
    state.is_summarized, reporter = True, reporter or _PlainReporter()
    colours = {Outcome.PASSED: "green", Outcome.FAILED: "red", Outcome.INCONCLUSIVE: "yellow"}
    for verdict in state.verdicts:
        reporter.section(f"{verdict.image}: {verdict.outcome}", **{colours[verdict.outcome]: True, "bold": True})
        for line in format_verdict(verdict, state.runs[verdict.image].folder, _shown(reporter)):
            reporter.write_line(line)
    for remark in state.remarks:
        reporter.write_line(remark, yellow=True)
    for problem in dict.fromkeys(state.problems):
        reporter.write_line(f"no valid verdict: {problem}", red=True)


def _shown(reporter: Any) -> Shown:
    """What pytest's terminal ``reporter`` prints of failed tests besides the verdict."""
    if isinstance(reporter, _PlainReporter):
        return Shown()
    style, is_silent = reporter.config.option.tbstyle, reporter.no_summary
    failed = [*reporter.stats.get("failed", ()), *reporter.stats.get("error", ())]
    tests, likewise = frozenset(map(_test_of, failed)), frozenset(map(_test_of, reporter.stats.get(LIKEWISE, ())))
    is_listed = not is_silent and (style != "no" or reporter.hasopt("f"))
    is_quoted = not is_silent and style not in ("no", "line")
    return Shown(
        failed=tests | likewise,
        listed=tests if is_listed else frozenset(),
        quoted=tests if is_quoted else frozenset(),
    )


def _test_of(report: Any) -> str:
    """The test that a report is about; empty for one about a file's collection."""
    return str(dict(getattr(report, "user_properties", ())).get(TEST_PROPERTY, ""))
