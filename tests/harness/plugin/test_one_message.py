"""One cause, one message: what pytest prints and writes when many tests fail because of the same thing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.core import serialization
from harness.model.verdict import Outcome, Verdict
from harness.plugin import hooks
from harness.plugin.options import RunOptions
from harness.plugin.state import KEY, RunState
from harness.runs.folder import Run

from ..replay.test_bundle import BASE

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
CONFTEST = """
import importlib.util
from pathlib import Path

spec = importlib.util.spec_from_file_location("harness.fixtures.boots", Path(__file__).with_name("boots.py"))
boots = importlib.util.module_from_spec(spec)
spec.loader.exec_module(boots)
globals().update({name: value for name, value in vars(boots).items() if not name.startswith("__")})
"""


class OneImage:
    """The hooks of a run of ``base`` without its preparation: nothing is built, and no machine is booted."""

    def __init__(self, folder: Path) -> None:
        self.state = RunState(options=RunOptions(definitions={"base": BASE}), runs={"base": Run(folder, "main")})

    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[KEY] = self.state
        config.pluginmanager.register(hooks.Reports(self.state))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            item.user_properties += [("image", "base"), ("test", item.nodeid)]

    pytest_runtest_makereport = staticmethod(hooks.pytest_runtest_makereport)
    pytest_report_teststatus = staticmethod(hooks.pytest_report_teststatus)
    pytest_sessionfinish = staticmethod(hooks.pytest_sessionfinish)
    pytest_terminal_summary = staticmethod(hooks.pytest_terminal_summary)


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
        options = ("-p", "no:cacheprovider", f"--junit-xml={folder}/junit.xml", *arguments)
        result = pytester.runpytest_inprocess(*options, plugins=[OneImage(folder)])
        return Ran(int(result.ret), tuple(result.outlines), folder)

    return run


FAILED_BOOT = """
import pytest

@pytest.mark.parametrize("number", range(20))
def test_template(template, number): ...

@pytest.mark.parametrize("number", range(5))
def test_cold(cold_machine, number): ...
"""


def test_x(run_suite: RunSuite) -> None:
    ran = run_suite(FAILED_BOOT)
    print(ran.text, ran.junit(), ran.verdict.findings)
    ran = run_suite("""
def test_status(host):
    assert host.run("ls /x").rc == 0

def test_mode(host):
    assert host.run("ls /x").rc == 0o600

def test_output(host):
    host.check_output("ls /y")

def test_reboot(machine):
    machine.reboot()

def test_reboot_again(machine):
    machine.reboot()

def test_lab(lab): ...

def test_lab_again(lab): ...

def test_bug(machine):
    machine.forget()

def test_chain(machine):
    try:
        machine.forget()
    except KeyError:
        assert not "this"
""")
    print(ran.text, ran.junit(), *ran.verdict.findings, sep="\n")
    assert 0
