"""Text for people, and text from anywhere made fit to show."""

from __future__ import annotations

import pytest

from harness.core.text import ago, clean, escaped, plain, size


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(0, "0 KiB"), (5 << 10, "5 KiB"), (3 << 20, "3 MiB"), (3 << 29, "1.5 GiB")]
)
def test_sizes(size_bytes: int, text: str) -> None:
    assert size(size_bytes) == text


@pytest.mark.parametrize(
    ("age_s", "text"), [(59, "just now"), (60, "1 minute ago"), (7200, "2 hours ago"), (86400 * 3, "3 days ago")]
)
def test_ages(age_s: float, text: str) -> None:
    assert ago(age_s) == text


def test_colours_titles_and_carriage_returns_are_removed() -> None:
    assert plain("\x1b[0;1;31m[FAILED]\x1b[0m x\r\x1b]104\x07") == "[FAILED] x"


def test_questions_to_the_terminal_are_removed_and_hide_no_line_if_they_do_not_end() -> None:
    assert plain("\x1bP+q6E616D65\x1b\\\n[FAILED] x\x1bP+q\n[FAILED] y\x07") == "\n[FAILED] x+q\n[FAILED] y"


def test_controls_and_halves_of_characters_are_removed_but_lines_stay() -> None:
    assert clean("a\x1b[1mb\x08\x7f\nc\ud800") == "ab\nc?"


def test_what_is_not_printable_is_escaped() -> None:
    assert escaped("a b") == "a b"
    assert escaped("a\nb\x1b\ud800") == "a\\nb\\x1b\\ud800"
