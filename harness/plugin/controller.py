"""The controller's part: prepare before the workers start, listen to them, and conclude when they are done."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import pytest

from harness import record
from harness.conclude import conclude, describe
from harness.errors import BootproofError, HostError, Subject, UsageError
from harness.plugin.state import Bootproof
from harness.progress import Lines, Tail
from harness.run import Run, make_run_folder
from harness.session import prepare
from harness.spec import Network
from harness.store import find_store
from harness.verdict import Finding, Outcome

_open: list[Bootproof] = []
"""The state of this process, for the one hook that pytest calls without a config."""


def open_runs(config: pytest.Config, state: Bootproof) -> None:
    """A run's folder for each image, before anything can fail."""
    parent = Path(config.option.run_dir or config.rootpath / "runs").absolute()
    for name in state.definitions:
        state.runs[name] = Run(_folder(parent, name), state.worker)
    if config.option.xmlpath is None and len(state.runs) == 1:
        config.option.xmlpath = str(next(iter(state.runs.values())).folder / "junit.xml")


def _folder(parent: Path, name: str) -> Path:
    try:
        return make_run_folder(parent, name)
    except OSError as error:
        pytest.exit(f"no folder for the run in {parent}: {error.strerror}; --run-dir names another",
                    returncode=HostError.exit_status)  # fmt: skip


def prepare_all(config: pytest.Config, state: Bootproof) -> None:
    """Build what is missing for every image; what cannot be built ends the run with its verdict."""
    option, say = config.option, _sayer(config)
    previous = Path(option.previous).absolute() if option.previous else None
    until = ExitStack()  # pytest closes it last; what ends pytest otherwise ends it too
    config.add_cleanup(until.close)
    for name, definition in state.definitions.items():
        run = state.runs[name]
        try:
            prepared = prepare(
                definition,
                find_store(),
                run.folder,
                prebuilt=Path(option.artifacts).absolute() if option.artifacts else None,
                kernel_arguments=option.kernel_arguments.split() if option.kernel_arguments is not None else None,
                previous=previous,
                wanted_accelerator=option.accel,
                wanted_network=option.network,
                progress=Lines(say, name),
                until=until,
            )
        except BootproofError as error:
            _end_unprepared(state, name, error)
        state.use(prepared)
        say(
            f"{name}: artifacts {prepared.under_test.name[:12]}, {prepared.accelerator} ({prepared.accelerator_reason})"
        )
        if prepared.network is Network.USER:
            say(f"{name}: network user ({prepared.network_reason})")
        say(f"{name}: logs and verdict in {run.folder}")
    _open.append(state)
    config.add_cleanup(_open.clear)
    if option.verbose >= 0:
        tail = Tail(list(state.runs.values()), say)
        config.add_cleanup(tail.stop)
        tail.start()


def _sayer(config: pytest.Config) -> Any:
    reporter = config.pluginmanager.get_plugin("terminalreporter")

    def say(line: str) -> None:
        if reporter is not None and config.option.verbose >= 0:
            if reporter._tw.width_of_current_line:  # dots; ensure_newline() does not see those of xdist
                reporter._tw.line()
            reporter.write_line(line)
            reporter.flush()

    return say


def _end_unprepared(state: Bootproof, image: str, error: BootproofError) -> NoReturn:
    if isinstance(error, UsageError):
        raise pytest.UsageError(str(error)) from None
    finding_id = "build-failed" if error.subject is Subject.IMAGE else f"{error.subject}-error"
    run, definition = state.runs[image], state.definitions[image]
    run.add_finding(Finding(id=finding_id, what=str(error), where=f"image {image}", subject=error.subject))
    verdict = conclude(definition, None, run, state.suites, state.paths_of(image), state.started_s)
    record.write(run.folder / "verdict.json", verdict)
    pytest.exit("\n".join(describe(verdict, run.folder)), returncode=verdict.outcome.exit_status)


def note(report: pytest.TestReport) -> None:
    """Keep what became of a test, from whatever worker it comes."""
    properties = dict(report.user_properties)
    for state in _open:
        run = state.runs.get(str(properties.get("image", "")))
        if run is not None:
            run.add("result", {"test": properties["test"], "when": report.when, "outcome": report.outcome})


def conclude_all(state: Bootproof, exit_status: int) -> int:
    """Write every verdict; the exit status of the worst, unless pytest has a graver one of its own."""
    for name, definition in state.definitions.items():
        run, prepared = state.runs[name], state.prepared[name]
        verdict = conclude(definition, prepared, run, state.suites, state.paths_of(name), state.started_s)
        record.write(run.folder / "verdict.json", verdict)
        state.verdicts.append(verdict)
    return final_status([verdict.outcome for verdict in state.verdicts], exit_status)


def final_status(outcomes: list[Outcome], pytest_status: int) -> int:
    """The worst verdict's; pytest's own if that is graver, or if what failed was a test that concerns no image."""
    if pytest_status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
        return pytest_status
    worst = [Outcome.FAILED, Outcome.INCONCLUSIVE, Outcome.PASSED]
    return min(outcomes, key=worst.index).exit_status or pytest_status


def summarize(reporter: Any, state: Bootproof) -> None:
    colours = {Outcome.PASSED: "green", Outcome.FAILED: "red", Outcome.INCONCLUSIVE: "yellow"}
    for verdict in state.verdicts:
        reporter.section(f"{verdict.image}: {verdict.outcome}", **{colours[verdict.outcome]: True, "bold": True})
        for line in describe(verdict, state.runs[verdict.image].folder):
            reporter.write_line(line)
