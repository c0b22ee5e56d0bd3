"""Which unit a guest waited for: from the jobs that systemd ran, and the time in which its CPUs were idle."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import pytest

from harness.core.cpu_use import IdleSpan
from harness.core.deadline import Deadline
from harness.core.errors import ImageError
from harness.guest.channel import Channel, Completed
from harness.guest.probes import ProbeFailed
from harness.guest.unit_jobs import Job, idle_s, jobs_of, longest_stretch, read_jobs, unlisted, waited_for
from harness.guest.unit_states import UnitStart

STARTING, STARTED = "7d4958e842da4a758f6c1cdc7b36dcc5", "39f53479d3a045ac8e11786248231fbf"
FAILED, STOPPING = "be02cf6855d2428ba40df7e9d022f03d", "de5b426a63be47a7b6ac3eaac82e2f6f"
STOPPED = "9d1aaa27d60140bd96365438aad20286"


def entry(at_s: float, unit: str, message: str) -> str:
    plain = {"__MONOTONIC_TIMESTAMP": str(int(at_s * 1e6)), "UNIT": unit, "MESSAGE_ID": message}
    return json.dumps(plain)


def text(at_s: float, message: str) -> str:
    """What systemd wrote into the kernel's log."""
    plain = {"__MONOTONIC_TIMESTAMP": "40000000", "_SOURCE_MONOTONIC_TIMESTAMP": str(int(at_s * 1e6))}
    return json.dumps({**plain, "MESSAGE": message})


JOURNAL = "\n".join(
    (
        entry(2.0, "a.target", STARTED),
        entry(3.0, "queue.service", STARTING),
        entry(3.5, "dev-gone.device", STARTING),
        '{"__MONOTONIC_TIMESTAMP":"3600000","USER_UNIT":"x.service","MESSAGE_ID":"7d4958e842da4a758f6c1cdc7b36dcc5"}',
        entry(9.0, "queue.service", STARTED),
        entry(12.0, "queue.service", STOPPING),
        '{"__MONOTONIC_TIMESTAMP":"40000000","_SOURCE_MONOTONIC_TIMESTAMP":"36336650",'
        '"MESSAGE":"Expecting device dev-loop7.device - /dev/loop7..."}',
        '{"__MONOTONIC_TIMESTAMP":"40000000","_SOURCE_MONOTONIC_TIMESTAMP":"36400000","MESSAGE":"Detected KVM."}',
        '{"__MONOTONIC_TIMESTAMP":"40000000","_SOURCE_MONOTONIC_TIMESTAMP":"36500000","MESSAGE":[255,1]}',
        entry(77.5, "dev-loop7.device", STARTED),
        text(36.4, "Starting kmod-static-nodes.service - Create List of Static Device Nodes..."),
        text(36.6, "Finished kmod-static-nodes.service - Create List of Static Device Nodes."),
        text(36.7, "Starting forgotten.service - its end is in no log"),
        entry(13.0, "queue.service", STOPPED),
        entry(93.5, "dev-gone.device", FAILED),
        entry(94.0, "nova.service", STARTING),
    )
)
DISKS = """\
   7       0 loop0 9 0 9 9 0 0 0 0 0 99000 9 0 0 0 0 0 0
   8       0 sda 356 0 9816 140 29 31 4112 20 0 2500 161 0 0 0 0 2 0
   8       1 sda1 356 0 9816 140 29 31 4112 20 0 9999 161 0 0 0 0 2 0
 259       0 nvme0n1 9 0 9 9 0 0 0 0 0 1250 9 0 0 0 0 0 0
cpu  100 0 100 9000 400 0 0 0 0 0
cpu0 100 0 100 9000 400 0 0 0 0 0"""


class Guest(Channel):
    """Answers each probe by its name; ``failed`` is the status of one without an answer."""

    def __init__(self, answers: Mapping[str, str], failed: int = 1) -> None:
        self._answers, self._failed = answers, failed

    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        texts = []
        for name in ("jobs", "time of disks"):
            status = 0 if name in self._answers else self._failed
            texts.append(f"{self._answers.get(name, '')}\n\x1e{name} {status}\n")
            if status:
                break
        return Completed(command=command, status=0, stdout="".join(texts).encode(), stderr=b"")


def test_jobs_begin_and_end_with_a_message_of_systemd() -> None:
    seen = read_jobs(Guest({"jobs": JOURNAL, "time of disks": DISKS}))

    assert seen.jobs == (
        Job("queue.service", 3.0, 9.0),
        Job("queue.service", 12.0, 13.0),
        Job("kmod-static-nodes.service", 36.4, 36.6),
        Job("dev-loop7.device", 36.33665, 77.5),
        Job("dev-gone.device", 3.5, 93.5),
        Job("nova.service", 94.0, math.inf),
    )


def test_the_time_of_disks_is_that_of_the_busiest_whole_disk_and_not_more_than_cpus_waited() -> None:
    def disk_s(text: str) -> float:
        return read_jobs(Guest({"jobs": JOURNAL, "time of disks": text})).disk_s

    assert disk_s(DISKS) == 2.5
    assert disk_s(DISKS.replace("9000 400", "9000 30")) == 0.3
    assert disk_s("cpu  100 0 100 9000 400 0 0 0 0 0") == 0.0


def test_a_guest_without_a_journal_is_not_one_without_jobs() -> None:
    with pytest.raises(ProbeFailed, match="'jobs'"):
        read_jobs(Guest({"time of disks": DISKS}))
    with pytest.raises(ImageError, match="answer to 'jobs'"):
        read_jobs(Guest({"jobs": "no JSON", "time of disks": DISKS}))


def test_jobs_of_the_initrd_end_with_it() -> None:
    starts = [
        UnitStart(unit="nova.service", begins_s=30.0, ends_s=None),
        UnitStart(unit="x", begins_s=21.0, ends_s=22.0),
    ]

    assert jobs_of(starts, [Job("queue.service", 3.0, math.inf), Job("a", 4.0, 5.0)], user_space_s=20.0) == (
        Job("nova.service", 30.0, math.inf),
        Job("x", 21.0, 22.0),
        Job("queue.service", 3.0, 20.0),
        Job("a", 4.0, 5.0),
    )


def test_units_that_systemd_does_not_list_are_known_from_the_journal() -> None:
    starts = [UnitStart(unit="a", begins_s=1.0, ends_s=2.0)]
    jobs = [Job("a", 1.0, 2.0), Job("dev-x.device", 3.0, 4.0), Job("dev-x.device", 5.0, 9.0), Job("b", 1.0, math.inf)]

    assert list(unlisted(jobs, starts)) == [UnitStart(unit="dev-x.device", begins_s=5.0, ends_s=9.0, after=None)]


def idle(*moments: int) -> list[IdleSpan]:
    return [IdleSpan(at, at + 1.0, 0.75) for at in moments]


def waits(
    spans: list[IdleSpan], *jobs: Job, path: tuple[str, ...] = (), excused: tuple[str, ...] = ()
) -> dict[str, float]:
    return {unit: idle_s(found) for unit, found in waited_for(spans, jobs, path, excused).items()}


def test_idle_time_is_of_the_unit_whose_job_ran_and_the_longest_comes_first() -> None:
    found = waits(idle(2, 11, 12, 13), Job("short", 2.0, 3.0), Job("long", 10.0, 14.0))

    assert list(found.items()) == [("long", 2.25), ("short", 0.75)]


def test_of_several_units_the_one_on_the_critical_path_was_waited_for_else_the_last() -> None:
    sleeper, straggler = Job("sleeper", 1.0, 10.0), Job("straggler", 1.0, 30.0)

    assert waits(idle(5), sleeper, straggler) == {"straggler": 0.75}
    assert waits(idle(5, 20), sleeper, straggler, path=("sleeper",)) == {"sleeper": 0.75, "straggler": 0.75}


def test_nobody_waits_for_an_excused_unit_nor_for_nothing() -> None:
    nova, other = Job("nova", 5.0, math.inf), Job("other", 1.0, 3.0)

    assert waits(idle(6, 7), nova, other, excused=("nova",)) == {}
    assert waits(idle(2, 4), other) == {"other": 0.75}
    assert waits(idle(6, 7), nova, other) == {"nova": 1.5}


def test_before_the_first_job_the_kernel_is_waited_for() -> None:
    assert waits(idle(0, 1, 9), Job("a", 8.0, 12.0)) == {"the kernel": 1.5, "a": 0.75}


def test_the_longest_stretch_is_that_of_spans_that_follow_each_other() -> None:
    assert longest_stretch(idle(0, 1, 2, 9, 10, 30, 31, 32, 33)) == (30.0, 34.0)
    assert longest_stretch(idle(4)) == (4.0, 5.0)
