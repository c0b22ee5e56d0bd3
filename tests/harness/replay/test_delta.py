"""Delta debugging, over parts and over versions, with oracles whose answers are given."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from math import ceil, log2

import pytest

from harness.replay.delta import TryOutcome, ddmin, neighbours

PARTS = tuple("abcdefgh")


class Causes:
    """An oracle: bad if all parts of one of the ``causes`` are taken. It counts what it is asked."""

    def __init__(self, *causes: str, unresolved: Callable[[set[str]], bool] = lambda _: False) -> None:
        self.causes, self.unresolved = [set(cause) for cause in causes], unresolved
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, parts: tuple[str, ...], /) -> TryOutcome:
        self.asked.append(parts)
        if any(cause <= set(parts) for cause in self.causes):
            return TryOutcome.BAD
        return TryOutcome.UNRESOLVED if self.unresolved(set(parts)) else TryOutcome.GOOD


@pytest.mark.parametrize("cause", [*PARTS, "ab", "ah", "dg", "ach", "bcf", "abcdefgh"])
def test_the_parts_that_only_together_fail_are_found(cause: str) -> None:
    assert "".join(ddmin(PARTS, Causes(cause))) == cause


@pytest.mark.parametrize("order", list(permutations("abcd")))
def test_the_result_does_not_depend_on_the_order(order: tuple[str, ...]) -> None:
    assert set(ddmin(order, Causes("bd"))) == {"b", "d"}


def test_one_of_two_independent_causes_is_found() -> None:
    assert "".join(ddmin(PARTS, Causes("bc", "g"))) in ("bc", "g")


@pytest.mark.parametrize("cause", PARTS)
def test_one_cause_is_found_by_halving(cause: str) -> None:
    oracle = Causes(cause)

    ddmin(PARTS, oracle)

    assert len(oracle.asked) <= 2 * ceil(log2(len(PARTS)))


@pytest.mark.parametrize("cause", ["ab", "ah", "adh", "abcdefgh"])
def test_tries_stay_below_the_published_bound_and_none_is_repeated(cause: str) -> None:
    oracle = Causes(cause)

    ddmin(PARTS, oracle)

    assert len(oracle.asked) <= len(PARTS) ** 2 + 3 * len(PARTS)
    assert len(oracle.asked) == len({frozenset(parts) for parts in oracle.asked})
    assert () not in oracle.asked
    assert PARTS not in oracle.asked


def test_the_result_is_minimal_where_mixes_are_unresolved() -> None:
    """Such as a kernel without its modules: b and c are unresolved unless both are taken."""
    oracle = Causes("bc", unresolved=lambda taken: len(taken & {"b", "c"}) == 1)

    assert ddmin(PARTS, oracle) == ("b", "c")


def test_a_single_part_is_returned_without_a_try() -> None:
    oracle = Causes("a")

    assert ddmin("a", oracle) == ("a",)
    assert oracle.asked == []


@pytest.mark.parametrize("first_bad", range(1, 9))
def test_the_first_bad_version_is_found_by_halving(first_bad: int) -> None:
    tried: list[int] = []

    def try_version(at: int) -> TryOutcome:
        tried.append(at)
        return TryOutcome.BAD if at >= first_bad else TryOutcome.GOOD

    assert neighbours(9, try_version) == (first_bad - 1, first_bad)
    assert len(tried) <= 3


def test_unresolved_versions_are_skipped() -> None:
    outcomes = {1: TryOutcome.GOOD, 2: TryOutcome.UNRESOLVED, 3: TryOutcome.UNRESOLVED, 4: TryOutcome.BAD}

    assert neighbours(6, lambda at: outcomes[at]) == (1, 4)
