"""What hosts are told of pytest's options about artifacts, whose places are here."""

from __future__ import annotations

from pathlib import Path

from harness.pool.run import _folders, _without


def test_only_options_with_a_folder_here_are_replaced_on_a_host(tmp_path: Path) -> None:
    built, words = str(tmp_path), ["--image", "base", "--artifacts", "https://tree.example@0123abcd"]

    assert _folders([*words, f"--previous={built}"]) == {"--previous"}
    assert _folders(["--artifacts", built]) >= {"--artifacts"}
    assert _folders(words) == set()


def test_an_option_is_left_out_with_its_value() -> None:
    words = ["--image", "base", "--kernel-arguments", "a b", "--thorough", "--kernel-arguments=c"]

    assert list(_without(words, "--kernel-arguments")) == ["--image", "base", "--thorough"]
