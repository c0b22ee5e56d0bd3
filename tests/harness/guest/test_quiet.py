"""When a guest is quiet: decided from two looks at it, and waited for with a guest that is a list of answers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.guest.channel import Channel, Completed
from harness.guest.quiet import NO_UNIT, RecentUse, busy_units, read_recent_use, wait_until_quiet

NOVA, SHELL = "nova-compute.service", "bootproof-shell.service"
IDLE = "No jobs running."
JOBS = """JOB UNIT                 TYPE  STATE
{number} {unit} start running
131 multi-user.target    start waiting

2 jobs listed."""


SSH = "user.slice/user-0.slice/session-3.scope"


def look(up_s: float, own: str, used_s: dict[str, float], kernel_s: float = 0.0) -> str:
    """A look at a guest whose groups have used so much; a slice has used what is in it."""
    tops = {
        top: sum(seconds for group, seconds in used_s.items() if group.startswith(f"{top}/"))
        for top in ("system.slice", "user.slice")
    }
    rows = [f"{seconds * 1e6:.0f} /sys/fs/cgroup/{group}/cpu.stat" for group, seconds in {**tops, **used_s}.items()]
    return "\n".join([f"look {up_s} {(sum(tops.values()) + kernel_s) * 100:.0f} /{own}", *rows])


def answer(
    *,
    nova_s: float = 0.0,
    own_s: float = 0.0,
    kernel_s: float = 0.0,
    jobs: str = IDLE,
    own: str = f"system.slice/{SHELL}",
    apart_s: float = 10.0,
) -> str:
    """What a guest prints in which nova-compute, the shell and kernel threads use so much CPU time in ten seconds."""
    group = f"system.slice/{NOVA}"
    looks = (
        look(100.0, own, {group: 7.0, own: 3.0}, 1.0),
        look(100.0 + apart_s, own, {group: 7.0 + nova_s, own: 3.0 + own_s}, 1.0 + kernel_s),
    )
    return "\n".join(looks) + f"\n\n\x1ecpu use 0\n{jobs}\n\n\x1ejobs 0\n"


class Guest(Channel):
    """Gives the ``answers``, and the last again and again."""

    def __init__(self, answers: Sequence[str]) -> None:
        self._answers = list(answers)

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        text = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return Completed(command=command, status=0, stdout=text.encode(), stderr=b"")


def busy(text: str, *, scale: float = 1.0) -> dict[str, float]:
    """The busy units of a guest that prints that, rounded."""
    found = busy_units(read_recent_use(Guest([text])), (NOVA,), scale)
    return {unit: round(share, 2) for unit, share in found.items()}


def test_a_unit_that_uses_the_cpu_is_busy_though_it_may_wait_for_a_control_plane() -> None:
    assert busy(answer(nova_s=5)) == {NOVA: 0.5}
    assert busy(answer(nova_s=0.4)) == {}, "without a control plane it goes on trying"


@pytest.mark.parametrize("own", [f"system.slice/{SHELL}", SSH])
def test_the_shell_that_asks_does_not_count_and_the_kernel_does(own: str) -> None:
    assert busy(answer(own_s=5, own=own)) == {}
    assert busy(answer(own_s=5, own=own, nova_s=2, kernel_s=3)) == {NO_UNIT: 0.3, NOVA: 0.2}


def test_a_guest_without_groups_that_tell_their_use_is_busy_as_a_whole() -> None:
    lines = ["look 10.0 100 /", "look 20.0 400 /", "", "\x1ecpu use 0", IDLE, "", "\x1ejobs 0", ""]

    assert busy("\n".join(lines)) == {NO_UNIT: 0.3}


def test_many_units_that_use_a_little_are_as_busy_as_one_and_the_busiest_is_named() -> None:
    shares = {f"unit{number}.service": 0.05 + number / 1000 for number in range(5)}

    assert list(busy_units(RecentUse(shares=shares), ())) == ["unit4.service"]


def test_a_slower_host_may_use_more() -> None:
    assert busy(answer(nova_s=1.5), scale=2.0) == {}
    assert busy(answer(nova_s=4.5), scale=8.0) == {NOVA: 0.45}, "a CPU that is used by half is not quiet on any host"


def test_a_unit_with_a_running_job_is_busy_unless_it_may_wait() -> None:
    use = read_recent_use(Guest([answer(jobs=JOBS.format(number=7, unit="slow.service"))]))

    assert busy_units(use, (NOVA,)) == {"slow.service": 0.0}
    assert busy_units(use, ("slow.service",)) == {}


@pytest.mark.parametrize("jobs", ["x" * 50, "Failed to connect"])
def test_what_is_no_list_of_jobs_is_an_error_that_quotes_it(jobs: str) -> None:
    with pytest.raises(ImageError, match="list-jobs"):
        busy(answer(jobs=jobs))


def test_two_looks_at_the_same_moment_are_an_error() -> None:
    with pytest.raises(ImageError, match=r"0\.10 s apart"):
        busy(answer(apart_s=0.1))


def test_the_wait_names_what_it_waited_for_and_ends_when_nothing_works_any_more() -> None:
    guest = Guest([answer(nova_s=9, jobs=JOBS.format(number=7, unit="slow.service")), answer(nova_s=9), answer()])

    quiet = wait_until_quiet(guest, (NOVA,), Deadline(60, scaled=False))

    assert set(quiet.waited_for) == {NOVA, "slow.service"}
    assert quiet.busy == ()


def test_a_guest_that_does_not_become_quiet_is_given_up_with_the_units_that_are_busy() -> None:
    quiet = wait_until_quiet(Guest([answer(nova_s=9)]), (), Deadline(0.05, scaled=False))

    assert quiet.busy == (NOVA,)
    assert quiet.took_s >= 0.05


def test_a_guest_that_cannot_list_its_jobs_is_an_error() -> None:
    with pytest.raises(ImageError, match="systemctl list-jobs"):
        wait_until_quiet(Guest([answer().replace("jobs 0", "jobs 1")]), (), Deadline(60, scaled=False))
