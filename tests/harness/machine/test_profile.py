"""CPU time is attributed to moments and to the console's lines by the samples around them."""

from __future__ import annotations

import pytest

from harness.core.cpu_use import CpuSample
from harness.machine.profile import longest_steps, used_until
from harness.model.boot_profile import StepUse

SAMPLES = [CpuSample(10.0, 1.0, 0.0), CpuSample(12.0, 2.0, 0.0), CpuSample(14.0, 6.0, 0.0)]


@pytest.mark.parametrize(
    ("at_s", "used_s"), [(9.0, 1.0), (10.0, 1.0), (11.0, 1.5), (12.0, 2.0), (13.5, 5.0), (99.0, 6.0)]
)
def test_the_time_used_until_a_moment(at_s: float, used_s: float) -> None:
    assert used_until(SAMPLES, at_s) == used_s


def test_nothing_is_used_without_samples() -> None:
    assert used_until([], 1.0) == 0.0


def test_the_time_after_a_line_lasts_until_the_next_and_the_last_one_until_ready() -> None:
    printed = [(10.0, "first"), (12.0, "second"), (13.0, "third"), (20.0, "after ready")]

    assert longest_steps(printed, 14.0, SAMPLES) == (
        StepUse(line="first", wall_s=2.0, cpu_s=1.0),
        StepUse(line="second", wall_s=1.0, cpu_s=2.0),
        StepUse(line="third", wall_s=1.0, cpu_s=2.0),
    )


def test_only_the_longest_steps_are_kept_in_their_order() -> None:
    printed = [(10.0 + 0.1 * number, str(number)) for number in range(40)]

    steps = longest_steps(printed, 14.0, SAMPLES)

    assert [step.line for step in steps] == [str(number) for number in range(20, 32)], "the second half is busier"


def test_a_silent_console_has_no_steps() -> None:
    assert longest_steps([], 14.0, SAMPLES) == ()
