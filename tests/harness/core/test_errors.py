"""Errors: their message, and their way between processes."""

from __future__ import annotations

import pickle

import pytest

from harness.core.errors import BootproofError, DefinitionError, HostError, UsageError
from harness.core.process import CommandFailed


@pytest.mark.parametrize(
    "error",
    [
        UsageError("no hardware 'x'", remedy="known: sata-bios"),
        HostError("no space left"),
        DefinitionError("image.toml", "boot.paths", "is empty", "name one"),
        CommandFailed(("false", "a b"), 1, "out of luck", "/tmp/log"),
    ],
)
def test_an_error_is_the_same_in_another_process(error: BootproofError) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert (str(copy), copy.problem, copy.remedy) == (str(error), error.problem, error.remedy)


def test_the_message_has_the_problem_and_the_remedy() -> None:
    error = UsageError("no hardware 'x'", remedy="known: sata-bios")

    assert (error.problem, error.remedy) == ("no hardware 'x'", "known: sata-bios")
    assert str(error) == "no hardware 'x'; known: sata-bios"
    assert str(UsageError("no hardware 'x'")) == "no hardware 'x'"
