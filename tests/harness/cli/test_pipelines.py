"""The example pipelines: they parse, and each command in them exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.main import parser

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "docs" / "pipelines").iterdir())
WORDS = {"github.yml": "jobs", "gitlab-ci.yml": "stages", "zuul.yaml": "project"}


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(inner)


def commands(file: Path) -> list[list[str]]:
    found = [text for document in yaml.safe_load_all(file.read_text()) for text in texts(document)]
    return [shlex.split(text) for text in found if re.match(r"(\.venv/bin/|make )", text)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_example_has_the_format_of_its_system(file: Path) -> None:
    documents = list(yaml.safe_load_all(file.read_text()))

    assert WORDS[file.name] in str(documents[0])
    assert {words[0].rpartition("/")[2] for words in commands(file)} >= {"make", "pytest", "bootproof"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_command_in_an_example_exists(file: Path, pytestconfig: pytest.Config) -> None:
    for program, *arguments in commands(file):
        if program == "make":
            assert f"\n{arguments[0]}:" in (ROOT / "Makefile").read_text()
        elif program.endswith("bootproof"):
            parser().parse_args(arguments)
        else:
            known, unknown = pytestconfig._parser.parse_known_and_unknown_args(arguments)  # pytest has no public one
            assert known.image == ["nova-kvm"]
            assert not unknown
