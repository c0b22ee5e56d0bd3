"""The controller's part: prepare before the workers start, listen to them, and conclude when they are done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest

from harness.core import process, serialization
from harness.core.errors import BootproofError, HarnessError, HostError, MissingExtra, UsageError
from harness.model.artifacts import load_artifacts
from harness.model.hardware import HardwareProfile, unfreezable
from harness.model.machine_spec import BootPath, Network
from harness.model.verdict import Finding, Outcome, Verdict
from harness.plugin import bundles
from harness.plugin.prepare import prepare
from harness.plugin.state import RunState
from harness.promotion import attest
from harness.promotion.select import select_promoted
from harness.qemu import grub
from harness.report import annotate, write_all
from harness.runs import history, learned
from harness.runs.folder import Run, make_run_folder, unwritable
from harness.runs.progress import BuildProgress, EventFollower
from harness.store.store import find_store
from harness.verdict import attribution
from harness.verdict.assemble import conclude, describe

_COMPARED = "stable"
"""The stream whose verdict is laid beside that of a run."""

_open: list[RunState] = []
"""The state of this process, for the hooks that pytest calls without a config."""


def open_runs(config: pytest.Config, state: RunState) -> None:
    """A run's folder for each image, before anything can fail."""
    _open.append(state)
    config.add_cleanup(_open.clear)
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


def prepare_all(config: pytest.Config, state: RunState) -> None:
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
                wanted_faults=state.network_faults,
                progress=BuildProgress(say, name),
                until=until,
                is_thorough=state.is_thorough,
                hardware=state.hardware,
            )
            if BootPath.GRUB in state.paths_of(name):
                for folder in {prepared.old, prepared.new, prepared.newest}:
                    grub.check(load_artifacts(folder).manifest)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None
        except BootproofError as error:
            _end_unprepared(state, name, error)
        state.use(prepared)
        say(
            f"{name}: artifacts {prepared.under_test.name[:12]}, {prepared.accelerator} ({prepared.accelerator_reason})"
        )
        if prepared.network is Network.USER:
            say(f"{name}: network user ({prepared.network_reason})")
        for line in _about_hardware(state.hardware, prepared.hardware):
            say(f"{name}: {line}")
        say(f"{name}: logs and verdict in {run.folder}")
    worked_s, all_s = process.cores_s()
    for name, run in state.runs.items():
        try:
            run.add("prepared", {"took_s": round(state.elapsed_s, 1), "worked_s": worked_s, "all_s": all_s})
        except HostError as error:
            _end_unprepared(state, name, error)
    if option.verbose >= 0 or state.hold_s:
        tail = EventFollower(list(state.runs.values()), say)
        config.add_cleanup(tail.stop)
        tail.start()


def _about_hardware(hardware: HardwareProfile | None, said: str) -> Iterator[str]:
    if hardware:
        yield f"hardware {said}"
    if hardware and (why := unfreezable(hardware)):
        yield f"a machine of this hardware is booted for each test, not cloned: {why}"


def _sayer(config: pytest.Config) -> Any:
    reporter = config.pluginmanager.get_plugin("terminalreporter")

    def say(line: str) -> None:
        if reporter is not None and (config.option.verbose >= 0 or config.option.keep):
            if reporter._tw.width_of_current_line:  # dots; ensure_newline() does not see those of xdist
                reporter._tw.line()
            reporter.write_line(line)
            reporter.flush()

    return say


def _end_unprepared(state: RunState, image: str, error: BootproofError) -> NoReturn:
    _note(state, image, "finding", serialization.dump(attribution.nothing_to_boot(image, error)))
    pytest.exit(f"{image}: there is nothing to boot", returncode=conclude_all(state, pytest.ExitCode.OK))


def note(report: pytest.TestReport) -> None:
    """Keep what became of a test, from whatever worker it comes."""
    properties = dict(report.user_properties)
    for state in _open:
        image = str(properties.get("image", ""))
        if image in state.runs:
            _note(state, image, "result",
                  {"test": properties["test"], "when": report.when, "outcome": report.outcome,
                   "took_s": round(report.duration, 3), "console": str(properties.get("console", ""))})  # fmt: skip


def note_uncollected(file: str) -> None:
    """``file`` cannot be read as tests, and nobody knows what it would have proven."""
    for state in _open:
        _note_finding(state, attribution.not_collected(file))


def note_crash(test: str) -> None:
    """A worker ended in the middle of ``test``."""
    for state in _open:
        _note_finding(state, attribution.lost_worker(test))


def note_interrupt(error: BaseException) -> None:
    """By Ctrl-C or SIGTERM; pytest's own ways to stop early, as ``-x``, are kinds of interrupts too."""
    for state in _open:
        if type(error) is KeyboardInterrupt:
            state.is_interrupted = True
            _note_finding(state, attribution.interrupted())
            for run in state.runs.values():
                with suppress(HostError):  # a full disk
                    bundles.note_unfinished(run)
        if isinstance(error, KeyboardInterrupt):
            conclude_all(state, pytest.ExitCode.INTERRUPTED)
            keep_bundles(state)


def note_failed_end(state: RunState, error: BaseException) -> None:
    """Another plugin failed at the end; what it would have said or written may be missing, the verdict is not."""
    said = str(error).partition("\n")[0]
    _note_finding(state, attribution.pytest_failed(f"pytest could not end in order: {type(error).__name__}: {said}"))


def _note_finding(state: RunState, finding: Finding) -> None:
    for image in state.runs:
        _note(state, image, "finding", serialization.dump(finding))


def _note(state: RunState, image: str, kind: str, data: dict[str, Any]) -> None:
    """Where that is impossible, no verdict is to be trusted."""
    try:
        state.runs[image].add(kind, data)
    except HostError as error:
        state.problems.append(str(error))


def conclude_all(state: RunState, exit_status: int) -> int:
    """Write every verdict; the exit status of the worst, unless pytest has a graver one of its own."""
    if exit_status == pytest.ExitCode.INTERNAL_ERROR:
        _note_finding(state, attribution.pytest_failed("an error inside pytest or one of its plugins"))
    state.verdicts.clear()
    for name in state.runs:
        try:
            state.verdicts.append(_conclude(state, name))
        except BootproofError as error:
            state.problems.append(str(error))
    if state.problems:
        return HostError.exit_status
    return final_status(
        [verdict.outcome for verdict in state.verdicts], exit_status, is_interrupted=state.is_interrupted
    )


def keep_bundles(state: RunState) -> None:
    """Of what no test of a worker has kept."""
    for name in state.prepared:
        bundles.keep_missing(state, name)


def learn(state: RunState) -> None:
    """What this run taught is for the next."""
    for name, run in state.runs.items():
        bundles.forget_bundled(run)
        if name in state.prepared:
            learned.keep(find_store(), name, run)
    for verdict in state.verdicts:
        said = history.keep(find_store(), verdict, state.runs[verdict.image].folder) if verdict.digests else ""
        state.remarks += [said] if said else []


def report(state: RunState) -> None:
    """For those who were not there; a verdict stands without it."""
    for verdict in state.verdicts:
        folder = state.runs[verdict.image].folder
        try:
            with ExitStack() as until:
                write_all(verdict, folder, find_store(), select_promoted(None, verdict.image, _COMPARED, until))
        except (BootproofError, OSError) as error:
            state.remarks.append(f"no report: {error}")
        for line in annotate(verdict, os.environ):
            print(line)


def _conclude(state: RunState, image: str) -> Verdict:
    run, prepared = state.runs[image], state.prepared.get(image)
    verdict = conclude(
        state.definitions[image],
        prepared,
        run,
        state.suites,
        state.paths_of(image),
        started=state.started,
        elapsed_s=state.elapsed_s,
        is_thorough=state.is_thorough,
    )
    try:
        serialization.write(run.folder / "verdict.json", verdict)
        if prepared:
            attest.write_all(run.folder, verdict, load_artifacts(prepared.under_test), state.signer, state.policy)
    except MissingExtra as error:  # a key to sign with was refused at the start
        state.remarks.append(f"no attestation of {image}: {error}")
    except OSError as error:
        raise unwritable(run.folder, error) from error
    except (ValueError, TypeError) as error:
        raise HarnessError(f"{run.folder}: the verdict cannot be attested: {error}") from error
    return verdict


def final_status(outcomes: list[Outcome], pytest_status: int, *, is_interrupted: bool) -> int:
    """The worst verdict's; pytest's own if that is graver, or if what failed was a test that concerns no image.

    That pytest stopped early by itself, as for ``-x``, is not graver.
    """
    own = [pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED]
    if not is_interrupted:
        own.append(pytest.ExitCode.INTERRUPTED)
    if pytest_status not in own:
        return pytest_status
    worst = [Outcome.FAILED, Outcome.INCONCLUSIVE, Outcome.PASSED]
    return min(outcomes, key=worst.index).exit_status or pytest_status


def summarize(reporter: Any, state: RunState) -> None:
    """Once: the verdicts, or why there are none."""
    if state.is_told:
        return
    state.is_told = True
    colours = {Outcome.PASSED: "green", Outcome.FAILED: "red", Outcome.INCONCLUSIVE: "yellow"}
    for verdict in state.verdicts:
        reporter.section(f"{verdict.image}: {verdict.outcome}", **{colours[verdict.outcome]: True, "bold": True})
        for line in describe(verdict, state.runs[verdict.image].folder):
            reporter.write_line(line)
    for remark in state.remarks:
        reporter.write_line(remark, yellow=True)
    for problem in dict.fromkeys(state.problems):
        reporter.write_line(f"no verdict that counts: {problem}", red=True)
