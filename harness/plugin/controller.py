"""The controller's part until the tests are done: prepare the images before workers start, and record events."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, suppress
from typing import NoReturn

import pytest

from harness.core import process
from harness.core.deadline import usable_cores
from harness.core.errors import BootproofError, HostError, UsageError
from harness.model.events import Event, Prepared, ReportedTest
from harness.model.hardware import unfreezable
from harness.model.machine_spec import Network
from harness.model.prepared import PreparedImage
from harness.model.qemu import Thread
from harness.model.verdict import Finding
from harness.plugin import bundles, dependents, shards
from harness.plugin.collect import CONSOLE_PROPERTY, IMAGE_PROPERTY, REFERENCE_BOOT_S, TEST_PROPERTY
from harness.plugin.conclude import conclude_all, keep_bundles
from harness.plugin.not_applicable import NOT_APPLICABLE_PROPERTY
from harness.plugin.options import RunOptions
from harness.plugin.other_plugins import outcome_of
from harness.plugin.prepare import Source, prepare
from harness.plugin.state import RunState
from harness.qemu import program
from harness.runs.boot_count import BootCount
from harness.runs.folder import Run, make_run_folder
from harness.runs.progress import BuildProgress, EventFollower
from harness.store.store import find_store
from harness.verdict import attribution


def open_runs(config: pytest.Config, state: RunState) -> None:
    """A run's folder for each image, before anything can fail."""
    parent = state.options.run_dir or (config.rootpath / "runs").absolute()
    for name in state.options.definitions:
        try:
            folder = make_run_folder(parent, name)
        except OSError as error:
            pytest.exit(
                f"cannot create a folder for the run in {parent}: {error.strerror}; choose another with --run-dir",
                returncode=HostError.exit_status,
            )
        state.runs[name] = Run(folder, state.worker)
        shards.note(state.runs[name], state.options)
    if config.pluginmanager.has_plugin("junitxml") and config.option.xmlpath is None and len(state.runs) == 1:
        config.option.xmlpath = str(next(iter(state.runs.values())).folder / "junit.xml")


def prepare_all(config: pytest.Config, state: RunState) -> None:
    """Build what is missing for every image. An image that cannot be built ends the run with its verdict."""
    say = _sayer(config, state.options)
    until = ExitStack()  # pytest closes it last, also when the run is interrupted
    config.add_cleanup(until.close)
    for name, definition in state.options.definitions.items():
        run = state.runs[name]
        try:
            source = Source(definition=definition, store=find_store(), progress=BuildProgress(say, name), until=until)
            prepared = prepare(source, state.options, run)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None
        except BootproofError as error:
            _end_unprepared(state, name, error)
        state.use(prepared)
        for line in _about(prepared, state.options):
            say(f"{name}: {line}")
    for line in shards.about(state.options):
        say(line)
    worked_s, all_s = process.cores_s()
    for name, run in state.runs.items():
        try:
            run.add(Prepared(took_s=round(state.elapsed_s, 1), worked_s=worked_s, all_s=all_s))
        except HostError as error:
            _end_unprepared(state, name, error)
    if state.options.plan is not None:
        _prove_host(state)
    if config.getoption("verbose", 0) >= 0 or state.options.keep_failed:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        is_watched = config.getoption("verbose", 0) > 0 or (reporter is not None and reporter.isatty)
        state.follower = EventFollower(
            state.runs.values(), say, with_phases=is_watched, count=_boot_count(state.prepared.values())
        )
        config.add_cleanup(state.follower.stop)
        state.follower.start()


def _boot_count(prepared: Collection[PreparedImage]) -> BootCount:
    typical_s = max(one.durations.boot_s or REFERENCE_BOOT_S * one.slowness for one in prepared)
    return BootCount(lanes=usable_cores(), typical_s=typical_s)


def _about(prepared: PreparedImage, options: RunOptions) -> Iterator[str]:
    artifacts = f"artifacts {prepared.under_test.name[:12]}, {prepared.accelerator} ({prepared.accelerator_reason})"
    yield f"{artifacts}; logs and verdict in {prepared.run_folder}"
    if prepared.qemu.program != process.find(program.NAME) or prepared.qemu.thread is not Thread.SINGLE:
        yield f"{prepared.qemu}, {prepared.qemu.reason}"
    if prepared.network is Network.USER:
        yield f"network user ({prepared.network_reason})"
    if options.hardware:
        yield f"hardware {prepared.hardware}"
        if why := unfreezable(options.hardware):
            yield f"a machine of this hardware is booted for each test, not cloned: {why}"


def _sayer(config: pytest.Config, options: RunOptions) -> Callable[[str], None]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")

    def say(line: str) -> None:
        if reporter is not None and (config.option.verbose >= 0 or options.keep_failed):
            if reporter._tw.width_of_current_line:  # dots; ensure_newline() does not see those of xdist
                reporter._tw.line()
            reporter.write_line(line)
            reporter.flush()

    return say


def _end_unprepared(state: RunState, image: str, error: BootproofError) -> NoReturn:
    add(state, image, attribution.nothing_to_boot(image, error))
    pytest.exit(f"{image}: there is nothing to boot", returncode=conclude_all(state, pytest.ExitCode.OK))


def _prove_host(state: RunState) -> None:
    """End the run if this host cannot run what has passed before."""
    from harness.plugin.prove_host import prove_host

    for image in state.runs:
        if finding := prove_host(state, image):
            add(state, image, finding)
            pytest.exit(f"{image}: {finding.what}", returncode=conclude_all(state, pytest.ExitCode.OK))


def add(state: RunState, image: str, event: Event) -> None:
    """Record ``event``. If that is impossible, no verdict can be trusted: it becomes a problem of the run."""
    try:
        state.runs[image].add(event)
    except HostError as error:
        state.problems.append(str(error))


def add_report(state: RunState, report: pytest.TestReport) -> None:
    """Record the outcome of a test, whichever worker ran it, and shorten its report if its cause is known already."""
    properties = dict(report.user_properties)
    image = str(properties.get(IMAGE_PROPERTY, ""))
    if image in state.runs:
        result = ReportedTest(
            test=str(properties[TEST_PROPERTY]),
            when=str(report.when),
            outcome="skipped" if dependents.has_not_begun(report) else outcome_of(report),
            took_s=round(report.duration, 3),
            console=str(properties.get(CONSOLE_PROPERTY, "")),
            not_applicable=str(properties.get(NOT_APPLICABLE_PROPERTY, "")),
        )
        add(state, image, result)
        dependents.fold(report, image, state)


def add_to_all(state: RunState, finding: Finding) -> None:
    """Record a finding that is not about one image, but makes every verdict incomplete."""
    for image in state.runs:
        add(state, image, finding)


def note_interrupt(state: RunState, error: BaseException) -> None:
    """By Ctrl-C or SIGTERM. pytest's own ways to stop early, such as ``-x``, are subclasses of KeyboardInterrupt."""
    if type(error) is KeyboardInterrupt:
        state.is_interrupted = True
        add_to_all(state, attribution.interrupted())
        for run in state.runs.values():
            with suppress(HostError):  # a full disk
                bundles.note_unfinished(run)
    if isinstance(error, KeyboardInterrupt):
        conclude_all(state, pytest.ExitCode.INTERRUPTED)
        keep_bundles(state)
