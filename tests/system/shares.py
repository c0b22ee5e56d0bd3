"""A tenth of these tests by the number of commits, within a time, so that CI runs all of them in ten changes.

Options of ``pytest tests/system``; without them all tests run.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import pytest

SHARES = 10
_SALT = "13802"
"""Of twenty thousand the one that splits the 240 tests of November 2026 most evenly: 21 to 25 in a share."""
_GOLDEN = 0.618034
"""Its multiples spread most evenly over 0 to 1, however many there are (the three-gap theorem)."""
_NOT_BEGUN = pytest.StashKey[list[str]]()


def share_of(test: str) -> int:
    """The share that has this test, 0 to 9, by nothing but its id: other tests may come and go."""
    return int(hashlib.sha256(f"{_SALT}{test}".encode()).hexdigest(), 16) % SHARES


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("shares")
    group.addoption(
        "--share", type=int, metavar="COMMITS", help="run the tenth of the tests whose turn it is after so many commits"
    )
    group.addoption(
        "--begin-until", type=float, metavar="EPOCH", help="begin no test after this time, in seconds since 1970"
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each time around, a share begins at another test, so that time does not always run out before the same ones."""
    commits = config.getoption("--share")
    if commits is None:
        return
    turn = [item for item in items if share_of(item.nodeid) == commits % SHARES]
    config.hook.pytest_deselected(items=[item for item in items if share_of(item.nodeid) != commits % SHARES])
    first = int(commits // SHARES * _GOLDEN % 1 * len(turn))
    items[:] = turn[first:] + turn[:first]


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    commits = config.getoption("--share")
    if commits is None:
        return []
    title = f"share {commits % SHARES} of 0 to {SHARES - 1}, after {commits} commits: {len(items)} tests"
    return [title, *(f"  {item.nodeid}" for item in items)]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    until = item.config.getoption("--begin-until")
    if until is None or time.time() < until:
        return None
    item.config.stash.setdefault(_NOT_BEGUN, []).append(item.nodeid)
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in _not_begun(config):
        terminalreporter.write_line(line, yellow=True)


def _not_begun(config: pytest.Config) -> Iterator[str]:
    tests = config.stash.get(_NOT_BEGUN, [])
    if tests:
        clock = time.strftime("%H:%M:%S", time.localtime(config.getoption("--begin-until")))
        yield f"not begun: {len(tests)} (time: no test was to begin after {clock})"
        yield from (f"  {test}" for test in tests)
