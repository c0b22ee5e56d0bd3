"""The hooks of a run with ``--image``: the controller prepares and concludes, workers boot (DESIGN decision 13)."""

from __future__ import annotations

import builtins
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from harness.core import serialization
from harness.core.errors import HostError
from harness.plugin import (
    classify,
    collect,
    conclude,
    controller,
    dependents,
    not_applicable,
    shared_machine_guard,
    suite,
    tracebacks,
)
from harness.plugin.state import KEY, RunState
from harness.verdict import attribution

_HAS_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Build before xdist starts its workers, where progress can be shown."""
    state = session.config.stash[KEY]
    if state.is_controller and not session.config.option.collectonly:
        controller.prepare_all(session.config, state)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand each worker of xdist what was prepared."""
    prepared = node.config.stash[KEY].prepared
    node.workerinput["bootproof_controller"] = os.getpid()
    node.workerinput["bootproof"] = {name: serialization.dump(value) for name, value in prepared.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Replace xdist's default; another ``--dist`` stays."""
    if config.option.dist != "load":
        return None
    from harness.plugin.scheduler import Groups

    return Groups(config, log, config.stash[KEY].runs.values())


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return suite.is_left_alone(collection_path, config) or None


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None]:
    """Ids begin with the image. Which lists the test uses is known after markers and hooks of others."""
    options = metafunc.config.stash[KEY].options
    collect.generate_images(metafunc, options)
    yield
    metafunc.definition._fixtureinfo.prune_dependency_tree()
    collect.generate_entries(metafunc, options)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Record a file's tests before ``--lf`` or an id on the command line deselects any of them."""
    report = yield
    if report.passed:
        state = collector.config.stash[KEY]
        report.result = [item for item in report.result if collect.concerns(item, state.options)]
        try:
            collect.note_plan(report.result, state)
        except HostError as error:  # a full disk
            report.outcome, report.longrepr, report.result = "failed", str(error), []
        suite.leave_out(collector, report)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    state = config.stash[KEY]
    items[:0] = suite.collect(session, state.suite_ids)
    left_out = [item for item in items if collect.is_left_out(item, state.options)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    collect.arrange(items, state.prepared)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Classify a failure where its machine is: in the worker."""
    is_shortened = call.excinfo is not None and tracebacks.hide_harness(item, call.excinfo)
    report = yield
    classify.note_console(item, report)
    if call.excinfo is not None:
        not_applicable.note(report, call.excinfo.value)
    if call.excinfo is not None and report.failed:
        if is_shortened:
            report.longrepr = tracebacks.shortened(item, call.excinfo)
        if item.config.option.tbstyle == "line":
            tracebacks.keep_one_line(report)
        classify.classify(item, report, call.excinfo, item.config.stash[KEY])
        item.stash[_HAS_FAILED] = True
    return report


def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport, config: pytest.Config
) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    return dependents.status(report, config) if isinstance(report, pytest.TestReport) else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    """Before the test's fixtures end: check the shared machine, keep a failed one. After: release or pause machines."""
    for name in ("machine", "guest"):
        vars(builtins).pop(name, None)
    try:
        shared_machine_guard.look_after(item)
        if item.stash.get(_HAS_FAILED, False):
            item.stash[_HAS_FAILED] = False
            classify.keep_machine(item, item.config.stash[KEY])
    finally:  # here a warning may be raised as an error
        try:
            yield
        finally:
            shared_machine_guard.release_before(item.config, nextitem)


@pytest.hookimpl(tryfirst=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """With ``--pdb`` the debugger has the failed test's ``machine``, and a Host of it as ``guest``, until its teardown.

    pdb stops in the frame that raised, whichever that is, and Python's builtins are the only namespace that every frame
    sees.
    """
    if isinstance(node, pytest.Item) and node.config.getoption("usepdb", False):
        machine = classify.machine_of(node)
        if machine is not None and machine.is_on:
            vars(builtins).update(machine=machine, guest=machine.guest)


class Reports:
    """The controller's hooks that pytest calls without a config, which would have the state: it is given here."""

    def __init__(self, state: RunState) -> None:
        self._state = state

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None]:
        controller.add_report(self._state, report)
        yield

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Nobody knows what a file that cannot be collected would have proven."""
        if report.failed:
            controller.add_to_all(self._state, attribution.not_collected(report.nodeid))

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """xdist lost a worker in the middle of a test."""
        controller.add_to_all(self._state, attribution.lost_worker(crashitem))

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """The verdict is written at once, before workers have ended, and again at the end."""
        controller.note_interrupt(self._state, excinfo.value)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """Write the verdict, even if other plugins fail at the end."""
    state = session.config.stash[KEY]
    if not state.is_controller or session.config.option.collectonly:
        yield
        return
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        text = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        controller.add_to_all(state, attribution.pytest_failed(f"pytest did not end normally: {text}"))
    finally:
        conclude.keep_bundles(state)
        if session.exitstatus == pytest.ExitCode.INTERNAL_ERROR:
            controller.add_to_all(state, attribution.pytest_failed("an error inside pytest or one of its plugins"))
        session.exitstatus = conclude.conclude_all(state, int(session.exitstatus))
        conclude.remember(state)
        conclude.report(state)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.option.verbose < 2:
        # In CI pytest would repeat the whole message of each failed test in its list of them.
        config.option.force_short_summary = True
    conclude.summarize(terminalreporter, config.stash[KEY])


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """A run that ended before its first test has no summary of pytest's."""
    if config.stash[KEY].is_controller:
        conclude.summarize(config.pluginmanager.get_plugin("terminalreporter"), config.stash[KEY])
