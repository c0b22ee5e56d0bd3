"""Values made once in a run: by one process while the others wait, and not again after a failure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.core.errors import Blame, ImageError
from harness.model.verdict import Finding
from harness.store.memo import FailedBefore, once


def test_who_asks_later_gets_what_was_found_out_first(tmp_path: Path) -> None:
    made = [once("it", tmp_path / "it.json", dict[str, int], lambda: {"a": 1}) for _ in range(2)]
    again = once("it", tmp_path / "it.json", dict[str, int], lambda: {"b": 2})

    assert [*made, again] == [{"a": 1}] * 3


def test_a_failure_is_told_and_not_repeated(tmp_path: Path) -> None:
    def fail() -> dict[str, int]:
        raise ImageError("the disk\nis flat")

    with pytest.raises(ImageError):
        once("it", tmp_path / "it.json", dict[str, int], fail)
    with pytest.raises(FailedBefore, match="it failed earlier in this run and is not tried again: the disk") as caught:
        once("it", tmp_path / "it.json", dict[str, int], lambda: {"a": 1})

    assert caught.value.blame is Blame.IMAGE
    assert caught.value.finding is None


def test_the_finding_of_a_failure_is_remembered(tmp_path: Path) -> None:
    finding = Finding(id="boot-hangs", what="it hangs", where="m, boot 1 (direct)")

    def fail() -> dict[str, int]:
        error = ImageError("m: it hangs")
        error.finding = finding  # type: ignore[attr-defined]  # as BootFailed has it, of a package above
        raise error

    with pytest.raises(ImageError):
        once("it", tmp_path / "it.json", dict[str, int], fail)
    with pytest.raises(FailedBefore) as caught:
        once("it", tmp_path / "it.json", dict[str, int], dict)

    assert caught.value.finding == finding


def test_what_a_killed_one_left_is_out_of_the_way(tmp_path: Path) -> None:
    (tmp_path / "data.raw").write_bytes(b"half")
    (tmp_path / "lab").mkdir()

    def make() -> list[str]:
        return [path.name for path in tmp_path.iterdir()]

    assert once("it", tmp_path / "it.json", list[str], make) == []
    assert json.loads((tmp_path / "it.json").read_text()) == []
