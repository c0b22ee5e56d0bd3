"""The pytest plugin: ``pytest -n 8 --image nova-kvm`` builds, boots, examines and judges.

The controller prepares (DESIGN decision 13), workers boot, the controller decides. Without ``--image`` nothing
changes, but that ``host`` refuses to test the local machine in a repository of images.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Generator
from typing import Any

import pytest

from harness import record
from harness.errors import UsageError
from harness.plugin import collect, controller, outcome, worker
from harness.plugin.state import KEY, Bootproof, read_state
from harness.spec import BootPath

FIXTURES = ("artifacts", "disk", "guest", "lab", "machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bootproof", "Bootproof: boots proven before promotion")
    group.addoption(
        "--image", action="append", default=[], metavar="NAME", help="Build, boot and judge this image (repeatable)."
    )
    group.addoption("--images-dir", metavar="DIR", help="Where image definitions are (default: images/, upwards).")
    group.addoption(
        "--boot-path",
        action="append",
        default=[],
        choices=[path.value for path in BootPath],
        help="Come up only this way (repeatable; default: all that the definition names).",
    )
    group.addoption(
        "--artifacts", metavar="DIR", help="Judge what another builder made: kernel, initrd and root filesystem in DIR."
    )
    group.addoption(
        "--kernel-arguments",
        metavar="TEXT",
        help="For --artifacts without manifest.json (default: the file DIR/cmdline, else the definition's).",
    )
    group.addoption(
        "--previous", metavar="DIR", help="Artifacts to upgrade from (default: upgrade to a second build of the image)."
    )
    group.addoption(
        "--accel", choices=["auto", "kvm", "tcg"], default="auto", help="How QEMU runs the guest (default: auto)."
    )
    group.addoption(
        "--network",
        choices=["auto", "lab", "user"],
        default="auto",
        help="What connects machines: a lab, or QEMU's user network where the host cannot open one (default: auto).",
    )
    group.addoption(
        "--run-dir", metavar="DIR", help="Where runs keep logs and verdict (default: runs/); written --run-dir=DIR."
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "check(name): the required check that this test belongs to")
    config.addinivalue_line("markers", "boots(count): how many boots this test costs; the longest start first")
    if not config.option.image:
        return
    if config.option.hosts is not None:
        raise pytest.UsageError("--image and --hosts exclude each other: is an image tested, or a host?")
    try:
        state = read_state(config)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[KEY] = state
    if not state.is_controller:
        worker.leave_with(os.getppid())
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args[:] = [str(state.suite)]
    if state.is_controller and not config.option.collectonly:
        controller.open_runs(config, state)
    for name in FIXTURES:
        config.pluginmanager.register(importlib.import_module(f"harness.fixtures.{name}"), f"bootproof-{name}")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Build before xdist starts its workers, where progress can be shown."""
    state = session.config.stash.get(KEY, None)
    if state and state.is_controller and not session.config.option.collectonly:
        controller.prepare_all(session.config, state)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist asks what each worker shall be told."""
    state: Bootproof | None = node.config.stash.get(KEY, None)
    if state:
        node.workerinput["bootproof"] = {name: record.dump(value) for name, value in state.prepared.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """In place of xdist's default; what a person asked for with ``--dist`` stays."""
    state = config.stash.get(KEY, None)
    return collect.make_scheduler(config, log, state) if state and config.option.dist == "load" else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    state = metafunc.config.stash.get(KEY, None)
    if state:
        collect.generate(metafunc, state)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    state = config.stash.get(KEY, None)
    if state:
        collect.arrange(items, state)


def pytest_fixture_setup(fixturedef: Any, request: pytest.FixtureRequest) -> None:
    """testinfra's own ``host`` tests the local machine when nobody says what else to test."""
    if fixturedef.argname == "_testinfra_host" and collect.would_test_the_local_machine(request):
        raise pytest.UsageError("host: no --image and no --hosts given, and the local machine is not what you mean")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure is classified where its machine is: here, in the worker."""
    report = yield
    state = item.config.stash.get(KEY, None)
    if state and call.excinfo is not None and report.failed:
        outcome.classify(item, report, call.excinfo.value, state)
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    controller.note(report)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    state = session.config.stash.get(KEY, None)
    if state and state.is_controller and state.prepared:
        session.exitstatus = controller.conclude_all(state, int(session.exitstatus))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    state = config.stash.get(KEY, None)
    if state:
        controller.summarize(terminalreporter, state)
