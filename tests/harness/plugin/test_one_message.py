"""One cause, one message: what pytest prints and writes when many tests fail because of the same thing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.core import serialization
from harness.model.verdict import Verdict
from harness.plugin import controller_hooks, hooks
from harness.plugin.options import RunOptions
from harness.plugin.state import KEY, RunState
from harness.report import annotate
from harness.runs.folder import Run

from ..replay.test_bundle import BASE
from .conftest import ROOT

pytest_plugins = ["pytester"]

BOOTS = """
from pathlib import Path

import pytest

from harness.core.errors import Blame, HostError
from harness.guest.channel import Completed
from harness.guest.testinfra_host import open_guest
from harness.machine.errors import BootFailed
from harness.machine.template_store import StateFailed
from harness.model.layout import bundle_name
from harness.model.verdict import Finding
from harness.runs.folder import Run

RUN = Run(Path(__file__).parent / "run", "main")
REMEMBERED = []


def fail_to_boot(where, what="systemd-modules-load.service failed: exit status 1"):
    evidence = tuple(f"[   12.{n:02}] line {n}" for n in range(9))
    cause = "no modules for 6.12.118 in /usr/lib/modules: there is 6.12.118-old"
    finding = Finding(id="unit-failed", what=what, where=where, evidence=evidence, cause=cause)
    RUN.add_finding(finding)
    folder = RUN.folder / where.partition(" (")[0].replace(", boot ", "/boot-")
    (RUN.folder / bundle_name(f"{folder.parent.name}-{folder.name}")).touch()
    raise BootFailed("machine", finding, str(folder), "bootproof boot X")


@pytest.fixture
def template():
    if REMEMBERED:
        raise StateFailed("booted", "machine: it failed", Blame.IMAGE, REMEMBERED[0])
    try:
        fail_to_boot("template-booted, boot 1 (direct)")
    except BootFailed as error:
        REMEMBERED.append(error.finding)
        raise


@pytest.fixture
def cold_machine(request):
    fail_to_boot(f"{request.node.name}, boot 1 (direct)")


@pytest.fixture
def lab():
    raise HostError("the host has no tun device")


class Channel:
    def run(self, command, deadline=None):
        return Completed(command=command, status=1, stdout=b"", stderr=f"{command}: no such file".encode())


@pytest.fixture
def host():
    return open_guest("machine", Channel())


class Machine:
    def reboot(self):
        fail_to_boot("machine, boot 2 (direct)")

    def forget(self):
        return {}["key"]


@pytest.fixture
def machine():
    return Machine()
"""
CONFTEST = f"""
import importlib.util
import sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("harness.fixtures.boots", Path(__file__).with_name("boots.py"))
boots = importlib.util.module_from_spec(spec)
spec.loader.exec_module(boots)
globals().update({{name: value for name, value in vars(boots).items() if not name.startswith("__")}})


def pytest_configure(config):
    sys.path.append({str(ROOT)!r})  # a worker has imported nothing
    from tests.harness.plugin.test_one_message import OneImage

    config.pluginmanager.register(OneImage(Path(__file__).parent / "run", config))
"""


class Conclusion:
    """The hooks of the controller after the tests."""

    pytest_sessionfinish = staticmethod(controller_hooks.pytest_sessionfinish)
    pytest_terminal_summary = staticmethod(controller_hooks.pytest_terminal_summary)


class OneImage:
    """The hooks of a run of ``base`` without its preparation: nothing is built, and no machine is booted."""

    def __init__(self, folder: Path, config: pytest.Config) -> None:
        worker = getattr(config, "workerinput", {}).get("workerid", "main")
        options = RunOptions(definitions={"base": BASE})
        state = config.stash[KEY] = RunState(options=options, worker=worker, runs={"base": Run(folder, worker)})
        if state.is_controller:
            config.pluginmanager.register(controller_hooks.Reports(state))
            config.pluginmanager.register(Conclusion())

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            item.user_properties += [("bootproof-image", "base"), ("bootproof-test", item.nodeid)]

    pytest_runtest_makereport = staticmethod(hooks.pytest_runtest_makereport)
    pytest_report_teststatus = staticmethod(hooks.pytest_report_teststatus)


@dataclass(frozen=True)
class Ran:
    """A run of pytest: its exit status, the lines on the terminal, and the files in its folder."""

    status: int
    lines: tuple[str, ...]
    folder: Path

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def verdict(self) -> Verdict:
        return serialization.read(Verdict, self.folder / "verdict.json")

    def junit(self) -> dict[str, int]:
        (suite,) = ElementTree.parse(self.folder / "junit.xml").getroot()
        return {kind: int(suite.attrib[kind]) for kind in ("tests", "failures", "errors", "skipped")}


RunSuite = Callable[..., Ran]


@pytest.fixture(autouse=True, params=["", "true"], ids=["here", "in CI"])
def _in_ci(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest prints more where it believes to run in CI."""
    monkeypatch.delenv("BUILD_NUMBER", raising=False)
    monkeypatch.setenv("CI", request.param)


@pytest.fixture
def run_suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunSuite:
    """``run_suite(source, "--tb=line")``: what pytest makes of the tests in ``source``."""
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "store"))
    folder = pytester.path / "run"
    folder.mkdir()
    pytester.makepyfile(boots=BOOTS)
    pytester.makeconftest(CONFTEST)

    def run(source: str, *arguments: str) -> Ran:
        pytester.makepyfile(test_mine=source)
        options = (f"--junit-xml={folder}/junit.xml", *arguments)
        result = pytester.runpytest_inprocess(*options)
        return Ran(int(result.ret), tuple(result.outlines), folder)

    return run


FAILED_BOOT = """
import pytest

@pytest.mark.parametrize("number", range(20))
def test_template(template, number): ...

@pytest.mark.parametrize("number", range(5))
def test_cold(cold_machine, number): ...
"""


@pytest.mark.parametrize("arguments", [(), ("--tb=short",), ("--tb=line",), ("--tb=native",), ("-v", "-rA"), ("-q",)])
def test_a_boot_that_fails_is_one_message_and_a_count(run_suite: RunSuite, arguments: tuple[str, ...]) -> None:
    ran = run_suite(FAILED_BOOT, *arguments)

    head, _, verdict = ran.text.partition("= base: failed =")
    assert ran.status == 1
    assert "Traceback" not in ran.text
    assert "BootFailed" not in ran.text
    lines = verdict.splitlines()[1:]
    assert lines[0] == "base 2026.11: FAILED: systemd-modules-load.service failed: exit status 1 [unit-failed]"
    finding = lines[: lines.index("25 tests need a booted machine and did not run")]
    assert len(finding) <= 25
    assert "    cause: no modules for 6.12.118 in /usr/lib/modules: there is 6.12.118-old" in finding
    assert any(line.endswith("run/template-booted-boot-1.bundle") for line in finding)
    assert len(ran.lines) <= (40 if "-v" not in arguments else 65)
    assert any("systemd-modules-load.service failed" in line for line in ran.lines[:10])
    assert "-v" in arguments or head.count("unit-failed") <= 1
    assert "25 not run" in ran.lines[-1]


def test_a_boot_that_fails_is_one_finding_in_every_file(run_suite: RunSuite) -> None:
    ran = run_suite(FAILED_BOOT)

    (finding,) = ran.verdict.findings
    assert (finding.where, len(finding.places)) == ("template-booted, boot 1 (direct)", 5)
    assert len(finding.tests) == 25
    assert ran.verdict.coverage.failed == ()
    assert ran.junit() == {"tests": 25, "failures": 0, "errors": 1, "skipped": 24}
    junit = (ran.folder / "junit.xml").read_text("utf-8")
    assert "cause: no modules for 6.12.118" in junit
    assert "25 tests need a booted machine and did not run" in (ran.folder / "summary.md").read_text("utf-8")
    (issue,) = json.loads((ran.folder / "codequality.json").read_text("utf-8"))
    assert issue["description"].endswith("; 25 tests need a booted machine and did not run")
    assert len(list(annotate(ran.verdict, {"GITHUB_ACTIONS": "true"}))) == 2, "the finding, and what did not run"


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_last_failed_repeats_all_tests_that_did_not_run(run_suite: RunSuite, workers: tuple[str, ...]) -> None:
    run_suite(FAILED_BOOT + "def test_passes(): ...", *workers)

    again = run_suite(FAILED_BOOT + "def test_passes(): ...", "--lf", *workers)

    assert again.junit()["tests"] == 25


def test_one_cause_stays_one_with_several_workers(run_suite: RunSuite) -> None:
    """Each worker boots a template of its own here, and the reports cross processes."""
    ran = run_suite(FAILED_BOOT, "-n2")

    (finding,) = ran.verdict.findings
    assert len(finding.tests) == 25
    assert ran.junit() == {"tests": 25, "failures": 0, "errors": 1, "skipped": 24}
    assert len(ran.lines) <= 40


FIVE_FAULTS = """
import pytest

def test_status(host):
    assert host.run("cat /etc/x").rc == 0

def test_mode(host):
    assert host.run("stat /etc/x").rc == 0o600, "the mode of /etc/x"

def test_output(host):
    host.check_output("ls /y")

@pytest.mark.parametrize("number", range(3))
def test_reboot(machine, number):
    machine.reboot()

@pytest.mark.parametrize("number", range(3))
def test_lab(lab, number): ...
"""


@pytest.mark.parametrize("arguments", [(), ("--tb=short",), ("--tb=line",), ("--tb=no",)])
def test_five_faults_at_once_are_five_messages(run_suite: RunSuite, arguments: tuple[str, ...]) -> None:
    ran = run_suite(FIVE_FAULTS, *arguments)

    assert [finding.what for finding in ran.verdict.findings] == [
        "systemd-modules-load.service failed: exit status 1",
        'assert host.run("cat /etc/x").rc == 0: 1 == 0',
        "the mode of /etc/x",
        "Unexpected exit code 1 for <exit status 1 of 'ls /y': ls /y: no such file>",
        "the host has no tun device",
    ]
    assert ran.junit() == {"tests": 9, "failures": 4, "errors": 1, "skipped": 4}
    assert ran.text.count("cause: no modules for") == 1
    assert ran.text.count("\nhost: the host has no tun device") == 1
    assert "FAILED: systemd-modules-load.service failed: exit status 1 [unit-failed] (+ 4 more findings)" in ran.text
    assert "3 tests failed because of it" in ran.text
    assert "4 failed, 2 failed likewise, 3 not run" in ran.lines[-1]


def test_a_traceback_has_the_tests_own_code_and_nothing_of_the_harness(run_suite: RunSuite) -> None:
    ran = run_suite(FIVE_FAULTS)

    assert ">       machine.reboot()" in ran.lines
    assert '>       assert host.run("cat /etc/x").rc == 0' in ran.lines
    assert not [line for line in ran.lines if re.match(r"\S+\.py:\d+", line) and not line.startswith("test_mine.py:")]


def test_a_crash_line_names_the_tests_own_line(run_suite: RunSuite) -> None:
    ran = run_suite(FIVE_FAULTS, "--tb=line")

    assert any(re.fullmatch(r"\S+/test_mine.py:14: .*BootFailed: .*", line) for line in ran.lines)
    assert not any("boots.py:" in line for line in ran.lines)
    assert any(line.endswith('/test_mine.py:4: assert host.run("cat /etc/x").rc == 0: 1 == 0') for line in ran.lines)
    assert sum("exit status 1 of 'cat /etc/x'" in line for line in ran.lines) == 0


def test_full_trace_shows_the_harness(run_suite: RunSuite) -> None:
    assert "boots.py" in run_suite(FIVE_FAULTS, "--full-trace").text


BUG = """
def test_bug(machine):
    machine.forget()

def test_chain(machine):
    try:
        machine.forget()
    except KeyError:
        assert not "this"
"""


def test_a_bug_of_the_harness_keeps_its_traceback(run_suite: RunSuite) -> None:
    ran = run_suite(BUG)

    assert any(line.startswith("boots.py:") and line.endswith(": KeyError") for line in ran.lines)
    assert ran.text.count("def forget") == 1, "an assertion about it is the test's own"


MANY = """
import pytest

@pytest.mark.parametrize("number", range(60))
def test_many(host, number):
    assert host.run(f"grep -q {number} /etc/x").rc == 0
"""


def test_sixty_failed_checks_are_a_line_each_and_an_index(run_suite: RunSuite) -> None:
    ran = run_suite(MANY, "--tb=line")

    assert len(ran.verdict.findings) == 60
    assert len(ran.lines) <= 60 * 2 + 25
    assert not any("CommandResult" in "".join((found.what, *found.evidence)) for found in ran.verdict.findings)
