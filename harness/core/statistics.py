"""The statistics in use: three formulas that do not justify scipy, which takes 60 MB."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import median

_Z95 = 1.959964
"""95 % of a normal distribution lie within so many standard deviations of its mean."""
_RESAMPLES = 2000


def share_interval(count: int, of: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share of which ``count`` in ``of`` were seen; ``of`` is 1 or more.

    Wilson's score interval (E. B. Wilson, JASA 22 (1927) 209), which is valid for few observations and for none.
    """
    share, z2 = count / of, _Z95**2
    centre = (share + z2 / (2 * of)) / (1 + z2 / of)
    spread = _Z95 / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of**2))
    return round(max(0.0, centre - spread), 3), round(min(1.0, centre + spread), 3)


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the median of ``values``, by bootstrap with a fixed seed."""
    draw = random.Random(len(values))
    medians = sorted(median(draw.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    tail = 0.05 / 2
    return medians[int(tail * _RESAMPLES)], medians[int((1 - tail) * _RESAMPLES) - 1]


def expected_rate(seen: int, tried: int) -> float:
    """The rate to expect after ``seen`` of ``tried``, never 0 or 1: Laplace's rule of succession."""
    return (seen + 1) / (tried + 2)
