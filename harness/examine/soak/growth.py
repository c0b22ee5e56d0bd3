"""Whether a series of samples grows without end, or levels off: pure statistics.

What is returned now and then (a heap, a file that is rotated) goes up and down, so not the samples are judged but what
lies below all later ones: it only rises, and it stands still while something is merely used. A leak must

- rise in each part of the time, by increments whose mean is above zero with 99 % confidence (Student's t),
- not slow down: its rate at the end is three quarters of its mean rate or more, in a parabola fitted by least squares.
  A cache that approaches its size with a time constant of up to 1.7 times the observed time is slower than that;
- not have stopped: it stands still at the end no more than twice as long as ever before;
- not have been given back: what was above it at any time is less than it grew by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import fsum
from operator import mul
from statistics import fmean, stdev

Point = tuple[float, float]
"""A moment, in any unit, and what was measured then."""

_PARTS = 5
_T99_ONE_SIDED = {2: 6.965, 3: 4.541, 4: 3.747, 5: 3.365}
_T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571}
"""Quantiles of Student's t distribution by degrees of freedom."""
_LEAST_POINTS = 8
_WARM_UP = 0.15
_LEAST_SPAN = 0.5
_BEGUN = 0.05
_LEAST_LAST_RATE = 0.75
_MOST_STILL = 2.0
_LEAST_RISE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What grows by ``rate`` a unit of time, with 95 % confidence between ``low`` and ``high`` if these differ; it grew
    by ``total`` while it was watched."""

    rate: float
    low: float
    high: float
    total: float

    def fills_after(self, room: float) -> float:
        """The time until ``room`` is used up; 0 if there is none."""
        return max(0.0, room) / self.rate


def growth(points: Sequence[Point], *, warm_up: float = _WARM_UP, parts: int = _PARTS) -> Growth | None:
    """How ``points``, in the order of time, grow without end; None if they do not.

    The first ``warm_up`` of their time is left out: what has just been started fills its caches. So is the time before
    the growth began, if that is less than half of the rest.
    """
    if len(points) < _LEAST_POINTS:
        return None
    whole_s = points[-1][0] - points[0][0]
    warm = _begun([point for point in points if point[0] - points[0][0] >= warm_up * whole_s])
    floor = floor_of(warm)
    span = floor[-1][0] - floor[0][0]
    if len(floor) < _LEAST_POINTS or span < _LEAST_SPAN * whole_s or has_stopped(floor):
        return None
    if max(value - low for (_, value), (_, low) in zip(points, floor_of(points), strict=True)) >= total_of(floor):
        return None
    increments = _increments(floor, parts)
    if min(increments) <= 0:
        return None
    margin = _T99_ONE_SIDED[parts - 1] * stdev(increments) / math.sqrt(parts)
    if fmean(increments) <= margin or last_rate(floor) < _LEAST_LAST_RATE:
        return None
    return of_rates([increment * parts / span for increment in increments], total_of(floor))


def of_rates(rates: Sequence[float], total: float) -> Growth:
    """The growth that was measured at these ``rates``, each over a time of about the same length; without bounds if
    there is only one."""
    rate, freedom = fmean(rates), len(rates) - 1
    margin = _T95[min(freedom, 5)] * stdev(rates) / math.sqrt(len(rates)) if freedom else 0.0
    return Growth(rate=rate, low=rate - margin, high=rate + margin, total=total)


def floor_of(points: Sequence[Point]) -> list[Point]:
    """For each moment the least that was measured from then on."""
    least, found = math.inf, list[Point]()
    for moment, value in reversed(points):
        least = min(least, value)
        found.append((moment, least))
    return found[::-1]


def _begun(points: Sequence[Point]) -> Sequence[Point]:
    """The points from the last one before a twentieth of the growth was seen."""
    floor = floor_of(points)
    if not floor:
        return points
    mark = floor[0][1] + _BEGUN * (floor[-1][1] - floor[0][1])
    later = next((number for number, (_, value) in enumerate(floor) if value > mark), 0)
    return points[max(0, later - 1) :]


def total_of(floor: Sequence[Point]) -> float:
    """By how much it grew."""
    return floor[-1][1] - floor[0][1]


def has_stopped(floor: Sequence[Point]) -> bool:
    """Whether it has stood still at the end for more than twice as long as ever before."""
    rises, mark = list[float](), floor[0][1]
    for moment, value in floor:
        if value > mark + _LEAST_RISE * total_of(floor):
            rises.append(moment)
            mark = value
    if not rises:
        return True
    gaps = [later - before for before, later in pairwise([floor[0][0], *rises])]
    sampled = max(later[0] - before[0] for before, later in pairwise(floor))
    return floor[-1][0] - rises[-1] > _MOST_STILL * max(*gaps, sampled)


def _increments(floor: Sequence[Point], parts: int) -> list[float]:
    """By how much it grew in each of so many equal parts of its time."""
    begin, end = floor[0][0], floor[-1][0]
    edges = [value_at(floor, begin + (end - begin) * number / parts) for number in range(parts + 1)]
    return [later - before for before, later in pairwise(edges)]


def value_at(points: Sequence[Point], moment: float) -> float:
    """Between two points, on the line that connects them."""
    for (before, low), (after, high) in pairwise(points):
        if moment <= after:
            return low + (high - low) * (moment - before) / (after - before)
    return points[-1][1]


def last_rate(points: Sequence[Point]) -> float:
    """The rate at the end as a share of the mean rate, in the parabola that fits best; the points must grow.

    Orthogonal polynomials over the scaled time -1 to 1: 1, x, x² - mean(x²), less the part that x explains.
    """
    begin, end = points[0][0], points[-1][0]
    times = [2 * (moment - begin) / (end - begin) - 1 for moment, _ in points]
    values = [value for _, value in points]
    first = _without(times, [1.0] * len(times))
    second = _without(_without([time * time for time in times], [1.0] * len(times)), first)
    b = _projection(values, first)
    c = _projection(values, second)
    # d/dx of b·x + c·(x² + p·x + q) at x = 1, over its mean on -1 to 1, where p comes from taking x out of x²
    p = -_projection([time * time for time in times], first)
    mean = b + c * p
    return (mean + 2 * c) / mean


def _without(vector: Sequence[float], other: Sequence[float]) -> list[float]:
    share = _projection(vector, other)
    return [one - share * two for one, two in zip(vector, other, strict=True)]


def _projection(vector: Sequence[float], other: Sequence[float]) -> float:
    return fsum(map(mul, vector, other)) / fsum(map(mul, other, other))
