"""The documentation teaches only what exists, and names every fault, check, boot path and hardware profile."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest

import harness
from harness.cli.main import main
from harness.machine.machine import Machine
from harness.model import hardware
from harness.model.finding_catalog import explanations
from harness.model.machine_spec import BootPath, DiskFault
from harness.model.network_faults import HttpFault, HttpFaultKind, known
from harness.verdict.coverage import known_checks

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
FOR_MAINTAINERS = ("architecture.md", "CONTRIBUTING.md")
FOREIGN_OPTIONS = {
    "--array", "--base", "--dependency", "--device", "--now", "--no-deps", "--vars", "--live", "--tls", "--persistent",
    "--undefinesource", "--copy-storage-all", "--migrateuri",
}  # fmt: skip
"""Of other programs, and of tests/system."""
GROUPS = ("attest", "store")
"""Commands with commands of their own."""

COMMAND = re.compile(
    r"^ {4}(?:\$ )?(?:[A-Z_]+=\S+ )*((?:bootproof|pytest|make) .*?)(?: {2,}#.*| +>\S+)?$", re.MULTILINE
)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]\b")
FILE = re.compile(r"`([\w./-]+\.(?:py|toml)|docs/[\w./-]+)(?=[`,])")
CLASS = re.compile(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)*)`")
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def _page(name: str) -> Path:
    return next(page for page in PAGES if page.name == name)


@cache
def _pytest_options() -> set[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return set(OPTION.findall(done.stdout))


@cache
def _help(*words: str) -> str:
    """What ``bootproof WORDS --help`` prints."""
    printed = io.StringIO()
    with redirect_stdout(printed), pytest.raises(SystemExit) as end:
        main([*words, "--help"])
    assert end.value.code == 0, words
    return printed.getvalue()


def _command(words: list[str]) -> list[str]:
    """The command in a command line, with the command of a group."""
    return words[:2] if words[0] in GROUPS and words[1:2] and not words[1].startswith("-") else words[:1]


def _slug(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


def _cells(page: Path, heading: str, column: int = 0) -> Iterator[str]:
    """What stands between backquotes in a column of the tables below a heading."""
    section = page.read_text("utf-8").partition(f"# {heading}\n")[2]
    for row in re.findall(r"^\|(.*)\|$", re.split(r"^#", section, maxsplit=1, flags=re.MULTILINE)[0], re.MULTILINE):
        yield from re.findall(r"`([^`]+)`", row.split("|")[column])


@each_page
def test_each_command_has_the_options_that_a_page_shows(page: Path) -> None:
    for line in COMMAND.findall(page.read_text("utf-8")):
        program, *words = shlex.split(line)
        own, _, pytests = line.partition(" -- ")
        assert set(OPTION.findall(pytests)) <= _pytest_options(), line
        options = set(OPTION.findall(own))
        if program == "make":
            assert f"\n{words[0]}:" in (ROOT / "Makefile").read_text("utf-8"), line
        elif program == "bootproof":
            assert options <= set(OPTION.findall(_help(*_command(words)))), line
        else:
            assert options <= _pytest_options(), line


@each_page
def test_each_option_named_in_a_page_exists(page: Path) -> None:
    commands = re.findall(r"^ {4,}(\w+) ", _help(), re.MULTILINE)
    assert "boot" in commands
    known_options = _pytest_options() | FOREIGN_OPTIONS | {"--help"}
    for name in (*commands, "store prune", "attest key", "attest sign", "attest verify"):
        known_options |= set(OPTION.findall(_help(*name.split())))

    assert set(OPTION.findall(page.read_text("utf-8"))) - known_options == set()


def test_next_steps_of_findings_name_commands_with_their_options() -> None:
    steps = [step for about in explanations().values() for step in about.next]
    commands = [found for step in steps for found in re.findall(r"bootproof (\w+)([^,:]*)", step)]

    assert {"replay", "boot", "diff", "doctor"} <= {name for name, _ in commands}
    for name, rest in commands:
        assert set(OPTION.findall(rest)) <= set(OPTION.findall(_help(name))), (name, rest)


@each_page
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for place, anchor in LINK.findall(page.read_text("utf-8")):
        target = page.parent / place if place else page
        assert target.exists(), place
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in map(_slug, headings), f"{place}#{anchor}"


@each_page
def test_files_named_in_a_page_exist(page: Path) -> None:
    folders = (ROOT, page.parent, ROOT / "harness")
    for name in FILE.findall(page.read_text("utf-8")):
        beside = any((folder / name).exists() for folder in folders)
        somewhere = "/" not in name and any(
            next((ROOT / folder).rglob(name), None) for folder in ("harness", "tests", "images", "docs")
        )
        assert beside or somewhere, name


def test_classes_named_for_maintainers_exist() -> None:
    source = "".join(file.read_text("utf-8") for file in (ROOT / "harness").rglob("*.py"))
    named = {name for page in FOR_MAINTAINERS for name in CLASS.findall(_page(page).read_text("utf-8"))}

    assert len(named) > 20
    assert (
        sorted(name for name in named - {"Protocol"} if not re.search(rf"^class {name}\b", source, re.MULTILINE)) == []
    )


@each_page
def test_make_targets_named_in_a_page_exist(page: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)

    assert set(re.findall(r"`make ([\w-]+)", page.read_text("utf-8"))) - set(targets) == set()


@each_page
def test_pages_for_users_import_only_public_names(page: Path) -> None:
    text = page.read_text("utf-8")
    names = {name for row in re.findall(r"^from harness import (.*)$", text, re.MULTILINE) for name in row.split(", ")}

    assert names <= set(harness.__all__)
    if page.name not in FOR_MAINTAINERS:
        assert re.findall(r"^(?:from|import) harness\..*$", text, re.MULTILINE) == []


def test_every_network_fault_is_in_its_table() -> None:
    listed = set(_cells(DOCS / "network-faults.md", "All faults"))
    wanted = {fault.name for fault in known().values() if not isinstance(fault, HttpFault)}
    wanted |= {f"http-{kind}-FILE" for kind in HttpFaultKind}

    assert {name for name in listed if "=" not in name} == wanted
    assert set(_cells(DOCS / "network-faults.md", "All faults", 3)) <= set(explanations())


def test_every_disk_fault_is_in_its_table() -> None:
    assert set(_cells(DOCS / "data.md", "Disk faults")) == set(DiskFault)


def test_every_hardware_profile_is_in_its_table() -> None:
    assert set(_cells(DOCS / "hardware.md", "Hardware profiles: testing on machines like yours")) == {*hardware.names()}


def test_every_boot_path_is_in_its_table() -> None:
    assert set(_cells(DOCS / "images.md", "Boot paths")) == set(BootPath)


def test_every_check_is_named_on_the_page_about_verdicts() -> None:
    text = (DOCS / "verdict.md").read_text("utf-8")

    assert [check for check in known_checks() if f"`{check}`" not in text] == []


def test_the_fixtures_and_verbs_that_tests_are_promised_exist() -> None:
    fixtures = "".join(file.read_text("utf-8") for file in ROOT.glob("fixtures/*.py"))
    verbs = [cell.partition("(")[0] for cell in _cells(DOCS / "tests.md", "A machine of your own")]

    assert [name for name in _cells(DOCS / "tests.md", "Fixtures") if f"def {name}(" not in fixtures] == []
    assert [verb for verb in verbs if not hasattr(Machine, verb)] == ["machine."]


def test_a_row_that_is_missing_or_an_unknown_file_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Faults\n\n| fault |\n|---|\n| `a`, `b` |\n\n# More\n\n| `c` |\n\n`harness/no/such.py`, `--x`\n")

    assert list(_cells(page, "Faults")) == ["a", "b"]
    with pytest.raises(AssertionError, match="no/such"):
        test_files_named_in_a_page_exist(page)
