"""How a test says that what it should look at does not exist here, instead of passing without having looked."""

from __future__ import annotations

from typing import NoReturn

import pytest
from _pytest.outcomes import Skipped  # it is pytest.skip.Exception, which mypy takes for a variable

NOT_APPLICABLE_PROPERTY = "bootproof-not-applicable"
"""The user property of pytest's report that has the reason."""


class NotApplicable(Skipped):
    """A test was not applicable: pytest reports it as skipped, the verdict as not applicable for ``reason``."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"not applicable: {reason}")
        self.reason = reason


def not_applicable(reason: str) -> NoReturn:
    """End this test, because this image or host does not have what it should look at; ``reason`` says why.

    A check whose tests all say so is *not applicable* in the verdict. For a required check, ``pytest.skip`` means that
    the check did not run.
    """
    __tracebackhide__ = True
    raise NotApplicable(reason)


def note(report: pytest.TestReport, error: BaseException) -> None:
    """Add the reason to the ``report`` of a test that ended with ``error``, if it was not applicable."""
    if isinstance(error, NotApplicable):
        if isinstance(report.longrepr, tuple):  # else pytest shows the name of the class
            report.longrepr = (*report.longrepr[:2], f"Skipped: {error.msg}")
        report.user_properties.append((NOT_APPLICABLE_PROPERTY, error.reason))
