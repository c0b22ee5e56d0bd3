"""The hooks of a run with ``--image`` in every process: they collect tests, run them and classify failures.

Those of the controller alone are in `controller_hooks`: a worker does not even import them.
"""

from __future__ import annotations

import builtins
from collections.abc import Generator
from pathlib import Path

import pytest

from harness.core.errors import HostError
from harness.plugin import (
    classify,
    collect,
    dependents,
    not_applicable,
    shards,
    shared_machine_guard,
    suite,
    tracebacks,
)
from harness.plugin.state import KEY

_HAS_FAILED = pytest.StashKey[bool]()


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
    collect.arrange(items, state.prepared, state.options)
    if state.options.plan and not config.option.collectonly:
        config.hook.pytest_deselected(items=shards.select(config, items, state))


def pytest_runtestloop(session: pytest.Session) -> object:
    """For ``bootproof plan`` nothing is run."""
    state = session.config.stash[KEY]
    return shards.write_collected(session, state) if state.options.write_plan else None


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
