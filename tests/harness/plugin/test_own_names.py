"""Tests that somebody already has run unchanged, whatever names they define, parametrize or record."""

from __future__ import annotations

import importlib
import re
from inspect import signature
from pathlib import Path

import pytest

from harness.fixtures.machine import make_folder
from harness.fixtures.naming import private
from harness.model.definition import load_definition
from harness.plugin import fixtures, hooks
from harness.plugin.options import RunOptions
from harness.plugin.state import KEY, RunState

from .conftest import RunPytest, write

pytest_plugins = ["pytester"]

CONFTEST = """
import pytest

@pytest.fixture
def machine(host):
    return "their machine"

@pytest.fixture(scope="session")
def image():
    return "cirros"

@pytest.fixture(params=["first", "second"])
def disk(request):
    return request.param

@pytest.fixture
def lab(disk):
    return "lab of " + disk

@pytest.fixture
def run(host):
    return lambda command: command

@pytest.fixture
def folder(tmp_path):
    return tmp_path
"""
NODES = """
import pytest

SERVICES = ["nova-compute", "libvirtd"]

@pytest.mark.parametrize("service", SERVICES)
def test_service(host, service):
    assert service in SERVICES

@pytest.mark.parametrize(("image", "repeat"), [("cirros", 1)])
def test_image(host, image, repeat):
    assert (image, repeat) == ("cirros", 1)

@pytest.mark.check
@pytest.mark.state
@pytest.mark.boots
@pytest.mark.cause
def test_fixtures(host, machine, image, run, folder, lab, record_property):
    record_property("image", "theirs")
    assert (machine, image, lab[:6], run("true")) == ("their machine", "cirros", "lab of", "true")

class TestNode:
    @pytest.fixture(params=["a", "b"])
    def service(self, request):
        return request.param

    def test_own(self, host, service):
        assert service in "ab"

@pytest.mark.parametrize("machine", [1, 2], ids="xy")
class TestMachines:
    def test_one(self, machine, host):
        assert machine in (1, 2)

def pytest_generate_tests(metafunc):
    if metafunc.function is test_generated:
        metafunc.parametrize("service", SERVICES)

def test_generated(host, service):
    assert service in SERVICES

def test_entries(host, persistent_path): ...

@pytest.mark.parametrize("service", [])
def test_nothing(host, service): ...
"""


COLLECTED = """
test_service[theirs-nova-compute] test_service[theirs-libvirtd]
test_image[theirs-cirros-1]
test_fixtures[theirs-first] test_fixtures[theirs-second]
TestNode::test_own[theirs-a] TestNode::test_own[theirs-b]
TestMachines::test_one[theirs-x] TestMachines::test_one[theirs-y]
test_generated[theirs-nova-compute] test_generated[theirs-libvirtd]
test_entries[theirs-/etc/systemd/network] test_entries[theirs-/var/local]
test_nothing[theirs-NOTSET]
"""


class WithoutBoots:
    """The part of a run with ``--image`` that collects and gives fixtures; ``host`` is a name instead of a guest."""

    pytest_generate_tests = staticmethod(hooks.pytest_generate_tests)

    def __init__(self, repository: Path) -> None:
        definition = load_definition(repository / "images" / "theirs")
        self.state = RunState(options=RunOptions(definitions={"theirs": definition}))

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[KEY] = self.state
        fixtures.register(config.pluginmanager)
        config.pluginmanager.register(Guests())


class Guests:
    """Bootproof's shared machine, as far as ``host`` uses it."""

    host = "the image's host"

    @pytest.fixture(scope="session", name="_bootproof_shared")
    def shared(self, _bootproof_image: str) -> Guests:
        return self


def ids(text: str) -> set[str]:
    return set(re.findall(r"\.py::(\S+)", text))


@pytest.mark.parametrize("place", ["tests/conftest.py", "conftest.py"])
def test_names_of_a_repository_are_collected_as_without_bootproof(
    run_pytest: RunPytest, repository: Path, place: str
) -> None:
    write(repository / place, CONFTEST)
    write(repository / "tests" / "test_nodes.py", NODES)

    status, text = run_pytest("--collect-only", "-q", "--image", "theirs", "tests", cwd=repository)

    assert status == 0, text
    assert ids(text) == set(COLLECTED.split())


def test_names_of_a_repository_have_the_values_that_they_have_without_bootproof(
    pytester: pytest.Pytester, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repository / "tests" / "conftest.py", CONFTEST)
    write(repository / "tests" / "test_nodes.py", NODES)
    write(repository / "tests" / "test_host.py", 'def test_host(host):\n    assert host == "the image\'s host"\n')
    monkeypatch.chdir(repository)

    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "tests", plugins=[WithoutBoots(repository)])

    result.assert_outcomes(passed=14, skipped=1)


def test_the_suite_has_bootproofs_fixtures_whatever_a_repository_defines(
    run_pytest: RunPytest, repository: Path
) -> None:
    _, without = run_pytest("--collect-only", "-q", "--image", "theirs", "--thorough", cwd=repository)
    write(repository / "conftest.py", CONFTEST)
    _, text = run_pytest("--collect-only", "-q", "--image", "theirs", "--thorough", cwd=repository)

    assert len(ids(text)) > 50
    assert ids(text) == ids(without)


def test_a_fixture_of_another_plugin_stays_what_tests_get(run_pytest: RunPytest, repository: Path) -> None:
    write(repository / "theirs.py", "import pytest\n@pytest.fixture(params=[1, 2])\ndef lab(request): ...\n")
    write(repository / "conftest.py", "pytest_plugins = ['theirs']\n")
    write(repository / "pytest.ini", "[pytest]\npythonpath = .\n")
    write(repository / "tests" / "test_lab.py", "def test_lab(host, lab): ...\ndef test_machine(machine): ...\n")

    status, text = run_pytest("--collect-only", "-q", "--image", "theirs", "-p", "theirs", "tests", cwd=repository)

    assert status == 0, text
    assert ids(text) == {"test_lab[theirs-1]", "test_lab[theirs-2]", "test_machine[theirs]"}


def test_bootproofs_fixtures_depend_on_no_name_that_a_repository_could_have() -> None:
    count = 0
    for module in fixtures.MODULES:
        for name, fixture in vars(importlib.import_module(f"harness.fixtures.{module}")).items():
            if marker := getattr(fixture, "_fixture_function_marker", None):
                needs = set(signature(fixture._get_wrapped_function()).parameters)
                count += 1
                assert marker.name == private(name)
                assert all(need == "request" or need.startswith("_bootproof_") for need in needs)
    assert count > 25


def test_tests_of_the_same_name_and_attempts_of_a_test_have_folders_of_their_own(tmp_path: Path) -> None:
    name = "test_läuft[base-" + "x" * 300 + "]"
    folders = [make_folder(tmp_path / "run", name) for _ in range(3)]

    assert len(set(folders)) == 3
    assert all(folder.is_dir() and len(folder.name) < 110 and folder.name.isascii() for folder in folders)


def test_a_fixture_that_is_requested_too_late_is_one_sentence(
    pytester: pytest.Pytester, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repository / "test_late.py", "def test_late(request):\n    request.getfixturevalue('host')\n")
    monkeypatch.chdir(repository)

    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", plugins=[WithoutBoots(repository)])

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["request.getfixturevalue() asked for a fixture of Bootproof when*"])
    result.stdout.no_fnmatch_line("*fixtures.py*")
