"""Intervals against published or exact values."""

from __future__ import annotations

import random

import pytest

from harness.core.statistics import expected_rate, median_interval, share_interval


@pytest.mark.parametrize(
    ("count", "of", "interval"),
    [(0, 10, (0.0, 0.278)), (10, 10, (0.722, 1.0)), (81, 263, (0.255, 0.366)), (1, 1, (0.207, 1.0))],
)
def test_a_share_has_wilsons_interval(count: int, of: int, interval: tuple[float, float]) -> None:
    """81 of 263 is the example of R. G. Newcombe, Statistics in Medicine 17 (1998) 857, table I."""
    assert share_interval(count, of) == interval


def test_the_interval_of_a_median_holds_it_and_narrows_with_more_values() -> None:
    draw = random.Random(1)
    few, many = ([draw.gauss(10, 1) for _ in range(count)] for count in (5, 200))

    low, high = median_interval(many)

    assert low < 10 < high
    assert high - low < median_interval(few)[1] - median_interval(few)[0]
    assert median_interval(many) == (low, high)
    assert median_interval([3.0] * 4) == (3.0, 3.0)


def test_a_rate_is_never_expected_to_be_0_or_1() -> None:
    assert expected_rate(0, 3) == 0.2
    assert expected_rate(3, 3) == 0.8
