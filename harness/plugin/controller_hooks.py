"""The controller's hooks: it prepares before workers start, and concludes when they have ended (DESIGN decision 13)."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from typing import Any

import pytest

from harness.core import serialization
from harness.model.events import PlannedTest
from harness.plugin import conclude, controller, dependents, shards
from harness.plugin.collect import expected_of
from harness.plugin.state import KEY, RunState
from harness.verdict import attribution


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Build before xdist starts its workers, where progress can be shown."""
    state = session.config.stash[KEY]
    if not session.config.option.collectonly:
        controller.prepare_all(session.config, state)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand each worker of xdist what was prepared."""
    prepared = node.config.stash[KEY].prepared
    node.workerinput["bootproof_controller"] = os.getpid()
    node.workerinput["bootproof"] = {name: serialization.dump(value) for name, value in prepared.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Every worker compared its tests with the plan, and says the same."""
    state = node.config.stash[KEY]
    state.problem = state.problem or getattr(node, "workeroutput", {}).get(shards.PROBLEM, "")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Replace xdist's default; another ``--dist`` stays."""
    if config.option.dist != "load":
        return None
    from harness.plugin.scheduler import Groups

    return Groups(config, log, lambda: _planned(config.stash[KEY]))


def _planned(state: RunState) -> list[tuple[PlannedTest, float]]:
    """Each test that a worker planned, with the seconds that it is expected to take."""
    return [
        (test, expected_of(test, state.prepared.get(image), state.options))
        for image, run in state.runs.items()
        for test in run.of_kind(PlannedTest)
    ]


class Reports:
    """The controller's hooks that pytest calls without a config, which would have the state: it is given here."""

    def __init__(self, state: RunState) -> None:
        self._state = state

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None]:
        controller.add_report(self._state, report)
        yield

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without xdist, the tests of this process are all tests; with xdist, it has none."""
        if session.items:
            self._select(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Each worker collects the same."""
        self._select(ids)

    def _select(self, tests: Iterable[str]) -> None:
        if self._state.follower:
            self._state.follower.select(frozenset(tests))

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
    if session.config.option.collectonly or state.options.write_plan:
        yield
        return
    if state.problem:
        session.exitstatus = pytest.ExitCode.USAGE_ERROR
        yield
        return
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        text = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        controller.add_to_all(state, attribution.pytest_failed(f"pytest did not end normally: {text}"))
    finally:
        dependents.keep_last_failed(session.config, state)
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
    if problem := config.stash[KEY].problem:
        terminalreporter.write_line(f"ERROR: {problem}", red=True)
        return
    conclude.summarize(terminalreporter, config.stash[KEY])


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """A run that ended before its first test has no summary of pytest's."""
    conclude.summarize(config.pluginmanager.get_plugin("terminalreporter"), config.stash[KEY])
