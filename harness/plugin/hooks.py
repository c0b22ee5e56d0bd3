"""The hooks of a run with ``--image``: the controller prepares (DESIGN decision 13), workers boot, it decides."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from harness import record
from harness.plugin import collect, controller, outcome, suite
from harness.plugin.state import KEY


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
    node.workerinput["bootproof"] = {name: record.dump(value) for name, value in prepared.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """In place of xdist's default; what a person asked for with ``--dist`` stays."""
    return collect.make_scheduler(config, log, config.stash[KEY]) if config.option.dist == "load" else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    collect.generate(metafunc, metafunc.config.stash[KEY])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    state = config.stash[KEY]
    items[:0] = suite.collect(session, state.suite_ids)
    collect.arrange(items, state)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure is classified where its machine is: here, in the worker."""
    report = yield
    if call.excinfo is not None and report.failed:
        outcome.classify(item, report, call.excinfo.value, item.config.stash[KEY])
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    controller.note(report)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    state = session.config.stash[KEY]
    if state.is_controller and state.prepared:
        session.exitstatus = controller.conclude_all(state, int(session.exitstatus))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    controller.summarize(terminalreporter, config.stash[KEY])
