"""Each finding that Bootproof can make has its page."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.guest.console_patterns import PATTERNS
from harness.lint import own_programs
from harness.lint.leftovers import rules
from harness.model.finding_catalog import explanations, next_step
from harness.verdict.coverage import FLAKE

ROOT = Path(__file__).parents[3]
FILES = [*ROOT.glob("harness/**/*.py"), *ROOT.glob("tests/image/*.py")]
MAKERS = {
    "Finding", "_last_words", "_of_the_harness", "fails", "warns", "report",
    "will_not_boot", "lacks", "changes", "not_told", "fail", "Problem",
}  # fmt: skip
DERIVED = {"build-failed", "check-failed", "state-failed", "unit-not-ready", "host-error", "harness-error", FLAKE}
"""Those that the source does not give in so many words."""


def _made() -> set[str]:
    """What a finding is called where one is made."""
    found = DERIVED | {pattern.id for pattern in PATTERNS} | {one.rule.id for one in rules()}
    found |= {check.id for check in own_programs.checks()}
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in MAKERS:
                named = [word.value for word in node.keywords if word.arg == "id"]
                words = [word.value for word in [*named, *node.args] if isinstance(word, ast.Constant)]
                found |= {word for word in words[:1] if isinstance(word, str)}
    return found


def test_every_finding_is_explained() -> None:
    made = _made()

    assert len(made) >= 55
    assert made - set(explanations()) == set()


def test_every_explanation_is_of_a_finding_that_can_be_made() -> None:
    sources, made = "".join(file.read_text("utf-8") for file in FILES), _made()

    assert [name for name in explanations() if f'"{name}"' not in sources and name not in made] == []


def test_every_finding_is_planted_in_a_real_machine_or_run() -> None:
    """But for an error of the harness's own, which would have to be written first."""
    tests = "".join(file.read_text("utf-8") for file in ROOT.glob("tests/system/*.py"))

    assert [name for name in explanations() if f'"{name}"' not in tests] == ["harness-error"]


def test_a_page_says_what_and_why_and_what_next(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "kexec-hangs"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("kexec-hangs\n    The old kernel handed over")
    assert "\nusually:\n  - " in printed
    assert "\nnext:\n  - " in printed


def test_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(explanations())


def test_an_unknown_one_is_a_sentence_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "kexec-hang"]) == 4
    assert capsys.readouterr().err == "bootproof: no finding or file 'kexec-hang'; did you mean kexec-hangs?\n"


def test_an_exception_has_no_next_step() -> None:
    assert next_step("ValueError") == ""
