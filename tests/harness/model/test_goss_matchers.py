"""The matchers of goss files accept what goss accepts, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from harness.model.goss_matchers import KNOWN, NotComparable, matches, problem_of, problem_of_patterns, unmet

ACCEPTED: list[tuple[Any, Any]] = [
    ("foo", "foo"),
    ("42", 42),
    (42, "42"),
    (42, "42\n"),
    (1.1, "1.10"),
    (True, True),
    (["b", "a"], ["a", "b", "c"]),
    ("a\nb", ["a", "b"]),
    ({"equal": ["a", "b"]}, ["a", "b"]),
    ({"have-prefix": "pre"}, "prefix"),
    ({"have-suffix": "fix"}, "prefix"),
    ({"contain-substring": "2"}, 42),
    ({"match-regexp": r"^\d{2}$"}, 42),
    ({"gt": 40}, "42"),
    ({"ge": 42}, 42),
    ({"lt": 42.5}, 42),
    ({"le": 42}, 42),
    ({"have-len": 3}, "abc"),
    ({"have-len": 2}, ["a", "b"]),
    ({"have-key": "foo"}, {"foo": 1}),
    ({"have-patterns": ["foo", "!bar"]}, "a foo\nb"),
    ({"contain-element": "a"}, ["a", "b"]),
    ({"contain-element": {"have-prefix": "b"}}, "a\nbc"),
    ({"contain-element": {"gt": 5}}, ["x", "6"]),
    ({"contain-elements": ["a", {"have-prefix": "b"}]}, ["a", "bc", "d"]),
    ({"consist-of": [{"have-prefix": "a"}, "ab"]}, ["ab", "ac"]),
    ({"not": "FAIL"}, "OK"),
    ({"and": [{"gt": 1}, {"lt": 3}]}, 2),
    ({"or": ["a", "b"]}, "b"),
    ([{"contain-substring": "4"}, {"and": [{"ge": 46}, {"le": 50}]}], ["45", "46"]),
]
REFUSED: list[tuple[Any, Any]] = [
    ("foo", "foo\n"),
    (42, "43"),
    (True, False),
    (True, "true"),
    (False, 0),
    (["a", "a"], ["a", "b"]),
    ({"equal": ["b", "a"]}, ["a", "b"]),
    ({"equal": 1}, True),
    ({"have-prefix": "x"}, "prefix"),
    ({"have-suffix": "y"}, "prefix"),
    ({"contain-substring": "3"}, 42),
    ({"match-regexp": r"^\d$"}, 42),
    ({"match-regexp": r"\d"}, "٣"),
    ({"gt": 42}, "42"),
    ({"ge": 43}, 42),
    ({"lt": 42}, 42),
    ({"le": 41}, 42),
    ({"have-len": 2}, "abc"),
    ({"have-key": "bar"}, {"foo": 1}),
    ({"have-patterns": ["!foo"]}, "a foo\nb"),
    ({"contain-element": "c"}, ["a", "b"]),
    ({"contain-elements": ["a", "c"]}, ["a", "b"]),
    ({"consist-of": ["a"]}, ["a", "b"]),
    ({"consist-of": ["ab", {"have-prefix": "ab"}]}, ["ab", "ac"]),
    ({"not": "OK"}, "OK"),
    ({"and": [{"gt": 1}, {"lt": 2}]}, 2),
    ({"or": ["a", "b"]}, "c"),
]


@pytest.mark.parametrize(("wanted", "seen"), ACCEPTED)
def test_a_matcher_accepts_what_goss_accepts(wanted: Any, seen: Any) -> None:
    assert problem_of(wanted) == ""
    assert matches(wanted, seen)


@pytest.mark.parametrize(("wanted", "seen"), REFUSED)
def test_a_matcher_refuses_what_goss_refuses(wanted: Any, seen: Any) -> None:
    assert problem_of(wanted) == ""
    assert not matches(wanted, seen)


def test_each_matcher_is_tried_both_ways() -> None:
    for rows in (ACCEPTED, REFUSED):
        assert {next(iter(wanted)) for wanted, _ in rows if isinstance(wanted, dict)} == set(KNOWN)


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [
        (42, "many"),
        ({"not": {"gt": 5}}, "many"),
        ({"not": {"contain-element": {"gt": 5}}}, ["a", "b"]),
        ({"contain-element": "a"}, 42),
        ({"have-len": 1}, 42),
        ({"gt": 0}, True),
    ],
)
def test_what_cannot_be_compared_fails_also_inside_of_not(wanted: Any, seen: Any) -> None:
    with pytest.raises(NotComparable):
        matches(wanted, seen)


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"gt": 1, "lt": 3}, "has 2 matchers (gt, lt); write one, or and: [ … ]"),
        ({"gjson": {"a": 1}}, "'gjson' is not a matcher that Bootproof has; it has have-prefix"),
        ({"have-prefix": 1}, "have-prefix needs a string, not 1; write it in quotes"),
        ({"match-regexp": "("}, "'(' is not a regular expression: "),
        ({"match-regexp": "[[:alpha:]]"}, "has a class such as [:alpha:], which is not read"),
        ({"gt": "1"}, "gt needs a number, not '1'"),
        ({"gt": True}, "gt needs a number, not True"),
        ({"and": {"gt": 1}}, "and needs a list, as and: [ … ]"),
        ({"and": [{"or": [{"gt": None}]}]}, "gt needs a number, not None"),
        ({"not": None}, "None is not a string, a number, a list or a matcher"),
        ({"have-patterns": "x"}, "needs a list of patterns"),
        ([{1: 2}], "1 is not a matcher"),
    ],
)
def test_what_is_wrong_with_a_matcher_is_a_sentence(wanted: Any, problem: str) -> None:
    assert problem in problem_of(wanted)


def test_a_matcher_in_itself_has_an_end() -> None:
    endless: list[Any] = []
    endless.append(endless)

    assert problem_of(endless) == "is nested too deeply"


@pytest.mark.parametrize(
    ("pattern", "is_met"),
    [
        ("foo", True),
        ("nothing", False),
        ("!nothing", True),
        ("!foo", False),
        (r"\!important", True),
        (r"\/usr", True),
        ("/usr/bin", True),
        ("/^foo \\w+$/", True),
        ("/^bar/", False),
        ("!/^bar/", True),
        ("!/^foo/", False),
        ("/^FOO/", False),
        ("/^FOO/i", True),
        ("", True),
    ],
)
def test_patterns_are_parts_of_lines_or_regular_expressions(pattern: str, *, is_met: bool) -> None:
    text = "foo bar\r\nvery !important\nin /usr/bin\n"

    assert (unmet([pattern], text) == []) is is_met


def test_an_empty_text_meets_only_what_it_may_not_have() -> None:
    assert unmet(["", "!x", "x", "/^$/"], "") == ["x", "/^$/"]


@pytest.mark.parametrize(
    ("patterns", "problem"),
    [("x", "needs a list"), ([1], "1 is not a pattern; write it in quotes"), (["/(/"], "is not a regular expression")],
)
def test_what_is_wrong_with_a_pattern_is_a_sentence(patterns: Any, problem: str) -> None:
    assert problem in problem_of_patterns(patterns)
