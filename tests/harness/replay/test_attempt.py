"""Whether the test of a case ran."""

from __future__ import annotations

import pytest

from harness.core.errors import HostError
from harness.model.events import ReportedTest
from harness.replay.attempt import has_run


def reported(test: str, *, not_applicable: str = "") -> ReportedTest:
    outcome = "skipped" if not_applicable else "passed"
    return ReportedTest(test=test, when="call", outcome=outcome, took_s=1.0, not_applicable=not_applicable)


def test_a_test_ran_if_its_id_was_reported_with_or_without_parameters() -> None:
    parts = [reported("t.py::test_x[base-a]"), reported("t.py::test_x[base-b]", not_applicable="one card")]

    assert has_run("t.py::test_x[base-a]", parts)
    assert has_run("t.py::test_x", parts)
    assert not has_run("t.py::test_y", parts)


def test_a_test_that_is_not_applicable_here_cannot_reproduce_a_failure() -> None:
    parts = [reported("t.py::test_x[base-b]", not_applicable="one card")]

    with pytest.raises(HostError, match=r"test_x\[base-b\] is not applicable here: one card"):
        has_run("t.py::test_x[base-b]", parts)
