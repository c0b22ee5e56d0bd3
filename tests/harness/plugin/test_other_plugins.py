"""Other plugins of pytest, and pytest without some of its own, in a run with ``--image``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from harness.core.errors import Blame, blame_of, is_claim
from harness.plugin import conclude, other_plugins
from harness.plugin.options import RunOptions
from harness.plugin.state import RunState

from .conftest import ROOT, RunPytest

pytest_plugins = ["pytester"]


class Settings(NamedTuple):
    """pytest-timeout's, as far as the hook uses them."""

    timeout: float
    method: str


class Timeout:
    """The plugin pytest-timeout: it sets a timer."""

    def __init__(self) -> None:
        self.used: list[str] = []

    def pytest_timeout_set_timer(self, _: object, settings: Settings) -> bool:
        self.used.append(settings.method)
        return True


@pytest.mark.parametrize(("method", "used"), [("thread", ["signal"]), ("signal", [])])
def test_a_timeout_never_ends_the_process_before_its_verdict(method: str, used: list[str]) -> None:
    timeout = Timeout()
    plugins = SimpleNamespace(get_plugin={"timeout": timeout}.get)
    item: Any = SimpleNamespace(config=SimpleNamespace(pluginmanager=plugins))

    result = other_plugins.pytest_timeout_set_timer(item, Settings(2, method))

    assert timeout.used == used  # with "signal", pytest-timeout's own hook follows
    assert bool(result) == bool(used)


@pytest.mark.parametrize("text", ["Timeout (>2.0s) from pytest-timeout.", "Timeout >2.0s"])
def test_a_test_that_reached_its_own_time_limit_is_not_the_images_fault(text: str) -> None:
    with pytest.raises(BaseException, match="Timeout") as limit:
        pytest.fail(text)

    error = other_plugins.blamed(limit.value)

    assert not is_claim(limit.value)
    assert Blame.IMAGE not in {blame_of(limit.value), blame_of(error)}
    assert text in str(error)
    assert "raise it" in str(error)


def test_a_failure_of_a_test_is_still_about_the_image() -> None:
    with pytest.raises(BaseException, match="Timeouts") as failed:
        pytest.fail("Timeouts of the API: 3")

    assert other_plugins.blamed(failed.value) is failed.value
    assert blame_of(failed.value) is Blame.IMAGE


@pytest.mark.parametrize(("outcome", "counted"), [("rerun", "failed"), ("passed", "passed"), ("skipped", "skipped")])
def test_an_attempt_that_failed_counts_although_the_test_is_run_again(outcome: str, counted: str) -> None:
    report: Any = SimpleNamespace(outcome=outcome)

    assert other_plugins.outcome_of(report) == counted


@pytest.mark.parametrize("left_out", ["junitxml", "terminal", "debugging", "warnings", "logging", "capture"])
def test_a_plugin_of_pytest_may_be_left_out(run_pytest: RunPytest, tmp_path: Path, left_out: str) -> None:
    status, text = run_pytest(
        "-p", f"no:{left_out}", "--image", "base", "--artifacts", str(tmp_path), f"--run-dir={tmp_path / 'runs'}"
    )

    assert status == 4, text
    assert "holds no initrd" in text
    assert "Traceback" not in text


def test_a_verdict_is_printed_without_a_terminal_reporter(capsys: pytest.CaptureFixture[str]) -> None:
    state = RunState(options=RunOptions(definitions={}), problems=["the disk is full"])

    conclude.summarize(None, state)

    assert capsys.readouterr().out == "no valid verdict: the disk is full\n"


def test_python_without_assert_statements_is_refused_in_one_sentence(tmp_path: Path) -> None:
    argv = [sys.executable, "-OO", "-m", "pytest", "--image", "base", f"--images-dir={ROOT / 'images'}"]
    done = subprocess.run(argv, cwd=tmp_path, check=False, capture_output=True, text=True)

    assert done.returncode == 4
    assert "removes assert statements, so that no test can fail" in done.stderr
    assert "Traceback" not in done.stderr


OWN_OPTION = """
def pytest_addoption(parser):
    parser.addoption("--image", default="x")
"""


def test_an_option_of_the_users_own_that_is_named_as_ours_is_a_sentence(pytester: pytest.Pytester) -> None:
    conftest = pytester.makeconftest(OWN_OPTION)
    pytester.makepyfile("def test_one(request): assert request.config.getoption('image') == 'x'")

    refused = pytester.runpytest_subprocess()
    works = pytester.runpytest_subprocess("-p", "no:harness.plugin")

    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in refused.stderr.str()
    assert f"{conftest} has an option that a plugin has too: " in refused.stderr.str()
    assert works.ret == 0
