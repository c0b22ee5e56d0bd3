"""Tracebacks of failed tests without the frames of the harness (DESIGN decision 15); ``--full-trace`` shows all."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import BootproofError
from harness.verdict import attribution

_SUITE = "harness.suite."
_STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
_INSTALLED = {"site-packages", "dist-packages"}


def hide_harness(item: pytest.Item, excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    """Keep only the frames of tests and their fixtures in the traceback of a failed test; True if it was shortened.

    The traceback stays whole with ``--full-trace``, where the harness is not involved, and where the harness has a bug:
    an unknown exception in its code.
    """
    if item.config.getoption("fulltrace") or isinstance(excinfo.value, pytest.skip.Exception):
        return False
    kinds = {kind for one in _chain(excinfo.value) for kind in _kinds(one)}
    if not {_Kind.HARNESS, _Kind.TESTINFRA} & kinds or is_bug(excinfo.value):
        return False
    excinfo.traceback = excinfo.traceback.filter(_is_of_a_test)
    return True


def shortened(item: pytest.Item, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
    """What pytest shows of an error whose traceback was shortened: if no frame is left, only the message.

    pytest's own representation begins with the test's frame and takes all that follow, whatever was removed.
    """
    if not excinfo.traceback:
        name = "" if isinstance(excinfo.value, BootproofError) else f"{excinfo.typename}: "
        return f"{name}{excinfo.value}"
    style: Any = "value" if not getattr(excinfo.value, "pytrace", True) else item.config.option.tbstyle
    return excinfo.getrepr(
        style="long" if style == "auto" else style,
        showlocals=item.config.option.showlocals,
        tbfilter=lambda one: one.traceback.filter(_is_of_a_test).filter(one),
        chain=not isinstance(excinfo.value, BootproofError),
    )


def keep_one_line(report: pytest.TestReport) -> None:
    """With ``--tb=line``, leave the line with place and message, which pytest prints below the whole message."""
    if entries := getattr(getattr(report.longrepr, "reprtraceback", None), "reprentries", None):
        entries.clear()


def statement_of(excinfo: pytest.ExceptionInfo[BaseException]) -> str:
    """The assert statement that failed, on one line; empty if the test ended otherwise."""
    try:
        text = " ".join(str(excinfo.traceback[-1].statement).split())
    except (IndexError, AssertionError, OSError, SyntaxError):  # no frame is left, or it has no source
        return ""
    return text if text.startswith("assert ") else ""


def is_bug(error: BaseException) -> bool:
    """Whether ``error``, neither Bootproof's nor an assertion, was raised in the harness, or in a library for it."""
    last = next((kind for kind in reversed(_kinds(error)) if kind is not _Kind.LIBRARY), None)
    return last is _Kind.HARNESS and attribution.is_unknown(error)


class _Kind(Enum):
    """Whose code a frame runs."""

    TEST = "a test, its own fixtures, and their modules"
    HARNESS = "the harness, with its fixtures"
    TESTINFRA = "testinfra"
    LIBRARY = "Python's standard library, or an installed one such as pytest"


def _kinds(error: BaseException) -> list[_Kind]:
    return [_kind(entry) for entry in pytest.ExceptionInfo.from_exception(error).traceback]


def _is_of_a_test(entry: Any) -> bool:
    return _kind(entry) is _Kind.TEST


def _kind(entry: Any) -> _Kind:
    name, path = str(entry.frame.f_globals.get("__name__", "")), Path(entry.path)
    if name.startswith("harness.") and not name.startswith(_SUITE):
        return _Kind.HARNESS
    if name.partition(".")[0] == "testinfra":
        return _Kind.TESTINFRA
    is_installed = _INSTALLED & set(path.parts) and not name.startswith(_SUITE)
    return _Kind.LIBRARY if is_installed or path.is_relative_to(_STANDARD_LIBRARY) else _Kind.TEST


def _chain(error: BaseException) -> Iterator[BaseException]:
    """``error`` and the exceptions that it was raised for, as far as a traceback shows them."""
    seen = list[BaseException]()
    following: BaseException | None = error
    while following is not None and following.__traceback__ is not None and following not in seen:
        seen.append(following)
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)
    return iter(seen)
