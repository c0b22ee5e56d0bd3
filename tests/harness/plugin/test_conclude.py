"""The exit status of a run with ``--image``."""

from __future__ import annotations

import pytest

from harness.model.verdict import Outcome
from harness.plugin.conclude import final_status


@pytest.mark.parametrize(
    ("outcomes", "of_pytest", "is_interrupted", "awaited"),
    [
        ([Outcome.PASSED], pytest.ExitCode.OK, False, 0),
        ([Outcome.PASSED], pytest.ExitCode.TESTS_FAILED, False, 1),
        ([Outcome.PASSED, Outcome.INCONCLUSIVE], pytest.ExitCode.OK, False, 75),
        ([Outcome.INCONCLUSIVE, Outcome.FAILED], pytest.ExitCode.TESTS_FAILED, False, 1),
        ([Outcome.INCONCLUSIVE], pytest.ExitCode.NO_TESTS_COLLECTED, False, 75),
        ([Outcome.FAILED], pytest.ExitCode.INTERRUPTED, False, 1),  # -x with xdist
        ([Outcome.INCONCLUSIVE], pytest.ExitCode.INTERRUPTED, False, 75),
        ([Outcome.INCONCLUSIVE], pytest.ExitCode.INTERRUPTED, True, 2),
        ([Outcome.FAILED], pytest.ExitCode.INTERNAL_ERROR, False, 3),
        ([Outcome.INCONCLUSIVE], pytest.ExitCode.USAGE_ERROR, False, 4),
    ],
)
def test_the_status_is_the_worst_of_verdicts_and_pytest(
    outcomes: list[Outcome], of_pytest: int, is_interrupted: bool, awaited: int
) -> None:
    assert final_status(outcomes, of_pytest, is_interrupted=is_interrupted) == awaited
