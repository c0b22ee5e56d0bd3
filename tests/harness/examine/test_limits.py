"""Limits of the whole kernel that are too low."""

from __future__ import annotations

import pytest

from harness.core.errors import ImageError
from harness.examine import limits
from harness.examine.limits import KernelLimits


def test_limits_are_read() -> None:
    text = "1056\t0\t9223372036854775807\n15364\n4194304\n0.10 0.03 0.01 1/120 4711"

    assert limits.parse({"limits of the kernel": text}) == KernelLimits(
        files=1056, most_files=9223372036854775807, threads=120, most_threads=15364, most_numbers=4194304
    )
    with pytest.raises(ImageError, match="limits"):
        limits.parse({"limits of the kernel": "sorry"})


def test_usual_limits_are_in_order() -> None:
    assert list(limits.judge(KernelLimits())) == []


@pytest.mark.parametrize(
    ("of", "path"),
    [
        (KernelLimits(most_files=4000), "sysctl:fs.file-max"),
        (KernelLimits(files=9000, most_files=10000), "sysctl:fs.file-max"),
        (KernelLimits(most_threads=500), "sysctl:kernel.threads-max"),
        (KernelLimits(threads=12000, most_threads=16000), "sysctl:kernel.threads-max"),
        (KernelLimits(most_numbers=9000), "sysctl:kernel.pid_max"),
    ],
)
def test_a_limit_that_is_too_low_is_found(of: KernelLimits, path: str) -> None:
    assert [(one.id, one.path) for one in limits.judge(of)] == [("limit-too-low", path)]
