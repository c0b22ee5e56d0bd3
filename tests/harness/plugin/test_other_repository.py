"""In a repository of somebody else's: what is collected there, and that nothing changes where nobody asks."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.plugin.suite import FOLDER

from .conftest import RunPytest, run_pytest_apart, write

pytest_plugins = ["pytester"]

OWN_TEST = "def test_own(host):\n    assert host.file('/').exists\n"
OWN_CHECK = '\n[[check]]\nname = "has a root"\ncommand = "ls /"\n'
COLLECT = ("--collect-only", "-q", "--image", "theirs")


def test_the_suite_and_the_repositorys_own_tests_are_collected(run_pytest: RunPytest, repository: Path) -> None:
    write(repository / "tests" / "image" / "test_own.py", OWN_TEST)
    write(repository / "tests" / "test_unit.py", "def test_unit(): ...\n")

    status, text = run_pytest(*COLLECT, cwd=repository)

    assert status == 0, text
    assert "harness/suite/test_survival.py::test_data_" in text
    assert "tests/image/test_own.py::test_own[theirs]" in text
    assert "test_unit" not in text


@pytest.mark.parametrize("ini", ["[pytest]\n", "[pytest]\ntestpaths = checks\n"])
def test_without_a_folder_for_them_the_own_tests_are_what_pytest_collects(
    run_pytest: RunPytest, repository: Path, ini: str
) -> None:
    write(repository / "pytest.ini", ini)
    write(repository / "checks" / "test_own.py", OWN_TEST)
    write(repository / "test_unit.py", "def test_unit(): ...\n")

    _, text = run_pytest(*COLLECT, cwd=repository)

    assert "harness/suite/test_links.py::" in text
    assert "checks/test_own.py::test_own[theirs]" in text
    assert ("test_unit.py::test_unit" in text) == ("testpaths" not in ini)


@pytest.mark.parametrize("files", [("etc/os-release", "usr/bin/env"), ("proc/x", "sys/x", "dev/x", "etc/x", "bin/sh")])
def test_tests_of_an_unpacked_root_file_system_are_collected_only_if_asked_for(
    run_pytest: RunPytest, repository: Path, files: tuple[str, ...]
) -> None:
    for file in files:
        write(repository / "build" / "tree" / file, "")
    write(repository / "pytest.ini", "[pytest]\nnorecursedirs = .git\n")
    write(repository / "build" / "tree" / "usr" / "lib" / "python3" / "test" / "test_broken.py", "import _broken\n")
    write(repository / "build" / "test_own.py", OWN_TEST)

    status, text = run_pytest(*COLLECT, cwd=repository)
    asked, _ = run_pytest(*COLLECT, "build/tree/usr/lib", cwd=repository)

    assert status == 0, text
    assert "build/test_own.py::test_own[theirs]" in text
    assert asked == pytest.ExitCode.INTERRUPTED


def test_paths_are_all_that_is_collected_and_an_id_of_the_suite_is_one(run_pytest: RunPytest, repository: Path) -> None:
    write(repository / "tests" / "image" / "test_own.py", OWN_TEST)

    _, own = run_pytest(*COLLECT, "tests/image", cwd=repository)
    _, module = run_pytest(*COLLECT, "harness/suite/test_ssh.py", cwd=repository)
    wanted = "harness/suite/test_services.py::test_service_is_enabled_and_active[theirs-ssh.service]"
    _, one = run_pytest(*COLLECT, wanted, cwd=repository)

    assert "harness/suite" not in own
    assert re.findall(r"^[\w/]+\.py", module, re.MULTILINE) == ["harness/suite/test_ssh.py"] * 2
    assert one.splitlines()[0] == wanted
    assert "1 test collected" in one


def test_unknown_test_of_the_suite_is_one_sentence_and_status_4(run_pytest: RunPytest, repository: Path) -> None:
    status, text = run_pytest(*COLLECT, "harness/suite/test_nothing.py", cwd=repository)

    assert status == 4
    assert "harness/suite/test_nothing.py: no such test in the suite of Bootproof" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("mode", "packages"),
    [
        ("prepend", []),
        ("prepend", ["tests/image"]),
        ("prepend", ["tests", "tests/image"]),
        ("append", []),
        ("importlib", []),
    ],
)
def test_modules_of_the_same_name_do_not_meet(
    run_pytest: RunPytest, repository: Path, mode: str, packages: list[str]
) -> None:
    with (repository / "images" / "theirs" / "image.toml").open("a") as definition:
        definition.write('[[check]]\nname = "a rule"\ncommand = "true"\n')  # so that each module has a test
    for file in FOLDER.glob("test_*.py"):
        write(repository / "tests" / "image" / file.name, OWN_TEST)
    for package in packages:
        write(repository / package / "__init__.py", "")
    with (repository / "images" / "theirs" / "image.toml").open("a", encoding="utf-8") as definition:
        definition.write(OWN_CHECK)  # the suite has a test for each, and none without

    run = run_pytest_apart if "tests" in packages else run_pytest  # here, "tests" is this repository's package
    status, text = run(*COLLECT, "--thorough", f"--import-mode={mode}", cwd=repository)

    assert status == 0, text
    for file in FOLDER.glob("test_*.py"):
        has_tests = file.name != "test_nova.py"  # the definition names no control plane
        assert (f"harness/suite/{file.name}::" in text) is has_tests
        assert f"tests/image/{file.name}::test_own[theirs]" in text


def test_the_repositorys_names_for_tests_are_not_the_suites(run_pytest: RunPytest, repository: Path) -> None:
    write(repository / "pytest.ini", "[pytest]\npython_files = check_*.py\npython_functions = check_*\n")
    write(repository / "tests" / "image" / "check_own.py", OWN_TEST.replace("test_own", "check_own"))

    _, text = run_pytest(*COLLECT, cwd=repository)

    assert "harness/suite/test_links.py::test_location_can_be_written[theirs-/var/local]" in text
    assert "tests/image/check_own.py::check_own[theirs]" in text


def test_a_module_that_names_hosts_is_refused_with_an_image(run_pytest: RunPytest, repository: Path) -> None:
    write(repository / "tests" / "image" / "test_own.py", f"testinfra_hosts = ['local://']\n{OWN_TEST}")

    status, text = run_pytest(*COLLECT, cwd=repository)

    assert status == 4
    assert "testinfra_hosts in its module names a host" in text


STRICT = """
[pytest]
addopts = --strict-markers --strict-config
filterwarnings = error
"""
TESTINFRA = """
import sys
import pytest

testinfra_hosts = ["local://", "local://again"]

@pytest.mark.parametrize("path", ["/", "/nonexistent"])
def test_file(host, path):
    assert host.file(path).exists

def test_nothing_else_was_imported():
    assert not {"aiohttp", "cattrs", "qemu", "harness.plugin.hooks", "harness.plugin.prepare"} & set(sys.modules)

def test_no_host():
    pytest.skip("no reason")
"""


@pytest.mark.parametrize(
    "arguments", [(), ("--hosts=local://",), ("-n2", "--dist=loadfile"), ("--collect-only", "-q")], ids=str
)
def test_without_an_image_nothing_changes(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    write(tmp_path / "tests" / "test_hosts.py", TESTINFRA)
    write(tmp_path / "tests" / "test_local.py", OWN_TEST)
    write(tmp_path / "pytest.ini", STRICT)
    arguments = ("-v", "-rA", "--no-header", *arguments)

    with ThreadPoolExecutor() as pool:
        one, without = pool.map(
            lambda first: run_pytest_apart(*first, *arguments, cwd=tmp_path), [(), ("-p", "no:harness.plugin")]
        )

    assert (one[0], timeless(one[1])) == (without[0], timeless(without[1]))
    assert "test_own[local]" in one[1]
    assert {path.name for path in tmp_path.iterdir()} == {"tests", "pytest.ini"}


def timeless(text: str) -> list[str]:
    """The lines without times and names of workers; those of two workers come in any order, so they are sorted."""
    lines = [re.sub(r"\d+\.\d+s|gw\d|\[ *\d+%\]|=+", "", line) for line in text.splitlines()]
    return sorted(lines) if "workers [" in text else lines
