"""When a guest answered, and for how long it did not."""

from __future__ import annotations

import pytest

from harness.guests.answer_log import AnswerLog, Gap, longest_gap, queued_s, read_log
from harness.model.events import Event, PhaseBegan, Recorded

TEXT = """\
begin 1764554400.000000000
PING 198.51.100.21 (198.51.100.21) 56(84) bytes of data.
[1764554400.500000] 64 bytes from 198.51.100.21: icmp_seq=1 ttl=64 time=3.21 ms
[1764554400.700000] 64 bytes from 198.51.100.21: icmp_seq=2 ttl=64 time=1.02 ms
[1764554403.900000] From 198.51.100.210 icmp_seq=3 Destination Host Unreachable
[1764554440.700000] 64 bytes from 198.51.100.21: icmp_seq=40 ttl=64 time=904 ms
[1764554440.900000] 64 bytes from 198.51.100.21: icmp_seq=41 ttl=64 time=1.00 ms (DUP!)
end 1764554441.250000000
"""


def log(*answers_s: float, end_s: float = 10.0) -> AnswerLog:
    return AnswerLog(begin_s=0.0, end_s=end_s, answers_s=answers_s)


def test_answers_are_read_and_errors_are_not_answers() -> None:
    read = read_log(TEXT)

    assert (read.begin_s, read.end_s) == (1764554400.0, 1764554441.25)
    assert [round(answer_s - read.begin_s, 3) for answer_s in read.answers_s] == [0.5, 0.7, 40.7, 40.9]


STREAM = """\
begin 1764554400.000000000
[1764554400.500000] echo 1
[1764554400.700000] echo 2
/bin/bash: line 7: read error: 3: Connection reset by peer
[1764554441.000000] lost 3
end 1764554450.000000000
"""


def test_a_stream_tells_where_and_why_it_was_lost() -> None:
    read = read_log(STREAM)

    assert (len(read.answers_s), read.lost) == (2, "3: read error: 3: Connection reset by peer")
    assert read_log(STREAM.replace("/bin/bash: line 7", "other")).lost == "3: no answer"
    assert read_log(TEXT).lost == ""


@pytest.mark.parametrize("lost", ["begin", "end"])
def test_a_log_without_its_begin_or_end_is_not_read(lost: str) -> None:
    with pytest.raises(KeyError, match=lost):
        read_log("".join(line for line in TEXT.splitlines(keepends=True) if not line.startswith(lost)))


def test_the_longest_gap_is_between_answers_or_at_either_end() -> None:
    assert longest_gap(log(0.2, 0.4, 7.0, 9.9)) == Gap(0.4, 7.0)
    assert longest_gap(log(6.0, 9.9)) == Gap(0.0, 6.0)
    assert longest_gap(log(0.2, 1.0)) == Gap(1.0, 10.0)
    assert longest_gap(log()) == Gap(0.0, 10.0)
    assert round(longest_gap(read_log(TEXT)).length_s, 3) == 40.0


def phase(time_s: float, machine: str, boot: int, name: str) -> Recorded:
    event: Event = PhaseBegan(machine=machine, boot=boot, phase=name)
    return Recorded(worker="gw0", time_s=time_s, event=event)


def test_a_boot_that_waited_for_a_slot_was_queued_until_its_first_phase() -> None:
    events = [
        phase(1.0, "m", 1, "queued"),
        phase(2.0, "m", 1, "firmware"),
        phase(10.0, "m", 2, "queued"),
        phase(11.0, "other", 1, "firmware"),
        phase(25.5, "m", 2, "firmware"),
        phase(29.0, "m", 2, "kernel"),
    ]

    assert queued_s(events, "m") == 15.5
    assert queued_s(events, "other") == 0.0
    assert queued_s(events[:3], "m") == 0.0
