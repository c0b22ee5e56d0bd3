"""A leak is told from what levels off, is given back, or only varies."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from harness.examine.soak.growth import Growth, Point, floor_of, growth, last_rate

WHOLE_S, LOOKS, TRIES = 600.0, 70, 40
Curve = Callable[[float], float]


def measured(curve: Curve, noise: float = 0.02, seed: int = 1) -> list[Point]:
    """Looks at ``curve``, not quite regular, with errors that are normally distributed."""
    draw = random.Random(seed)
    times = [number * WHOLE_S / LOOKS + draw.uniform(-2, 2) for number in range(LOOKS)]
    return [(time, curve(time) + draw.gauss(0, noise)) for time in times]


def found(curve: Callable[[random.Random], Curve], noise: float = 0.02) -> int:
    """Of `TRIES` such series, how many are called a leak."""
    return sum(growth(measured(curve(random.Random(seed)), noise, seed)) is not None for seed in range(TRIES))


def steps_of(length_s: float) -> Callable[[random.Random], Curve]:
    """A leak of one a minute, in steps that begin at any moment."""

    def make(draw: random.Random) -> Curve:
        begin = draw.uniform(0, length_s)
        return lambda time: math.floor((time + begin) / length_s) * length_s / 60

    return make


def teeth_of(length_s: float, leak: float = 0.0) -> Callable[[random.Random], Curve]:
    """What is given back whenever it has reached 5, on top of a leak."""

    def make(draw: random.Random) -> Curve:
        begin = draw.uniform(0, length_s)
        return lambda time: (time + begin) % length_s / length_s * 5 + leak * time / 60

    return make


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_a_steady_leak_is_found_with_its_rate(noise: float) -> None:
    assert found(lambda _: lambda time: time / 60, noise) == TRIES

    leak = growth(measured(lambda time: time / 60, noise))
    assert isinstance(leak, Growth)
    assert leak.low <= leak.rate <= leak.high
    assert leak.rate * 60 == pytest.approx(1, abs=0.15)
    assert leak.fills_after(100) == pytest.approx(6000, rel=0.15)


@pytest.mark.parametrize("length_s", [10, 30, 60, 75])
def test_a_leak_in_steps_is_found(length_s: float) -> None:
    assert found(steps_of(length_s)) == TRIES


@pytest.mark.parametrize("begin_s", [60, 120, 200])
def test_a_leak_that_begins_later_is_found(begin_s: float) -> None:
    assert found(lambda _: lambda time: max(0.0, time - begin_s) / 60) == TRIES


def test_a_leak_below_a_heap_that_is_collected_is_found_mostly() -> None:
    assert found(teeth_of(40, leak=1.0)) > TRIES / 2


@pytest.mark.parametrize("constant_s", [30, 60, 120, 300, 600])
def test_a_cache_that_approaches_its_size_is_no_leak(constant_s: float) -> None:
    assert found(lambda _: lambda time: 10 * (1 - math.exp(-time / constant_s))) == 0


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8, 0.85])
def test_a_cache_that_has_its_size_before_the_end_is_no_leak(share: float) -> None:
    assert found(lambda _: lambda time: min(time, share * WHOLE_S) / 60) == 0


@pytest.mark.parametrize("curve", [lambda time: math.log(time + 10), lambda time: math.sqrt(max(time, 0))])
def test_what_slows_down_is_no_leak(curve: Curve) -> None:
    assert found(lambda _: curve) == 0


@pytest.mark.parametrize("length_s", [50, 100, 200, 300, 450, 590])
def test_what_is_given_back_or_rotated_is_no_leak(length_s: float) -> None:
    assert found(teeth_of(length_s)) == 0


def test_noise_and_a_single_step_are_no_leak() -> None:
    assert found(lambda _: lambda _: 0.0, noise=1.0) == 0
    assert found(lambda draw: (lambda at: lambda time: float(time > at))(draw.uniform(0, WHOLE_S))) == 0


def test_a_wandering_heap_is_rarely_a_leak() -> None:
    def wander(seed: int) -> list[Point]:
        draw, value = random.Random(seed), 0.0
        points = list[Point]()
        for number in range(LOOKS):
            value += draw.gauss(0, 1)
            points.append((number * WHOLE_S / LOOKS, value))
        return points

    assert sum(growth(wander(seed)) is not None for seed in range(400)) <= 16


def test_few_points_prove_nothing() -> None:
    assert growth([(float(number), float(number)) for number in range(7)]) is None
    assert growth([]) is None


def test_the_floor_is_what_lies_below_all_later_points() -> None:
    assert floor_of([(0, 3), (1, 1), (2, 4), (3, 2)]) == [(0, 1), (1, 1), (2, 2), (3, 2)]


@pytest.mark.parametrize(
    ("curve", "share"),
    [(lambda time: 2 * time + 1, 1.0), (lambda time: time * time, 2.0)],
)
def test_the_rate_at_the_end_is_that_of_a_parabola(curve: Curve, share: float) -> None:
    assert last_rate([(time, curve(time)) for time in map(float, range(11))]) == pytest.approx(share)
