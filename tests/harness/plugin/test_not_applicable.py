"""A test that is not applicable is skipped for pytest, and has a reason in the run."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.model.events import ReportedTest
from harness.plugin import controller, hooks
from harness.plugin.collect import IMAGE_PROPERTY, TEST_PROPERTY
from harness.runs.folder import Run

pytest_plugins = ["pytester"]

MODULE = """
import pytest

from harness import not_applicable


@pytest.fixture(scope="module")
def second_card():
    not_applicable("no second network card")


def test_in_setup(second_card): ...


def test_in_setup_again(second_card): ...


def test_in_call():
    not_applicable("no packages")


def test_skipped():
    pytest.skip("not today")
"""


def test_the_run_has_the_reason_of_what_was_not_applicable_and_none_of_what_was_skipped(
    pytester: pytest.Pytester, tmp_path: Path
) -> None:
    run = Run(tmp_path, "main")
    state: Any = SimpleNamespace(runs={"base": run}, problems=[])

    class Plugin:
        """The hooks of a run with an image that concern reports."""

        def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
            for item in items:
                item.user_properties += [(IMAGE_PROPERTY, "base"), (TEST_PROPERTY, item.name)]

        pytest_runtest_makereport = staticmethod(hooks.pytest_runtest_makereport)

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            controller.add_report(state, report)

    pytester.makepyfile(test_mine=MODULE)
    text = pytester.runpytest_inprocess("-rs", "-p", "no:cacheprovider", plugins=[Plugin()]).stdout.str()

    parts = list(run.of_kind(ReportedTest))
    assert {part.test: part.not_applicable for part in parts if part.outcome == "skipped"} == {
        "test_in_setup": "no second network card",
        "test_in_setup_again": "no second network card",
        "test_in_call": "no packages",
        "test_skipped": "",
    }
    assert not any(part.not_applicable for part in parts if part.when == "teardown")
    assert re.search(r"SKIPPED \[1\] test_mine\.py:\d+: not applicable: no second network card", text)
    assert re.search(r"SKIPPED \[1\] test_mine\.py:\d+: not applicable: no packages", text)
