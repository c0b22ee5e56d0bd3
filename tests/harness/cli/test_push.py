"""push: its output, and errors for wrong input."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.main import main

from ..proven import Proven


@pytest.fixture
def proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proven:
    monkeypatch.setenv("BOOTPROOF_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return Proven(tmp_path)


def test_several_are_sent_and_each_line_says_what_was_there(proven: Proven, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = proven.artifacts("1"), proven.artifacts("2")

    assert main(["push", str(one.folder), "tree"]) == 0
    assert main(["push", str(one.folder), str(two.folder), "tree"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        f"site 1 ({one.digest}) sent to tree",
        f"site 1 ({one.digest}) already in tree",
        f"site 2 ({two.digest}) sent to tree",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["1" * 64, "tree"], "no artifacts '1111"),
        (["artifacts-1", "http://127.0.0.1/x"], "a web server cannot be written; name the folder that it serves"),
    ],
)
def test_what_cannot_be_sent_is_one_sentence(
    proven: Proven, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    proven.artifacts("1")

    assert main(["push", *words]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
