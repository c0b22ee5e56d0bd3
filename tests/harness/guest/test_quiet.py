"""When a guest is quiet: decided from two readings, and waited for with a guest that is a list of answers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.guest.channel import Channel, Completed
from harness.guest.quiet import NO_UNIT, CpuReading, busy_units, read_use, wait_until_quiet

NOVA, SHELL = "nova-compute.service", "bootproof-shell.service"
IDLE = "No jobs running."
JOBS = """JOB UNIT                 TYPE  STATE
{number} {unit} start running
131 multi-user.target    start waiting

2 jobs listed."""


def answer(up_s: float, *, nova_s: float = 0.0, shell_s: float = 0.0, kernel_s: float = 0.0, jobs: str = IDLE) -> str:
    """What a guest prints whose nova-compute, shell and kernel threads have used so much CPU time."""
    slice_s, groups = nova_s + shell_s, "/sys/fs/cgroup"
    rows = {
        "init.scope": 0.0,
        "system.slice": slice_s,
        f"system.slice/{NOVA}": nova_s,
        f"system.slice/{SHELL}": shell_s,
    }
    lines = [f"{groups}/{name}/cpu.stat {seconds * 1e6:.0f}" for name, seconds in rows.items()]
    use = "\n".join([f"{up_s} {(slice_s + kernel_s) * 100:.0f}", *lines])
    return f"{use}\n\n\x1ecpu use 0\n{jobs}\n\n\x1ejobs 0\n"


class Guest(Channel):
    """Gives the ``answers``, and the last again and again."""

    def __init__(self, answers: Sequence[str]) -> None:
        self._answers = list(answers)

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        text = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return Completed(command=command, status=0, stdout=text.encode(), stderr=b"")


def reading(text: str) -> CpuReading:
    return read_use(Guest([text]))


def busy(*, nova_s: float = 0.0, shell_s: float = 0.0, kernel_s: float = 0.0, scale: float = 1.0) -> dict[str, float]:
    """The busy units after ten seconds in which each used that much."""
    after = answer(110, nova_s=nova_s, shell_s=shell_s, kernel_s=kernel_s)
    return busy_units(reading(answer(100)), reading(after), (NOVA,), scale)


def test_a_unit_that_uses_the_cpu_is_busy_though_it_may_wait_for_a_control_plane() -> None:
    assert busy(nova_s=5) == {NOVA: 0.5}
    assert busy(nova_s=0.4) == {}, "without a control plane it goes on trying"


def test_the_harness_own_shell_does_not_count_and_the_kernel_does() -> None:
    assert busy(shell_s=5) == {}
    assert busy(kernel_s=5) == {NO_UNIT: 0.5}


def test_many_units_that_use_a_little_are_as_busy_as_one_and_the_busiest_is_named() -> None:
    shares = {f"system.slice/unit{number}.service": 0.7 + number / 100 for number in range(5)}
    after = CpuReading(up_s=10.0, used_s=sum(shares.values()), units={"system.slice": sum(shares.values()), **shares})

    assert list(busy_units(CpuReading(up_s=0.0, used_s=0.0, units={}), after, ())) == ["unit4.service"]


def test_a_slower_host_may_use_more() -> None:
    assert busy(nova_s=1.5, scale=2.0) == {}
    assert busy(nova_s=4.5, scale=8.0) == {NOVA: 0.45}, "a CPU that is used by half is not quiet on any host"


def test_a_unit_with_a_running_job_is_busy_unless_it_may_wait() -> None:
    job = JOBS.format(number=7, unit="slow.service")
    before, after = reading(answer(100)), reading(answer(110, jobs=job))

    assert busy_units(before, after, (NOVA,)) == {"slow.service": 0.0}
    assert busy_units(before, after, ("slow.service",)) == {}


@pytest.mark.parametrize("jobs", ["x" * 50, "Failed to connect"])
def test_what_is_no_list_of_jobs_is_an_error_that_quotes_it(jobs: str) -> None:
    with pytest.raises(ImageError, match="list-jobs"):
        reading(answer(1, jobs=jobs))


def test_the_wait_names_what_it_waited_for_and_ends_when_nothing_works_any_more() -> None:
    job = JOBS.format(number=7, unit="slow.service")
    guest = Guest([answer(1), answer(11, nova_s=9, jobs=job), answer(21, nova_s=18), answer(31, nova_s=18)])

    quiet = wait_until_quiet(guest, (NOVA,), Deadline(60, scaled=False), every_s=0.001)

    assert set(quiet.waited_for) == {NOVA, "slow.service"}
    assert quiet.busy == ()


def test_a_guest_that_does_not_become_quiet_is_given_up_with_the_units_that_are_busy() -> None:
    guest = Guest([answer(second, nova_s=second) for second in range(1, 4000)])

    quiet = wait_until_quiet(guest, (), Deadline(0.05, scaled=False), every_s=0.001)

    assert quiet.busy == (NOVA,)
    assert quiet.took_s >= 0.05


def test_a_guest_that_could_be_asked_once_only_is_not_called_quiet() -> None:
    assert wait_until_quiet(Guest([answer(1)]), (), Deadline(0.0, scaled=False)).busy


def test_a_guest_that_cannot_list_its_jobs_is_an_error() -> None:
    failed = answer(1).replace("jobs 0", "jobs 1")

    with pytest.raises(ImageError, match="systemctl list-jobs"):
        wait_until_quiet(Guest([failed]), (), Deadline(60, scaled=False))
