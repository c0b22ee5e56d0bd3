"""The pytest plugin: ``pytest -n 8 --image nova-kvm`` builds, boots and tests an image, and writes a verdict.

Without ``--image`` only one thing changes: in a repository of images, ``host`` refuses to test the local machine.
Nothing else is imported then, because pytest loads this in every repository of the environment.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Generator
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.plugin.options import add_options, check_without_image


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests() -> Generator[None]:
    """Say it in a sentence where a conftest.py has an option of the same name, of which pytest makes a traceback."""
    try:
        return (yield)
    except ValueError as error:
        files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        file = next((name for name in reversed(files) if name.endswith("conftest.py")), "")
        if not file or "already" not in str(error):
            raise
        raise pytest.UsageError(
            f"{file} has an option that a plugin has too: {str(error).partition(' (')[0]}; rename it or, if the plugin "
            "is Bootproof, run pytest -p no:harness.plugin"
        ) from None


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "check(name): the required check that this test belongs to")
    config.addinivalue_line("markers", "cause(text): the suspected cause, for the finding if this test fails")
    config.addinivalue_line("markers", "thorough: the test takes long and runs only with --thorough")
    config.addinivalue_line("markers", "boots(count): how many boots this test costs; the longest start first")
    config.addinivalue_line("markers", "state(name): the state that the test's machine must be in (default: booted)")
    if config.option.image:
        _begin(config)
    else:
        check_without_image(config.option)


def _begin(config: pytest.Config) -> None:
    from harness.core import process
    from harness.plugin import fixtures, hooks, other_plugins, suite, worker
    from harness.plugin.state import KEY, read_state

    if config.getoption("hosts", None) is not None:
        raise pytest.UsageError("--image and --hosts exclude each other: one tests an image, the other a running host")
    if sys.flags.optimize:
        raise pytest.UsageError(
            "PYTHONOPTIMIZE, or python -O, removes assert statements, so that no test can fail; run pytest without it"
        )
    try:
        state = read_state(config)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[KEY] = state
    if state.is_controller:
        process.unwind_when_told_to_end()
    else:
        worker.leave_with(state.controller)
    pytest.register_assert_rewrite("harness.suite")  # an editable install does not name its modules to pytest
    config.args[:], state.suite_ids = suite.choose(config)
    if state.is_controller:
        from harness.plugin import controller, controller_hooks, shards

        shards.check_options(state.options)
        if not config.option.collectonly:
            controller.open_runs(config, state)
            config.pluginmanager.register(controller_hooks.Reports(state), "bootproof-reports")
        config.pluginmanager.register(controller_hooks, "bootproof-controller")
    config.pluginmanager.register(hooks, "bootproof-hooks")
    config.pluginmanager.register(other_plugins, "bootproof-other-plugins")
    fixtures.register(config.pluginmanager)


def pytest_fixture_setup(fixturedef: Any, request: pytest.FixtureRequest) -> None:
    """testinfra's own ``host`` tests the local machine if no other host is given."""
    if fixturedef.argname == "_testinfra_host" and _would_test_the_local_machine(request):
        raise pytest.UsageError(
            "host: neither --image nor --hosts was given, so this would test the local machine; "
            "give one of them (--hosts=local:// for the local machine)"
        )


def _would_test_the_local_machine(request: pytest.FixtureRequest) -> bool:
    """True for testinfra's default host in a repository that has image definitions."""
    from harness.model.definition import find_images

    if request.config.option.hosts is not None or hasattr(request.module, "testinfra_hosts"):
        return False
    try:
        find_images(request.config.rootpath)
    except UsageError:
        return False
    return True
