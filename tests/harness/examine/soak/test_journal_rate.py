"""The journal must keep a day of a host that does nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.core.deadline import Deadline
from harness.examine.soak.journal_rate import judge_rate, keeps_s
from harness.examine.soak.looks import Look
from harness.examine.soak.samples import Sample
from harness.guest.channel import Channel, Completed

from .hosts import GROUND, minutes

DAY_S = 86400
ANSWER = b'look\n{"_SYSTEMD_UNIT":"talks.service"}\n{"SYSLOG_IDENTIFIER":"cron"}\n{"_SYSTEMD_UNIT":"talks.service"}'


class Says(Channel):
    def run(self, command: str, deadline: Deadline | None = None) -> Completed:  # noqa: ARG002  # a Channel
        end = b"\n\n\x1ewho writes to the journal 0\n"
        return Completed(command=command, status=0, stdout=ANSWER + end, stderr=b"")


def writing(a_minute: float) -> list[Look]:
    def change(_: Sample, at_s: float) -> Mapping[str, Any]:
        return {"cursor": f"s=1;i={100 + int(a_minute * at_s / 60):x};b=2"}

    return minutes(change)


def test_a_quiet_host_keeps_its_journal() -> None:
    assert keeps_s(writing(0), GROUND) == math.inf
    assert keeps_s(writing(20), GROUND) > DAY_S
    assert list(judge_rate(Says(), writing(20), GROUND)) == []


def test_a_unit_that_logs_all_the_time_is_named() -> None:
    (finding,) = judge_rate(Says(), writing(120), GROUND)

    assert (finding.id, finding.path) == ("journal-floods", "journal:systemd-journald")
    assert "it has room for 64 MiB, and keeps 12." in finding.what
    assert finding.evidence[0] == "2 of the last 3 entries are of talks.service"


def test_a_journal_whose_room_is_not_known_is_not_judged() -> None:
    assert keeps_s(writing(1000), replace(GROUND, journal_bytes=0)) == math.inf
