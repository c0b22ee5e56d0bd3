"""The hooks of a run with ``--image``: the controller prepares (DESIGN decision 13), workers boot, it decides."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

from harness.core import serialization
from harness.core.errors import HostError
from harness.plugin import collect, controller, outcome, shared_machine_guard, suite
from harness.plugin.state import KEY

_HAS_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Build before xdist starts its workers, where progress can be shown."""
    state = session.config.stash[KEY]
    if state.is_controller and not session.config.option.collectonly:
        controller.prepare_all(session.config, state)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist asks what each worker shall be told."""
    prepared = node.config.stash[KEY].prepared
    node.workerinput["bootproof_controller"] = os.getpid()
    node.workerinput["bootproof"] = {name: serialization.dump(value) for name, value in prepared.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """In place of xdist's default; what a person asked for with ``--dist`` stays."""
    if config.option.dist != "load":
        return None
    from harness.plugin.scheduler import Groups

    return Groups(config, log, config.stash[KEY])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    collect.generate(metafunc, metafunc.config.stash[KEY])


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A file's tests are planned before ``--lf`` or an id on the command line can leave any of them out."""
    report = yield
    if report.passed:
        try:
            collect.note_plan(report.result, collector.config.stash[KEY])
        except HostError as error:  # a full disk
            report.outcome, report.longrepr, report.result = "failed", str(error), []
        suite.leave_out(collector, report)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    state = config.stash[KEY]
    items[:0] = suite.collect(session, state.suite_ids)
    left_out = [item for item in items if collect.is_left_out(item, state)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    collect.arrange(items, state)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure is classified where its machine is: here, in the worker."""
    report = yield
    outcome.note_console(item, report)
    if call.excinfo is not None and report.failed:
        outcome.classify(item, report, call.excinfo.value, item.config.stash[KEY])
        item.stash[_HAS_FAILED] = True
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    """Before a test's fixtures end: did it change what it shares, is its machine kept? After: is that still needed?"""
    outcome.take_back()
    try:
        shared_machine_guard.look_after(item)
        if item.stash.get(_HAS_FAILED, False):
            item.stash[_HAS_FAILED] = False
            outcome.keep_machine(item, item.config.stash[KEY])
    finally:  # a warning may be an error here
        try:
            yield
        finally:
            shared_machine_guard.release_before(item.config.stash[KEY], nextitem)


@pytest.hookimpl(tryfirst=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """With ``--pdb``: the debugger has ``machine`` and ``guest`` at hand, whatever the test asked for."""
    if isinstance(node, pytest.Item) and node.config.option.usepdb:
        outcome.hand_over(node)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    controller.note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        controller.note_uncollected(report.nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str) -> None:
    """xdist lost a worker in the middle of a test."""
    controller.note_crash(crashitem)


def pytest_keyboard_interrupt(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Whoever interrupts may not wait until the workers have gone: the verdict is written now, and again at the end."""
    controller.note_interrupt(excinfo.value)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """Whatever other plugins do at the end, there is a verdict."""
    state = session.config.stash[KEY]
    if not state.is_controller or session.config.option.collectonly:
        yield
        return
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        controller.note_failed_end(state, error)
    finally:
        controller.keep_bundles(state)
        session.exitstatus = controller.conclude_all(state, int(session.exitstatus))
        controller.learn(state)
        controller.report(state)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    controller.summarize(terminalreporter, config.stash[KEY])


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """What ended before there were any tests has no summary of pytest's."""
    if config.stash[KEY].is_controller:
        controller.summarize(config.pluginmanager.get_plugin("terminalreporter"), config.stash[KEY])
