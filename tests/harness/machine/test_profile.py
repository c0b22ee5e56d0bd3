"""The CPU time used until a moment is between the samples around it."""

from __future__ import annotations

import pytest

from harness.core.cpu_use import CpuSample
from harness.machine.profile import used_until

SAMPLES = [CpuSample(10.0, 1.0, 0.0), CpuSample(12.0, 2.0, 0.0), CpuSample(14.0, 6.0, 0.0)]


@pytest.mark.parametrize(
    ("at_s", "used_s"), [(9.0, 1.0), (10.0, 1.0), (11.0, 1.5), (12.0, 2.0), (13.5, 5.0), (99.0, 6.0)]
)
def test_the_time_used_until_a_moment(at_s: float, used_s: float) -> None:
    assert used_until(SAMPLES, at_s) == used_s


def test_nothing_is_used_without_samples() -> None:
    assert used_until([], 1.0) == 0.0
