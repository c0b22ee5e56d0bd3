"""What other plugins of pytest need to work in a run with ``--image``: pytest-timeout and pytest-rerunfailures."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.errors import UsageError, is_time_limit


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Any:
    """pytest-timeout's method ``thread`` ends the process, and with it the run before its verdict: use ``signal``."""
    if settings.method != "thread":
        return None
    plugin = item.config.pluginmanager.get_plugin("timeout")
    return plugin.pytest_timeout_set_timer(item, settings._replace(method="signal"))  # type: ignore[union-attr]  # it called


def blamed(error: BaseException) -> BaseException:
    """``error``, or what stands for it in the verdict: a limit of pytest-timeout says nothing about the image."""
    if not is_time_limit(error):
        return error
    return UsageError(
        f"the test was ended by its own time limit: {error} That limit does not grow on a slow host",
        remedy="raise it, or use the deadlines of Machine's verbs",
    )


def outcome_of(report: pytest.TestReport) -> str:
    """pytest-rerunfailures reports a failed attempt as "rerun". It stays a failure: the bytes were the same."""
    outcome: str = report.outcome
    return "failed" if outcome == "rerun" else outcome
